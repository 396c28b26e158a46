// Reads [{columns, objects, small, filter, cards}] from stdin; writes what `dsla/widgets/verdicts.js` says of them.
import { readFileSync } from "node:fs";
import { countsOf, linesOf, noteOf, overlapOf, passes, wrongClass } from "../../dsla/widgets/verdicts.js";

const { columns, objects, small, filter, cards } = JSON.parse(readFileSync(0, "utf-8"))[0];
const seen = { hidden: new Set(filter?.hidden ?? []), name: filter?.name ?? "", small: filter?.small ?? false };
process.stdout.write(JSON.stringify({
  columns: (columns ?? []).map((column) => ({
    counts: countsOf(column),
    note: noteOf(column, objects.length),
    lines: column.boxes.map((b) => linesOf(b, column.boxes, objects)),
    passes: column.boxes.map((b) => passes(b.verdict || "removed", b, seen, small)),
  })),
  wrong: (cards ?? []).map(({ box, others, least }) => ({ name: wrongClass(box, others, least)?.name ?? null, overlap: overlapOf(box.box, others[0].box) })),
}));
