// The surface of the AssignmentExplorer: draws the label maps that Python sends, and reports boxes. Computes no label.
const WHITE = "#ffffff", CHOSEN = "#ffd60a", GREY = "#aab2bf";
const CURSORS = ["nwse-resize", "ns-resize", "nesw-resize", "ew-resize", "nwse-resize", "ns-resize", "nesw-resize", "ew-resize"];

function render({ model, el }) {
  const root = element(el, "div", "dsla-boxes"), guard = guardIn(root);
  const bar = element(root, "div", "dsla-bar");
  const drawing = element(bar, "button", "dsla-draw", "+ draw a box");
  const kinds = element(bar, "select", "dsla-class");
  const remove = element(bar, "button", "dsla-delete", "delete");
  const photo = element(bar, "button", "dsla-photo", "photo only");
  const hint = element(bar, "span", "dsla-hint");
  const top = element(root, "div", "dsla-top"), left = element(top, "div", "dsla-left");
  const stage = element(left, "canvas", "dsla-stage");
  stage.tabIndex = 0;
  const lut = bytes(model.get("lut")), palette = paletteOf(lut);
  scale(left, "label", lut);
  const side = element(top, "div", "dsla-side"), counts = element(side, "div", "dsla-counts");
  const why = element(side, "div", "dsla-why");
  const panels = element(root, "div", "dsla-panels");
  drawing.title = "drag on the picture to draw; dragging outside all boxes, or with Shift, draws too";
  kinds.title = "class of the chosen box, and of the next one";

  let objects = [], selected = -1, drag = null, draw = false, active = null, hovered = null;
  let k = 1, width = 1, height = 1, backdrops = {}, views = [], images = {}, closed = false;
  let due = 0, arrived = null; // what is to be drawn; the answer that it shows
  let values = {}; // of sliders, not sent yet
  let layers = []; // of each row and level, as they are drawn
  let frame = model.get("frame"); // the last that came, through the model or the wire

  const adopt = (boxes) => {
    objects = boxes.map((o) => [...o]);
    if (selected >= objects.length) selected = -1;
    paint();
  };
  const names = () => model.get("names");
  const nameOf = (c) => names()[c] ?? String(c);

  function push(event) {
    edits.push(event);
    paint();
  }

  // ---- painting
  function paintLevel(ctx, row, level, unit) {
    const [h, w] = row.shapes[level], s = row.strides[level], [sx, sy] = row.scale.map((v) => v * unit * s);
    ctx.imageSmoothingEnabled = false;
    ctx.drawImage(row.layers[level].canvas, (row.offset - 0.5) * sx, (row.offset - 0.5) * sy, w * sx, h * sy);
  }
  function paintPoints(ctx, row, level, unit) {
    const [h, w] = row.shapes[level], s = row.strides[level], [sx, sy] = row.scale.map((v) => v * unit * s);
    if (Math.min(sx, sy) < 7) return; // too close to tell apart
    const map = bytes(row.maps[level]);
    for (let i = 0; i < h * w; i++) {
      ctx.fillStyle = map[i] ? "rgba(255,255,255,.95)" : "rgba(255,255,255,.35)";
      ctx.beginPath();
      ctx.arc(((i % w) + row.offset) * sx, (Math.floor(i / w) + row.offset) * sy, map[i] ? 1.8 : 1.1, 0, 7);
      ctx.fill();
    }
  }
  function paintHover(ctx, row, unit) {
    const { level, i, j } = hovered, s = row.strides[level], [sx, sy] = row.scale.map((v) => v * unit * s);
    ctx.strokeStyle = CHOSEN;
    ctx.lineWidth = 1.6;
    ctx.strokeRect((j + row.offset - 0.5) * sx, (i + row.offset - 0.5) * sy, sx, sy);
    ctx.beginPath();
    ctx.arc((j + row.offset) * sx, (i + row.offset) * sy, 3, 0, 7);
    ctx.stroke();
  }
  // All is drawn at the next frame, once, however many events and messages come until then.
  function paint(what = 1) { // 1: the picture, 2: the panels as well
    if (!due) requestAnimationFrame(guard(show));
    due = Math.max(due, what);
  }
  const paintAll = () => paint(2);
  function show() {
    const what = due, painting = performance.now();
    due = 0;
    if (closed || !backdrops.photo) return;
    const rows = frame.rows ?? [];
    if (rows.some((row) => !row.layers)) layers = rows.map((row, r) => (row.layers = layersOf(row, palette, layers[r])));
    paintPicture();
    if (what > 1) paintPanels();
    if (!arrived) return;
    const drawn = performance.now(), detail = { ...arrived, drawn, painting: drawn - painting };
    arrived = null;
    root.dispatchEvent(new CustomEvent("dsla-labels", { detail, bubbles: true }));
  }
  const isLost = (row, n) => row && row.counts.length === objects.length && row.counts[n] === 0;

  function paintPicture() {
    const rows = frame.rows ?? [], ctx = stage.getContext("2d");
    const row = rows[active?.row ?? 0];
    const on = active && row;
    ctx.drawImage(on ? backdrops.dim : backdrops.photo, 0, 0, width, height);
    if (on) paintLevel(ctx, row, active.level, k), paintPoints(ctx, row, active.level, k);
    const order = objects.map((o, n) => n).sort((a, b) => area(objects[b]) - area(objects[a]));
    for (const n of order) {
      const gone = isLost(row, n);
      outline(ctx, objects[n].slice(0, 4), k, gone ? model.get("lost") : n === selected ? CHOSEN : WHITE, 1.6, gone ? [5, 3] : []);
    }
    for (const n of order) {
      const o = objects[n], count = row?.counts.length === objects.length ? ` · ${row.counts[n]}` : "";
      if (objects.length > 40 && n !== selected && !isLost(row, n)) continue;
      const colour = isLost(row, n) ? model.get("lost") : n === selected ? CHOSEN : "#ffffff";
      tag(ctx, o, k, nameOf(o[4]) + count, colour, width);
    }
    if (selected >= 0) {
      for (const [x, y] of handles(objects[selected])) {
        ctx.fillStyle = CHOSEN;
        ctx.strokeStyle = "#1f2430";
        ctx.lineWidth = 1;
        ctx.fillRect(x * k - 3.5, y * k - 3.5, 7, 7);
        ctx.strokeRect(x * k - 3.5, y * k - 3.5, 7, 7);
      }
      if (kinds.value !== String(objects[selected][4])) kinds.value = objects[selected][4];
    }
    if (hovered && on && hovered.level === active.level) paintHover(ctx, row, k);
    photo.classList.toggle("on", !active);
    drawing.classList.toggle("on", draw);
    remove.disabled = selected < 0;
    write(hint, selected >= 0
      ? objects[selected].slice(0, 4).map((v) => Number(v.toFixed(2))).join(", ")
      : objects.length ? "click a box to move it, a level to see it large" : "drag to draw a box");
  }
  function paintPanels() {
    const rows = frame.rows ?? [];
    rows.forEach((row, r) => {
      if (!views[r]) return;
      write(views[r].title, row.title);
      write(views[r].note, row.note);
      views[r].levels.forEach((view, level) => {
        if (!backdrops.small) return;
        const ctx = view.ctx, unit = view.unit;
        ctx.drawImage(backdrops.small, 0, 0, view.w, view.h);
        paintLevel(ctx, row, level, unit);
        const thin = objects.length > 8 ? 0.7 : 1;
        objects.forEach((o, n) => {
          if (row.objects_at[level].includes(n)) outline(ctx, o.slice(0, 4), unit, WHITE, thin, [], false);
          else if (!isLost(row, n)) outline(ctx, o.slice(0, 4), unit, GREY, 0.4, [], false);
        });
        objects.forEach((o, n) => isLost(row, n) && outline(ctx, o.slice(0, 4), unit, model.get("lost"), 1.3, [3, 2], false));
        if (hovered && hovered.level === level && hovered.row === r) paintHover(ctx, row, unit);
        write(view.head, `P${Math.log2(row.strides[level])} · stride ${row.strides[level]} · ${row.totals[level]} pts`);
        view.box.classList.toggle("on", active?.row === r && active?.level === level);
      });
    });
  }
  function layout() {
    const [H, W] = model.get("size");
    width = Math.min(model.get("width"), Math.round((440 * W) / H));
    height = Math.round((width * H) / W);
    k = width / W;
    fit(stage, width, height);
    const rows = frame.rows ?? [], levels = rows[0]?.shapes.length ?? 0;
    panels.replaceChildren();
    const w = Math.min(180, Math.round((150 * W) / H)), h = Math.round((w * H) / W);
    views = rows.map((row, r) => {
      const title = element(panels, "div", "dsla-title"), note = element(panels, "div", "dsla-note");
      const line = element(panels, "div", "dsla-row");
      const cells = row.shapes.map((_, level) => {
        const box = element(line, "div", "dsla-panel"), head = element(box, "div", "dsla-head");
        const canvas = element(box, "canvas", "dsla-level");
        const view = { box, head, canvas, w, h, unit: w / W, ctx: fit(canvas, w, h) };
        canvas.addEventListener("click", () => {
          active = active?.row === r && active?.level === level ? null : { row: r, level };
          paintAll();
        });
        canvas.addEventListener("pointermove", (e) => over(e, canvas, r, level));
        canvas.addEventListener("pointerleave", leave);
        return view;
      });
      return { title, note, levels: cells };
    });
    if (active && (active.row >= rows.length || active.level >= levels)) active = null;
    if (images.photo) {
      backdrops = { photo: scaled(images.photo, width, height), dim: scaled(images.dim, width, height), small: scaled(images.dim, w, h) };
    }
    paintAll();
  }
  const shapeOf = (f) => JSON.stringify([model.get("size"), model.get("width"), (f.rows ?? []).map((r) => r.shapes)]);
  let shape = "";
  function refresh() {
    const received = performance.now(), now = shapeOf(frame), rows = frame.rows ?? [];
    if (active === null && shape === "" && rows.length) { // open on the level that learns most
      const totals = rows[rows.length - 1].totals;
      active = { row: rows.length - 1, level: totals.indexOf(Math.max(...totals)) };
    }
    if (now !== shape) shape = now, layout();
    else paintAll();
    if (counts.told !== frame.table) counts.innerHTML = counts.told = frame.table ?? "";
    root.dataset.seq = frame.seq;
    arrived = { seq: frame.seq, turn: frame.turn, ...edits.times(frame.seq), received };
  }

  // ---- mouse
  const place = (e, canvas) => {
    const r = canvas.getBoundingClientRect(), [H, W] = model.get("size");
    return [((e.clientX - r.left) / r.width) * W, ((e.clientY - r.top) / r.height) * H];
  };
  const handleAt = (x, y) => selected < 0 ? -1
    : handles(objects[selected]).findIndex(([a, b]) => Math.abs(a - x) * k < 7 && Math.abs(b - y) * k < 7);
  const boxAt = (x, y) => {
    if (selected >= 0 && within(objects[selected], x, y)) return selected;
    let found = -1;
    objects.forEach((o, n) => {
      if (within(o, x, y) && (found < 0 || area(o) < area(objects[found]))) found = n;
    });
    return found;
  };
  function down(e) {
    if (e.button) return;
    stage.focus({ preventScroll: true });
    stage.setPointerCapture(e.pointerId);
    const [x, y] = place(e, stage), handle = handleAt(x, y), box = boxAt(x, y);
    if (handle >= 0 && !draw && !e.shiftKey) drag = { handle, from: [...objects[selected]], x, y };
    else if (box >= 0 && !draw && !e.shiftKey) {
      selected = box;
      drag = { handle: -1, from: [...objects[box]], x, y };
    } else {
      selected = -1;
      drag = { handle: 8, from: null, x, y };
    }
    hovered = null;
    paint();
  }
  function move(e) {
    const [x, y] = place(e, stage), [H, W] = model.get("size");
    if (!drag) {
      const handle = draw || e.shiftKey ? -1 : handleAt(x, y);
      stage.style.cursor = draw || e.shiftKey ? "crosshair" : handle >= 0 ? CURSORS[handle] : boxAt(x, y) >= 0 ? "move" : "crosshair";
      if (active) over(e, stage, active.row, active.level);
      return;
    }
    const clamp = (v, most) => Math.min(Math.max(v, 0), most), dx = x - drag.x, dy = y - drag.y;
    let [x1, y1, x2, y2, label] = drag.from ?? [drag.x, drag.y, drag.x, drag.y, Number(kinds.value)];
    if (drag.handle < 0) {
      const mx = Math.min(Math.max(dx, -x1), W - x2), my = Math.min(Math.max(dy, -y1), H - y2);
      x1 += mx, x2 += mx, y1 += my, y2 += my;
    } else if (drag.handle === 8) {
      x2 = x, y2 = y;
    } else {
      if ([0, 6, 7].includes(drag.handle)) x1 = x;
      if ([2, 3, 4].includes(drag.handle)) x2 = x;
      if ([0, 1, 2].includes(drag.handle)) y1 = y;
      if ([4, 5, 6].includes(drag.handle)) y2 = y;
    }
    const box = [Math.min(x1, x2), Math.min(y1, y2), Math.max(x1, x2), Math.max(y1, y2)];
    const cut = [clamp(box[0], W), clamp(box[1], H), clamp(box[2], W), clamp(box[3], H)].map((v) => Math.round(v * 4) / 4);
    if (cut[2] - cut[0] < 1 || cut[3] - cut[1] < 1) return;
    if (drag.handle === 8 && selected < 0) objects.push([...cut, label]), (selected = objects.length - 1);
    else objects[selected] = [...cut, label];
    push(e);
  }
  function up() {
    if (drag?.handle === 8 && selected >= 0) draw = false;
    drag = null;
    paint();
  }
  function over(e, canvas, row, level) {
    const shown = frame.rows?.[row];
    if (!shown) return;
    const [x, y] = place(e, canvas), s = shown.strides[level], [h, w] = shown.shapes[level];
    const j = Math.round(x / (s * shown.scale[0]) - shown.offset), i = Math.round(y / (s * shown.scale[1]) - shown.offset);
    if (i < 0 || j < 0 || i >= h || j >= w) return leave();
    if (hovered && hovered.row === row && hovered.level === level && hovered.i === i && hovered.j === j) return;
    hovered = { row, level, i, j };
    const first = shown.shapes.slice(0, level).reduce((n, [a, b]) => n + a * b, 0);
    model.set("hover", [row, first + i * w + j, selected]);
    model.save_changes();
    paintAll();
  }
  function leave() {
    if (!hovered) return;
    hovered = null;
    paintAll();
  }
  function erase(e) {
    if (selected < 0) return;
    objects.splice(selected, 1);
    selected = -1;
    push(e);
  }
  stage.addEventListener("pointerdown", down);
  stage.addEventListener("onpointerrawupdate" in window ? "pointerrawupdate" : "pointermove", move); // before the next frame
  stage.addEventListener("pointerup", up);
  stage.addEventListener("pointerleave", leave);
  stage.addEventListener("keydown", (e) => {
    if (e.key === "Delete" || e.key === "Backspace") erase(e), e.preventDefault(), e.stopPropagation();
    if (e.key === "Escape") (selected = -1), (draw = false), paint();
  });
  remove.addEventListener("click", erase);
  drawing.addEventListener("click", () => ((draw = !draw), paint()));
  photo.addEventListener("click", () => ((active = active ? null : { row: 0, level: 0 }), paintAll()));
  kinds.addEventListener("change", (e) => {
    if (selected >= 0) (objects[selected][4] = Number(kinds.value)), push(e);
  });

  function fillNames() {
    const list = names().length ? names() : ["0"];
    kinds.replaceChildren(...list.map((name, n) => new Option(name, String(n))));
  }
  const explain = () => (why.innerHTML = model.get("why"));
  async function load() {
    const [colour, dim] = await Promise.all([bitmap(model.get("photo")), bitmap(model.get("dim"))]);
    if (closed || !colour || !dim) return;
    images = { photo: colour, dim };
    layout();
  }
  const moved = (boxes) => !drag && edits.settled() && adopt(boxes); // what the mouse did later is known here alone
  function told(other, way) {
    if ((other.turn ?? 0) <= (frame.turn ?? 0)) return; // the state of the model follows what the wire has shown
    frame = other;
    root.dataset.way = way;
    refresh();
  }
  const wire = wireTo(model.get("address"), guard, (content, body) => {
    let at = 0;
    for (const row of content.frame.rows) row.maps = row.shapes.map(([h, w]) => body.subarray(at, (at += h * w)));
    told(content.frame, "wire");
    edits.answered(content.seq);
    moved(content.objects);
  });
  const edits = editing((seq) => {
    const edit = { type: "edit", objects, seq, values };
    values = {};
    if (!wire.send(edit)) model.send(edit);
  }, model.get("seq"));
  const loose = watch(model.widget_manager, model.get("sliders"), wire.open, (name, value, event) => {
    values[name] = value;
    edits.push(event);
  });
  const ignore = follow(model, {
    objects: () => moved(model.get("objects")), seq: () => edits.answered(model.get("seq")),
    frame: () => told(model.get("frame"), "message"), names: fillNames, dim: load, width: layout, why: explain,
  }, guard);
  const silent = listenForFiles(model);
  fillNames(), adopt(model.get("objects")), refresh(), explain(), guard(load)();
  return () => {
    closed = true;
    wire.close();
    loose();
    ignore();
    silent();
  };
}

export default { render };
