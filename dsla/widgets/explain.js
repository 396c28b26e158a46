// Why a point learns an object or does not, where no kernel says it: the rules of `Assigner.explain`, by the same numbers.
import { centerness, pairOf, relaxed, relaxedRanges, sampled } from "./labels.js";

const short = (/** @type {number} */ v) => String(Number(v.toPrecision(4)));
const rangeText = (/** @type {number[]} */ [low, high]) => `[${short(low)}, ${high >= 1e8 ? "∞" : short(high)}]`;

/**
 * The rules for a point and a box, in order: [rule, its numbers, true, false or null for no verdict].
 * @param {string} method of labels.js @param {Record<string, any>} options
 * @param {{x: number, y: number, stride: number, level: number}} point
 * @param {number[]} box in the frame of the point
 * @returns {[string, string, boolean | null][]}
 */
export function rulesOf(method, options, { x, y, stride, level }, box) {
  const p = pairOf(x, y, /** @type {any} */ (box), stride), least = Math.min(p.l, p.t, p.r, p.b);
  const sides = [p.l, p.t, p.r, p.b].map(short).join(", ");
  /** @type {[string, string, boolean | null][]} */
  const rules = [["inside the box", `l, t, r, b = ${sides}; smallest ${short(least)} ${least > 0 ? ">" : "≤"} 0`, p.inside]];
  if (method !== "fcos" && method !== "dsla") return rules;
  const radius = options.center_sampling;
  if (radius !== null) {
    const near = sampled(x, y, p.cx, p.cy, stride, radius);
    rules.push(["centre sampling", `|dx| = ${short(p.dx)}, |dy| = ${short(p.dy)}; ${near ? "within" : "not within"} ${short(radius * stride)}`, near && p.inside]);
  }
  const range = options.regress_ranges[level], held = p.m >= range[0] && p.m <= range[1];
  if (method === "fcos") {
    rules.push(["regression range", `m = ${short(p.m)} ${held ? "in" : "not in"} ${rangeText(range)}`, held]);
    return rules;
  }
  const wide = relaxedRanges(options)[level], h = p.m > wide[1] ? 0 : relaxed(p.m, range[0], range[1], wide[0], wide[1]);
  rules.push(["interval relaxation", `m = ${short(p.m)}, range ${rangeText(range)}, relaxed ${rangeText(wide)}: h = ${short(h)}`, h > 0]);
  rules.push(["centerness", `c = ${short(centerness(p.l, p.t, p.r, p.b))}`, null]);
  if (options.core_zone) rules.push(["core zone", `${p.core ? "in it: c = 1" : "outside it"}, half a stride = ${short(stride / 2)}`, null]);
  return rules;
}
