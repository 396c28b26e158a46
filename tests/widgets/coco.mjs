// Reads pictures and questions, one JSON array, from stdin; writes what `dsla/widgets/coco.js` makes of each, as JSON.
import { readFileSync } from "node:fs";
import { cocoOf, nameClasses, renamed, sharing, shows } from "../../dsla/widgets/coco.js";

const answers = JSON.parse(readFileSync(0, "utf-8")).map(({ pictures, filters, names, name }) => {
  sharing(pictures);
  try {
    if (name) return renamed(pictures[0].names, ...name);
  } catch (error) {
    return { error: error.message };
  }
  if (names) nameClasses(pictures[0], names);
  const shown = (filters ?? []).map(({ hidden, name: only, small, state, catalogue, lost }) => {
    const filter = { hidden: new Set(hidden), name: only, small };
    return pictures.map((p, n) => (shows(p, filter, state, catalogue, lost?.[n]) ? n : -1)).filter((n) => n >= 0);
  });
  try {
    return { coco: cocoOf(pictures), shown };
  } catch (error) {
    return { error: error.message };
  }
});
process.stdout.write(JSON.stringify(answers));
