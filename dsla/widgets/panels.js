// The small pictures of all levels, row by row, and the list of the objects. Draws what the store holds.
import { element, fit, outline, write } from "./common.js";
import { rulesOf } from "./explain.js";
import { GREY, isLost, ownerOf, paintHover, paintLevel, pointAt, WHITE } from "./stage.js";
import { frameOf, optionsOf, scaledBoxes } from "./state.js";

/** @typedef {{box: HTMLElement, head: HTMLElement, canvas: HTMLCanvasElement, w: number, h: number, unit: number,
 *   ctx: CanvasRenderingContext2D}} LevelView  a small picture */

/**
 * The levels of all rows as small pictures.
 * calls: choose(row, level), hover(row, level, place or null)
 * @param {HTMLElement} parent @param {import("./state.js").Store} store
 * @param {{choose: (row: number, level: number) => void, hover: (row: number, level: number, place: number[] | null) => void}} calls
 */
export function levelPanels(parent, store, calls) {
  let views = /** @type {{title: HTMLElement, note: HTMLElement, levels: LevelView[]}[]} */ ([]), shape = "";

  function arrange() {
    const [H, W] = store.image, w = Math.min(180, Math.round((150 * W) / H)), h = Math.round((w * H) / W);
    parent.replaceChildren();
    views = store.rows.map((row, r) => {
      const title = element(parent, "div", "dsla-title"), note = element(parent, "div", "dsla-note");
      const line = element(parent, "div", "dsla-row");
      const levels = (row?.shapes ?? []).map((_, level) => {
        const box = element(line, "div", "dsla-panel"), head = element(box, "div", "dsla-head");
        const canvas = element(box, "canvas", "dsla-level");
        canvas.tabIndex = 0;
        canvas.setAttribute("role", "button");
        const place = (/** @type {PointerEvent} */ e) => {
          const area = canvas.getBoundingClientRect();
          return [((e.clientX - area.left) / area.width) * W, ((e.clientY - area.top) / area.height) * H];
        };
        canvas.addEventListener("click", () => calls.choose(r, level));
        canvas.addEventListener("keydown", (e) => {
          if (e.key === "Enter" || e.key === " ") e.preventDefault(), calls.choose(r, level);
        });
        canvas.addEventListener("pointermove", (e) => calls.hover(r, level, place(e)));
        canvas.addEventListener("pointerleave", () => calls.hover(r, level, null));
        return { box, head, canvas, w, h, unit: w / W, ctx: fit(canvas, w, h) };
      });
      return { title, note, levels };
    });
  }

  function paint() {
    const now = JSON.stringify([store.image, store.rows.map((row) => row?.shapes)]);
    if (now !== shape) (shape = now), arrange();
    const { small } = store.backdrops;
    if (!small) return;
    store.rows.forEach((row, r) => {
      if (!row) return;
      write(views[r].title, row.title);
      write(views[r].note, row.note);
      views[r].levels.forEach((/** @type {LevelView} */ view, /** @type {number} */ level) => {
        const { ctx, unit } = view, chosen = store.active?.row === r && store.active?.level === level;
        ctx.drawImage(small, 0, 0, view.w, view.h);
        paintLevel(ctx, row, level, unit);
        const thin = store.objects.length > 8 ? 0.7 : 1;
        store.objects.forEach((o, n) => {
          if (isLost(row, store, n)) outline(ctx, o, unit, store.lost, 1.3, [3, 2], false);
          else if (row.at[level].has(n)) outline(ctx, o, unit, store.byObject ? ownerOf(n) : WHITE, thin, [], false);
          else outline(ctx, o, unit, GREY, 0.4, [], false);
        });
        if (store.hovered && store.hovered.level === level && store.hovered.row === r) paintHover(ctx, row, store.hovered, unit);
        const name = `P${Number(Math.log2(row.strides[level]).toFixed(2))} · stride ${row.strides[level]} · ${row.totals[level]} pts`;
        if (write(view.head, name)) view.canvas.setAttribute("aria-label", `${row.title}, ${name}`);
        view.canvas.setAttribute("aria-pressed", String(chosen));
        view.box.classList.toggle("on", chosen);
      });
    });
  }
  return { paint, pointAt };
}

/** The objects with their points in each row, those without one first; a click or Enter selects.
 * @param {HTMLElement} parent @param {import("./state.js").Store} store @param {(n: number) => void} select */
export function objectList(parent, store, select) {
  const head = element(parent, "b", ""), table = element(parent, "table", "dsla-list");
  let before = "";
  return function paint() {
    const rows = store.rows.filter((row) => row !== null), lost = (/** @type {number} */ n) => Number(rows.some((row) => isLost(row, store, n)));
    const order = store.objects.map((_, n) => n).sort((a, b) => lost(b) - lost(a) || a - b).slice(0, 60);
    const counts = order.map((n) => /** @type {[number, string, ...number[]]} */ ([n, store.nameOf(store.objects[n][4]), ...rows.map((row) => row.counts[n])]));
    const now = JSON.stringify([counts, rows.map((row) => row.title), store.selected, store.byObject]);
    if (now === before) return;
    before = now;
    write(head, order.length ? `Points of ${order.length < store.objects.length ? `${order.length} of ${store.objects.length} objects` : "each object"}` : "No object yet: drag on the picture to draw one.");
    const focus = [...table.rows].findIndex((row) => row === document.activeElement);
    table.replaceChildren();
    if (!order.length) return;
    const titles = table.insertRow();
    for (const text of ["", "", ...rows.map((row) => row.title)]) element(titles, "th", "", text);
    counts.forEach(([n, name, ...points]) => {
      const line = table.insertRow();
      line.tabIndex = 0;
      line.className = n === store.selected ? "on" : "";
      line.setAttribute("aria-selected", String(n === store.selected));
      for (const text of [n, name]) element(line, "td", "", String(text));
      if (store.byObject) line.cells[0].style.borderLeft = `10px solid ${ownerOf(n)}`, (line.cells[0].style.paddingLeft = "5px");
      for (const count of points) element(line, "td", count ? "" : "none", count ? String(count) : "no point");
      line.addEventListener("click", () => select(n));
      line.addEventListener("keydown", (e) => e.key === "Enter" && select(n));
    });
    if (focus > 0) table.rows[focus]?.focus();
  };
}

/** Why a point of a row learns what it learns, where no kernel says it.
 * @param {HTMLElement} why @param {import("./state.js").Store} store @param {import("./state.js").Drawn} row
 * @param {number} r of the row @param {import("./state.js").Hovered} place */
export function explainPoint(why, store, row, r, { level, i, j, point }) {
  const spec = store.state.rows[r], entry = store.catalogue[spec.method], won = row.gt[point], n = store.selected >= 0 ? store.selected : won;
  const f = Math.fround, frame = frameOf(store.image, store.state.input), grid = { shapes: row.shapes, strides: row.strides, offset: row.offset, size: frame.size }, [x, y] = [j, i].map((v) => f(f(v + f(row.offset)) * row.strides[level]));
  why.replaceChildren();
  element(why, "b", "", `${row.title}: ${won < 0 ? "background" : `learns object ${won}, ${store.nameOf(store.objects[won][4])}`}`);
  if (n >= 0) {
    const [box] = scaledBoxes([store.objects[n]], store.image, frame);
    const table = element(why, "table", ""), here = { x, y, stride: row.strides[level], level, point };
    element(table.insertRow(), "td", "", `object ${n}, point (${x}, ${y}), stride ${row.strides[level]}`).colSpan = 3;
    for (const [rule, text, verdict] of rulesOf(entry.script ?? "", optionsOf(entry, spec, store.state.bounds), here, box, grid)) {
      const line = table.insertRow();
      for (const cell of [verdict === null ? "" : verdict ? "✓" : "✗", rule, text]) element(line, "td", "", cell);
    }
  }
  element(why, "div", "", `taught label ${Number(row.values[point].toPrecision(4))}${row.follows ? ": label × IoU of the predicted box" : ""}`);
}
