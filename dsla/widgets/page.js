// The explorer as a page of its own: no kernel, no network. Its pictures lie in the page, its view in the address after #:
// what is drawn, names of classes, and the boxes of pictures that were changed before, as long as the address is not too long.
import { element, write } from "./common.js";
import { render } from "./explorer.js";
import { nameClasses, sharing } from "./coco.js";
import { addressOf, checkedState, viewOf } from "./state.js";

const LONGEST = 8000; // characters of an address: longer ones are cut on their way

/** @typedef {import("./coco.js").Picture} Picture */
/** @typedef {number[]} Box  x1, y1, x2, y2, label */

function start() {
  const part = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));
  const { traits, pictures } = JSON.parse(part("dsla-data").textContent ?? "");
  const listeners = /** @type {Record<string, (() => any)[]>} */ ({}), edits = /** @type {Record<number, Box[]>} */ ({});
  const decoded = (/** @type {string} */ text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const shown = sharing(pictures), built = structuredClone(shown); // pictures beyond those built in are the reader's own
  for (const picture of shown) picture.photo = decoded(/** @type {any} */ (picture.photo));
  const without = { kernel: false, trained: false, seq: 0, frame: {}, why: "", note: "" }; // what only Python says
  const values = /** @type {Record<string, any>} */ ({ ...without, ...traits, lut: decoded(traits.lut), pictures: shown });
  const root = part("dsla-page"), problem = element(root, "div", "dsla-wrong");
  const tell = (/** @type {string[]} */ names) => names.forEach((name) => (listeners[`change:${name}`] ?? []).forEach((call) => call()));
  const same = (/** @type {any} */ a, /** @type {any} */ b) => JSON.stringify(a) === JSON.stringify(b);

  function keep() { // in the address
    const { scene, objects, state } = values, { names } = shown[scene];
    if (scene >= built.length) return history.replaceState(null, "", "#"); // a picture of one's own is in no address
    const named = same(names, built[scene].names) ? {} : { names }, { [scene]: _, ...others } = edits, numbers = Object.keys(others);
    const boxes = Object.values(others).reduce((sum, list) => sum + list.length, 0), heavy = 12 * boxes > LONGEST; // not tried then
    const view = { scene, objects, state, ...named }, address = addressOf({ ...view, ...(numbers.length && !heavy ? { edits: others } : {}) });
    const long = heavy || (numbers.length > 0 && address.length > LONGEST);
    write(problem, long ? "boxes of other pictures are not in the address, which would be too long: save them as COCO" : "");
    history.replaceState(null, "", long ? addressOf(view) : address);
  }
  function left() { // a picture: its boxes are an edit where they are not as built in
    const { scene } = values, { objects } = shown[scene];
    if (scene >= built.length || same(objects, built[scene].objects)) delete edits[scene];
    else edits[scene] = objects ?? [];
  }

  const model = {
    get: (/** @type {string} */ name) => values[name],
    set(/** @type {string} */ name, /** @type {any} */ value) {
      values[name] = value;
      if (name === "view") Object.assign(values, { state: value.state, objects: value.objects });
      if (name === "view" || name === "names") keep();
    },
    save_changes() {},
    on: (/** @type {string} */ event, /** @type {() => any} */ call) => (listeners[event] ??= []).push(call),
    off: (/** @type {string} */ event, /** @type {() => any} */ call) => (listeners[event] = (listeners[event] ?? []).filter((other) => other !== call)),
    send(/** @type {{type: string, scene: number}} */ { type, scene }) {
      if (type !== "scene") return;
      left();
      model.picture({ ...shown[scene], scene });
    },
    add(/** @type {Picture} */ picture) {
      left();
      shown.push(picture);
      model.picture({ ...picture, scene: shown.length - 1 });
    },
    picture(/** @type {Picture & {scene: number}} */ { photo, size, objects, names, scene }) {
      Object.assign(values, { photo, size, objects, names, scene });
      tell(["names", "photo", "objects"]);
      keep();
    },
  };

  /** As Python takes boxes: a part of each lies on the picture. @param {any} objects @param {Picture} picture @returns {boolean} */
  function fit(objects, { size: [H, W] }) {
    return Array.isArray(objects) && objects.every((o) => Array.isArray(o) && o.length === 5 && o.every(Number.isFinite) && o[0] < Math.min(o[2], W)
      && o[2] > 0 && o[1] < Math.min(o[3], H) && o[3] > 0 && o[4] >= 0 && Number.isInteger(o[4]));
  }
  function visit() { // what the address says
    try {
      const view = viewOf(location.hash);
      if (!view) return;
      if (!(view.scene in shown) || view.scene >= built.length) throw new Error(`the view in this address is of picture ${view.scene}; this page has ${built.length}`);
      const picture = shown[view.scene], first = built[view.scene].names, names = view.names ?? first, others = Object.entries(view.edits ?? {});
      if (!fit(view.objects, picture) || !others.every(([n, objects]) => n in built && fit(objects, built[Number(n)]))) throw new Error("the boxes in this address do not fit the picture");
      const good = Array.isArray(names) && names.every((name) => typeof name === "string" && name.trim()) && new Set(names).size === names.length;
      if (!good || names.length < first.length) throw new Error(`the address must name at least ${first.length} classes, all different`);
      values.state = checkedState(view.state, traits.state, values.catalogue);
      for (const n of Object.keys(edits)) shown[Number(n)].objects = built[Number(n)].objects, delete edits[Number(n)];
      for (const [n, objects] of others) edits[Number(n)] = shown[Number(n)].objects = /** @type {Box[]} */ (objects);
      picture.names.length = picture.ids.length = Math.min(picture.ids.length, names.length);
      nameClasses(picture, names);
      write(problem, "");
      model.picture({ ...picture, objects: view.objects, scene: view.scene });
    } catch (error) {
      write(problem, /** @type {Error} */ (error).message);
    }
  }
  const { photo, size, objects, names } = shown[traits.scene];
  Object.assign(values, { photo, size, objects, names });
  visit();
  window.addEventListener("hashchange", visit);
  render({ model, el: root });
}

start();
