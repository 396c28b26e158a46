// The tour's panel: a question, what the labels say to it now, and the way to the next one.
import { element, write } from "./common.js";
import { STEPS, sceneOf, verdictOf } from "./tour.js";

/**
 * Builds the panel, which is hidden until it is opened.
 * calls: begin(scene) shows what a step begins with, leave() what was there before the tour
 * @param {HTMLElement} parent @param {import("./state.js").Store} store
 * @param {{begin: (scene: import("./tour.js").Scene) => void, leave: () => void}} calls
 */
export function tourPanel(parent, store, calls) {
  const panel = element(parent, "section", "dsla-tour"), head = element(panel, "b", ""), question = element(panel, "p", "");
  const verdict = element(panel, "p", "dsla-verdict"), line = element(panel, "div", "dsla-bar"), solved = new Set();
  let number = 0, scene = /** @type {import("./tour.js").Scene | null} */ (null), base = /** @type {import("./state.js").State | null} */ (null);
  panel.hidden = true;
  panel.setAttribute("aria-label", "tour");
  verdict.setAttribute("role", "status");
  const button = (/** @type {string} */ text, /** @type {() => void} */ click) => {
    const made = element(line, "button", "", text);
    made.type = "button";
    made.addEventListener("click", click);
    return made;
  };
  const back = button("back", () => begin(number - 1)), next = button("next", () => (number + 1 < STEPS.length ? begin(number + 1) : leave()));
  button("begin again", () => begin(number));
  button("leave the tour", leave);

  function begin(/** @type {number} */ n) {
    number = n;
    base ??= structuredClone(store.state);
    scene = sceneOf(n, store.image, base, store.catalogue);
    panel.hidden = false;
    calls.begin(structuredClone(scene));
    back.disabled = n === 0;
    write(next, n + 1 < STEPS.length ? "next" : "end");
    write(question, STEPS[n].question);
  }
  function leave() {
    panel.hidden = true;
    base = scene = null;
    calls.leave();
  }
  function paint() {
    if (!scene) return;
    const here = String(scene.image) === String(store.image);
    const { done, text } = here ? verdictOf(number, store.rows, store.objects, scene) : { done: false, text: "another picture: begin again" };
    if (done) solved.add(number);
    write(head, `${number + 1} of ${STEPS.length} · ${STEPS[number].title}${solved.has(number) ? " ✓" : ""}`);
    verdict.classList.toggle("on", done);
    write(verdict, text && `${done ? "✓ Yes: " : "Not yet: "}${text}.`);
  }
  return { paint, toggle: () => (scene ? leave() : begin(0)), end: () => scene && leave() };
}
