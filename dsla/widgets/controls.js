// The controls: which methods with which options, where points lie, at which size. They change the state and say so.
import { element } from "./common.js";
import { boundsFor, boundsOf, boundsText, COUPLINGS, sidesOf } from "./state.js";

const PRESETS = {
  "P3…P7 (8 to 128)": [8, 16, 32, 64, 128], "P3…P5 (8 to 32)": [8, 16, 32], "P2…P6 (4 to 64)": [4, 8, 16, 32, 64],
  "one level (16)": [16],
};
const SIZES = { "as stored": "native", "800/1333 (COCO)": "800/1333", "640, letterboxed": "640" };
const same = (/** @type {unknown} */ a, /** @type {unknown} */ b) => JSON.stringify(a) === JSON.stringify(b);

/**
 * Builds the column of controls; returns what draws it anew from the state.
 * calls: began() before a change, changed(event), problem(text or "")
 * @param {HTMLElement} parent @param {import("./state.js").Store} store
 * @param {{began: () => void, changed: (e: Event) => void, problem: (text: string) => void, upload: (file: File) => void}} calls
 */
export function controlColumn(parent, store, calls) {
  let built = "", last = ""; // which controls there are; the state that they show
  const set = (/** @type {Event} */ event, /** @type {Partial<import("./state.js").State>} */ changes, quiet = false) => {
    if (!quiet) calls.began();
    Object.assign(store.state, changes);
    last = JSON.stringify(store.state);
    calls.changed(event);
  };

  function field(/** @type {HTMLElement} */ group, /** @type {string} */ text, /** @type {HTMLElement} */ control, tip = "") {
    const line = element(group, "label", "dsla-field");
    element(line, "span", "", text);
    line.append(control);
    line.title = tip;
    return line;
  }
  function choice(/** @type {any[][]} */ options, /** @type {any} */ value, /** @type {(value: any, e: Event) => void} */ change) {
    const control = document.createElement("select");
    for (const [text, key] of options) control.add(new Option(text, JSON.stringify(key)));
    control.value = JSON.stringify(value);
    control.addEventListener("change", (e) => change(JSON.parse(control.value), e));
    return control;
  }
  /** A slider where both ends are known, else a number; off: what an option that may be None is without it.
   * @param {HTMLElement} group @param {string} text
   * @param {{low: number | null, high: number | null, step: number | string, value: number, off?: number, tip: string}} about
   * @param {(value: number | null, e: Event) => void} change */
  function number(group, text, { low, high, step, value, off, tip }, change) {
    const control = document.createElement("input"), bounded = low !== null && high !== null;
    control.type = bounded ? "range" : "number";
    if (low !== null) control.min = String(low);
    if (high !== null) control.max = String(high);
    control.step = String(step);
    control.value = String(value ?? off ?? 0);
    const shown = document.createElement("output"), wrap = element(group, "div", "dsla-number");
    const write = () => (shown.value = control.value === String(off) ? "off" : String(Number(Number(control.value).toFixed(3))));
    for (const kind of ["pointerdown", "focus"]) control.addEventListener(kind, () => calls.began());
    control.addEventListener("input", (e) => {
      write();
      if (control.value !== "" && control.validity.valid) change(control.value === String(off) ? null : Number(control.value), e);
    });
    write();
    const line = field(wrap, text, control, tip);
    if (bounded) line.append(shown);
  }
  // A text that may be wrong: what is wrong with it stands below it.
  function text(/** @type {HTMLElement} */ group, /** @type {string} */ name, /** @type {any} */ value, /** @type {(text: string) => any} */ read, /** @type {(value: any, e: Event) => void} */ change, /** @type {string} */ tip) {
    const control = document.createElement("input"), line = field(group, name, control, tip);
    const note = element(group, "div", "dsla-problem");
    note.setAttribute("role", "alert");
    control.value = value;
    let heard = value;
    const take = (/** @type {Event} */ e) => {
      if (control.value === heard) return;
      heard = control.value;
      try {
        const content = read(control.value);
        note.textContent = "";
        control.removeAttribute("aria-invalid");
        calls.problem("");
        change(content, e);
      } catch (error) {
        const { message } = /** @type {Error} */ (error);
        note.textContent = message;
        control.setAttribute("aria-invalid", "true");
        calls.problem(`${name}: ${message}`);
      }
    };
    control.addEventListener("change", take);
    control.addEventListener("keydown", (e) => e.key === "Enter" && take(e)); // JupyterLab keeps Enter from being a change
    return line;
  }
  function group(/** @type {string} */ title) {
    const box = element(parent, "fieldset", "dsla-group");
    element(box, "legend", "", title);
    return box;
  }

  function rowControls(/** @type {import("./state.js").Row} */ row, /** @type {number} */ r) {
    const { state, catalogue } = store, box = group(`Method ${r + 1}`), entry = catalogue[row.method];
    const names = Object.entries(catalogue).map(([key, other]) => [other.title, key]);
    const swap = (/** @type {string} */ method, /** @type {Event} */ e) => {
      const rows = method ? state.rows.with(r, { method, options: {} }) : state.rows.toSpliced(r, 1);
      set(e, { rows, level: null });
    };
    field(box, "method", choice(r ? [["none", ""], ...names] : names, row.method, swap), entry.summary);
    for (const o of entry.controls) {
      const value = o.name in row.options ? row.options[o.name] : o.default;
      const change = (/** @type {any} */ next, /** @type {Event} */ e) => {
        const { [o.name]: _, ...others } = store.state.rows[r].options;
        const options = same(next, o.default) ? others : { ...others, [o.name]: next };
        set(e, { rows: store.state.rows.with(r, { method: row.method, options }) }, o.kind !== "bool");
      };
      const label = o.name.replaceAll("_", " ");
      if (o.kind === "bool") {
        const control = document.createElement("input");
        control.type = "checkbox";
        control.checked = Boolean(value);
        control.addEventListener("change", (e) => change(control.checked, e));
        field(box, label, control, o.meaning);
      } else {
        const whole = o.kind === "int", span = o.high !== null && o.low !== null ? o.high - o.low : null;
        const step = whole ? 1 : span === null ? "any" : span <= 1 ? 0.01 : span <= 10 ? 0.05 : 0.25;
        const off = o.optional ? 0 : undefined;
        number(box, label, { low: o.optional ? 0 : o.low, high: o.high, step, value, off, tip: o.meaning }, change);
      }
    }
  }

  function build() {
    const { state, catalogue, trained } = store;
    parent.replaceChildren();
    const file = document.createElement("input");
    file.type = "file";
    file.accept = "image/*";
    file.addEventListener("change", () => file.files?.[0] && calls.upload(file.files[0]));
    field(group("Image"), "your own", file);
    state.rows.forEach(rowControls);
    const free = Object.keys(catalogue).find((key) => !state.rows.some((row) => row.method === key));
    if (state.rows.length < 3) {
      const more = element(parent, "button", "dsla-more", "+ compare with another method");
      more.type = "button";
      more.addEventListener("click", (e) => set(e, { rows: [...state.rows, { method: free ?? "dsla", options: {} }] }));
    }
    const box = group("Points and levels"), model = state.coupling === COUPLINGS[2];
    if (model) element(box, "div", "dsla-hint", "size, levels and points are the model's");
    else {
      const presets = Object.entries(PRESETS);
      if (!presets.some(([, strides]) => same(strides, state.strides))) presets.push([state.strides.join(", "), state.strides]);
      const sizes = Object.entries(SIZES);
      if (!sizes.some(([, value]) => value === state.input)) sizes.push([state.input, state.input]);
      const own = (/** @type {any} */ value, /** @type {Event} */ e) => (value === null ? element(box, "i", "") && ask() : set(e, { input: value }));
      const ask = () => line.after(text(box, "own size", state.input, (/** @type {string} */ v) => (sidesOf(v), v), (/** @type {string} */ v, /** @type {Event} */ e) => set(e, { input: v }), "800/1333: short and longest long side; 640: a padded square"));
      const line = field(box, "input size", choice([...sizes, ["own …", null]], state.input, own), "what a detector would scale the image to");
      field(box, "levels", choice(presets, state.strides, (/** @type {number[]} */ strides, /** @type {Event} */ e) => set(e, { strides, bounds: boundsFor(strides), level: null })));
      if (state.rows.some((row) => catalogue[row.method].ranges)) {
        const read = (/** @type {string} */ v) => boundsOf(v, store.state.strides.length);
        text(box, "ranges", boundsText(state.bounds), read, (/** @type {number[]} */ bounds, /** @type {Event} */ e) => set(e, { bounds }), "ends of the levels' ranges, pixels: one more than levels");
      }
      const offsets = /** @type {any[][]} */ ([["each method's own", null], ["0 (corner)", 0], ["0.5 (centre)", 0.5]]);
      if (!offsets.some(([, v]) => v === state.offset)) offsets.push([String(state.offset), state.offset]);
      field(box, "point offset", choice(offsets, state.offset, (/** @type {number | null} */ offset, /** @type {Event} */ e) => set(e, { offset })), "in strides");
    }
    const entries = state.rows.map((row) => catalogue[row.method]);
    if (entries.some((entry) => entry.coupling !== "off" || entry.needs)) {
      const said = group("Predictions"), couplings = COUPLINGS.filter((_, n) => n < 2 || trained);
      field(said, "IoU coupling", choice(couplings.map((c) => [c, c]), state.coupling, (/** @type {string} */ coupling, /** @type {Event} */ e) => set(e, { coupling, level: null })), "colour by label × IoU of predicted boxes");
      if (state.coupling === COUPLINGS[1] || entries.some((entry) => entry.needs && !model)) {
        number(said, "jitter", { low: 0, high: 0.5, step: 0.01, value: state.jitter, tip: "noise of the predicted boxes, a share of their size" },
          (jitter, e) => set(e, { jitter: jitter ?? 0 }, true));
      }
    }
  }

  // Built anew where other controls apply or another than they changed the state; a slider under the hand stays.
  return function paint() {
    const { state, trained } = store, values = JSON.stringify(state);
    const { options, bounds, jitter, level, ...others } = { ...state, options: null };
    const kind = JSON.stringify([others, state.rows.map((row) => row.method), trained, store.turn])
      .replace(/"options":\{[^}]*\}/g, "");
    if (kind === built && values === last) return;
    const places = () => /** @type {HTMLElement[]} */ ([...parent.querySelectorAll("input, select, button")]);
    const focus = places().findIndex((place) => place === document.activeElement);
    (built = kind), (last = values);
    build();
    calls.problem(""); // a text that was wrong is gone
    if (focus >= 0) places()[Math.min(focus, places().length - 1)]?.focus();
  };
}
