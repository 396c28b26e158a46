// Stepping through the pictures: the one before and after, a list, and a filter of what is in the list.
import { element, write } from "./common.js";
import { shows } from "./coco.js";

const SLICE = 12, PART = 20; // ms of sifting between two frames; pictures that Python is asked about at a time
const ALL = "all classes";

/**
 * Builds the bar, hidden where there is one picture.
 * calls: open(n) another picture; lost(row, numbers) of each of these pictures the objects without a point, by Python
 * @param {HTMLElement} parent @param {import("./state.js").Store} store
 * @param {{open: (n: number) => void, lost: ((row: number, numbers: number[]) => Promise<number[][]>) | null}} calls
 */
export function galleryBar(parent, store, calls) {
  const filter = { hidden: new Set(), name: "", small: false }, bar = element(parent, "div", "dsla-bar dsla-gallery");
  const step = (/** @type {string} */ text, /** @type {string} */ tip, /** @type {number} */ by) => {
    const made = element(bar, "button", "", text);
    made.type = "button";
    made.setAttribute("aria-label", (made.title = tip));
    made.addEventListener("click", () => beside(by) !== undefined && calls.open(/** @type {number} */ (beside(by))));
    return made;
  };
  const back = step("‹", "the picture before", -1), list = element(bar, "select", "dsla-pictures"), next = step("›", "the next picture", 1);
  const place = element(bar, "span", "dsla-place"), classes = element(bar, "select", "dsla-of-class");
  const check = (/** @type {string} */ text) => {
    const line = element(bar, "label", ""), box = element(line, "input", "");
    box.type = "checkbox";
    line.append(` ${text}`);
    box.addEventListener("change", () => paint());
    return { line, box };
  };
  const lost = check("without a point"), small = check("small");
  list.setAttribute("aria-label", "picture");
  classes.setAttribute("aria-label", "pictures with this class");
  list.addEventListener("change", () => calls.open(Number(list.value)));
  classes.addEventListener("change", () => paint());
  let key = "", shown = /** @type {number[]} */ ([]);

  const beside = (/** @type {number} */ by) => (by > 0 ? shown.find((n) => n > store.scene) : shown.findLast((n) => n < store.scene));
  async function sift(/** @type {string} */ mine, /** @type {any} */ state, /** @type {number | null} */ row) {
    const passing = /** @type {number[]} */ ([]), all = store.pictures.map((_, n) => n);
    let began = performance.now(), lists = /** @type {number[][]} */ ([]);
    for (const n of all) {
      if (row !== null && calls.lost && n % PART === 0) {
        lists = await calls.lost(row, all.slice(n, n + PART));
        if (mine !== key) return;
      }
      if (performance.now() - began > SLICE) {
        await new Promise((done) => setTimeout(done));
        if (mine !== key) return;
        began = performance.now();
      }
      if (shows(store.pictures[n], filter, state, store.catalogue, lists[n % PART])) passing.push(n);
    }
    shown = passing;
    const listed = passing.includes(store.scene) ? passing : [...passing, store.scene].sort((a, b) => a - b);
    list.replaceChildren(...listed.map((n) => new Option(store.pictures[n].name, String(n))));
    told();
  }
  function told() {
    const at = shown.indexOf(store.scene);
    list.value = String(store.scene);
    write(place, `${at < 0 ? "–" : at + 1} of ${shown.length}`);
    (back.disabled = beside(-1) === undefined), (next.disabled = beside(1) === undefined);
  }
  function paint() {
    bar.hidden = store.pictures.length < 2;
    if (bar.hidden) return;
    const { level, ...state } = store.state, at = store.state.rows[store.active?.row ?? 0] ? store.active?.row ?? 0 : 0, row = store.state.rows[at];
    const local = Boolean(store.catalogue[row.method]?.script) && state.coupling !== "trained model";
    lost.box.disabled = !local && !calls.lost;
    lost.line.title = local || calls.lost ? `under ${store.catalogue[row.method].title}: some object that no point learns` : "only Python can assign so: step through the pictures";
    if (String([...classes.options].map((o) => o.value)) !== String(["", ...store.names])) {
      const before = classes.value;
      classes.replaceChildren(new Option(ALL, ""), ...store.names.map((name) => new Option(name, name)));
      classes.value = store.names.includes(before) ? before : "";
    }
    filter.hidden = new Set(lost.box.checked && !lost.box.disabled ? ["learned"] : []);
    (filter.name = classes.value), (filter.small = small.box.checked);
    const mine = JSON.stringify([filter.name, filter.small, store.pictures.length, filter.hidden.size ? [{ ...state, rows: [row] }, store.scene] : 0]);
    if (mine !== key) (key = mine), sift(mine, { ...store.state, rows: [row] }, filter.hidden.size && !local ? at : null);
    told();
  }
  return paint;
}

/** Asks Python which objects no point learns, after it heard of the last edit.
 * @param {import("./common.js").Model} model @param {() => void} edited tells it of that */
export function askedOfPython(model, edited) {
  const waiting = /** @type {((lost: number[][]) => void)[]} */ ([]);
  return {
    /** @param {number} row @param {number[]} pictures @returns {Promise<number[][]>} */
    ask: (row, pictures) => new Promise((done) => {
      edited();
      model.send({ type: "lost", asked: waiting.push(done) - 1, row, pictures });
    }),
    heard(/** @type {{asked: number, lost: number[][]}} */ { asked, lost }) {
      waiting[asked]?.(lost);
      delete waiting[asked];
    },
  };
}
