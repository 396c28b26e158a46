// Shared by the drawing surfaces: elements, pictures, boxes with tags. Nothing here knows what a label is.

/**
 * @typedef {CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D} Context
 * @typedef {((call: (...values: any[]) => any) => (...values: any[]) => Promise<void>) & {sync: (call: (...values: any[]) => any)
 *   => (...values: any[]) => void}} Guard  wraps functions, see `guardIn`
 * @typedef {{canvas: OffscreenCanvas, source: Uint8Array}} Layer  a level's map, a pixel a point
 * @typedef {{get: (name: string) => any, set: (name: string, value: any) => void, save_changes: () => void, on: Function,
 *   off: Function, send: Function, add?: any, picture?: any}} Model  anywidget's, or that of a page of its own
 */

export const FONT = "11px system-ui, sans-serif";

/** @template {keyof HTMLElementTagNameMap} K @param {HTMLElement} parent @param {K} tag @param {string} name its class
 * @returns {HTMLElementTagNameMap[K]} */
export function element(parent, tag, name, text = "") {
  const node = document.createElement(tag);
  node.className = name;
  node.textContent = text;
  parent.append(node);
  return node;
}

/** @param {DataView | Uint8Array} view @returns {Uint8Array<ArrayBuffer>} */
export function bytes(view) {
  return new Uint8Array(/** @type {ArrayBuffer} */ (view.buffer), view.byteOffset, view.byteLength);
}

/** @param {DataView | Uint8Array | undefined} view an encoded picture */
export async function bitmap(view) {
  return view && view.byteLength ? createImageBitmap(new Blob([bytes(view)])) : null;
}

/** What draws on a canvas.
 * @template {HTMLCanvasElement | OffscreenCanvas} T @param {T} canvas @param {boolean} [read] its pixels are read often
 * @returns {T extends HTMLCanvasElement ? CanvasRenderingContext2D : OffscreenCanvasRenderingContext2D} */
export function contextOf(canvas, read = false) {
  return /** @type {any} */ (canvas.getContext("2d", { willReadFrequently: read }));
}

/** A canvas of w × h CSS pixels, sharp on screens with more pixels than that.
 * @param {HTMLCanvasElement} canvas @param {number} w @param {number} h */
export function fit(canvas, w, h) {
  const ratio = window.devicePixelRatio || 1;
  canvas.style.width = `${w}px`;
  canvas.style.height = `${h}px`;
  canvas.width = Math.round(w * ratio);
  canvas.height = Math.round(h * ratio);
  const ctx = contextOf(canvas);
  ctx.setTransform(canvas.width / w, 0, 0, canvas.height / h, 0, 0);
  return ctx;
}

/** The picture scaled once to the size at which it is drawn again and again.
 * @param {ImageBitmap} image @param {number} w @param {number} h */
export function scaled(image, w, h) {
  const ratio = window.devicePixelRatio || 1;
  const copy = new OffscreenCanvas(Math.max(1, Math.round(w * ratio)), Math.max(1, Math.round(h * ratio)));
  const ctx = contextOf(copy);
  ctx.imageSmoothingEnabled = Math.max(image.width, image.height) >= 256; // few pixels: show each
  ctx.imageSmoothingQuality = "high";
  ctx.drawImage(image, 0, 0, copy.width, copy.height);
  return copy.transferToImageBitmap();
}

/** @param {Context} ctx @param {ArrayLike<number>} box @param {number} k @param {string} colour @param {number} width
 * @param {number[]} dash */
export function outline(ctx, box, k, colour, width, dash = [], halo = true) {
  const [x1, y1, x2, y2] = Array.from(box, (v) => v * k);
  ctx.setLineDash([]);
  if (halo) {
    ctx.strokeStyle = "rgba(16, 21, 29, 0.55)";
    ctx.lineWidth = width + 2;
    ctx.strokeRect(x1, y1, x2 - x1, y2 - y1);
  }
  ctx.strokeStyle = colour;
  ctx.lineWidth = width;
  ctx.setLineDash(dash);
  ctx.strokeRect(x1, y1, x2 - x1, y2 - y1);
  ctx.setLineDash([]);
}

/** @param {string} colour */
export function dark(colour) {
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
  return 0.299 * r + 0.587 * g + 0.114 * b < 140;
}

/** A tag above the box, or inside it at the upper border of the picture; below the box where one of `taken` ([x, y, w] of
 * tags) is in the way, nowhere where that place is taken too.
 * @param {Context} ctx @param {number[]} box @param {number} k @param {string} text @param {string} colour
 * @param {number} width @param {number[][] | null} taken */
export function tag(ctx, box, k, text, colour, width, taken = null) {
  ctx.font = FONT;
  const w = ctx.measureText(text).width + 8;
  const x = Math.min(Math.max(box[0] * k - 1, 0), Math.max(0, width - w));
  let y = box[1] * k >= 17 ? box[1] * k - 17 : box[1] * k + 1;
  if (taken) {
    const free = (/** @type {number} */ at) => taken.every(([a, b, c]) => x >= a + c || x + w <= a || Math.abs(b - at) >= 16);
    const places = [y, box[3] * k + 1, box[3] * k - 17].filter(free);
    if (!places.length) return;
    y = places[0];
    taken.push([x, y, w]);
  }
  ctx.fillStyle = colour;
  ctx.fillRect(x, y, w, 16);
  ctx.fillStyle = dark(colour) ? "#ffffff" : "#1f2430";
  ctx.textBaseline = "middle";
  ctx.fillText(text, x + 4, y + 8.5);
}

/** @param {number[]} box @param {number} x @param {number} y */
export const within = ([x1, y1, x2, y2], x, y) => x >= x1 && x <= x2 && y >= y1 && y <= y2;
/** @param {number[]} box */
export const area = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);

/** The eight handles of a box, from its upper left corner clockwise. @param {number[]} box */
export function handles([x1, y1, x2, y2]) {
  const mx = (x1 + x2) / 2, my = (y1 + y2) / 2;
  return [[x1, y1], [mx, y1], [x2, y1], [x2, my], [x2, y2], [mx, y2], [x1, y2], [x1, my]];
}

/** Wraps functions: what goes wrong in one is shown in the widget, until one works again.
 * @param {HTMLElement} root @returns {Guard} */
export function guardIn(root) {
  const banner = element(root, "div", "dsla-wrong");
  root.prepend(banner);
  const wrong = (/** @type {unknown} */ error) => {
    console.warn(error);
    write(banner, String(error));
  };
  const guard = /** @type {Guard} */ ((call) => async (...values) => {
    try {
      await call(...values);
      write(banner, "");
    } catch (error) {
      wrong(error);
    }
  });
  // For what must happen within the event itself, as a file dialogue or the clipboard.
  guard.sync = (call) => (...values) => {
    try {
      call(...values);
      write(banner, "");
    } catch (error) {
      wrong(error);
    }
  };
  return guard;
}

/** Calls the functions when these traits change, until what comes back is called.
 * @param {Model} model @param {Record<string, () => any>} functions @param {Guard} guard */
export function follow(model, functions, guard) {
  const pairs = Object.entries(functions).map(([name, call]) => /** @type {const} */ ([`change:${name}`, guard(call)]));
  for (const [event, call] of pairs) model.on(event, call);
  return () => pairs.forEach(([event, call]) => model.off(event, call));
}

/** Puts text on the clipboard; says whether the browser allowed it. @param {string} text */
export async function clip(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false; // no permission, or a page that is not secure
  }
}

/** Offers content as a file. @param {string} name @param {BlobPart} content @param {string} kind */
export function save(name, content, kind) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type: kind }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

/** A picture from a file, at most `long` pixels long: {content: PNG, size: [height, width], full: the same of the file,
 * note: of what was done to it}.
 * @param {File} file @param {number} long */
export async function shrunk(file, long) {
  const whole = await createImageBitmap(file), share = Math.min(1, long / Math.max(whole.width, whole.height));
  const [w, h] = [whole.width, whole.height].map((v) => Math.max(1, Math.round(v * share)));
  const copy = new OffscreenCanvas(w, h);
  contextOf(copy).drawImage(whole, 0, 0, w, h);
  const note = share < 1 ? `${file.name} was shrunk from ${whole.width} × ${whole.height} to ${w} × ${h} pixels; boxes are saved in pixels of the file` : "";
  return { content: new Uint8Array(await (await copy.convertToBlob({ type: "image/png" })).arrayBuffer()), size: [h, w], full: [whole.height, whole.width], note };
}

/** The picture in dim grey, for labels to stand out on: as `dsla.plots.draw.backdrop`. @param {ImageBitmap} image */
export function dimmed(image) {
  const copy = new OffscreenCanvas(image.width, image.height), ctx = contextOf(copy, true);
  ctx.drawImage(image, 0, 0);
  const pixels = ctx.getImageData(0, 0, image.width, image.height), data = pixels.data;
  for (let i = 0; i < data.length; i += 4) {
    data[i] = data[i + 1] = data[i + 2] = 26 + 0.42 * (0.299 * data[i] + 0.587 * data[i + 1] + 0.114 * data[i + 2]);
  }
  ctx.putImageData(pixels, 0, 0);
  return copy.transferToImageBitmap();
}

/** Files and the clipboard: offered by the browser, wherever the kernel runs; and what else Python says.
 * @param {Model} model @param {(done: boolean) => void} copied @param {Record<string, (message: any) => void>} others */
export function listenForFiles(model, copied = () => {}, others = {}) {
  const handle = (/** @type {any} */ message, /** @type {DataView[]} */ buffers) => {
    others[message.type]?.(message);
    if (message.type === "copy") clip(message.text).then(copied);
    if (message.type === "download") save(message.name, bytes(buffers[0]), message.kind);
  };
  model.on("msg:custom", handle);
  return () => model.off("msg:custom", handle);
}

/** The colour of each byte of a label map (0: none, 1…255: label 0…1) as the pixels of an image hold it.
 * @param {Uint8Array} lut */
export function paletteOf(lut) {
  const palette = new Uint32Array(256), parts = new Uint8Array(palette.buffer);
  for (let i = 1; i < 256; i++) parts.set([...lut.slice(3 * i - 3, 3 * i), 209], 4 * i);
  return palette;
}

/** What the colours mean. @param {HTMLElement} parent @param {string} text @param {Uint8Array} lut */
export function scale(parent, text, lut) {
  const line = element(parent, "div", "dsla-scale"), at = Array.from({ length: 17 }, (_, i) => 3 * Math.round((254 * i) / 16));
  const ramp = at.map((i) => `rgb(${[...lut.slice(i, i + 3)].join(",")})`);
  element(line, "span", "", `${text}  0`);
  element(line, "span", "dsla-ramp").style.background = `linear-gradient(90deg, ${ramp.join(",")})`;
  element(line, "span", "", "1");
  return line;
}

/** Label maps as small canvases, one a level, a pixel a point. Those of before are used again, untouched where the map
 * is the same.
 * @param {{maps: Uint8Array[], shapes: number[][]}} row @param {Uint32Array} palette @param {Layer[]} [before]
 * @returns {Layer[]} */
export function layersOf(row, palette, before = []) {
  return row.maps.map((map, level) => {
    const [h, w] = row.shapes[level], source = bytes(map), old = before[level];
    const fits = old?.canvas.width === w && old.canvas.height === h;
    if (fits && old.source.every((v, i) => v === source[i])) return old;
    const canvas = fits ? old.canvas : new OffscreenCanvas(w, h), image = new ImageData(w, h);
    const pixels = new Uint32Array(image.data.buffer);
    for (let i = 0; i < source.length; i++) pixels[i] = palette[source[i]];
    contextOf(canvas, true).putImageData(image, 0, 0);
    return { canvas, source };
  });
}

/** Only what changes: a text that is set again is laid out again. @param {HTMLElement} node @param {string} text */
export function write(node, text) {
  const other = node.textContent !== text;
  if (other) node.textContent = text;
  return other;
}
