// Stepping through the pictures: the one before and after, a list, and a filter of what is in the list.
import { element, write } from "./common.js";
import { shows } from "./coco.js";

const SLICE = 12; // ms of sifting between two frames
const ALL = "all classes";

/**
 * Builds the bar, hidden where there is one picture.
 * calls: open(n) another picture
 * @param {HTMLElement} parent @param {import("./state.js").Store} store @param {{open: (n: number) => void}} calls
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
  async function sift(/** @type {string} */ mine, /** @type {any} */ state) {
    const found = /** @type {number[]} */ ([]);
    let began = performance.now();
    for (let n = 0; n < store.pictures.length; n++) {
      if (performance.now() - began > SLICE) {
        await new Promise((done) => setTimeout(done));
        if (mine !== key) return;
        began = performance.now();
      }
      if (shows(store.pictures[n], filter, state, store.catalogue)) found.push(n);
    }
    shown = found;
    const listed = found.includes(store.scene) ? found : [...found, store.scene].sort((a, b) => a - b);
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
    const { level, ...state } = store.state, row = store.state.rows[store.active?.row ?? 0] ?? store.state.rows[0];
    const local = Boolean(store.catalogue[row.method]?.script) && state.coupling !== "trained model";
    lost.box.disabled = !local;
    lost.line.title = local ? `under ${store.catalogue[row.method].title}: some object that no point learns` : "only Python can assign so: step through the pictures";
    if (String([...classes.options].map((o) => o.value)) !== String(["", ...store.names])) {
      const before = classes.value;
      classes.replaceChildren(new Option(ALL, ""), ...store.names.map((name) => new Option(name, name)));
      classes.value = store.names.includes(before) ? before : "";
    }
    filter.hidden = new Set(lost.box.checked && local ? ["learned"] : []);
    (filter.name = classes.value), (filter.small = small.box.checked);
    const mine = JSON.stringify([filter.name, filter.small, store.pictures.length, filter.hidden.size ? [{ ...state, rows: [row] }, store.scene] : 0]);
    if (mine !== key) (key = mine), sift(mine, { ...store.state, rows: [row] });
    told();
  }
  return paint;
}
