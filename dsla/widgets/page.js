// The explorer as a page of its own: no kernel, no network. Its pictures lie in the page, its view in the address after #.
import { element, write } from "./common.js";
import { render } from "./explorer.js";
import { sharing } from "./coco.js";
import { addressOf, checkedState, viewOf } from "./state.js";

function start() {
  const part = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));
  const { traits, pictures } = JSON.parse(part("dsla-data").textContent ?? ""), listeners = {};
  const decoded = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const shown = sharing(pictures), built = shown.length; // those beyond are the reader's own
  for (const picture of shown) picture.photo = decoded(picture.photo);
  const without = { kernel: false, trained: false, seq: 0, frame: {}, why: "", note: "" }; // what only Python says
  const values = { ...without, ...traits, lut: decoded(traits.lut), pictures: shown };
  const root = part("dsla-page"), problem = element(root, "div", "dsla-wrong");
  const tell = (names) => names.forEach((name) => (listeners[`change:${name}`] ?? []).forEach((call) => call()));

  const model = {
    get: (name) => values[name],
    set(name, value) {
      values[name] = value;
      if (name !== "view") return;
      write(problem, "");
      Object.assign(values, { state: value.state, objects: value.objects });
      history.replaceState(null, "", value.scene < built ? addressOf(value) : "#"); // a picture of one's own is in no address
    },
    save_changes() {},
    on: (event, call) => (listeners[event] ??= []).push(call),
    off: (event, call) => (listeners[event] = (listeners[event] ?? []).filter((other) => other !== call)),
    send: ({ type, scene }) => type === "scene" && model.picture({ ...shown[scene], scene }),
    add(picture) {
      shown.push(picture);
      model.picture({ ...picture, scene: shown.length - 1 });
    },
    picture(/** @type {any} */ { photo, size, objects, names, scene }) {
      Object.assign(values, { photo, size, objects, names, scene });
      tell(["names", "photo", "objects"]);
      model.set("view", { scene, objects, state: values.state });
    },
  };

  function visit() { // what the address says
    try {
      const view = viewOf(location.hash);
      if (!view) return;
      if (!(view.scene in shown) || view.scene >= built) throw new Error(`the view in this address is of picture ${view.scene}; this page has ${built}`);
      const picture = shown[view.scene], [H, W] = picture.size;
      const fits = (o) => o.length === 5 && o.every(Number.isFinite) && 0 <= o[0] && o[0] < o[2] && o[2] <= W && 0 <= o[1] && o[1] < o[3] && o[3] <= H && o[4] >= 0;
      if (!Array.isArray(view.objects) || !view.objects.every(fits)) throw new Error("the boxes in this address do not fit the picture");
      values.state = checkedState(view.state, traits.state, values.catalogue);
      write(problem, "");
      model.picture({ ...picture, objects: view.objects, scene: view.scene });
    } catch (error) {
      write(problem, /** @type {Error} */ (error).message);
    }
  }
  const { photo, size, objects, names } = shown[traits.scene];
  Object.assign(values, { photo, size, objects, names });
  visit();
  window.addEventListener("hashchange", visit);
  render({ model, el: root });
}

start();
