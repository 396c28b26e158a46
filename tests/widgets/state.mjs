// Reads views, one JSON array, from stdin; writes what `dsla/widgets/state.js` makes of each, as JSON.
import { readFileSync } from "node:fs";
import { addressOf, checkedState, frameOf, rowsOf, viewOf } from "../../dsla/widgets/state.js";

const tried = (call) => {
  try {
    return call();
  } catch (error) {
    return { error: error.message };
  }
};
const answers = JSON.parse(readFileSync(0, "utf-8")).map(({ state, objects, size, catalogue, hash }) => {
  if (hash !== undefined) return tried(() => viewOf(hash));
  const rows = tried(() => {
    const view = viewOf(addressOf({ state, objects })); // as it comes back out of an address
    return rowsOf(checkedState(view.state, state, catalogue), view.objects, size, catalogue);
  });
  return rows.error ? rows : {
    frame: frameOf(size, state.input),
    rows: rows.map((row) => row && { ...row, gt: [...row.gt], values: [...row.values], maps: row.maps.map((m) => [...m]), at: row.at.map((s) => [...s]) }),
  };
});
process.stdout.write(JSON.stringify(answers));
