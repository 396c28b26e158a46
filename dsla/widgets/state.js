// What the explorer shows, as plain data, and all that follows from it without a kernel. Nothing is drawn here.
import { coupled } from "./jitter.js";
import { assign, METHODS } from "./labels.js";

/**
 * @typedef {{method: string, options: Record<string, any>}} Row  options: those that differ from the method's own
 * @typedef {{rows: Row[], strides: number[], bounds: number[], offset: number | null, input: string, coupling: string,
 *   jitter: number, seed: number, level: number[] | null}} State
 *   bounds: ends of the ranges of levels, pixels, one more than levels; offset: of the points, null for each method's own;
 *   input: the input size, as text; level: [row, level] in the large picture
 * @typedef {{name: string, kind: string, low: number | null, high: number | null, default: any, meaning: string,
 *   optional: boolean}} Option
 * @typedef {{title: string, summary: string, script: string | null, options: Record<string, any>, ranges: string | null,
 *   offset: number, coupling: string, needs: boolean, controls: Option[]}} Entry
 *   script: the method's name in labels.js, null where only Python has it
 * @typedef {Record<string, Entry>} Catalogue
 * @typedef {{size: number[], padded: number[]}} Frame  [height, width] of the resized image, and of the input
 * @typedef {{title: string, note: string, shapes: number[][], strides: number[], offset: number, scale: number[],
 *   maps: Uint8Array[], gt: Int32Array, values: Float32Array, counts: number[], totals: number[], at: Set<number>[],
 *   local: boolean, follows: boolean, method?: string, canvases?: Layer[] | null}} Drawn
 * @typedef {import("./common.js").Layer} Layer
 * @typedef {{row: number, level: number}} Place  a small picture
 * @typedef {Place & {i: number, j: number, point: number}} Hovered  the point under the mouse
 * @typedef {{image: number[], objects: number[][], names: string[], state: State, catalogue: Catalogue,
 *   rows: (Drawn | null)[], selected: number, active: Place | null, hovered: Hovered | null, draw: boolean, hand?: boolean,
 *   byObject: boolean, pair: boolean, kind: number, zoom: number, k: number, ox: number, oy: number, width: number,
 *   height: number, backdrops: {photo?: ImageBitmap, dim?: ImageBitmap, small?: ImageBitmap}, lost: string,
 *   nameOf: (label: number) => string, trained: boolean, pictures: import("./coco.js").Picture[], scene: number,
 *   turn: number}} Store
 *   all that the parts of the explorer share: active: what is seen large; k, ox, oy: screen pixels a pixel of the image, and
 *   of the corner; scene: which of the pictures; turn: of the controls, which are built anew when it grows
 */

export const VERSION = 1, NO_END = 1e8;
export const COUPLINGS = ["off", "jittered boxes", "trained model"];

/** The frame of an image, as `dsla.geometry.Frame`. @param {number[]} image [height, width] @param {string} input
 * @returns {Frame} */
export function frameOf(image, input) {
  const sides = sidesOf(input);
  if (!sides.length) return { size: image, padded: image };
  const scale = Math.min(sides[0] / Math.min(...image), sides[sides.length - 1] / Math.max(...image));
  const size = image.map((side) => Math.max(1, Math.trunc(side * scale)));
  return { size, padded: sides.length === 1 ? [sides[0], sides[0]] : size };
}

/** @param {string} input @returns {number[]} */
export function sidesOf(input) {
  const text = input.trim().toLowerCase(), words = text.replace(/[×x]/g, "/").split("/").map((word) => word.trim());
  if (text === "native") return [];
  const sides = words.map(Number);
  const good = words.length <= 2 && words.every((word) => /^\d+$/.test(word)) && sides.every((v) => v > 0 && v <= 16384);
  if (!good || sides[0] > sides[sides.length - 1]) throw new Error("input size: native, 800/1333 (short/long side) or 640");
  return sides;
}

/** Ends of ranges from a text such as 0 64 128 ∞. @param {string} text @param {number} levels */
export function boundsOf(text, levels) {
  const words = text.replace(/[,;]/g, " ").split(/\s+/).filter(Boolean);
  const bounds = words.map((word) => (["∞", "inf"].includes(word) ? NO_END : Number(word)));
  const wrong = words.find((_, n) => !Number.isFinite(bounds[n]));
  if (wrong !== undefined) throw new Error(`${wrong} is no number; ∞ for no end`);
  if (bounds.length !== levels + 1) throw new Error(`${levels} levels have ${levels + 1} ends, not ${bounds.length}`);
  if (bounds.some((v, n) => n > 0 && !(bounds[n - 1] < v))) throw new Error("each end is larger than the one before");
  return bounds;
}

/** @param {number[]} strides */
export const boundsFor = (strides) => [0, ...strides.slice(0, -1).map((s) => 8 * s), NO_END];
/** @param {number[]} bounds */
export const boundsText = (bounds) => bounds.map((v) => (v >= NO_END ? "∞" : String(v))).join("  ");

/** The assigner's `options()`; its own ranges where they are those of P3…P7, from which FoveaBox's differ at the ends.
 * @param {Entry} entry @param {Row} row @param {number[]} bounds */
export function optionsOf(entry, row, bounds) {
  const options = { ...entry.options, ...row.options }, half = entry.ranges === "scale_ranges" ? 2 : 1;
  if (entry.ranges && String(bounds) !== String(boundsFor([8, 16, 32, 64, 128]))) options[entry.ranges] = bounds.slice(1).map((high, n) => [bounds[n] / half, high]);
  return options;
}

/** As Python has it: `dsla.widgets.state.title_of`. @param {Entry} entry @param {Row} row */
export function titleOf(entry, row) {
  const short = (/** @type {any} */ v) => (v === null ? "none" : typeof v === "boolean" ? (v ? "on" : "off") : String(v));
  const changed = Object.entries(row.options).map(([name, v]) => `${name.replaceAll("_", " ")} ${short(v)}`);
  return [entry.title, ...changed].join(", ");
}

/**
 * The rows that can be computed here; null for the others.
 * @param {State} state @param {number[][]} objects @param {number[]} image [height, width] @param {Catalogue} catalogue
 * @returns {(Drawn | null)[]}
 */
export function rowsOf(state, objects, image, catalogue) {
  const frame = frameOf(image, state.input), boxes = scaledBoxes(objects, image, frame);
  return state.rows.map((row) => {
    const entry = catalogue[row.method];
    if (!entry?.script || !METHODS.includes(entry.script) || state.coupling === COUPLINGS[2]) return null;
    const shapes = state.strides.map((s) => frame.padded.map((side) => Math.ceil(side / s)));
    const grid = { shapes, strides: state.strides, offset: state.offset ?? entry.offset, size: frame.size };
    const assigned = assign(entry.script, optionsOf(entry, row, state.bounds), grid, boxes, objects.map((o) => o[4]));
    const follows = state.coupling !== "off" && entry.coupling !== "off";
    const label = entry.coupling === "iou-only" ? { ...assigned, label: assigned.label.map((v) => (v > 0 ? 1 : 0)) } : assigned;
    const values = follows ? coupled(label, grid, boxes, state.jitter, state.seed) : assigned.label;
    const scale = [image[1] / frame.size[1], image[0] / frame.size[0]];
    return drawnOf({ ...grid, title: titleOf(entry, row), scale, gt: assigned.gtIndex, values, follows, local: true }, objects.length);
  });
}

/** Boxes in the frame, in float32. @param {number[][]} objects @param {number[]} image @param {Frame} frame */
export function scaledBoxes(objects, image, { size }) {
  const f = Math.fround, ratio = [f(f(size[1]) / f(image[1])), f(f(size[0]) / f(image[0]))];
  return objects.map((o) => o.slice(0, 4).map((v, side) => f(f(v) * ratio[side % 2])));
}

/**
 * What is drawn of an assignment: a byte a point, 0 background, 1…255 for labels 0…1, and what is counted.
 * @param {{title: string, shapes: number[][], strides: number[], offset: number, scale: number[], gt: Int32Array,
 *   values: Float32Array, follows: boolean, local: boolean}} row @param {number} objects @returns {Drawn}
 */
export function drawnOf(row, objects) {
  const counts = new Array(objects).fill(0), totals = row.shapes.map(() => 0), at = row.shapes.map(() => new Set());
  let first = 0;
  const maps = row.shapes.map(([h, w], level) => {
    const map = new Uint8Array(h * w);
    for (let i = 0; i < map.length; i++) {
      const n = row.gt[first + i];
      if (n < 0) continue;
      map[i] = Math.min(1, Math.max(0, row.values[first + i])) * 254 + 1.5;
      counts[n]++, totals[level]++, at[level].add(n);
    }
    first += map.length;
    return map;
  });
  const sum = totals.reduce((a, b) => a + b, 0), lost = counts.filter((n) => !n).length;
  const many = (/** @type {number} */ n, /** @type {string} */ word) => `${n} ${word}${n === 1 ? "" : "s"}`;
  const note = `${many(sum, "point")} ${sum === 1 ? "learns" : "learn"} an object`
    + (row.follows ? " · colour: label × IoU of the predicted box" : "") + (lost ? ` · ${many(lost, "object")} without a point` : "");
  return { ...row, note, maps, counts, totals, at };
}

/** The whole view in an address, after #. @param {any} view */
export const addressOf = (view) => `#v=${VERSION}&view=${encodeURIComponent(JSON.stringify(view))}`;

/** What such an address says; null where it says nothing. @param {string} hash */
export function viewOf(hash) {
  const parts = new URLSearchParams(hash.replace(/^#/, ""));
  if (!parts.has("view") && !parts.has("v")) return null;
  if (parts.get("v") !== String(VERSION)) {
    throw new Error(`this address holds a view of version ${parts.get("v") ?? "?"}; this page reads version ${VERSION}`);
  }
  try {
    return JSON.parse(parts.get("view") ?? "");
  } catch {
    throw new Error("the view in this address is damaged: it was cut or changed on its way");
  }
}

/** A state from elsewhere with what it may hold, or an error that says what is wrong.
 * @param {any} other @param {State} base @param {Catalogue} catalogue @returns {State} */
export function checkedState(other, base, catalogue) {
  const state = { ...base, ...Object.fromEntries(Object.entries(other ?? {}).filter(([key]) => key in base)) };
  const wrong = (/** @type {string} */ what) => new Error(`the view in this address cannot be shown: ${what}`);
  if (!Array.isArray(state.rows) || !state.rows.length || state.rows.length > 3) throw wrong("one to three methods");
  for (const row of state.rows) {
    const entry = catalogue[row?.method];
    if (!entry) throw wrong(`no method ${row?.method}`);
    for (const [name, value] of Object.entries(row.options ?? {})) {
      const option = entry.controls.find((o) => o.name === name);
      const fits = option && (value === null ? option.optional : typeof value === "number"
        ? value >= (option.low ?? -Infinity) && value <= (option.high ?? Infinity) : typeof value === "boolean");
      if (!fits) throw wrong(`${row.method} has no option ${name} of ${value}`);
    }
  }
  if (!state.strides?.length || state.strides.some((s, i, all) => !(s > (all[i - 1] ?? 0) && Number.isInteger(s)))) throw wrong("strides, which are whole numbers and ascend");
  sidesOf(String(state.input));
  boundsOf(boundsText(state.bounds ?? []), state.strides.length);
  if (!COUPLINGS.includes(state.coupling) || !(state.jitter >= 0 && state.jitter <= 1)) throw wrong("the coupling");
  return { ...state, rows: state.rows.map(({ method, options }) => ({ method, options: options ?? {} })) };
}
