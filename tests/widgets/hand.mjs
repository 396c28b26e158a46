// Reads [{traits, pictures, kernel, hash}] of a page from stdin; writes what becomes of it in a hand, with a kernel or without.
import { readFileSync } from "node:fs";
import { decoded, handOn, parts, pictures, rest } from "./dom.mjs";

const [{ traits, pictures: given, kernel, hash }] = JSON.parse(readFileSync(0, "utf-8")), answer = {};
const points = (hand) => hand.text("dsla-head").map((text) => Number(text.match(/(\d+) pts/)?.[1]));

if (!kernel) {
  document.getElementById("dsla-data").textContent = JSON.stringify({ traits, pictures: given });
  location.hash = hash ?? "";
  await import("../../dsla/widgets/page.js");
  await decoded();
  const hand = handOn(parts["dsla-page"], given[0].size[1]), view = () => JSON.parse(decodeURIComponent(location.hash.split("view=")[1]));
  Object.assign(answer, { opened: points(hand), problem: hand.text("dsla-wrong").join(""), counted: hand.text("dsla-counts").join("") });
  // a text that is wrong, and then another control
  hand.type("ranges", "64 0 nonsense");
  await rest();
  answer.wrong = [points(hand), hand.text("dsla-problem").join("")];
  hand.type("point offset", "0");
  await rest();
  answer.another = [points(hand), hand.text("dsla-problem").join(""), hand.field("ranges").value];
  hand.press("undo");
  await rest();
  // a drag of many steps; its end is in the address
  const calls = history.calls;
  hand.drag([30, 30], [60, 50], 300);
  await rest();
  answer.calls = history.calls - calls;
  answer.moved = view().objects;
  // what was undone is done again after a look at another box
  hand.press("undo");
  hand.drag([150, 150], [150, 150], 1);
  hand.press("redo");
  await rest();
  answer.again = view().objects;
  // a link right after a drag
  hand.drag([60, 50], [30, 30], 3);
  hand.press("copy link");
  answer.link = view().objects;
  // a slider by its keys: undone at once
  hand.field("relaxation").focus();
  for (const value of ["0.3", "0.4"]) hand.type("relaxation", value, "input");
  hand.press("undo");
  await rest();
  answer.undone = view();
} else {
  const { render } = await import("../../dsla/widgets/explorer.js"), root = document.createElement("div"), sent = [], calls = {};
  const photo = (length) => new Uint8Array(length), frame = { seq: 0, objects: 0, rows: [] };
  const values = { ...traits, kernel: true, trained: false, seq: 0, frame, why: "", note: "", lut: new Uint8Array(768), pictures: given,
    size: given[0].size, objects: given[0].objects, names: given[0].names, photo: photo(1) };
  const model = { get: (name) => values[name], set: (name, value) => (values[name] = value), save_changes() {}, send: (message) => sent.push(message),
    on: (event, call) => (calls[event] = call), off() {} };
  render({ model, el: root });
  // of two photographs that come, the first is decoded last
  values.photo = photo(2), calls["change:photo"]();
  for (const picture of pictures.splice(0).reverse()) await rest(picture.done());
    // a text that is wrong, a box that is drawn meanwhile and saved
  const hand = handOn(root, given[0].size[1]);
  answer.photo = hand.stage().photo;
  hand.type("ranges", "64 0 nonsense");
  hand.drag([200, 20], [230, 60]);
  hand.press("save boxes as COCO");
  await rest();
  answer.saved = sent.at(-1);
  // the same two photographs in the browser of detections
  const browser = await import("../../dsla/widgets/detections.js"), detections = document.createElement("div");
  Object.assign(values, { photo: photo(1), frame: { title: "", objects: [], looks: {}, small: 0, columns: [{ title: "", missed: [], boxes: [] }] } });
  browser.default.render({ model, el: detections });
  values.photo = photo(2), calls["change:photo"]();
  for (const picture of pictures.splice(0).reverse()) await rest(picture.done());
  await rest();
  answer.detections = detections.all((node) => node.className === "dsla-detections")[0].photo;
}
process.stdout.write(JSON.stringify(answer), () => process.exit());
