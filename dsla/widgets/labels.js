// The labels of the static methods, computed where the mouse is. Pure functions over typed arrays: nothing is drawn here.
//
// Python's assigners are the truth (`dsla/assigners`); this says the same while a hand moves. All numbers are float32, as
// there: `f` rounds after each operation, in Python's order, so that winners are equal bit for bit
// (`tests/widgets/test_labels.py` holds them against each other over random scenes).
//
// Axis letters as in Python: P points of all levels (level by level, row by row), M boxes of the image, L levels.

/**
 * @typedef {{shapes: number[][], strides: number[], offset: number, size?: number[]}} Grid
 *   shapes: [h, w] of each level; offset: of the points in strides; size: [height, width] of the image, where the levels
 *   reach into padding beyond it
 * @typedef {{gtIndex: Int32Array, label: Float32Array}} Assigned  [P] each: index of the box, −1 background; label 0…1
 * @typedef {[number, number, number, number]} Box  x1, y1, x2, y2 in pixels of the grid
 * @typedef {{x: number, y: number, stride: number, level: number}} Point
 * @typedef {Record<string, any>} Options  what `Assigner.options()` says
 * @typedef {{first: number, stride: number, width: number, columns: number, rows: number, place: Float32Array[]}} Level
 *   columns, rows: of the map that lie in the image; place: x of each column, y of each row
 */

const f = Math.fround, HUNDREDTH = f(0.01), SMALLEST_UNION = f(1e-6);

/**
 * Who teaches which point, and how strongly: the static label.
 * @param {string} method one of `METHODS`
 * @param {Options} options the assigner's own `options()`; null for None, ranges as rows
 * @param {Grid} grid
 * @param {number[][]} boxes M rows x1, y1, x2, y2
 * @param {number[]} labels M classes: none of these methods looks at them
 * @returns {Assigned}
 */
export function assign(method, options, grid, boxes, labels) {
  const run = RUN[method];
  if (!run) throw new Error(`no method ${method}: there are ${METHODS.join(", ")}`);
  if (labels.length !== boxes.length) throw new Error(`${boxes.length} boxes but ${labels.length} labels`);
  const exact = /** @type {Box[]} */ (boxes.map((box) => box.map(f)));
  const levels = levelsOf(grid), last = levels[levels.length - 1];
  const size = grid.shapes.reduce((n, [h, w]) => n + h * w, 0);
  const won = winners(size, exact);
  if (last) run(options, levels, exact, won, grid);
  return won.assigned(grid, levels);
}

/** @param {Grid} grid @returns {Level[]} */
export function levelsOf({ shapes, strides, offset, size }) {
  let first = 0;
  return shapes.map(([height, width], n) => {
    const stride = strides[n], start = first;
    first += height * width;
    const along = (/** @type {number} */ cells, /** @type {number | undefined} */ pixels) =>
      pixels === undefined ? cells : Math.min(cells, Math.max(0, Math.ceil(f(f(f(pixels) / stride) - f(offset)))));
    const place = [width, height].map((cells) => Float32Array.from({ length: cells }, (_, i) => f(f(i + f(offset)) * stride)));
    return { first: start, stride, width, place, rows: along(height, size?.[0]), columns: along(width, size?.[1]) };
  });
}

/**
 * The best box of each point: highest priority, then the smaller box, then the lower index.
 * @param {number} size P
 * @param {Box[]} boxes
 */
function winners(size, boxes) {
  const gtIndex = new Int32Array(size).fill(-1), priority = new Float32Array(size), rank = new Int32Array(boxes.length);
  const areas = boxes.map(areaOf);
  boxes.map((_, n) => n).sort((a, b) => areas[a] - areas[b] || a - b).forEach((n, place) => (rank[n] = place));
  /** @type {Float32Array | null} */
  let label = null;
  return {
    /** @param {number} point @param {number} box @param {number} value */
    offer(point, box, value) {
      const best = priority[point];
      if (!(value > 0) || value < best) return;
      if (value === best && rank[gtIndex[point]] < rank[box]) return;
      priority[point] = value;
      gtIndex[point] = box;
    },
    hard() { // the priority only said who wins
      label = priority.map((value) => (value > 0 ? 1 : 0));
    },
    /** @param {Grid} grid @param {Level[]} levels @returns {Assigned} */
    assigned(grid, levels) {
      const values = label ?? priority;
      if (grid.size) clearPadding(levels, grid.size, gtIndex, values);
      return { gtIndex, label: values };
    },
  };
}

/** @param {Level[]} levels @param {number[]} size @param {Int32Array} gtIndex @param {Float32Array} label */
function clearPadding(levels, [height, width], gtIndex, label) {
  for (const { first, place: [xs, ys] } of levels) {
    for (let i = 0, p = first; i < ys.length; i++) {
      for (let j = 0; j < xs.length; j++, p++) {
        if (gtIndex[p] >= 0 && !(xs[j] < width && ys[i] < height)) (gtIndex[p] = -1), (label[p] = 0);
      }
    }
  }
}

// ---- geometry
/** @param {Box} box */
const areaOf = ([x1, y1, x2, y2]) => f(f(x2 - x1) * f(y2 - y1));

/** IoU of the square [x ± half, y ± half] and of any box with another. @param {Box} a @param {Box} b */
export function iouOf(a, b) {
  const w = Math.max(0, f(Math.min(a[2], b[2]) - Math.max(a[0], b[0])));
  const h = Math.max(0, f(Math.min(a[3], b[3]) - Math.max(a[1], b[1])));
  const shared = f(w * h);
  return f(shared / Math.max(SMALLEST_UNION, f(f(areaOf(a) + areaOf(b)) - shared)));
}

/** The square anchor of a point. @param {number} x @param {number} y @param {number} half @returns {Box} */
export const anchor = (x, y, half) => [f(x - half), f(y - half), f(x + half), f(y + half)];

/** First and last index of sorted places with low ≤ place ≤ high, among the first `count`, a cell to spare.
 * @param {Float32Array} place @param {number} count @param {number} low @param {number} high @param {number} stride */
function span(place, count, low, high, stride) {
  const origin = place[0] ?? 0;
  return [Math.max(0, Math.floor((low - origin) / stride) - 1), Math.min(count - 1, Math.ceil((high - origin) / stride) + 1)];
}

/** sqrt(min(l, r) / max(l, r) · min(t, b) / max(t, b)); 0 outside.
 * @param {number} l @param {number} t @param {number} r @param {number} b */
export function centerness(l, t, r, b) {
  const across = f(Math.max(0, Math.min(l, r)) / Math.max(HUNDREDTH, Math.max(l, r)));
  const along = f(Math.max(0, Math.min(t, b)) / Math.max(HUNDREDTH, Math.max(t, b)));
  return f(Math.sqrt(f(across * along)));
}

/** 1 within [low, high], falling to 0 at the relaxed ends.
 * @param {number} m @param {number} low @param {number} high @param {number} relaxedLow @param {number} relaxedHigh */
export function relaxed(m, low, high, relaxedLow, relaxedHigh) {
  if (m >= low && m <= high) return 1;
  const rising = f(f(m - relaxedLow) / Math.max(HUNDREDTH, f(low - relaxedLow)));
  const falling = f(f(relaxedHigh - m) / Math.max(HUNDREDTH, f(relaxedHigh - high)));
  return Math.min(1, Math.max(0, Math.min(rising, falling)));
}

/** @param {number[][]} ranges @param {Level[]} levels @param {string} name */
function checked(ranges, levels, name) {
  if (ranges.length !== levels.length) throw new Error(`${ranges.length} ${name} for ${levels.length} levels`);
  return ranges;
}

/** What a point and a box say of each other. @param {number} x @param {number} y @param {Box} box @param {number} stride */
export function pairOf(x, y, [x1, y1, x2, y2], stride) {
  const l = f(x - x1), t = f(y - y1), r = f(x2 - x), b = f(y2 - y);
  const cx = f(f(x1 + x2) / 2), cy = f(f(y1 + y2) / 2), dx = Math.abs(f(x - cx)), dy = Math.abs(f(y - cy));
  const inside = Math.min(l, r) > 0 && Math.min(t, b) > 0;
  const core = dx <= stride / 2 && dy <= stride / 2 && inside;
  return { l, t, r, b, cx, cy, dx, dy, inside, core, m: Math.max(l, r, t, b) };
}

/** Strictly within radius · stride of the centre, as well.
 * @param {number} x @param {number} y @param {number} cx @param {number} cy @param {number} stride
 * @param {number | null} radius */
export function sampled(x, y, cx, cy, stride, radius) {
  if (radius === null) return true;
  const reach = f(f(radius) * stride);
  return x > f(cx - reach) && x < f(cx + reach) && y > f(cy - reach) && y < f(cy + reach);
}

// ---- FCOS and DSLA: points inside a box, by their range
/** Ends of the relaxed ranges, as `DSLA.relaxed_ranges`. @param {Options} options @returns {number[][]} */
export function relaxedRanges({ regress_ranges: ranges, relaxation, truncate }) {
  if (!relaxation) return ranges;
  const wide = ranges.map((/** @type {number[]} */ [low, high]) => [low * (1 - relaxation), high * (1 + relaxation)]);
  return truncate ? wide.map((/** @type {number[]} */ ends) => ends.map(Math.trunc)) : wide;
}

/**
 * @param {Level[]} levels @param {Box[]} boxes @param {number[][]} reach what m = max(l, t, r, b) is at most, by level
 * @param {number | null} radius
 * @param {(p: ReturnType<typeof pairOf>, level: number) => number} label of a point inside
 * @param {ReturnType<typeof winners>} won
 */
function insideBoxes(levels, boxes, reach, radius, label, won) {
  boxes.forEach((box, n) => {
    const [x1, y1, x2, y2] = box, side = Math.max(x2 - x1, y2 - y1);
    levels.forEach(({ first, stride, width, place: [xs, ys] }, level) => {
      const [low, high] = reach[level].map(f);
      if (side < low * (1 - 1e-5) || side > 2 * high * (1 + 1e-5)) return;
      const half = radius === null ? Infinity : radius * stride, [mx, my] = [(x1 + x2) / 2, (y1 + y2) / 2];
      const [left, right] = span(xs, xs.length, Math.max(x1, x2 - high, mx - half), Math.min(x2, x1 + high, mx + half), stride);
      const [top, bottom] = span(ys, ys.length, Math.max(y1, y2 - high, my - half), Math.min(y2, y1 + high, my + half), stride);
      for (let i = top; i <= bottom; i++) {
        for (let j = left; j <= right; j++) {
          const x = xs[j], y = ys[i], p = pairOf(x, y, box, stride);
          if (!p.inside || p.m > high || !sampled(x, y, p.cx, p.cy, stride, radius)) continue;
          won.offer(first + i * width + j, n, label(p, level));
        }
      }
    });
  });
}

/** @type {Method} */
function fcos(options, levels, boxes, won) {
  const ranges = checked(options.regress_ranges, levels, "regression ranges"), ends = ranges.map((r) => r.map(f));
  insideBoxes(levels, boxes, ranges, options.center_sampling, ({ m }, level) => (m >= ends[level][0] && m <= ends[level][1] ? 1 : 0), won);
}

/** @type {Method} */
function dsla(options, levels, boxes, won) {
  const ranges = checked(options.regress_ranges, levels, "regression ranges"), wide = relaxedRanges(options);
  const ends = ranges.map((range, level) => [...range, ...wide[level]].map(f));
  const reach = wide.map(([low, high], level) => [Math.min(low, ranges[level][0]), Math.max(high, ranges[level][1])]); // int() can cut
  insideBoxes(levels, boxes, reach, options.center_sampling, (p, level) => {
    const [low, high, relaxedLow, relaxedHigh] = ends[level];
    const score = options.core_zone && p.core ? 1 : centerness(p.l, p.t, p.r, p.b);
    return f(score * relaxed(p.m, low, high, relaxedLow, relaxedHigh));
  }, won);
}

// ---- FoveaBox: the cells of the shrunk box, at the levels whose range holds its size
/** First and last column, first and last row of the cells in the shrunk box.
 * @param {Box} box @param {number} stride @param {number} columns @param {number} rows @param {number} sigma
 * @param {number} offset @returns {number[]} */
export function foveaCells(box, stride, columns, rows, sigma, offset) {
  return [[box[0], box[2], columns], [box[1], box[3], rows]].flatMap(([from, to, count]) => {
    const start = f(from / stride), half = f(0.5 * f(f(to / stride) - start));
    const at = (/** @type {number} */ part) => f(f(start + f(f(part) * half)) - f(offset));
    return [Math.ceil(at(1 - sigma)), Math.floor(at(1 + sigma))].map((v) => Math.min(Math.max(v, 0), count - 1));
  });
}

/** @type {Method} */
function fovea({ scale_ranges: ranges, sigma, smooth, relaxation }, levels, boxes, won, { offset }) {
  const share = smooth ? relaxation : 0;
  const ends = checked(ranges, levels, "scale ranges").map(([low, high]) => [low, high, low * (1 - share), high * (1 + share)].map(f));
  boxes.forEach((box, n) => {
    const scale = f(Math.sqrt(Math.max(0, areaOf(box))));
    levels.forEach(({ first, stride, width, rows, columns, place: [xs, ys] }, level) => {
      const [low, high, relaxedLow, relaxedHigh] = ends[level];
      if (!(scale >= relaxedLow && scale <= relaxedHigh) || !rows || !columns) return;
      const cells = foveaCells(box, stride, columns, rows, sigma, offset);
      const h = relaxed(scale, low, high, relaxedLow, relaxedHigh);
      for (let i = cells[2]; i <= cells[3]; i++) {
        for (let j = cells[0]; j <= cells[1]; j++) {
          let label = 1;
          if (smooth) {
            const p = pairOf(xs[j], ys[i], box, stride);
            label = f((p.core ? 1 : centerness(p.l, p.t, p.r, p.b)) * h);
          }
          won.offer(first + i * width + j, n, label);
        }
      }
    });
  });
}

// ---- anchors: max-IoU and ATSS
/** The largest IoU that an anchor of each level has with a box: at the point nearest to its centre.
 * @param {Box} box @param {Level[]} levels @param {number} scale side of the anchor in strides @param {number} offset */
export function bestOverlaps(box, levels, scale, offset) {
  return levels.map(({ stride, rows, columns, place: [xs, ys] }) => {
    if (!rows || !columns) return 0;
    const nearest = (/** @type {number} */ centre, /** @type {number} */ count) =>
      Math.min(Math.max(Math.round(centre / stride - offset), 0), count - 1);
    const j = nearest((box[0] + box[2]) / 2, columns), i = nearest((box[1] + box[3]) / 2, rows);
    return iouOf(anchor(xs[j], ys[i], f(stride * f(scale / 2))), box);
  });
}

/** @type {Method} */
function maxIoU({ positive, negative, low_quality: lowQuality, anchor_scale: scale }, levels, boxes, won, { offset }) {
  if (negative > positive) throw new Error(`negative ${negative} is above positive ${positive}`);
  const threshold = f(positive);
  boxes.forEach((box, n) => {
    const halves = levels.map(({ stride }) => f(stride * f(scale / 2))), tops = bestOverlaps(box, levels, scale, offset);
    const top = Math.max(...tops), enough = Math.min(positive, lowQuality ? top : Infinity) * (1 - 1e-5);
    const points = /** @type {number[]} */ ([]), ious = /** @type {number[]} */ ([]);
    levels.forEach(({ first, stride, width, rows, columns, place: [xs, ys] }, level) => {
      if (!(tops[level] > 0) || tops[level] < enough) return; // no anchor of this level reaches what is needed
      const half = halves[level], [left, right] = span(xs, columns, box[0] - half, box[2] + half, stride);
      const [above, below] = span(ys, rows, box[1] - half, box[3] + half, stride);
      for (let i = above; i <= below; i++) {
        for (let j = left; j <= right; j++) {
          const iou = iouOf(anchor(xs[j], ys[i], half), box);
          if (iou >= enough) points.push(first + i * width + j), ious.push(iou);
        }
      }
    });
    const best = ious.reduce((a, b) => Math.max(a, b), 0);
    points.forEach((p, k) => (ious[k] >= threshold || (lowQuality && ious[k] === best)) && won.offer(p, n, ious[k]));
  });
  won.hard();
}

/** The candidates of a box, and the IoU that they need: the mean and the deviation of theirs.
 * @param {Box} box @param {Level[]} levels @param {number} topk @param {number} scale side of the anchor in strides
 * @param {number} offset */
export function atssCandidates(box, levels, topk, scale, offset) {
  const most = [Math.max(...levels.map(({ place }) => place[0].length)), Math.max(...levels.map(({ place }) => place[1].length))];
  const [wide, high] = most.map((count) => Math.min(topk, count));
  const points = /** @type {number[]} */ ([]), ious = /** @type {number[]} */ ([]), depths = /** @type {number[]} */ ([]);
  const [x1, y1, x2, y2] = box;
  for (const { first, stride, width, rows, columns, place: [xs, ys] } of levels) {
    const half = f(stride * f(scale / 2));
    const across = nearestCells(xs, f(f(x1 + x2) / 2), columns, wide, stride, offset);
    const down = nearestCells(ys, f(f(y1 + y2) / 2), rows, high, stride, offset);
    /** @type {{distance: number, row: number, column: number}[]} */
    const near = [];
    across.forEach(([column, dx], a) => down.forEach(([row, dy], b) => {
      if ((a + 1) * (b + 1) <= topk) near.push({ distance: f(f(dx * dx) + f(dy * dy)), row, column });
    }));
    near.sort((a, b) => a.distance - b.distance || a.row - b.row || a.column - b.column);
    for (const { row, column } of near.slice(0, topk)) {
      const x = xs[column], y = ys[row];
      points.push(first + row * width + column);
      ious.push(iouOf(anchor(x, y, half), box));
      depths.push(Math.min(f(x - x1), f(y - y1), f(x2 - x), f(y2 - y)));
    }
  }
  const count = Math.max(1, ious.length), mean = ious.reduce((a, b) => a + b, 0) / count;
  const spread = ious.reduce((a, b) => a + (b - mean) ** 2, 0) / Math.max(1, count - 1);
  const threshold = f(f(mean) + f(Math.sqrt(spread)));
  return { points, ious, depths, mean, deviation: Math.sqrt(spread), threshold };
}

/** @type {Method} */
function atss({ topk, anchor_scale: scale }, levels, boxes, won, { offset }) {
  boxes.forEach((box, n) => {
    const { points, ious, depths, threshold } = atssCandidates(box, levels, topk, scale, offset);
    points.forEach((p, k) => ious[k] >= threshold && depths[k] > HUNDREDTH && won.offer(p, n, ious[k]));
  });
  won.hard();
}

/** The `most` cells of 0…count−1 nearest to a coordinate with their distances, of equal ones the first.
 * @param {Float32Array} place @param {number} centre @param {number} count @param {number} most @param {number} stride
 * @param {number} offset @returns {[number, number][]} */
function nearestCells(place, centre, count, most, stride, offset) {
  const begin = Math.max(0, Math.min(Math.floor(f(f(f(centre / stride) - f(offset)) - most / 2)), count - most - 2));
  /** @type {[number, number][]} */
  const cells = [];
  for (let i = begin; i < Math.min(count, begin + most + 2); i++) cells.push([i, Math.abs(f(place[i] - centre))]);
  return cells.sort((a, b) => a[1] - b[1] || a[0] - b[0]).slice(0, most);
}

/** @typedef {(options: Options, levels: Level[], boxes: Box[], won: ReturnType<typeof winners>, grid: Grid) => void} Method */
/** @type {Record<string, Method>} */
const RUN = { fcos, dsla, fovea, "fovea-dsla": fovea, "max-iou": maxIoU, atss };
/** The registry's names of the methods that are computed here. */
export const METHODS = Object.keys(RUN);
