// The class of the chosen box and of the next one; classes renamed and added.
import { element, write } from "./common.js";
import { renamed } from "./coco.js";

/**
 * Builds the controls; returns what shows the class of a box, and what lists the names anew.
 * calls: kind(n, event) a class was chosen; names(list) they are called otherwise
 * @param {HTMLElement} parent @param {import("./state.js").Store} store
 * @param {{kind: (n: number, e: Event) => void, names: (names: string[]) => void}} calls
 */
export function classControl(parent, store, calls) {
  const kinds = element(parent, "select", "dsla-class");
  kinds.title = "class of the chosen box, and of the next one";
  kinds.setAttribute("aria-label", "class");
  const button = (/** @type {string} */ text, /** @type {string} */ tip, /** @type {() => number} */ which) => {
    const made = element(parent, "button", "", text);
    made.type = "button";
    made.title = tip;
    made.addEventListener("click", () => ask(which()));
  };
  button("rename", "another name for this class", () => Number(kinds.value));
  button("+ class", "one more class", () => store.names.length);
  const input = element(parent, "input", "dsla-name"), note = element(parent, "span", "dsla-problem");
  input.hidden = true;
  input.setAttribute("aria-label", "name of the class");
  note.setAttribute("role", "alert");
  let place = 0;

  function ask(/** @type {number} */ n) {
    place = n;
    input.value = store.names[n] ?? "";
    input.hidden = false;
    input.focus();
    input.select();
  }
  function close() {
    input.hidden = true;
    write(note, "");
  }
  function take(/** @type {Event} */ e) {
    if (input.hidden) return;
    try {
      const more = place === store.names.length;
      calls.names(renamed(store.names, place, input.value));
      close();
      if (more) calls.kind(place, e);
    } catch (error) {
      write(note, /** @type {Error} */ (error).message);
    }
  }
  input.addEventListener("keydown", (e) => {
    if (e.key === "Enter") take(e);
    else if (e.key === "Escape") close();
    e.stopPropagation();
  });
  input.addEventListener("blur", (e) => (input.value.trim() && input.value !== store.names[place] ? take(e) : close()));
  kinds.addEventListener("change", (e) => calls.kind(Number(kinds.value), e));

  return {
    show: (/** @type {number} */ n) => kinds.value !== String(n) && (kinds.value = String(n)),
    fill: () => kinds.replaceChildren(...store.names.map((name, n) => new Option(name, String(n)))),
  };
}
