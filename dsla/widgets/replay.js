// The surface of the TrainingReplay: one frame of a recorded run at a time. All frames are here, none is asked for.
import { FONT, bitmap, bytes, element, fit, follow, guardIn, layersOf, outline, paletteOf, scale, scaled, tag } from "./common.js";

const PHOTO = 320, MAP = 150, LINES = 170, SHOWN = 8; // SHOWN: least score that is drawn, of 255

/**
 * @typedef {{row: number, box: number[], name: string}} Item  an object
 * @typedef {{photo: DataView, dim: DataView, size: number[], scale: number[], objects: Item[]}} Image
 * @typedef {{name: string, images: Image[], steps: number[], shapes: number[][], strides: number[], offset: number,
 *   points: number, kept: number, rows: number, parts: string[], loss_steps: number[], colours: string[], boxes: Float32Array,
 *   own: Float32Array, own_box: Float32Array, losses: Float32Array, taught: Uint8Array, score: Uint8Array,
 *   box_score: Uint8Array, bitmaps?: (ImageBitmap | null)[][]}} Film  see `film_of` in replay.py
 * @typedef {{canvas: HTMLCanvasElement, legend: HTMLElement, ctx: CanvasRenderingContext2D, w: number}} Chart
 * @param {{model: import("./common.js").Model, el: HTMLElement}} view */
function render({ model, el }) {
  const root = element(el, "div", "dsla-replay"), guard = guardIn(root), head = element(root, "div", "dsla-title dsla-step");
  const top = element(root, "div", "dsla-top"), left = element(top, "div", "dsla-left"), side = element(top, "div", "dsla-maps");
  const photo = element(left, "canvas", "dsla-photo-view");
  const charts = element(root, "div", "dsla-top"), lut = bytes(model.get("lut")), palette = paletteOf(lut);
  const chart = (/** @type {string} */ name) => {
    const box = element(charts, "div", ""), canvas = element(box, "canvas", name);
    canvas.title = "click or drag to move through the run";
    canvas.addEventListener("pointerdown", (e) => (canvas.setPointerCapture(e.pointerId), seek(e, canvas)));
    canvas.addEventListener("pointermove", (e) => e.buttons & 1 && seek(e, canvas));
    return { box, canvas, legend: element(box, "div", "dsla-note"), ctx: fit(canvas, 400, LINES), w: 400 };
  };
  const losses = chart("dsla-losses"), objects = chart("dsla-objects");
  const table = element(root, "div", "dsla-told");
  let film = /** @type {Film} */ (/** @type {any} */ (null)), image = /** @type {Image} */ (/** @type {any} */ (null));
  let view = /** @type {{ctx: CanvasRenderingContext2D, w: number, h: number} | null} */ (null), closed = false, k = 1, ready = 0;
  let rows = /** @type {{name: "taught" | "score", levels: CanvasRenderingContext2D[], small: number, high: number}[]} */ ([]);
  let backdrops = /** @type {Record<string, ImageBitmap>} */ ({});
  const floats = (/** @type {DataView} */ view) => new Float32Array(bytes(view).slice().buffer);
  const colour = (/** @type {number} */ n) => film.colours[n % film.colours.length];

  async function load() {
    const raw = model.get("film"), mine = ++ready;
    if (!raw.images) return;
    const [boxes, own, own_box, losses_] = [raw.boxes, raw.own, raw.own_box, raw.losses].map(floats);
    const [taught, score, box_score] = [raw.taught, raw.score, raw.box_score].map(bytes);
    film = { ...raw, boxes, own, own_box, losses: losses_, taught, score, box_score };
    const bitmaps = await Promise.all(film.images.map((/** @type {Image} */ i) => Promise.all([bitmap(i.photo), bitmap(i.dim)])));
    if (closed || mine !== ready) return;
    film.bitmaps = bitmaps;
    choose();
  }
  function choose() { // another image: its sizes, its backdrops
    if (!film?.bitmaps) return;
    const number = model.get("image"), [H, W] = film.images[number].size;
    image = film.images[number];
    const w = Math.round(PHOTO * Math.min(1, W / H)), h = Math.round((w * H) / W), small = Math.round(MAP * Math.min(1, W / H));
    k = w / W;
    view = { ctx: fit(photo, w, h), w, h };
    side.replaceChildren();
    const high = Math.round((small * H) / W);
    const [colours, grey] = /** @type {ImageBitmap[]} */ (film.bitmaps[number]);
    backdrops = { photo: scaled(colours, w, h), dim: scaled(grey, small, high) };
    rows = /** @type {const} */ (["taught", "score"]).map((name) => {
      element(side, "div", "dsla-title", name === "taught" ? "dynamic label that is taught" : "score");
      const line = element(side, "div", "dsla-row");
      const levels = film.shapes.map((_, level) => {
        const box = element(line, "div", "dsla-panel");
        element(box, "div", "dsla-head", `P${Math.log2(film.strides[level])} · stride ${film.strides[level]}`);
        return fit(element(box, "canvas", `dsla-${name}`), small, high);
      });
      return { name, levels, small, high };
    });
    scale(side, "label and score", lut);
    paint();
  }
  function paint() {
    if (closed || !image) return;
    const f = model.get("index"), number = model.get("image"), { ctx, w, h } = /** @type {any} */ (view);
    head.textContent = `${film.name} · after step ${film.steps[f]} of ${film.loss_steps.at(-1)}`;
    ctx.drawImage(backdrops.photo, 0, 0, w, h);
    const first = (f * film.images.length + number) * film.kept;
    for (let d = film.kept - 1; d >= 0; d--) {
      const score = film.box_score[first + d] / 255;
      if (!score) continue;
      ctx.globalAlpha = Math.min(1, 0.15 + score);
      outline(ctx, film.boxes.slice(4 * (first + d), 4 * (first + d) + 4), k, "#ffffff", 1, [], false);
    }
    ctx.globalAlpha = 1;
    image.objects.forEach((o, n) => outline(ctx, o.box, k, colour(n), 1.6, [4, 4], false));
    image.objects.forEach((o, n) => {
      const at = f * film.rows + o.row, box = film.own_box.slice(4 * at, 4 * at + 4);
      if (Number.isFinite(box[0])) outline(ctx, box, k, colour(n), 2.4);
      tag(ctx, o.box, k, o.name, colour(n), w);
    });
    const base = (f * film.images.length + number) * film.points;
    for (const { name, levels, small, high } of rows) {
      let from = base;
      const maps = film.shapes.map(([h, w]) => film[name].slice(from, (from += h * w)));
      if (name === "score") for (const map of maps) map.forEach((/** @type {number} */ v, /** @type {number} */ i) => (map[i] = v < SHOWN ? 0 : Math.max(1, v)));
      const layers = layersOf({ maps, shapes: film.shapes }, palette);
      levels.forEach((c, level) => {
        const [h, w] = film.shapes[level], unit = small / image.size[1], s = film.strides[level];
        const [sx, sy] = image.scale.map((v) => v * unit * s);
        c.drawImage(backdrops.dim, 0, 0, small, high);
        c.imageSmoothingEnabled = false;
        c.drawImage(layers[level].canvas, (film.offset - 0.5) * sx, (film.offset - 0.5) * sy, w * sx, h * sy);
        image.objects.forEach((o, n) => outline(c, o.box, unit, colour(n), 1, [3, 2], false));
      });
    }
    plots(f);
    root.dataset.index = String(f);
  }

  // ---- curves over the steps, logarithmic as the frames are
  const last = () => film.loss_steps[film.loss_steps.length - 1];
  const X = (/** @type {number} */ step, /** @type {number} */ w) => 30 + ((w - 40) * Math.log(step)) / Math.log(Math.max(2, last()));
  function axes(/** @type {Chart} */ { ctx, w }, /** @type {number} */ most, /** @type {number} */ f, /** @type {string} */ name) {
    ctx.fillStyle = "#ffffff";
    ctx.fillRect(0, 0, w, LINES);
    ctx.font = FONT;
    ctx.textBaseline = "middle";
    for (const part of [0, 0.5, 1]) {
      const y = LINES - 18 - part * (LINES - 34);
      ctx.fillStyle = "#6b7280";
      ctx.textAlign = "right";
      ctx.fillText(String(Number((most * part).toPrecision(2))), 26, y);
      ctx.fillStyle = "#e3e6eb";
      ctx.fillRect(30, y, w - 40, 1);
    }
    ctx.fillStyle = "#6b7280";
    ctx.textAlign = "center";
    for (let step = 1; step <= last(); step *= 10) ctx.fillText(String(step), X(step, w), LINES - 7);
    ctx.textAlign = "right";
    ctx.fillText("step", w - 2, LINES - 7);
    ctx.textAlign = "left";
    ctx.fillText(name, 34, 7);
    ctx.textAlign = "left";
    ctx.fillStyle = "#d92d2d";
    ctx.fillRect(X(film.steps[f], w) - 0.75, 8, 1.5, LINES - 26);
  }
  function line(/** @type {Chart} */ { ctx, w }, /** @type {number[]} */ steps, /** @type {(frame: number) => number} */ value, /** @type {number} */ most, /** @type {string} */ stroke, /** @type {number[]} */ dash) {
    ctx.beginPath();
    let down = false;
    steps.forEach((/** @type {number} */ step, /** @type {number} */ i) => {
      const v = value(i);
      if (!Number.isFinite(v)) return (down = false);
      ctx[down ? "lineTo" : "moveTo"](X(step, w), LINES - 18 - Math.min(1, v / most) * (LINES - 34));
      down = true;
    });
    ctx.strokeStyle = stroke;
    ctx.lineWidth = 1.5;
    ctx.setLineDash(dash);
    ctx.stroke();
    ctx.setLineDash([]);
  }
  function plots(/** @type {number} */ f) {
    const parts = film.parts.length, dashes = [[], [5, 3], [2, 2], [7, 2, 2, 2]], most = film.losses.reduce((a, b) => Math.max(a, b), 0.1);
    axes(losses, most, f, "loss");
    film.parts.forEach((_, p) => line(losses, film.loss_steps, (/** @type {number} */ i) => film.losses[i * parts + p], most, "#1f2430", dashes[p % 4]));
    losses.legend.textContent = `losses of the batches: ${film.parts.map((part, p) => `${part} ${["———", "- - -", "·····", "–·–·"][p % 4]}`).join("   ")}`;
    axes(objects, 1, f, "label and score, 0…1");
    table.replaceChildren();
    image.objects.forEach((o, n) => {
      const at = (/** @type {number} */ i, /** @type {number} */ column) => film.own[4 * (i * film.rows + o.row) + column];
      line(objects, film.steps, (/** @type {number} */ i) => at(i, 2), 1, colour(n), []);
      line(objects, film.steps, (/** @type {number} */ i) => at(i, 3), 1, colour(n), [2, 2]);
      const row = element(table, "div", "dsla-object"), name = element(row, "b", "", `${o.name} `);
      name.style.color = colour(n);
      const [label, iou, taught, score] = [0, 1, 2, 3].map((c) => at(f, c).toFixed(2));
      const said = Number.isFinite(at(f, 0)) ? `static label ${label}, IoU of its box ${iou} → taught ${taught}; score ${score}` : "no point";
      element(row, "span", "", said);
    });
    objects.legend.textContent = "of each object's best point: label taught ———   score ·····";
  }
  function seek(/** @type {PointerEvent} */ e, /** @type {HTMLCanvasElement} */ canvas) {
    const r = canvas.getBoundingClientRect(), gaps = film.steps.map((s) => Math.abs(X(s, r.width) - (e.clientX - r.left)));
    model.set("index", gaps.indexOf(Math.min(...gaps)));
    model.save_changes();
  }
  const ignore = follow(model, { film: load, image: choose, index: paint }, guard);
  guard(load)();
  return () => {
    closed = true;
    ignore();
  };
}

export default { render };
