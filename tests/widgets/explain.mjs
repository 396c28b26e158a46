// Reads points, one JSON array, from stdin; writes the rules that `dsla/widgets/explain.js` says of each, as JSON.
import { readFileSync } from "node:fs";
import { rulesOf } from "../../dsla/widgets/explain.js";

const asked = JSON.parse(readFileSync(0, "utf-8"));
process.stdout.write(JSON.stringify(asked.map(({ method, options, place, box, grid }) => rulesOf(method, options, place, box, grid))));
