// The surface of the DetectionBrowser: objects, the boxes that NMS kept and removed, and which box removed which.
import { bitmap, element, fit, follow, guardIn, listenForFiles, outline, scaled, tag, within, write } from "./common.js";
import { countsOf, KINDS, linesOf, noteOf, passes } from "./verdicts.js";

const KEPT = 2, REMOVED = 0.7, REMOVED_LOOK = { colour: "#c7ccd4", dash: [2, 2] };

/**
 * @typedef {import("./verdicts.js").Detection} Detection
 * @typedef {import("./verdicts.js").Column} Column
 * @typedef {{box: number[], name: string}} Item  an object
 * @typedef {{head: HTMLElement, canvas: HTMLCanvasElement, note: HTMLElement, why: HTMLElement, ctx: CanvasRenderingContext2D,
 *   width: number, height: number, k: number, backdrop?: ImageBitmap}} View  of a detector
 * @param {{model: import("./common.js").Model, el: HTMLElement}} view */
function render({ model, el }) {
  const root = element(el, "div", "dsla-browser"), guard = guardIn(root), bar = element(root, "div", "dsla-bar");
  const title = element(bar, "b", ""), legend = element(bar, "span", "dsla-legend"), classes = element(bar, "select", "");
  const line = element(bar, "label", ""), small = element(line, "input", ""), csv = element(bar, "button", "", "CSV");
  const top = element(root, "div", "dsla-top"), filter = { hidden: new Set(), name: "", small: false };
  small.type = "checkbox";
  line.append(" small only");
  classes.setAttribute("aria-label", "class");
  csv.title = "the boxes of this image as a table";
  let image = /** @type {ImageBitmap | null} */ (null), closed = false;
  let views = /** @type {View[]} */ ([]), chosen = /** @type {{column: number, box: number} | null} */ (null);
  const lookOf = (/** @type {string} */ kind) => model.get("frame").looks[kind] ?? REMOVED_LOOK, kindOf = (/** @type {Detection} */ b) => b.verdict || (b.by >= 0 ? "removed" : "crowd");
  const keys = KINDS.map((kind) => {
    const key = element(legend, "button", "dsla-key"), swatch = element(key, "span", "dsla-swatch");
    const text = element(key, "span", "");
    key.title = `hide or show: ${kind}`;
    key.addEventListener("click", () => (filter.hidden.delete(kind) || filter.hidden.add(kind), paint()));
    return { kind, key, swatch, text };
  });
  classes.addEventListener("change", () => ((filter.name = classes.value), paint()));
  small.addEventListener("change", () => ((filter.small = small.checked), paint()));
  csv.addEventListener("click", () => model.send({ type: "csv" }));

  function fillNames() {
    classes.replaceChildren(new Option("all classes", ""), ...model.get("names").map((/** @type {string} */ name) => new Option(name, name)));
  }
  function build() {
    if (closed || !image) return;
    const { columns } = model.get("frame"), [H, W] = model.get("size");
    if (!columns) return;
    const most = Math.max(220, Math.min(model.get("width"), root.clientWidth || 1e4));
    const width = Math.min(most, Math.round((480 * W) / H)), height = Math.round((width * H) / W), k = width / W;
    if (views.length !== columns.length || views[0]?.width !== width || views[0]?.height !== height) {
      top.replaceChildren();
      views = columns.map((/** @type {Column} */ _, /** @type {number} */ c) => {
        const box = element(top, "div", "dsla-detector"), head = element(box, "div", "dsla-title");
        const note = element(box, "div", "dsla-note"), canvas = element(box, "canvas", "dsla-detections");
        box.style.width = `${width}px`;
        canvas.setAttribute("role", "img");
        const why = element(box, "div", "dsla-side dsla-suppressed");
        canvas.addEventListener("pointermove", (e) => choose(e, c));
        canvas.addEventListener("pointerdown", (e) => choose(e, c));
        canvas.addEventListener("pointerleave", (e) => e.pointerType !== "touch" && chosen && ((chosen = null), paint()));
        return { head, canvas, note, why, ctx: fit(canvas, width, height), width, height, k };
      });
    }
    for (const view of views) view.backdrop = scaled(image, width, height);
    chosen = null;
    paint();
  }
  function paint() {
    const { columns, objects, title: name, small: least } = model.get("frame"), counts = columns.map(countsOf);
    write(title, name);
    for (const { kind, key, swatch, text } of keys) {
      const look = lookOf(kind);
      swatch.style.borderTop = `3px ${look.dash.length ? "dashed" : "solid"} ${look.colour}`;
      write(text, `${kind} ${counts.map((/** @type {Record<string, number>} */ c) => c[kind]).join(" / ")}`);
      key.setAttribute("aria-pressed", String(!filter.hidden.has(kind)));
      key.classList.toggle("off", filter.hidden.has(kind));
    }
    columns.forEach((/** @type {Column} */ column, /** @type {number} */ c) => {
      const view = views[c], { ctx, k, width } = view, taken = /** @type {number[][]} */ ([]);
      write(view.head, column.title);
      write(view.note, noteOf(column, objects.length));
      view.canvas.setAttribute("aria-label", `${name}, ${column.title}: ${view.note.textContent}`);
      ctx.drawImage(/** @type {ImageBitmap} */ (view.backdrop), 0, 0, view.width, view.height);
      const missed = objects.filter((/** @type {Item} */ o, /** @type {number} */ n) => column.missed.includes(n) && passes("missed", o, filter, least));
      objects.forEach((/** @type {Item} */ o, /** @type {number} */ n) => column.missed.includes(n) || (passes("", o, filter, least) && outline(ctx, o.box, k, "#ffffff", 1.2, [2, 2])));
      for (const o of missed) outline(ctx, o.box, k, lookOf("missed").colour, 1.6, [5, 3]);
      const boxes = column.boxes.filter((/** @type {Detection} */ b) => passes(kindOf(b), b, filter, least)), kept = boxes.filter((/** @type {Detection} */ b) => b.verdict);
      for (const b of boxes) if (!b.verdict) outline(ctx, b.box, k, REMOVED_LOOK.colour, REMOVED, REMOVED_LOOK.dash, false);
      for (const b of kept) outline(ctx, b.box, k, lookOf(b.verdict).colour, KEPT, lookOf(b.verdict).dash);
      for (const o of missed) tag(ctx, o.box, k, `${o.name} missed`, lookOf("missed").colour, width, taken);
      for (const b of kept) tag(ctx, b.box, k, `${b.name} ${b.score.toFixed(2)}`, lookOf(b.verdict).colour, width, taken);
      const mine = chosen?.column === c ? column.boxes[chosen.box] : null, by = mine && column.boxes[mine.by];
      if (by) outline(ctx, by.box, k, "#ffd60a", 3.2);
      if (mine) outline(ctx, mine.box, k, "#ff9f1c", 2.4, by ? [5, 3] : []);
      view.why.replaceChildren();
      for (const text of mine ? linesOf(mine, column.boxes, objects) : []) element(view.why, "p", "", text);
    });
    root.dataset.drawn = String(1 + Number(root.dataset.drawn ?? 0));
  }
  function choose(/** @type {PointerEvent} */ e, /** @type {number} */ c) {
    const r = views[c].canvas.getBoundingClientRect(), k = views[c].k, frame = model.get("frame");
    const x = (e.clientX - r.left) / k, y = (e.clientY - r.top) / k;
    let nearest = -1, least = Infinity;
    frame.columns[c].boxes.forEach((/** @type {Detection} */ b, /** @type {number} */ n) => { // the box whose outline is nearest; several share an inside
      if (!within(b.box, x, y) || !passes(kindOf(b), b, filter, frame.small)) return;
      const gap = Math.min(x - b.box[0], b.box[2] - x, y - b.box[1], b.box[3] - y);
      if (gap < least) (least = gap), (nearest = n);
    });
    if (nearest === (chosen?.column === c ? chosen.box : -1)) return;
    chosen = nearest < 0 ? null : { column: c, box: nearest };
    paint();
  }
  async function load() {
    const photo = model.get("photo"), picture = await bitmap(photo);
    if (closed || photo !== model.get("photo")) return; // a newer one came meanwhile
    image = picture;
    build();
  }
  const ignore = follow(model, { photo: load, frame: build, names: fillNames }, guard);
  const silent = listenForFiles(model);
  fillNames(), guard(load)();
  return () => {
    closed = true;
    ignore(), silent();
  };
}

export default { render };
