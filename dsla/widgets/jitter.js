// Predictions without a model, as `dsla/assigners/jitter.py` makes them: the same numbers, from the same hash.
import { iouOf } from "./labels.js";

/** @typedef {import("./labels.js").Box} Box */

const round = Math.fround, UNIT = round(1 / 37837.227), MIDDLE = 131070; // of four numbers of 16 bits

/** Mixes 32 bits (the end of MurmurHash3). @param {number} h */
function mixed(h) {
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

/** A step of mean 0 and deviation 1, near a normal one. @param {number} seed @param {number} point @param {number} side */
export function step(seed, point, side) {
  const key = mixed(mixed(seed ^ 0x9e3779b9) ^ point), a = mixed(key ^ (2 * side + 1)), b = mixed(key ^ (2 * side + 17));
  return round(((a & 0xffff) + (a >>> 16) + (b & 0xffff) + (b >>> 16) - MIDDLE) * UNIT);
}

/**
 * The box that is predicted at a point: the smallest one that it lies in (outside all: the nearest), with each side
 * moved by a step of `amount` × its width or height; it never excludes the point.
 * @param {number[][]} boxes @param {number} x @param {number} y @param {number} point its index, which draws the steps
 * @param {number} amount @param {number} seed @returns {Box}
 */
export function predicted(boxes, x, y, point, amount, seed) {
  const areas = boxes.map(([x1, y1, x2, y2]) => round(round(x2 - x1) * round(y2 - y1))), most = Math.max(...areas);
  let which = 0, least = Infinity;
  boxes.forEach(([x1, y1, x2, y2], n) => {
    const outside = Math.max(0, round(x1 - x), round(y1 - y), round(x - x2), round(y - y2));
    const far = round(round(outside * 1e6) + round(areas[n] / most));
    if (far < least) (least = far), (which = n);
  });
  const [x1, y1, x2, y2] = boxes[which], sides = [round(x2 - x1), round(y2 - y1)];
  const moved = [x1, y1, x2, y2].map((v, side) => round(v + round(round(step(seed, point, side) * round(amount)) * sides[side % 2])));
  const [l, t] = [round(x - moved[0]), round(y - moved[1])].map((v) => Math.max(0, v));
  const [r, b] = [round(moved[2] - x), round(moved[3] - y)].map((v) => Math.max(0, v));
  return [round(x - l), round(y - t), round(x + r), round(y + b)];
}

/**
 * What the classification is taught where the boxes are predicted so: label × IoU.
 * @param {import("./labels.js").Assigned} assigned @param {import("./labels.js").Grid} grid @param {number[][]} boxes
 * @param {number} amount @param {number} seed @returns {Float32Array} [P]
 */
export function coupled({ gtIndex, label }, { shapes, strides, offset }, boxes, amount, seed) {
  const values = new Float32Array(label.length), exact = /** @type {Box[]} */ (boxes.map((box) => box.map(round)));
  let p = 0;
  shapes.forEach(([h, w], level) => {
    for (let i = 0; i < h; i++) {
      for (let j = 0; j < w; j++, p++) {
        if (gtIndex[p] < 0) continue;
        const [x, y] = [j, i].map((v) => round(round(v + round(offset)) * strides[level]));
        values[p] = round(label[p] * iouOf(predicted(exact, x, y, p, amount, seed), exact[gtIndex[p]]));
      }
    }
  });
  return values;
}
