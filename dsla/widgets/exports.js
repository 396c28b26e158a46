// What leaves the explorer: pictures, tables, code, an address, and the boxes as a COCO file.
import { clip, element, save, write } from "./common.js";
import { cocoOf } from "./coco.js";

const KERNEL = [["PNG", "png"], ["CSV", "csv"], ["copy as Python", "python"]], ALONE = [["copy link", "link"], ["PNG", "png"]];

/** @typedef {import("./common.js").Guard} Guard */

/**
 * Builds the buttons: with a kernel Python makes the files, and writes the boxes to a path; without, the browser does.
 * @param {HTMLElement} parent @param {HTMLElement} told says what was done @param {import("./state.js").Store} store
 * @param {{model: any, stage: HTMLCanvasElement, guard: Guard, ask: () => void}} with_
 *   ask: tells Python, or the address, what is drawn
 */
export function exportBar(parent, told, store, { model, stage, guard, ask }) {
  const kernel = model.get("kernel"), path = document.createElement("input");
  path.className = "dsla-path";
  path.value = "boxes.json";
  path.setAttribute("aria-label", "COCO file for the boxes");
  const button = (/** @type {string} */ text, /** @type {() => any} */ click) => {
    const made = element(parent, "button", "", text);
    made.type = "button";
    made.addEventListener("click", guard(click));
  };
  for (const [text, type] of kernel ? KERNEL : ALONE) button(text, () => {
    ask();
    if (kernel) return model.send({ type });
    if (type === "png") return stage.toBlob((blob) => blob && save("assignment.png", blob, "image/png"));
    return clip(location.href).then((done) => void write(told, done ? "the address was copied" : "copy the address of this page: it holds the view"));
  });
  button("save boxes as COCO", () => {
    if (kernel) return ask(), model.send({ type: "coco", path: path.value, objects: store.objects }); // also those that no label is asked of, since a text is wrong
    const here = store.pictures[store.scene];
    here.objects = store.objects;
    save(path.value, JSON.stringify(cocoOf(store.pictures.filter((p) => p.names === here.names))), "application/json");
  });
  parent.append(path);
}
