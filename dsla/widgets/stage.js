// The large picture: boxes under mouse, finger and keys. It changes the objects of the store and says so; computes no label.
import { area, handles, outline, tag, within } from "./common.js";

export const CHOSEN = "#ffd60a", WHITE = "#ffffff", GREY = "#aab2bf";
// Who teaches whom, told apart by the colour-blind too (Okabe and Ito); more objects begin again.
const OWNERS = ["#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#0072b2", "#d55e00"];
export const ownerOf = (/** @type {number} */ n) => OWNERS[n % OWNERS.length];
export const OWNER_PALETTE = Uint32Array.from({ length: 256 }, (_, i) => (i && 0xd1000000 + ((c) => ((c & 255) << 16) + (c & 0xff00) + (c >> 16))(parseInt(ownerOf(i - 1).slice(1), 16))));
// A byte a point, 0 background, as `OWNER_PALETTE` reads it.
/** @param {{shapes: number[][], gt: Int32Array}} row */
export function ownersOf({ shapes, gt }) {
  let first = 0;
  return shapes.map(([h, w]) => Uint8Array.from(gt.subarray(first, (first += h * w)), (n) => (n < 0 ? 0 : 1 + (n % OWNERS.length))));
}
const CURSORS = ["nwse-resize", "ns-resize", "nesw-resize", "ew-resize", "nwse-resize", "ns-resize", "nesw-resize", "ew-resize"];
const REACH = /** @type {Record<string, number>} */ ({ mouse: 7, touch: 22, pen: 12 }); // pixels around a handle

/** @typedef {import("./common.js").Context} Context */
/** @typedef {import("./state.js").Drawn} Drawn */
/** @typedef {import("./state.js").Store} Store */

/** The cells of a level in their colours, at `unit` screen pixels per pixel of the image.
 * @param {Context} ctx @param {Drawn} row @param {number} level @param {number} unit */
export function paintLevel(ctx, row, level, unit) {
  const [h, w] = row.shapes[level], s = row.strides[level], [sx, sy] = row.scale.map((v) => v * unit * s);
  ctx.imageSmoothingEnabled = false;
  if (row.canvases) ctx.drawImage(row.canvases[level].canvas, (row.offset - 0.5) * sx, (row.offset - 0.5) * sy, w * sx, h * sy);
}

/** @param {Context} ctx @param {Drawn} row @param {{level: number, i: number, j: number}} place @param {number} unit */
export function paintHover(ctx, row, { level, i, j }, unit) {
  const s = row.strides[level], [sx, sy] = row.scale.map((v) => v * unit * s);
  ctx.strokeStyle = CHOSEN;
  ctx.lineWidth = 1.6;
  ctx.strokeRect((j + row.offset - 0.5) * sx, (i + row.offset - 0.5) * sy, sx, sy);
  ctx.beginPath();
  ctx.arc((j + row.offset) * sx, (i + row.offset) * sy, 3, 0, 7);
  ctx.stroke();
}

/** @param {Context} ctx @param {Drawn} row @param {number} level @param {number} unit */
function paintPoints(ctx, row, level, unit) {
  const [h, w] = row.shapes[level], s = row.strides[level], [sx, sy] = row.scale.map((v) => v * unit * s);
  if (Math.min(sx, sy) < 7) return; // too close to tell apart
  const map = row.maps[level];
  for (const [lit, colour, r] of /** @type {[boolean, string, number][]} */ ([[false, "rgba(255,255,255,.35)", 1.1], [true, "rgba(255,255,255,.95)", 1.8]])) {
    ctx.fillStyle = colour;
    for (let i = 0; i < h * w; i++) {
      if (map[i] > 0 !== lit) continue;
      ctx.fillRect(((i % w) + row.offset) * sx - r, (Math.floor(i / w) + row.offset) * sy - r, 2 * r, 2 * r);
    }
  }
}

/** @param {Drawn | null | undefined} row @param {Store} store @param {number} n */
export const isLost = (row, store, n) => row?.counts.length === store.objects.length && row.counts[n] === 0;

/** The point of a level nearest to a place of the image; null beyond the map.
 * @param {Drawn} row @param {number} level @param {number[]} place x, y */
export function pointAt(row, level, [x, y]) {
  const s = row.strides[level], [h, w] = row.shapes[level];
  const j = Math.round(x / (s * row.scale[0]) - row.offset), i = Math.round(y / (s * row.scale[1]) - row.offset);
  if (i < 0 || j < 0 || i >= h || j >= w) return null;
  const first = row.shapes.slice(0, level).reduce((n, [a, b]) => n + a * b, 0);
  return { level, i, j, point: first + i * w + j };
}

/** Paints the large picture from the store. @param {Context} ctx @param {Store} store */
export function paintStage(ctx, store) {
  const { objects, rows, active, selected, k, ox, oy, width, height, backdrops, lost, hovered } = store;
  const row = rows[active?.row ?? 0], on = active && row, behind = on ? backdrops.dim : backdrops.photo;
  ctx.clearRect(0, 0, width, height);
  ctx.save();
  ctx.translate(-ox, -oy);
  if (behind) ctx.drawImage(behind, 0, 0, width * store.zoom, height * store.zoom);
  if (on) paintLevel(ctx, row, active.level, k), paintPoints(ctx, row, active.level, k);
  const order = objects.map((_, n) => n).sort((a, b) => area(objects[b]) - area(objects[a]));
  const colourOf = (/** @type {number} */ n) => (isLost(row, store, n) ? lost : n === selected ? CHOSEN : store.byObject ? ownerOf(n) : WHITE);
  for (const n of order) outline(ctx, objects[n], k, colourOf(n), n === selected ? 2 : 1.6, isLost(row, store, n) ? [5, 3] : []);
  const few = objects.length <= 40, taken = /** @type {number[][]} */ ([]);
  for (const n of [...order].sort((a, b) => Number(b === selected) - Number(a === selected) || Number(isLost(row, store, b)) - Number(isLost(row, store, a)))) {
    if (!few && n !== selected && !isLost(row, store, n)) continue;
    const count = row?.counts.length === objects.length ? ` · ${row.counts[n]}` : "";
    tag(ctx, objects[n], k, store.nameOf(objects[n][4]) + count, colourOf(n), width * store.zoom, n === selected ? [] : taken);
  }
  if (selected >= 0) paintHandles(ctx, objects[selected], k);
  if (hovered && on && hovered.level === active.level) paintHover(ctx, row, hovered, k);
  ctx.restore();
}

/** On a small box the handles stand outside it, so that it stays to be seen and moved. @param {number[]} box
 * @param {number} k */
export function handlesOf(box, k) {
  const out = Math.min(box[2] - box[0], box[3] - box[1]) * k < 24 ? 7 / k : 0;
  return handles([box[0] - out, box[1] - out, box[2] + out, box[3] + out]);
}

/** @param {Context} ctx @param {number[]} box @param {number} k */
function paintHandles(ctx, box, k) {
  ctx.fillStyle = CHOSEN;
  ctx.strokeStyle = "#1f2430";
  ctx.lineWidth = 1;
  for (const [x, y] of handlesOf(box, k)) {
    ctx.fillRect(x * k - 3.5, y * k - 3.5, 7, 7);
    ctx.strokeRect(x * k - 3.5, y * k - 3.5, 7, 7);
  }
}

/**
 * Lets mouse, finger and keys change the objects.
 * calls: changed(event), began() before a gesture changes something, hover(place or null), paint(), erase(event)
 * @param {HTMLCanvasElement} stage @param {Store} store
 * @param {{changed: (e: Event | null) => void, began: () => void, hover: (place: number[] | null) => void, paint: () => void,
 *   erase: (e: Event) => void}} calls
 */
export function listen(stage, store, calls) {
  let drag = /** @type {any} */ (null);
  const pointers = new Map(); // of fingers on the picture
  const place = (/** @type {PointerEvent} */ e) => {
    const r = stage.getBoundingClientRect();
    return [((e.clientX - r.left) * (store.width / r.width) + store.ox) / store.k,
      ((e.clientY - r.top) * (store.height / r.height) + store.oy) / store.k];
  };
  const handleAt = (/** @type {number} */ x, /** @type {number} */ y, /** @type {number} */ reach) => (store.selected < 0 ? -1
    : handlesOf(store.objects[store.selected], store.k).findIndex(([a, b]) => Math.abs(a - x) * store.k < reach && Math.abs(b - y) * store.k < reach));
  const boxAt = (/** @type {number} */ x, /** @type {number} */ y) => {
    if (store.selected >= 0 && within(store.objects[store.selected], x, y)) return store.selected;
    let best = -1;
    store.objects.forEach((o, n) => {
      if (within(o, x, y) && (best < 0 || area(o) < area(store.objects[best]))) best = n;
    });
    return best;
  };

  function down(/** @type {PointerEvent} */ e) {
    if (e.button) return;
    stage.focus({ preventScroll: true });
    stage.setPointerCapture(e.pointerId);
    pointers.set(e.pointerId, e);
    if (pointers.size > 1) return abort(); // two fingers zoom
    const [x, y] = place(e), reach = REACH[e.pointerType] ?? 7, handle = handleAt(x, y, reach), box = boxAt(x, y);
    calls.began();
    if (e.altKey || store.hand) drag = { pan: true, x: e.clientX, y: e.clientY, ox: store.ox, oy: store.oy };
    else if (handle >= 0 && !store.draw && !e.shiftKey) drag = { handle, from: [...store.objects[store.selected]], x, y };
    else if (box >= 0 && !store.draw && !e.shiftKey) {
      store.selected = box;
      drag = { handle: -1, from: [...store.objects[box]], x, y };
    } else {
      store.selected = -1;
      drag = { handle: 8, from: null, x, y };
    }
    drag.before = store.objects.map((o) => [...o]);
    drag.far = e.pointerType === "touch" ? 6 : 0; // pixels that a tap may tremble
    drag.at = [e.clientX, e.clientY];
    calls.hover(e.pointerType === "touch" ? [x, y] : null);
    calls.paint();
  }

  function pinch(/** @type {PointerEvent} */ e) {
    const [a, b] = [...pointers.values()], before = Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
    pointers.set(e.pointerId, e);
    const [c, d] = [...pointers.values()], now = Math.hypot(c.clientX - d.clientX, c.clientY - d.clientY);
    zoomAt(store.zoom * (now / Math.max(1, before)), (c.clientX + d.clientX) / 2, (c.clientY + d.clientY) / 2);
  }

  function zoomAt(/** @type {number} */ zoom, /** @type {number | null} */ clientX = null, /** @type {number | null} */ clientY = null) {
    const r = stage.getBoundingClientRect(), x = (clientX ?? r.left + r.width / 2) - r.left, y = (clientY ?? r.top + r.height / 2) - r.top;
    const next = Math.min(12, Math.max(1, zoom)), share = next / store.zoom;
    store.zoom = next;
    store.k = (store.width / store.image[1]) * next;
    pan((store.ox + x) * share - x, (store.oy + y) * share - y);
  }
  function pan(/** @type {number} */ ox, /** @type {number} */ oy) {
    store.ox = Math.min(Math.max(0, ox), store.width * (store.zoom - 1));
    store.oy = Math.min(Math.max(0, oy), store.height * (store.zoom - 1));
    calls.paint();
  }

  function move(/** @type {PointerEvent} */ e) {
    const [x, y] = place(e), [H, W] = store.image;
    if (pointers.size > 1 && pointers.has(e.pointerId)) return pinch(e);
    if (!drag) {
      const handle = store.draw || e.shiftKey ? -1 : handleAt(x, y, REACH[e.pointerType] ?? 7);
      const idle = store.draw || e.shiftKey || boxAt(x, y) < 0 ? "crosshair" : "move";
      stage.style.cursor = e.altKey ? "grab" : handle >= 0 ? CURSORS[handle] : idle;
      return calls.hover([x, y]);
    }
    if (drag.pan) return pan(drag.ox - (e.clientX - drag.x), drag.oy - (e.clientY - drag.y));
    if (Math.hypot(e.clientX - drag.at[0], e.clientY - drag.at[1]) < drag.far) return;
    drag.far = 0;
    const clamp = (/** @type {number} */ v, /** @type {number} */ most) => Math.min(Math.max(v, 0), most), dx = x - drag.x, dy = y - drag.y;
    let [x1, y1, x2, y2, label] = drag.from ?? [drag.x, drag.y, drag.x, drag.y, store.kind];
    if (drag.handle < 0) {
      const mx = Math.min(Math.max(dx, -x1), W - x2), my = Math.min(Math.max(dy, -y1), H - y2);
      x1 += mx, x2 += mx, y1 += my, y2 += my;
    } else if (drag.handle === 8) {
      x2 = x, y2 = y;
    } else {
      if ([0, 6, 7].includes(drag.handle)) x1 += dx;
      if ([2, 3, 4].includes(drag.handle)) x2 += dx;
      if ([0, 1, 2].includes(drag.handle)) y1 += dy;
      if ([4, 5, 6].includes(drag.handle)) y2 += dy;
    }
    const box = [Math.min(x1, x2), Math.min(y1, y2), Math.max(x1, x2), Math.max(y1, y2)];
    const cut = [clamp(box[0], W), clamp(box[1], H), clamp(box[2], W), clamp(box[3], H)].map((v) => Math.round(v * 4) / 4);
    if (cut[2] - cut[0] < 1 || cut[3] - cut[1] < 1) return;
    if (drag.handle === 8 && store.selected < 0) store.objects.push([...cut, label]), (store.selected = store.objects.length - 1);
    else store.objects[store.selected] = [...cut, label];
    calls.changed(e);
  }
  function up(/** @type {PointerEvent} */ e) {
    pointers.delete(e.pointerId);
    if (drag?.handle === 8 && store.selected >= 0) store.draw = false;
    drag = null;
    calls.paint();
  }
  function abort() { // the gesture was another one: as if it had not begun
    if (drag?.before && !drag.pan) (store.objects = drag.before), (store.selected = Math.min(store.selected, store.objects.length - 1));
    drag = null;
    calls.changed(null);
  }

  function key(/** @type {KeyboardEvent} */ e) {
    const step = e.ctrlKey || e.metaKey ? 8 : 1, n = store.selected, [H, W] = store.image;
    const moves = /** @type {Record<string, number[]>} */ ({ ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] });
    const arrows = moves[e.key];
    if (arrows && n >= 0) {
      const [x1, y1, x2, y2, label] = store.objects[n], [dx, dy] = arrows;
      calls.began();
      const mx = Math.min(Math.max(dx, -x1), W - x2), my = Math.min(Math.max(dy, -y1), H - y2);
      store.objects[n] = e.shiftKey ? [x1, y1, Math.max(x1 + 1, x2 + Math.min(dx, W - x2)), Math.max(y1 + 1, y2 + Math.min(dy, H - y2)), label]
        : [x1 + mx, y1 + my, x2 + mx, y2 + my, label];
      calls.changed(e);
    } else if (arrows && store.zoom > 1) pan(store.ox + 24 * arrows[0], store.oy + 24 * arrows[1]);
    else if (e.key === "Tab" && store.objects.length && !e.ctrlKey) {
      const next = n + (e.shiftKey ? -1 : 1);
      if (next < 0 && e.shiftKey ? n < 0 : next >= store.objects.length) return void ((store.selected = -1), calls.paint()); // and leave
      store.selected = next;
      calls.paint();
    } else if (e.key === "Delete" || e.key === "Backspace") calls.erase(e);
    else if (e.key === "Escape") (store.selected = -1), (store.draw = false), calls.paint();
    else if (e.key === "+" || e.key === "=") zoomAt(store.zoom * 1.3);
    else if (e.key === "-") zoomAt(store.zoom / 1.3);
    else if (e.key === "0") zoomAt(1);
    else return;
    e.preventDefault();
    e.stopPropagation();
  }

  stage.addEventListener("pointerdown", down);
  stage.addEventListener(/** @type {"pointermove"} */ ("onpointerrawupdate" in window ? "pointerrawupdate" : "pointermove"), move); // before the next frame
  stage.addEventListener("pointerup", up);
  stage.addEventListener("pointercancel", (e) => (pointers.delete(e.pointerId), drag && abort()));
  stage.addEventListener("pointerleave", (e) => e.pointerType !== "touch" && calls.hover(null));
  stage.addEventListener("keydown", key);
  stage.addEventListener("wheel", (e) => {
    if (!e.ctrlKey) return; // the page scrolls
    e.preventDefault();
    zoomAt(store.zoom * Math.exp(-e.deltaY / 200), e.clientX, e.clientY);
  }, { passive: false });
  return { zoomAt, busy: () => drag !== null };
}
