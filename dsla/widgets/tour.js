// A tour of six steps, each a question that is answered by moving a box. Pure functions: what a step begins with, and
// whether labels answer it. Nothing is drawn here.
import { pairOf } from "./labels.js";
import { COUPLINGS, boundsFor, frameOf, rowsOf } from "./state.js";

/**
 * @typedef {import("./state.js").State} State
 * @typedef {import("./state.js").Drawn} Drawn
 * @typedef {import("./state.js").Catalogue} Catalogue
 * @typedef {import("./state.js").Row} Row
 * @typedef {{state: State, objects: number[][], image: number[], catalogue: Catalogue}} Scene
 *   what a step began with; objects: x1, y1, x2, y2, label in pixels of the image
 * @typedef {{done: boolean, text: string}} Verdict  text: what the labels say now
 * @typedef {{row: Drawn, level: number, point: number, x: number, y: number, stride: number}} Place
 * @typedef {{title: string, question: string, rows: Row[], boxes: number[][], level: number[],
 *   changes?: Partial<State>, check: (rows: Drawn[], boxes: number[][], scene: Scene) => Verdict}} Step
 *   boxes: around the middle of the picture, pixels of the input size; check: boxes are those drawn, at the input size
 */

const TOUR_INPUT = "512/4096", TOUR_STRIDES = [8, 16, 32, 64, 128], LATTICE = 128; // LATTICE: all levels have points at its multiples
const THIN = 4, FINEST = 0.25, FARTHEST = 8; // long by short side; pixels: of a step of the mouse, of a mend at most
const DSLA = { method: "dsla", options: {} }, FCOS = { method: "fcos", options: {} };
const levelName = (/** @type {number} */ stride) => `P${Math.log2(stride)}`;
const decimal = (/** @type {number} */ v) => String(Number(v.toFixed(2)));

/** The points that learn, or do not, level by level. @param {Drawn} row @param {(place: Place, n: number) => void} visit */
function eachPoint(row, visit) {
  let point = 0;
  row.shapes.forEach(([h, w], level) => {
    const stride = row.strides[level];
    for (let i = 0; i < h; i++) {
      for (let j = 0; j < w; j++, point++) {
        visit({ row, level, point, stride, x: (j + row.offset) * stride, y: (i + row.offset) * stride }, row.gt[point]);
      }
    }
  });
}

/** @type {Step["check"]} */
function cliff([row], boxes) {
  let text = "on each level all points inside the box are taught the same", done = false;
  boxes.forEach((box, n) => eachPoint(row, ({ level, point, stride, x, y }, won) => {
    if (done || won !== n || row.values[point] < 1) return;
    for (const [dx, dy, step] of [[stride, 0, 1], [-stride, 0, -1], [0, stride, row.shapes[level][1]], [0, -stride, -row.shapes[level][1]]]) {
      const pair = pairOf(x + dx, y + dy, /** @type {any} */ (box), stride), here = pairOf(x, y, /** @type {any} */ (box), stride);
      if (!pair.inside || row.gt[point + step] >= 0) continue;
      done = true;
      text = `on ${levelName(stride)} the points (${x}, ${y}) and (${x + dx}, ${y + dy}) are ${stride} pixels apart, and are taught 1 and 0: `
        + `their farthest side is ${decimal(here.m)} and ${decimal(pair.m)} pixels away, and the range of the level ends between`;
      return;
    }
  }));
  return { done, text };
}

/** @type {Step["check"]} */
function levels([without, relaxed]) {
  const on = (/** @type {Drawn} */ row, /** @type {number} */ n) => row.strides.filter((_, level) => row.at[level].has(n)).map(levelName);
  const pairs = without.counts.map((_, n) => [on(without, n), on(relaxed, n)]);
  const [a, b] = pairs.find(([one, two]) => one.length === 1 && two.length === 2) ?? pairs[0] ?? [[], []];
  const names = (/** @type {string[]} */ list) => list.join(" and ") || "no level";
  return { done: a.length === 1 && b.length === 2, text: `without relaxation ${names(a)} learns it, with it ${names(b)}` };
}

/** @type {Step["check"]} */
function core([row], boxes) {
  let most = 0, thin = false;
  boxes.forEach(([x1, y1, x2, y2], n) => {
    const sides = [x2 - x1, y2 - y1], narrow = Math.max(...sides) >= THIN * Math.min(...sides);
    eachPoint(row, ({ point }, won) => {
      if (narrow && won === n) most = Math.max(most, row.values[point]);
    });
    thin ||= narrow;
  });
  if (!thin) return { done: false, text: `the object is not thin any more: its long side is ${THIN} times the short one or more` };
  return { done: most >= 1, text: `the highest label is ${decimal(most)}${most >= 1 ? ": its point lies within half a stride of the centre, on a level that is meant for this size" : ""}` };
}

/** @type {Step["check"]} */
function overlap([first, second]) {
  let text = "both methods give each point that both use to the same object", done = false;
  eachPoint(first, ({ point, stride, x, y }, won) => {
    const other = second.gt[point];
    if (done || won < 0 || other < 0 || won === other) return;
    done = true;
    text = `on ${levelName(stride)} the point (${x}, ${y}) learns object ${won} under FCOS, the smaller one, `
      + `and object ${other} under DSLA, whose label there is the higher: ${decimal(second.values[point])}`;
  });
  return { done, text };
}

/** @type {Step["check"]} */
function lost([row], boxes, scene) {
  const { size } = frameOf(scene.image, scene.state.input), start = atInputSize(scene.objects, scene.image, size);
  if (boxes.length !== start.length) return { done: false, text: "mend the object that was there" };
  if (!row.counts[0]) return { done: false, text: "no point learns it: none lies inside" };
  const change = Math.max(...boxes[0].map((v, side) => Math.abs(v - start[0][side])));
  const least = smallestMend(scene), press = Math.max(1, size[0] / scene.image[0]);
  if (change <= least + press) return { done: true, text: `a side moved by ${decimal(change)} pixels, and ${row.counts[0]} of the points learn it; ${decimal(least)} are the least` };
  return { done: false, text: `it is learned, after a change of ${decimal(change)} pixels; less is enough: undo, and try again` };
}

/** How far a side of the first object must move at least until a point learns it, pixels of the input size.
 * @param {Scene} scene */
export function smallestMend({ state, objects, image, catalogue }) {
  const { size } = frameOf(image, state.input), [box] = atInputSize(objects, image, size), moves = [-1, 0, 1];
  const native = { ...state, input: "native" };
  for (let d = FINEST; d <= FARTHEST; d += FINEST) {
    for (let move = 0; move < 81; move++) {
      const moved = box.map((v, side) => v + d * moves[Math.floor(move / 3 ** side) % 3]);
      if (!(moved[0] < moved[2] && moved[1] < moved[3])) continue;
      if (rowsOf(native, [[...moved, 0]], size, catalogue)[0]?.counts[0]) return d;
    }
  }
  return FARTHEST;
}

/** @type {Step["check"]} */
function poor([row], boxes) {
  let text = "each positive is taught more than 0", done = false;
  if (!row.follows) return { done, text: "the IoU coupling is off: nothing that is predicted changes a label" };
  eachPoint(row, ({ point, stride, x, y }, won) => {
    if (done || won < 0 || row.values[point] > 0) return;
    done = true;
    text = `on ${levelName(stride)} the point (${x}, ${y}) learns object ${won}, but its predicted box shares nothing with it: `
      + "label × IoU is 0, so the loss treats it as background";
  });
  return { done, text };
}

/** Boxes at the input size. @param {number[][]} objects @param {number[]} image @param {number[]} size */
const atInputSize = (objects, image, size) => objects.map((o) => o.slice(0, 4).map((v, side) => (v * size[1 - (side % 2)]) / image[1 - (side % 2)]));

/** @type {Step[]} */
export const STEPS = [
  {
    title: "A cliff", rows: [FCOS], boxes: [[-30, -30, 30, 30]], level: [0, 0], check: cliff,
    question: "FCOS teaches a point fully or not at all. Resize the box until two neighbouring points inside it, on one level, are taught 1 and 0.",
  },
  {
    title: "One level or two", rows: [{ method: "dsla", options: { relaxation: 0 } }, DSLA], boxes: [[-20, -20, 20, 20]], level: [1, 1], check: levels,
    question: "Interval relaxation lets neighbouring levels share an object. Find a box that two levels learn with it, and one without.",
  },
  {
    title: "The core", rows: [DSLA, { method: "dsla", options: { core_zone: false } }], boxes: [[2, -65, 14, 65]], level: [0, 0], check: core,
    question: "Centerness is low nearly everywhere in a thin object. Move it until its highest label is 1, and see what it is without the core zone.",
  },
  {
    title: "Whose point?", rows: [FCOS, DSLA], boxes: [[-115, -60, -15, 40], [20, -30, 80, 30]], level: [1, 0], check: overlap,
    question: "Where objects overlap, FCOS prefers the smaller one, DSLA the one with the higher label. Move one over the other until they give a point to different objects.",
  },
  {
    title: "Nobody learns it", rows: [DSLA], boxes: [[1, -20, 7, 20]], level: [0, 0], check: lost,
    question: "No point lies inside this object, so no point learns it. Mend it with the smallest change: drag a side, or use arrow keys.",
  },
  {
    title: "So poor that it is background", rows: [DSLA], boxes: [[-48, -40, 32, 40]], level: [0, 0], check: poor,
    changes: { coupling: COUPLINGS[1], jitter: 0.35 },
    question: "The taught label is the label × the IoU of the predicted box. Move the box, or raise the jitter, until a positive is taught 0.",
  },
];

/**
 * What a step begins with.
 * @param {number} number of the step @param {number[]} image [height, width] @param {State} base for what no step changes
 * @param {Catalogue} catalogue @returns {Scene}
 */
export function sceneOf(number, image, base, catalogue) {
  const { rows, boxes, level, changes } = STEPS[number], { size } = frameOf(image, TOUR_INPUT);
  const middle = size.map((side) => LATTICE * Math.max(1, Math.round(side / 2 / LATTICE)));
  const state = { ...base, rows, level, input: TOUR_INPUT, strides: TOUR_STRIDES, bounds: boundsFor(TOUR_STRIDES), offset: 0, coupling: COUPLINGS[0], ...changes };
  const objects = boxes.map((box) => [...box.map((v, side) => {
    const axis = 1 - (side % 2), at = Math.min(Math.max(0, v + middle[axis]), size[axis]);
    return (at * image[axis]) / size[axis];
  }), 0]);
  const scene = { state, objects, image, catalogue }, answered = () => verdictOf(number, rowsOf(state, objects, image, catalogue), objects, scene).done;
  while (state.coupling !== COUPLINGS[0] && state.jitter > 0.1 && answered()) state.jitter -= 0.05; // noise differs by size
  return scene;
}

/**
 * Whether what is drawn answers a step.
 * @param {number} number of the step @param {(Drawn | null)[]} rows @param {number[][]} objects in pixels of the image
 * @param {Scene} scene what the step began with
 * @returns {Verdict}
 */
export function verdictOf(number, rows, objects, scene) {
  const step = STEPS[number], drawn = /** @type {Drawn[]} */ (rows.filter((row) => row && row.counts.length === objects.length));
  if (drawn.length < step.rows.length || !objects.length) return { done: false, text: objects.length ? "" : "draw a box" };
  const scale = drawn[0].scale, boxes = objects.map((o) => o.slice(0, 4).map((v, side) => v / scale[side % 2]));
  return step.check(drawn, boxes, scene);
}
