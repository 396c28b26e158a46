// Pictures with their boxes: which of them a filter shows, and the COCO file that they make. Pure functions.
import { rowsOf } from "./state.js";
import { passes } from "./verdicts.js";

/**
 * @typedef {{name: string, size: number[], objects: number[][] | null, image: {id?: any, file_name?: string, width?: number, height?: number},
 *   known: number[][], others: Record<string, any>[], names: string[], ids: any[], photo?: Uint8Array}} Picture
 *   see `Picture` in `pictures.py`; objects: null until the picture is loaded
 * @typedef {import("./verdicts.js").Filter} Filter
 */

export const SMALL = 32 ** 2; // pixels: COCO's small objects have less

/** Classes are written once: pictures without their own share those of the first. @param {any[]} pictures
 * @returns {Picture[]} */
export function sharing(pictures) {
  for (const p of pictures) (p.names ??= pictures[0].names), (p.ids ??= pictures[0].ids);
  return pictures;
}

/** Whether an object of a picture passes a filter, whose hidden kinds are of "learned" and "lost".
 * @param {Picture} picture @param {Filter} filter @param {import("./state.js").State} state of one row
 * @param {import("./state.js").Catalogue} catalogue @param {number[] | null} lost objects without a point, where only Python
 *   can say it */
export function shows({ objects, names, size }, filter, state, catalogue, lost = null) {
  if (!objects || (!filter.hidden.size && !filter.name && !filter.small)) return true;
  const fits = objects.map((o, n) => ({ box: o, name: names[o[4]] ?? String(o[4]), n })).filter((o) => passes("", o, filter, SMALL));
  if (!fits.length || !filter.hidden.size) return fits.length > 0;
  const counts = lost ? objects.map((_, n) => (lost.includes(n) ? 0 : 1)) : rowsOf(state, objects, size, catalogue)[0]?.counts;
  return counts !== undefined && fits.some((o) => passes(counts[o.n] ? "learned" : "lost", o, filter, SMALL));
}

/** Names of classes with one that was changed, or added at the end. @param {string[]} names @param {number} place
 * @param {string} text */
export function renamed(names, place, text) {
  const name = text.trim();
  if (!name) throw new Error("a class needs a name");
  if (names.some((other, n) => n !== place && other === name)) throw new Error(`there is a class ${name} already`);
  return place < names.length ? names.map((other, n) => (n === place ? name : other)) : [...names, name];
}

/** Gives all pictures that share these classes other names, and new classes an id. @param {Picture} picture one of them
 * @param {string[]} names */
export function nameClasses({ names: before, ids }, names) {
  const highest = Math.max(0, ...ids.filter(Number.isInteger));
  ids.push(...names.slice(before.length).map((_, n) => highest + 1 + n));
  before.splice(0, before.length, ...names);
}

/** A COCO file of pictures that share their classes, as `coco_of` in `pictures.py`; an error where a box has a class without
 * a name. @param {Picture[]} pictures */
export function cocoOf(pictures) {
  const loaded = pictures.filter((p) => p.objects), taken = new Set(loaded.map((p) => p.image.id));
  const images = /** @type {any[]} */ ([]), annotations = /** @type {any[]} */ ([]);
  let free = 1;
  for (const p of loaded) {
    while (taken.has(free)) free++;
    const id = p.image.id ?? free++, known = new Map(p.known.map((row) => [String(row.slice(0, 4)), row.slice(4)]));
    const { width = p.size[1], height = p.size[0] } = p.image, sx = width / p.size[1], sy = height / p.size[0];
    images.push({ id, file_name: p.image.file_name ?? p.name, width, height });
    for (const [x1, y1, x2, y2, label] of p.objects ?? []) {
      if (!(label in p.ids)) throw new Error(`${p.name}: a box has class ${label}, but only ${p.ids.length} classes have a name: add one`);
      const w = (x2 - x1) * sx, h = (y2 - y1) * sy, as = known.get(String([x1, y1, x2, y2])) ?? [x1 * sx, y1 * sy, w, h, w * h];
      annotations.push({ image_id: id, category_id: p.ids[label], bbox: as.slice(0, 4), area: as[4], iscrowd: 0 });
    }
    annotations.push(...p.others);
  }
  const { ids, names } = pictures[0];
  return {
    images, annotations: annotations.map((row, n) => ({ ...row, id: n + 1 })), categories: ids.map((id, n) => ({ id, name: names[n] })),
  };
}
