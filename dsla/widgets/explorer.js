// The AssignmentExplorer: labels follow the hand, computed here; Python's assigners are asked when it rests, and replace
// what is shown. Without a kernel (a page of its own) the same code shows the same labels.
import { bitmap, bytes, dimmed, element, fit, follow, guardIn, layersOf, listenForFiles, paletteOf, scale, scaled, shrunk, write } from "./common.js";
import { classControl } from "./classes.js";
import { nameClasses, sharing } from "./coco.js";
import { controlColumn } from "./controls.js";
import { exportBar } from "./exports.js";
import { askedOfPython, galleryBar } from "./gallery.js";
import { tourPanel } from "./guide.js";
import { explainPoint, levelPanels, objectList } from "./panels.js";
import { isLost, listen, OWNER_PALETTE, ownersOf, paintStage, pointAt } from "./stage.js";
import { COUPLINGS, drawnOf, frameOf, rowsOf } from "./state.js";

const REST = 150, PATIENCE = 6000, LONG = 1344; // ms until Python is asked; until it is missed; longest side of an upload

/** @param {{model: import("./common.js").Model, el: HTMLElement}} view */
export function render({ model, el }) {
  const root = element(el, "div", "dsla-boxes"), guard = guardIn(root);
  root.dataset.lmSuppressShortcuts = "true"; // keys are the widget's: JupyterLab's shortcuts for cells are not meant
  const body = element(root, "div", "dsla-body"), aside = element(body, "div", "dsla-controls"), wrong = element(aside, "div", "dsla-problem");
  const column = element(aside, "div", ""), main = element(body, "div", "dsla-main");
  const step = element(main, "div", ""), bar = element(main, "div", "dsla-bar dsla-tools");
  const button = (/** @type {string} */ name, /** @type {string} */ text, /** @type {string} */ tip, /** @type {(e: Event) => void} */ click) => {
    const made = element(bar, "button", name, text);
    made.type = "button";
    made.title = tip;
    made.addEventListener("click", guard.sync(click));
    return made;
  };
  const drawing = button("dsla-draw", "+ draw a box", "drag on the picture to draw; dragging outside all boxes, or with Shift, draws too", () => ((store.draw = !store.draw), paint()));
  const classes = element(bar, "span", "dsla-classes");
  const remove = button("dsla-delete", "delete", "delete the chosen box (Delete)", (/** @type {Event} */ e) => erase(e));
  const undo = button("dsla-undo", "undo", "Ctrl+Z", () => travel(past, future));
  const redo = button("dsla-redo", "redo", "Ctrl+Shift+Z", () => travel(future, past));
  button("dsla-reset", "reset", "as it was opened", (e) => (began(), restore(firsts.get(store.scene)), changed(e)));
  const photo = button("dsla-photo", "photo only", "the picture in colour, without labels", () => choose(store.active ? null : [0, 0]));
  const owners = button("dsla-owners", "by object", "colour by the object that a point learns, or by its label", () => recolour());
  const pair = button("dsla-pair", "side by side", "two methods at full size", () => ((store.pair = !store.pair), layout()));
  button("dsla-zoom", "+", "zoom in (+, pinch, Ctrl+wheel; Alt+drag or arrows move)", () => hand.zoomAt(store.zoom * 1.5));
  button("dsla-zoom", "−", "zoom out (−; 0 for all)", () => hand.zoomAt(store.zoom / 1.5));
  button("dsla-guide", "tour", "six questions that you answer by moving a box", () => guide.toggle());
  const hint = element(bar, "span", "dsla-hint");
  const tour = element(main, "div", "");
  const top = element(main, "div", "dsla-top"), left = element(top, "div", "dsla-left");
  const size = element(left, "div", "dsla-size"), stage = element(left, "canvas", "dsla-stage");
  stage.tabIndex = 0;
  stage.setAttribute("role", "application");
  stage.setAttribute("aria-roledescription", "picture with boxes");
  const lut = bytes(model.get("lut")), palette = paletteOf(lut);
  const ramp = scale(left, "label", lut), twinBox = element(top, "div", "dsla-left"), twinSize = element(twinBox, "div", "dsla-size");
  const twin = /** @type {HTMLCanvasElement} */ (stage.cloneNode());
  twin.className = "dsla-twin";
  twinBox.append(twin);
  const side = element(top, "div", "dsla-side"), list = element(side, "div", "dsla-counts"), why = element(side, "div", "dsla-why");
  const spoken = element(side, "div", "dsla-spoken"), panels = element(main, "div", "dsla-panels");
  spoken.setAttribute("aria-live", "polite");
  wrong.setAttribute("role", "alert");
  const foot = element(main, "div", "dsla-bar"), told = element(main, "div", "dsla-hint");

  const nameOf = (/** @type {number} */ c) => store.names[c] ?? String(c), kernel = model.get("kernel"), store = /** @type {import("./state.js").Store} */ (/** @type {any} */ ({
    image: model.get("size"), objects: [], names: [], state: {}, catalogue: {}, rows: [], selected: -1, active: null, hovered: null,
    draw: false, byObject: false, pair: false, kind: 0, zoom: 1, k: 1, ox: 0, oy: 0, width: 1, height: 1, backdrops: {}, lost: model.get("lost"), nameOf,
    trained: model.get("trained"), pictures: sharing(model.get("pictures")), scene: model.get("scene"), turn: 0,
  }));
  let images = /** @type {{photo: ImageBitmap, dim: ImageBitmap}} */ (/** @type {any} */ ({})), closed = false, due = 0, problem = "", seq = model.get("seq"), awaited = 0, rest = 0, missed = 0, wide = 0, timing = /** @type {{event: number, labels: number} | null} */ (null);
  let firsts = new Map(), home = /** @type {string | null} */ (null), past = /** @type {string[]} */ ([]), future = /** @type {string[]} */ ([]), ctx = /** @type {any} */ (null), twinCtx = /** @type {any} */ (null), canvases = /** @type {import("./common.js").Layer[][]} */ ([]); // firsts: what each picture was opened with

  const guide = tourPanel(tour, store, {
    begin({ objects, state }) {
      home ??= snapshot();
      began(), (future = []);
      restore(JSON.stringify([objects, state]));
      store.selected = 0;
      changed(null);
    },
    leave: () => (restore(home ?? snapshot()), (home = null), changed(null)),
  });

  // ---- what is shown
  const snapshot = () => JSON.stringify([store.objects, store.state]);
  function restore(/** @type {string} */ text) {
    [store.objects, store.state] = JSON.parse(text);
    store.selected = Math.min(store.selected, store.objects.length - 1);
    store.active = store.state.level ? { row: store.state.level[0], level: store.state.level[1] } : null;
  }
  function began() {
    const now = snapshot();
    if (past.at(-1) !== now) past.push(now);
    past = past.slice(-100);
  }
  function travel(/** @type {string[]} */ from, /** @type {string[]} */ to) {
    const now = snapshot();
    while (from.length && from.at(-1) === now) from.pop();
    if (!from.length) return;
    to.push(now);
    restore(/** @type {string} */ (from.pop()));
    changed(null);
  }
  function compute() {
    const began = performance.now(), before = store.rows;
    let rows = /** @type {any[]} */ ([]), refused = problem;
    try {
      if (!problem) rows = rowsOf(store.state, store.objects, store.image, store.catalogue);
    } catch (error) {
      refused = /** @type {Error} */ (error).message;
    }
    const same = (/** @type {any} */ row, /** @type {number} */ r) => row && !row.local && row.method === store.state.rows[r].method;
    store.rows = rows.map((row, r) => row ?? (same(before[r], r) ? before[r] : null));
    write(wrong, problem ? "" : refused); // a problem stands at its control
    const at = store.active, large = at && store.rows[at.row];
    if (rows.length && at && (large === undefined || (large && !large.shapes[at.level]))) store.active = null;
    return performance.now() - began;
  }
  // Something that a hand changed: labels at once, Python or the address when the hand rests, or Python now where only it
  // can say.
  function changed(/** @type {Event | null} */ event) {
    const spent = compute();
    timing = event ? { event: event.timeStamp, labels: spent } : null;
    if (event && future.length && snapshot() !== past.at(-1)) future = []; // a mere click changes nothing
    seq += 1;
    paintAll();
    clearTimeout(rest);
    const local = store.state.rows.every((row) => store.catalogue[row.method].script) && store.state.coupling !== COUPLINGS[2];
    if (local || awaited) rest = setTimeout(ask, REST);
    else ask();
  }
  function ask() {
    if (!kernel) return keep(); // browsers take only so many addresses in some seconds
    if (problem || model.get("frame").seq === seq) return; // wrong, or answered already
    awaited = seq;
    model.send({ type: "edit", seq, objects: store.objects, state: store.state });
    clearTimeout(missed);
    missed = setTimeout(() => write(told, awaited ? "the kernel does not answer: it is busy, or it ended" : ""), PATIENCE);
  }
  // The labels by Python's assigners.
  function heard() {
    const frame = model.get("frame");
    if (!frame.rows) return;
    root.dataset.seq = frame.seq;
    if (frame.seq >= awaited) (awaited = 0), clearTimeout(missed), write(told, "");
    const stale = frame.seq < seq;
    const rows = frame.rows.map((/** @type {any} */ row) => drawnOf({
      ...row, gt: numbers(row.gt, Int32Array), values: numbers(row.values, Float32Array), local: false,
    }, stale ? frame.objects : store.objects.length));
    store.rows = frame.rows.length ? rows.map((/** @type {any} */ row, /** @type {number} */ r) => (stale && store.rows[r]?.local ? store.rows[r] : row)) : [];
    if (!store.active && store.state.level === null && rows.length && !problem && !firsts.size) open();
    paintAll();
  }
  const numbers = (/** @type {DataView} */ view, /** @type {any} */ kind) => new kind(bytes(view).slice().buffer);
  function open() { // on the level that learns most
    const totals = store.rows.at(-1)?.totals ?? [];
    if (totals.length) store.active = { row: store.rows.length - 1, level: totals.indexOf(Math.max(...totals)) };
  }
  function choose(/** @type {number[] | null} */ place) {
    store.active = place && !(store.active?.row === place[0] && store.active?.level === place[1]) ? { row: place[0], level: place[1] } : null;
    store.state.level = store.active ? place : null;
    if (!kernel) keep();
    paintAll();
  }
  function keep() { // in the address
    model.set("seq", seq);
    model.set("view", { scene: store.scene, objects: store.objects, state: store.state });
  }
  function erase(/** @type {Event} */ e) {
    if (store.selected < 0) return;
    began();
    store.objects.splice(store.selected, 1);
    store.selected = -1;
    changed(e);
  }

  // ---- painting: all at the next frame, once, however many events come until then
  function paint(what = 1) { // 1: the picture, 2: the panels and texts as well
    if (!due) requestAnimationFrame(guard(show));
    due = Math.max(due, what);
  }
  const paintAll = () => paint(2);
  function show() {
    const what = due, began = performance.now();
    due = 0;
    if (closed || !store.backdrops.photo) return;
    store.rows.forEach((row, r) => {
      if (!row || row.canvases) return;
      row.canvases = canvases[r] = store.byObject ? layersOf({ ...row, maps: ownersOf(row) }, OWNER_PALETTE, canvases[r]) : layersOf(row, palette, canvases[r]);
    });
    paintStage(ctx, store);
    if (store.pair) paintStage(twinCtx, { ...store, active: other() });
    if (what > 1) paintPanels(), paintList(), paintControls(), guide.paint(), paintGallery();
    texts();
    if (!timing) return;
    const drawn = performance.now(), detail = { ...timing, painting: drawn - began, drawn };
    timing = null;
    root.dispatchEvent(new CustomEvent("dsla-labels", { detail, bubbles: true }));
  }
  function recolour() {
    (store.byObject = !store.byObject), (canvases = []);
    for (const row of store.rows) if (row) row.canvases = null;
    paintAll();
  }
  function other() { // what stands beside the large picture: the same level of the next method
    const row = ((store.active?.row ?? 0) + 1) % store.rows.length, level = store.active?.level ?? -1;
    return store.rows[row]?.shapes[level] ? { row, level } : null;
  }
  const placeText = (/** @type {import("./state.js").Place | null} */ at, row = at && store.rows[at.row]) => (at && row ? `${row.title}, P${Math.log2(row.strides[at.level])}` : "photograph");
  function texts() {
    const { objects, selected, rows, active, state } = store, chosen = objects[selected], row = rows[active?.row ?? 0];
    if (chosen) kinds.show(chosen[4]);
    root.dataset.source = rows.length && rows.every((r) => r && !r.local) ? "python" : "browser"; // whose labels are shown
    photo.classList.toggle("on", !active);
    owners.classList.toggle("on", store.byObject);
    pair.disabled = rows.length < 2;
    store.pair &&= rows.length > 1;
    pair.classList.toggle("on", store.pair);
    (twinBox.hidden = !store.pair), (ramp.hidden = store.byObject);
    write(twinSize, store.pair ? placeText(other()) : "");
    drawing.classList.toggle("on", store.draw);
    remove.disabled = selected < 0;
    undo.disabled = !past.some((text) => text !== snapshot());
    redo.disabled = !future.length;
    write(hint, chosen ? chosen.slice(0, 4).map((v) => Number(v.toFixed(2))).join(", ")
      : objects.length ? "click a box to move it, a level to see it large" : "drag to draw a box");
    const box = chosen && `object ${selected}, ${nameOf(chosen[4])}, ${chosen.slice(0, 4).map(Math.round).join(", ")}`;
    const learn = chosen && rows.filter((r) => r !== null).map((r) => `${r.title}: ${isLost(r, store, selected) ? "no point" : `${r.counts[selected]} points`}`);
    write(spoken, chosen ? [box, ...learn].join("; ") : "");
    twin.setAttribute("aria-label", `the same objects, ${twinSize.textContent}`);
    stage.setAttribute("aria-label", `${objects.length} objects. Tab goes through them, arrows move, Shift with arrows resizes.${box ? ` Chosen: ${box}` : ""}`);
    const where = placeText(active);
    if (state.coupling === COUPLINGS[2]) return void write(size, where);
    const frame = frameOf(store.image, state.input), [h, w] = frame.size, [H, W] = store.image;
    const native = h === H && w === W ? "" : ` (stored as ${W} × ${H})`, pad = String(frame.padded) === String(frame.size) ? "" : `, padded to ${frame.padded[1]} × ${frame.padded[0]}`;
    write(size, `${where} · input ${w} × ${h}${native}${pad}`);
  }
  function layout() {
    const [H, W] = (store.image = model.get("size"));
    const whole = (root.clientWidth || 1e4) - 4, half = store.pair && main.clientWidth > 640 ? main.clientWidth / 2 - 8 : whole;
    const most = Math.max(220, Math.min(model.get("width"), whole, half));
    store.width = Math.min(most, Math.round((440 * W) / H));
    store.height = Math.round((store.width * H) / W);
    (store.zoom = 1), (store.k = store.width / W), (store.ox = 0), (store.oy = 0);
    (ctx = fit(stage, store.width, store.height)), (twinCtx = fit(twin, store.width, store.height));
    const w = Math.min(180, Math.round((150 * W) / H)), h = Math.round((w * H) / W), big = /** @type {const} */ ([Math.min(images.photo.width, 2 * store.width), Math.min(images.photo.height, 2 * store.height)]);
    store.backdrops = { photo: scaled(images.photo, ...big), dim: scaled(images.dim, ...big), small: scaled(images.dim, w, h) };
    paintAll();
  }

  // ---- a point under the mouse or the finger
  function hover(/** @type {number} */ r, /** @type {number} */ level, /** @type {number[] | null} */ place) {
    const row = store.rows[r], at = place && row ? pointAt(row, level, place) : null;
    const before = store.hovered;
    if (!row || !at) return void (before && ((store.hovered = null), paintAll()));
    if (before && before.row === r && before.level === level && before.point === at.point) return;
    store.hovered = { row: r, ...at };
    if (kernel) model.set("hover", [r, at.point, store.selected]), model.save_changes();
    else explainPoint(why, store, row, r, store.hovered);
    paintAll();
  }
  // ---- another picture, one of one's own, other classes
  function leaving() { // what goes along when this picture is left
    guide.end();
    store.pictures[store.scene].objects = store.objects.map((o) => [...o]);
    clearTimeout(rest), kernel || keep();
    return { seq, objects: store.objects };
  }
  async function upload(/** @type {File} */ file) {
    const { content, size: [h, w], full, note } = await shrunk(file, LONG);
    const { names, ids } = store.pictures[store.scene], message = { type: "image", name: file.name, full, ...leaving() };
    if (kernel) model.send(message, undefined, [content.buffer]);
    else model.add({ photo: content, size: [h, w], objects: [], names, ids, name: file.name, image: { file_name: file.name, height: full[0], width: full[1] }, known: [], others: [] });
    write(told, note);
  }

  const [hand, twinHand] = /** @type {[HTMLCanvasElement, () => any][]} */ ([[stage, () => store.active], [twin, other]]).map(([canvas, at]) => listen(canvas, store, {
    began, changed, erase, paint, hover: (place) => at() && hover(at().row, at().level, place),
  }));
  const paintPanels = levelPanels(panels, store, { choose: (r, level) => choose([r, level]), hover }).paint;
  const paintList = objectList(list, store, (n) => ((store.selected = n), stage.focus({ preventScroll: true }), paintAll()));
  const paintControls = controlColumn(column, store, {
    began, changed, upload: (file) => guard(() => upload(file))(),
    problem: (text) => text === problem || ((problem = text), compute(), (store.turn += text ? 0 : 1), paintAll()),
  });
  const lost = askedOfPython(model, ask);
  const paintGallery = galleryBar(step, store, { open: (n) => model.send({ type: "scene", scene: n, ...leaving() }), lost: kernel ? lost.ask : null });
  const kinds = classControl(classes, store, {
    kind(n, e) {
      store.kind = n;
      kinds.show(n);
      if (store.selected >= 0) began(), (store.objects[store.selected][4] = n), changed(e);
    },
    names(names) {
      nameClasses(store.pictures[store.scene], names);
      if (kernel) model.send({ type: "names", names });
      else model.set("names", names);
      fillNames(names);
    },
  });
  root.addEventListener("keydown", (e) => {
    if (!(e.ctrlKey || e.metaKey) || e.key.toLowerCase() !== "z") return;
    e.preventDefault();
    e.shiftKey ? travel(future, past) : travel(past, future);
  });
  exportBar(foot, told, store, { ask, model, stage, guard });

  function fillNames(names = model.get("names")) {
    store.names = names.length ? [...names] : ["0"];
    kinds.fill();
    paintAll();
  }
  async function load() {
    const photo = model.get("photo"), colour = await bitmap(photo);
    if (closed || !colour || photo !== model.get("photo")) return; // a newer one came meanwhile
    images = { photo: colour, dim: dimmed(colour) };
    store.selected = -1;
    layout();
  }
  function adopt() { // what Python or the address says
    if (hand.busy() || twinHand.busy() || model.get("seq") < seq) return;
    store.objects = model.get("objects").map((/** @type {number[]} */ o) => [...o]);
    store.state = structuredClone(model.get("state"));
    store.catalogue = model.get("catalogue");
    if (store.scene !== model.get("scene")) (past = []), (future = []), (store.selected = -1);
    store.scene = model.get("scene");
    store.selected = Math.min(store.selected, store.objects.length - 1);
    (store.image = model.get("size")), (problem = "");
    store.active = store.state.level ? { row: store.state.level[0], level: store.state.level[1] } : store.active;
    compute();
    if (kernel) heard();
    if (!store.active && !firsts.size) open();
    if (!firsts.has(store.scene)) firsts.set(store.scene, snapshot());
    paintAll();
  }
  const ignore = follow(model, {
    objects: adopt, state: adopt, catalogue: adopt, scene: adopt, pictures: () => (store.pictures = sharing(model.get("pictures"))), frame: () => (model.get("seq") >= seq && (seq = model.get("seq")), heard()), names: () => fillNames(), photo: load, size: adopt,
    width: layout, why: () => (why.innerHTML = model.get("why")), note: () => write(told, model.get("note")),
    trained: () => ((store.trained = model.get("trained")), paintAll()),
  }, guard);
  const silent = listenForFiles(model, (done) => write(told, done ? "the code was copied" : "the code is below: this page may not copy it"), { lost: lost.heard });
  const watch = new ResizeObserver(() => {
    if (Math.abs(root.clientWidth - wide) < 8 || !images.photo) return;
    wide = root.clientWidth;
    layout();
  });
  watch.observe(root), fillNames(), adopt(), (why.innerHTML = model.get("why")), write(told, model.get("note")), guard(load)();
  return () => {
    closed = true;
    watch.disconnect(), clearTimeout(rest), clearTimeout(missed);
    ignore(), silent();
  };
}

export default { render };
