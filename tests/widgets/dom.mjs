// As much of a browser as the widgets need to run in node: elements that hold text, values and listeners. Nothing is drawn.
const drawing = new Proxy(() => {}, { // a context of a canvas: takes everything, gives 0
  get: (_, key) => (key === Symbol.toPrimitive ? () => 0 : drawing), set: () => true, apply: () => drawing,
});
const contextOf = (canvas) => new Proxy(drawing, { // it knows which photograph was drawn on it
  get: (_, key) => (key === "drawImage" ? (image) => (canvas.photo = image.photo ?? canvas.photo) : drawing[key]),
});

export class Element extends EventTarget {
  constructor(tag) {
    super();
    Object.assign(this, { tag, nodes: [], style: {}, dataset: {}, text: "", value: "", validity: { valid: true }, on: new Set() });
    this.classList = { toggle: (name, force) => this.on[force ? "add" : "delete"](name), add: (name) => this.on.add(name) };
  }
  get textContent() { return this.text + this.nodes.map((node) => node.textContent).join(""); }
  set textContent(text) { this.text = text, this.nodes = []; }
  get options() { return this.nodes; }
  get rows() { return this.nodes; }
  get cells() { return this.nodes; }
  append(...nodes) { for (const node of nodes) this.nodes.push(Object.assign(typeof node === "string" ? { textContent: node } : node, { parent: this })); }
  add(node) { this.append(node); }
  prepend(node) { this.nodes = [node, ...this.nodes.filter((other) => other !== node)]; }
  after(node) { this.parent.nodes.splice(this.parent.nodes.indexOf(this) + 1, 0, node); }
  replaceChildren(...nodes) { this.nodes = [], this.append(...nodes); }
  insertRow() { return this.append(new Element("tr")), this.nodes.at(-1); }
  all(test) { return this.nodes.flatMap((node) => [...(test(node) ? [node] : []), ...(node.all?.(test) ?? [])]); }
  querySelectorAll(tags) { return this.all((node) => tags.split(", ").includes(node.tag)); }
  focus() { document.activeElement = this, this.dispatchEvent(new Event("focus")); }
  cloneNode() { return new Element(this.tag); }
  getContext() { return contextOf(this); }
  getBoundingClientRect() { return { left: 0, top: 0, width: parseFloat(this.style.width), height: parseFloat(this.style.height) }; }
  setAttribute() {}
  removeAttribute() {}
  setPointerCapture() {}
  select() {}
}

class Canvas {
  constructor(width, height) { Object.assign(this, { width, height }); }
  getContext() { return contextOf(this); }
  transferToImageBitmap() { return { ...this }; }
}

const waiting = new Map(); // timers
let timer = 0;
export const parts = {}; // by id
export const pictures = []; // that are being decoded
Object.assign(globalThis, {
  document: { createElement: (tag) => new Element(tag), getElementById: (id) => (parts[id] ??= new Element("main")), activeElement: null },
  window: Object.assign(new EventTarget(), { devicePixelRatio: 1 }), location: { hash: "", href: "" },
  history: { calls: 0, replaceState(_, __, hash) { this.calls++, (location.hash = location.href = hash); } },
  setTimeout: (call) => (waiting.set(++timer, call), timer), clearTimeout: (number) => waiting.delete(number),
  requestAnimationFrame: (call) => setTimeout(call), Blob: class { constructor([{ length }]) { this.size = length; } }, OffscreenCanvas: Canvas, ResizeObserver: class { observe() {} },
  ImageData: class { constructor(w, h) { this.data = new Uint8ClampedArray(4 * w * h); } },
  Option: function Option(text, value) { return Object.assign(new Element("option"), { text, value }); },
  createImageBitmap: ({ size }) => new Promise((done) => pictures.push({ done: () => done({ width: 64, height: 64, photo: size }) })),
});

/** Time passes: all that waits for it happens, and what follows from that. */
export async function rest() {
  for (let round = 0; round < 20; round++) {
    await new Promise((done) => setImmediate(done));
    const calls = [...waiting.values()];
    waiting.clear();
    for (const call of calls) call();
  }
}
/** Every picture is decoded, and what follows is painted. */
export async function decoded() {
  await rest();
  for (const picture of pictures.splice(0)) picture.done();
  await rest();
}

/** What a hand does in an explorer whose picture is `width` pixels wide. */
export const handOn = (root, width) => {
  const stage = () => root.all((node) => node.className === "dsla-stage")[0];
  const pointer = (kind, place) => {
    const [clientX, clientY] = place.map((v) => (v * parseFloat(stage().style.width)) / width);
    stage().dispatchEvent(Object.assign(new Event(kind), { pointerId: 1, button: 0, pointerType: "mouse", clientX, clientY }));
  };
  const field = (name) => root.all((node) => node.className === "dsla-field" && node.textContent.startsWith(name))[0].nodes[1];
  return {
    stage, field,
    button: (text) => root.all((node) => node.tag === "button" && node.textContent === text)[0],
    press: (text) => root.all((node) => node.tag === "button" && node.textContent === text)[0].dispatchEvent(new Event("click")),
    drag(from, to, steps = 4) {
      pointer("pointerdown", from);
      for (let i = 1; i <= steps; i++) pointer("pointermove", from.map((v, side) => v + ((to[side] - v) * i) / steps));
      pointer("pointerup", to);
    },
    type(name, value, kind = "change") { (field(name).value = value), field(name).dispatchEvent(new Event(kind)); },
    text: (name) => root.all((node) => node.className?.split(" ").includes(name)).map((node) => node.textContent),
  };
};
