// Reads scenes, one JSON array, from stdin; writes what `dsla/widgets/labels.js` says of each, as JSON.
import { readFileSync } from "node:fs";
import { coupled } from "../../dsla/widgets/jitter.js";
import { assign } from "../../dsla/widgets/labels.js";

const scenes = JSON.parse(readFileSync(0, "utf-8"));
const answers = scenes.map(({ method, options, grid, boxes, labels, jitter, seed }) => {
  const assigned = assign(method, options, grid, boxes, labels), points = [];
  const values = jitter === null ? null : coupled(assigned, grid, boxes, jitter, seed);
  assigned.gtIndex.forEach((n, p) => n >= 0 && points.push([p, n, assigned.label[p], values?.[p] ?? null]));
  return { size: assigned.gtIndex.length, points };
});
process.stdout.write(JSON.stringify(answers));
