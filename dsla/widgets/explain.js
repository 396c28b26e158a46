// Why a point learns an object or does not, where no kernel says it: the rules of `Assigner.explain`, by the same numbers.
import { anchor, atssCandidates, bestOverlaps, centerness, foveaCells, iouOf, levelsOf, pairOf, relaxed, relaxedRanges, sampled } from "./labels.js";

/** @typedef {import("./labels.js").Grid} Grid */
/** @typedef {[string, string, boolean | null]} Rule */
/** @typedef {(options: Record<string, any>, place: {x: number, y: number, stride: number, level: number, point: number},
 *   box: any, grid: Grid) => Rule[]} Rules */

const short = (/** @type {number} */ v) => String(Number(v.toPrecision(4)));
const rangeText = (/** @type {number[]} */ [low, high]) => `[${short(low)}, ${high >= 1e8 ? "∞" : short(high)}]`;

/**
 * The rules for a point and a box, in order: [rule, its numbers, true, false or null for no verdict].
 * @param {string} method of labels.js @param {Record<string, any>} options
 * @param {{x: number, y: number, stride: number, level: number, point: number}} place point: its index among all
 * @param {number[]} box in the frame of the point
 * @param {Grid} grid
 * @returns {Rule[]}
 */
export function rulesOf(method, options, { x, y, stride, level, point }, box, grid) {
  const p = pairOf(x, y, /** @type {any} */ (box), stride), least = Math.min(p.l, p.t, p.r, p.b);
  const sides = [p.l, p.t, p.r, p.b].map(short).join(", ");
  const [height, width] = grid.size ?? [Infinity, Infinity];
  /** @type {Rule[]} */
  const padding = x < width && y < height ? [] : [["in the image", `it lies in the padding, where nothing is learnt: the image ends at x = ${width}, y = ${height}`, false]];
  /** @type {Rule} */
  const inside = ["inside the box", `l, t, r, b = ${sides}; smallest ${short(least)} ${least > 0 ? ">" : "≤"} 0`, p.inside];
  if (method === "fovea") return [...padding, ...foveaRules(options, { x, y, stride, level, point }, box, grid)];
  if (method === "atss") return [...padding, ...atssRules(options, { x, y, stride, level, point }, box, grid), inside];
  if (method === "max-iou") return [...padding, ...maxIoURules(options, { x, y, stride, level, point }, box, grid)];
  const rules = [...padding, inside];
  const radius = options.center_sampling;
  if (radius !== null) {
    const near = sampled(x, y, p.cx, p.cy, stride, radius);
    rules.push(["centre sampling", `|dx| = ${short(p.dx)}, |dy| = ${short(p.dy)}; ${near ? "within" : "not within"} ${short(radius * stride)}`, near]);
  }
  const range = options.regress_ranges[level], held = p.m >= range[0] && p.m <= range[1];
  if (method === "fcos") {
    rules.push(["regression range", `m = ${short(p.m)} ${held ? "in" : "not in"} ${rangeText(range)}`, held]);
    return rules;
  }
  const wide = relaxedRanges(options)[level], h = relaxed(p.m, range[0], range[1], wide[0], wide[1]);
  rules.push(["interval relaxation", `m = ${short(p.m)}, range ${rangeText(range)}, relaxed ${rangeText(wide)}: h = ${short(h)}`, h > 0]);
  rules.push(["centerness", `c = ${short(centerness(p.l, p.t, p.r, p.b))}`, null]);
  if (options.core_zone) rules.push(["core zone", `${p.core ? "in it: c = 1" : "outside it"}, half a stride = ${short(stride / 2)}`, null]);
  return rules;
}

/** @type {Rules} */
function foveaRules({ scale_ranges: ranges, sigma, smooth, relaxation }, { x, y, stride, level, point }, box, grid) {
  const { first, width, rows, columns } = levelsOf(grid)[level], [low, high] = ranges[level], share = smooth ? relaxation : 0;
  const reach = [low * (1 - share), high * (1 + share)], scale = Math.fround(Math.sqrt(Math.max(0, (box[2] - box[0]) * (box[3] - box[1]))));
  const acts = scale >= reach[0] && scale <= reach[1], row = Math.floor((point - first) / width), column = (point - first) % width;
  const [left, right, top, bottom] = foveaCells(box, stride, columns, rows, sigma, grid.offset);
  const within = acts && column >= left && column <= right && row >= top && row <= bottom;
  const holds = acts ? `rows ${top}…${bottom}, columns ${left}…${right}` : "no cell of a level it does not act at";
  /** @type {Rule[]} */
  const rules = [
    ["scale range", `√(w · h) = ${short(scale)} ${acts ? "in" : "not in"} ${rangeText(reach)}`, acts],
    ["fovea", `row ${row}, column ${column}; the box shrunk by ${short(sigma)} holds ${holds}`, within],
  ];
  if (!smooth) return rules;
  const p = pairOf(x, y, box, stride);
  rules.push(["centerness", `c = ${short(centerness(p.l, p.t, p.r, p.b))}${p.core ? ", 1 in the core zone" : ""}`, null]);
  rules.push(["interval relaxation", `h = ${short(relaxed(scale, low, high, reach[0], reach[1]))}`, null]);
  return rules;
}

/** @type {Rules} */
function atssRules({ topk, anchor_scale: scale }, { x, y, stride, level, point }, box, grid) {
  const near = atssCandidates(box, levelsOf(grid), topk, scale, grid.offset), chosen = near.points.includes(point);
  const iou = iouOf(anchor(x, y, Math.fround(stride * scale / 2)), box), p = pairOf(x, y, box, stride);
  const { rows, columns } = levelsOf(grid)[level], places = Math.min(topk, rows * columns);
  return [
    ["candidate", `${short(Math.hypot(p.dx, p.dy))} px from the centre, ${chosen ? "" : "not "}among the ${places} nearest of level ${level}; ${near.points.length} candidates in all`, chosen],
    ["threshold", `IoU of its anchor ${short(iou)}, must be ≥ mean ${short(near.mean)} + deviation ${short(near.deviation)} = ${short(near.threshold)}`, iou >= near.threshold],
  ];
}

/** @type {Rules} */
function maxIoURules({ positive, negative, low_quality: lowQuality, anchor_scale: scale }, { x, y, stride }, box, grid) {
  const iou = iouOf(anchor(x, y, Math.fround(stride * scale / 2)), box), best = Math.max(...bestOverlaps(box, levelsOf(grid), scale, grid.offset));
  const isBest = lowQuality && iou === best && iou > 0, kind = iou >= positive ? "positive" : iou < negative ? "background" : "ignored";
  /** @type {Rule[]} */
  const rules = [["IoU", `of its anchor (side ${short(stride * scale)}) ${short(iou)}: ${kind}, thresholds ${short(negative)} and ${short(positive)}`, isBest ? null : iou >= positive]];
  if (lowQuality) rules.push(["best anchor", `the box's best anchors have IoU ${short(best)}: this is ${isBest ? "" : "not "}one`, null]);
  return rules;
}
