// Reads scenes, one JSON array, from stdin; writes what `dsla/widgets/tour.js` says of each, as JSON.
import { readFileSync } from "node:fs";
import { rowsOf } from "../../dsla/widgets/state.js";
import { STEPS, sceneOf, smallestMend, verdictOf } from "../../dsla/widgets/tour.js";

const { scenes, base, catalogue } = JSON.parse(readFileSync(0, "utf-8"));
const answers = scenes.map(({ step, image, move, changes }) => {
  const scene = sceneOf(step, image, base, catalogue);
  const ratio = image[0] / 512, objects = scene.objects.map((o, n) => o.map((v, side) => v + (side < 4 ? ratio * (move?.[n]?.[side] ?? 0) : 0)));
  const state = { ...scene.state, ...changes }, rows = rowsOf(state, objects, image, catalogue);
  return { ...verdictOf(step, rows, objects, scene), objects, state, least: step === 4 ? smallestMend(scene) : null };
});
process.stdout.write(JSON.stringify({ answers, steps: STEPS.length }));
