// What is said of detections, and which of them are shown. Pure functions: nothing is drawn here.

/**
 * @typedef {{box: number[], name: string, score: number, verdict: string, object: number, iou: number, by: number,
 *   overlap: number | null, by_iou: number | null}} Detection  see `DetectionBrowser.tables`
 * @typedef {{title: string, missed: number[], boxes: Detection[]}} Column  missed: of the objects
 * @typedef {{hidden: Set<string>, name: string, small: boolean}} Filter
 *   hidden: kinds that are left out; name: only this class, "" for all; small: only small boxes and objects
 */

export const KINDS = ["hit", "duplicate", "false", "missed", "removed"];
const sizeOf = (/** @type {number[]} */ [x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);
const counted = (/** @type {number} */ n, /** @type {string} */ noun) => `${n} ${noun}${n === 1 ? "" : "s"}`;

/** How many detections and objects there are of each kind. @param {Column} column @returns {Record<string, number>} */
export function countsOf({ boxes, missed }) {
  const counts = Object.fromEntries(KINDS.map((kind) => [kind, 0]));
  for (const b of boxes) if (b.verdict || b.by >= 0) counts[b.verdict || "removed"]++;
  return { ...counts, missed: missed.length };
}

/** @param {Column} column @param {number} objects how many there are */
export function noteOf(column, objects) {
  const { hit, duplicate, false: wrong, missed, removed } = countsOf(column);
  return `${counted(hit, "hit")}, ${counted(duplicate, "duplicate")}, ${wrong} false, ${missed} of ${objects} missed · NMS removed ${removed}`;
}

/** What pointing at a box says, a line each. @param {Detection} b @param {Detection[]} boxes @param {{name: string}[]} objects */
export function linesOf(b, boxes, objects) {
  const head = `${b.name}, score ${b.score.toFixed(3)}`, object = objects[b.object];
  const other = object && object.name !== b.name ? `, a ${object.name}: the class is wrong` : "";
  const place = b.object < 0 ? "overlaps no object" : `IoU with object ${b.object}: ${b.iou.toFixed(3)}${other}`;
  if (b.by < 0) return [`${head}: kept, ${b.verdict || "in a crowd"}`, place];
  const first = `${head}: removed by the box of score ${boxes[b.by].score.toFixed(3)} (yellow), IoU ${Number(b.overlap).toFixed(3)} with it`;
  if (b.by_iou === null) return [first, place];
  const gap = b.by_iou - b.iou, signed = `${gap < 0 ? "−" : "+"}${Math.abs(gap).toFixed(3)}`;
  return [first, `${place}; of the box that stayed: ${b.by_iou.toFixed(3)}. So the better box ${gap < 0 ? "went" : "stayed"} (${signed}).`];
}

/** Whether a box or an object of a kind is shown. @param {string} kind @param {{box: number[], name: string}} item
 * @param {Filter} filter @param {number} small pixels of area that a small one has less than */
export function passes(kind, item, filter, small) {
  return !filter.hidden.has(kind) && (!filter.name || item.name === filter.name) && (!filter.small || sizeOf(item.box) < small);
}

/** Intersection over union of two boxes. @param {number[]} a @param {number[]} b */
export function overlapOf(a, b) {
  const w = Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0])), h = Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  return (w * h) / Math.max(1e-6, sizeOf(a) + sizeOf(b) - w * h);
}

/** The object of another class that a box of no object of its own lies on; null if there is none.
 * @template {{box: number[], name: string}} T
 * @param {{box: number[], name: string, iou: number}} b @param {T[]} objects @param {number} least IoU to lie on it */
export function wrongClass(b, objects, least) {
  if (b.iou >= least) return null;
  const others = objects.filter((o) => o.name !== b.name && overlapOf(o.box, b.box) >= least);
  return others.sort((o, p) => overlapOf(p.box, b.box) - overlapOf(o.box, b.box))[0] ?? null;
}
