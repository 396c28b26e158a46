// The surface of the RankingExplorer: a scatter of score and IoU, and the images of the boxes that are chosen in it.
import { FONT, bitmap, bytes, contextOf, element, fit, follow, guardIn, listenForFiles, outline, tag, within } from "./common.js";
import { overlapOf, wrongClass } from "./verdicts.js";

const SIDE = 430, LEFT = 40, BOTTOM = 34, PAD = 8, CARD = 250, NEAR = 7;

/**
 * @typedef {import("./common.js").Context} Context
 * @typedef {{name: string, colour: string, note: string, score: Float32Array, iou: Float32Array, row: Int32Array}} Series
 * @typedef {{box: number[], name: string, series: number, row: number, score: number, iou: number}} Box
 * @typedef {{title: string, size: number[], photo: DataView, objects: {box: number[], name: string}[], boxes: Box[]}} Card
 * @typedef {{box: HTMLElement, title: HTMLElement, canvas: HTMLCanvasElement, ctx: CanvasRenderingContext2D, card: Card,
 *   w: number, h: number, k: number, photo: ImageBitmap}} View  of a card
 * @param {{model: import("./common.js").Model, el: HTMLElement}} view */
function render({ model, el }) {
  const root = element(el, "div", "dsla-ranking"), guard = guardIn(root);
  const top = element(root, "div", "dsla-top"), left = element(top, "div", "dsla-left");
  const canvas = element(left, "canvas", "dsla-scatter"), legend = element(left, "div", "dsla-legend");
  const right = element(top, "div", "dsla-side"), note = element(right, "div", "dsla-note dsla-chosen");
  const csv = element(right, "button", "dsla-csv", "CSV"), cards = element(right, "div", "dsla-cards"), told = element(right, "div", "dsla-told");
  csv.title = "what is chosen, as a table";
  csv.addEventListener("click", () => model.send({ type: "csv" }));
  element(left, "div", "dsla-note", "tags and dots: class, score / IoU; ≠ on an object of another class; dashed: the objects");
  canvas.title = "drag a region, or click a point; with Shift click more points";
  const ctx = fit(canvas, SIDE, SIDE), layer = new OffscreenCanvas(canvas.width, canvas.height), area = SIDE - LEFT - PAD;
  let series = /** @type {Series[]} */ ([]), drag = /** @type {{from: number[], x: number, y: number, region: boolean} | null} */ (null);
  let marked = /** @type {Box | null} */ (null), closed = false, views = /** @type {View[]} */ ([]);
  const X = (/** @type {number} */ score) => LEFT + score * area, Y = (/** @type {number} */ iou) => SIDE - BOTTOM - iou * (SIDE - BOTTOM - PAD);
  const value = (/** @type {PointerEvent} */ e) => {
    const r = canvas.getBoundingClientRect(), clamp = (/** @type {number} */ v) => Math.min(1, Math.max(0, v));
    return [clamp((e.clientX - r.left - LEFT) / area), clamp((SIDE - BOTTOM - (e.clientY - r.top)) / (SIDE - BOTTOM - PAD))];
  };
  const colour = (/** @type {number} */ s) => series[s]?.colour ?? "#ffffff";

  function dot(/** @type {Context} */ c, /** @type {number} */ s, /** @type {number} */ x, /** @type {number} */ y, /** @type {number} */ r) { // circle, square, triangle: told apart without colour
    c.beginPath();
    if (s % 3 === 0) c.arc(x, y, r, 0, 7);
    else if (s % 3 === 1) c.rect(x - r, y - r, 2 * r, 2 * r);
    else c.moveTo(x, y - 1.3 * r), c.lineTo(x + 1.2 * r, y + r), c.lineTo(x - 1.2 * r, y + r), c.closePath();
  }
  function load() {
    series = model.get("series").map((/** @type {any} */ one) => {
      const numbers = (/** @type {any} */ kind, /** @type {string} */ name) => new kind(bytes(one[name]).slice().buffer);
      return { ...one, score: numbers(Float32Array, "score"), iou: numbers(Float32Array, "iou"), row: numbers(Int32Array, "row") };
    });
    const c = contextOf(layer);
    c.setTransform(layer.width / SIDE, 0, 0, layer.height / SIDE, 0, 0);
    c.fillStyle = "#ffffff";
    c.fillRect(0, 0, SIDE, SIDE);
    c.font = FONT;
    c.textBaseline = "middle";
    for (const v of [0, 0.25, 0.5, 0.75, 1]) {
      c.strokeStyle = "#e3e6eb";
      c.lineWidth = 1;
      c.strokeRect(X(v), Y(1), 0, Y(0) - Y(1));
      c.strokeRect(X(0), Y(v), X(1) - X(0), 0);
      c.fillStyle = "#1f2430";
      c.textAlign = "center", c.fillText(String(v), X(v), Y(0) + 10);
      c.textAlign = "right", c.fillText(String(v), X(0) - 5, Y(v));
    }
    c.textAlign = "center";
    c.fillText("score", X(0.5), SIDE - 7);
    c.save();
    c.translate(8, Y(0.5)), c.rotate(-Math.PI / 2), c.fillText("IoU with the object", 0, 0);
    c.restore();
    c.strokeStyle = "#6b7280";
    c.setLineDash([4, 4]);
    c.strokeRect(X(0), Y(model.get("least")), X(1) - X(0), 0);
    c.setLineDash([]);
    legend.replaceChildren();
    series.forEach((one, s) => {
      c.globalAlpha = one.score.length > 5000 ? 0.25 : 0.5;
      c.fillStyle = one.colour;
      for (let i = 0; i < one.score.length; i++) dot(c, s, X(one.score[i]), Y(one.iou[i]), 2), c.fill();
      c.globalAlpha = 1;
      const line = element(legend, "div", "dsla-legend-line"), key = element(line, "span", "", "●■▲"[s % 3] + " ");
      key.style.color = one.colour;
      element(line, "b", "", one.name);
      element(line, "span", "dsla-note", one.note);
    });
    paint();
  }
  function paint() {
    if (closed) return;
    ctx.drawImage(layer, 0, 0, SIDE, SIDE);
    const region = model.get("region"), picked = model.get("picked");
    if (picked.length) {
      for (const [s, row] of picked) ring(s, row, "#1f2430", 4.5);
    } else if (region.length) {
      const [a, b, c, d] = region;
      ctx.fillStyle = "rgba(31, 36, 48, 0.08)";
      ctx.strokeStyle = "#1f2430";
      ctx.lineWidth = 1.2;
      ctx.fillRect(X(a), Y(d), X(b) - X(a), Y(c) - Y(d));
      ctx.strokeRect(X(a), Y(d), X(b) - X(a), Y(c) - Y(d));
    }
    if (marked) ring(marked.series, marked.row, "#d92d2d", 7);
  }
  function ring(/** @type {number} */ s, /** @type {number} */ row, /** @type {string} */ stroke, /** @type {number} */ r) {
    const i = series[s]?.row.indexOf(row) ?? -1;
    if (i < 0) return;
    dot(ctx, s, X(series[s].score[i]), Y(series[s].iou[i]), 3);
    ctx.fillStyle = colour(s);
    ctx.fill();
    ctx.beginPath();
    ctx.arc(X(series[s].score[i]), Y(series[s].iou[i]), r, 0, 7);
    ctx.strokeStyle = stroke;
    ctx.lineWidth = 1.8;
    ctx.stroke();
  }

  // ---- choosing
  function say(/** @type {number[]} */ region, /** @type {number[][]} */ picked) {
    model.set("region", region);
    model.set("picked", picked);
    model.save_changes(); // one change is on its way at a time; what happened meanwhile goes as the next one
    paint();
  }
  function nearest(/** @type {number[]} */ [score, iou]) {
    let closest = /** @type {number[] | null} */ (null), least = NEAR ** 2;
    series.forEach((one, s) => {
      for (let i = 0; i < one.score.length; i++) {
        const gap = (X(one.score[i]) - X(score)) ** 2 + (Y(one.iou[i]) - Y(iou)) ** 2;
        if (gap < least) (least = gap), (closest = [s, one.row[i]]);
      }
    });
    return closest;
  }
  canvas.addEventListener("pointerdown", (e) => {
    if (e.button) return;
    canvas.setPointerCapture(e.pointerId);
    drag = { from: value(e), x: e.clientX, y: e.clientY, region: false };
  });
  canvas.addEventListener("pointermove", (e) => {
    if (!drag || (!drag.region && Math.hypot(e.clientX - drag.x, e.clientY - drag.y) < 4)) return;
    drag.region = true;
    const [a, b] = drag.from, [c, d] = value(e);
    say([Math.min(a, c), Math.max(a, c), Math.min(b, d), Math.max(b, d)], []);
  });
  canvas.addEventListener("pointerup", (e) => {
    const done = drag;
    drag = null;
    if (!done || done.region) return;
    const point = nearest(done.from), before = e.shiftKey ? model.get("picked") : [];
    if (!point) return e.shiftKey || say([], []);
    const rest = before.filter((/** @type {number[]} */ [s, row]) => s !== point[0] || row !== point[1]);
    say([], rest.length < before.length ? rest : [...before, point]);
  });

  // ---- images
  async function fill() {
    const frame = model.get("frame"), list = frame.cards ?? [];
    const photos = await Promise.all(list.map((/** @type {Card} */ card) => bitmap(card.photo)));
    if (closed || frame !== model.get("frame")) return; // a newer one came meanwhile
    note.textContent = frame.note ?? "";
    while (views.length > list.length) views.pop()?.box.remove();
    while (views.length < list.length) {
      const box = element(cards, "div", "dsla-card"), title = element(box, "div", "dsla-head"), view = /** @type {View} */ (/** @type {any} */ ({ box, title }));
      view.canvas = element(box, "canvas", "dsla-image");
      view.canvas.addEventListener("pointermove", (e) => over(e, view));
      view.canvas.addEventListener("pointerleave", () => mark(null, view));
      views.push(view);
    }
    list.forEach((/** @type {Card} */ card, /** @type {number} */ n) => {
      const [H, W] = card.size, view = views[n], w = Math.round(CARD * Math.min(1, W / H)), h = Math.round((w * H) / W);
      if (view.w !== w || view.h !== h) view.ctx = fit(view.canvas, w, h);
      Object.assign(view, { card, w, h, k: w / W, photo: photos[n] });
      view.title.textContent = card.title;
    });
    marked = null;
    views.forEach(draw);
    root.dataset.drawn = String(1 + Number(root.dataset.drawn ?? 0));
    paint();
  }
  function draw(/** @type {View} */ { ctx: c, card, k, w, h, photo }) {
    c.imageSmoothingEnabled = photo.width >= 256;
    c.drawImage(photo, 0, 0, w, h);
    for (const o of card.objects) outline(c, o.box, k, "#ffffff", 1.1, [3, 3]);
    const mine = (/** @type {Box} */ b) => marked?.series === b.series && marked.row === b.row;
    for (const b of card.boxes) outline(c, b.box, k, colour(b.series), mine(b) ? 3 : 1.8);
    const taken = /** @type {number[][]} */ ([]), text = (/** @type {Box} */ b) => `${b.name} ${b.score.toFixed(2)} / ${b.iou.toFixed(2)}${wrongClass(b, card.objects, model.get("least")) ? " ≠" : ""}`;
    for (const b of [...card.boxes].sort((a, z) => Number(mine(z)) - Number(mine(a)))) tag(c, b.box, k, text(b), colour(b.series), w, taken);
  }
  function over(/** @type {PointerEvent} */ e, /** @type {View} */ view) {
    const r = view.canvas.getBoundingClientRect(), x = (e.clientX - r.left) / view.k, y = (e.clientY - r.top) / view.k;
    let box = null, least = Infinity;
    for (const b of view.card.boxes) {
      if (!within(b.box, x, y)) continue;
      const gap = Math.min(x - b.box[0], b.box[2] - x, y - b.box[1], b.box[3] - y);
      if (gap < least) (least = gap), (box = b);
    }
    mark(box, view);
  }
  function mark(/** @type {Box | null} */ box, /** @type {View} */ view) {
    if (box?.series === marked?.series && box?.row === marked?.row) return;
    marked = box;
    const other = box && wrongClass(box, view.card.objects, model.get("least"));
    told.textContent = box ? `${series[box.series].name}: ${box.name} · score ${box.score.toFixed(3)} · IoU ${box.iou.toFixed(3)}${
      other ? ` · the class is wrong: it lies on a ${other.name}, IoU ${overlapOf(box.box, other.box).toFixed(3)}` : ""}` : "";
    views.forEach(draw);
    paint();
  }
  const ignore = follow(model, { series: load, region: paint, picked: paint, frame: fill }, guard);
  const silent = listenForFiles(model);
  guard(load)(), guard(fill)();
  return () => {
    closed = true;
    ignore(), silent();
  };
}

export default { render };
