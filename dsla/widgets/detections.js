// The surface of the DetectionBrowser: objects, the boxes that NMS kept and removed, and which box removed which.
import { bitmap, element, fit, follow, guardIn, outline, scaled, tag, within } from "./common.js";

const KEPT = 2, REMOVED = 1.2;

function render({ model, el }) {
  const root = element(el, "div", "dsla-found"), guard = guardIn(root);
  const top = element(root, "div", "dsla-top");
  let image = null, closed = false, views = [], chosen = null;

  const names = () => model.get("names");
  function build() {
    if (closed || !image) return;
    const { columns, objects } = model.get("frame"), [H, W] = model.get("size");
    if (!columns) return;
    const width = Math.min(model.get("width"), Math.round((480 * W) / H)), height = Math.round((width * H) / W), k = width / W;
    if (views.length !== columns.length || views[0]?.width !== width || views[0]?.height !== height) {
      top.replaceChildren();
      views = columns.map((_, c) => {
        const box = element(top, "div", "dsla-detector"), title = element(box, "div", "dsla-title");
        const note = element(box, "div", "dsla-note"), canvas = element(box, "canvas", "dsla-detections");
        box.style.width = `${width}px`;
        const why = element(box, "div", "dsla-side dsla-suppressed");
        canvas.addEventListener("pointermove", (e) => choose(e, c));
        canvas.addEventListener("pointerleave", () => chosen && ((chosen = null), paint()));
        return { title, canvas, note, why, ctx: fit(canvas, width, height), width, height, k };
      });
    }
    views.forEach((view) => (view.backdrop = scaled(image, width, height)));
    chosen = null;
    paint(objects);
  }
  function paint() {
    const { columns, objects, looks } = model.get("frame");
    columns.forEach((column, c) => {
      const view = views[c], { ctx, k, width } = view;
      view.title.textContent = column.title;
      view.note.textContent = column.note;
      ctx.drawImage(view.backdrop, 0, 0, view.width, view.height);
      objects.forEach((o, n) => {
        const lost = column.missed.includes(n);
        outline(ctx, o.box, k, lost ? looks.missed.colour : "#ffffff", 1.2, lost ? [5, 3] : [2, 2]);
      });
      const mine = chosen?.column === c ? column.boxes[chosen.box] : null;
      const by = mine && mine.by >= 0 ? column.boxes[mine.by] : null;
      for (const b of column.boxes) if (b.by >= 0 || b.verdict === "") outline(ctx, b.box, k, "#c7ccd4", REMOVED * 0.6, [2, 2], false);
      for (const b of column.boxes) if (b.verdict) outline(ctx, b.box, k, looks[b.verdict].colour, KEPT, looks[b.verdict].dash);
      for (const b of column.boxes) if (b.verdict) tag(ctx, b.box, k, `${b.name} ${b.score.toFixed(2)}`, looks[b.verdict].colour, width);
      objects.forEach((o, n) => column.missed.includes(n) && tag(ctx, o.box, k, `${o.name} missed`, looks.missed.colour, width));
      if (by) outline(ctx, by.box, k, "#ffd60a", 3.2);
      if (mine) outline(ctx, mine.box, k, "#ff9f1c", 2.4, by ? [5, 3] : []);
      view.why.innerHTML = mine ? mine.text : "";
    });
    root.dataset.drawn = String(1 + Number(root.dataset.drawn ?? 0));
  }
  function choose(e, c) {
    const r = views[c].canvas.getBoundingClientRect(), k = views[c].k;
    const x = (e.clientX - r.left) / k, y = (e.clientY - r.top) / k, boxes = model.get("frame").columns[c].boxes;
    let found = -1, least = Infinity;
    boxes.forEach((b, n) => { // the box whose outline is nearest; several share an inside
      if (!within(b.box, x, y)) return;
      const gap = Math.min(x - b.box[0], b.box[2] - x, y - b.box[1], b.box[3] - y);
      if (gap < least) (least = gap), (found = n);
    });
    if (found === (chosen?.column === c ? chosen.box : -1)) return;
    chosen = found < 0 ? null : { column: c, box: found };
    paint();
  }
  async function load() {
    const picture = await bitmap(model.get("photo"));
    if (closed) return;
    image = picture;
    build();
  }
  const ignore = follow(model, { photo: load, frame: build }, guard);
  guard(load)();
  return () => {
    closed = true;
    ignore();
  };
}

export default { render };
