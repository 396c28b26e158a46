"""The main job: FCOS and DSLA on the embedded set, both inconsistencies of the paper in figures and a report."""

import json
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

import pandas as pd
import torch

from .. import __version__
from ..analysis.study import study
from ..coco.problems import many
from ..data import Scenes
from ..errors import DataError
from ..files import OwnFolder, add_line, plain, read_lines
from ..models import Detector, load
from ..models.weights import content_hash, shipped
from ..plots.style import ordered
from ..recipes import SHIPPED, recipe
from .claims import CLAIMS, Finding, judge_all
from .definitions import ONE_SEED, ROWS, as_text, label, title_of
from .exhibits import Story, charts
from .pages import notebook, page
from .runs import FILE, Run, complete, key_of, run_of, table_of, trained

TITLE = "Label assignment, seen from both sides: FCOS and DSLA on the embedded scenes"


@dataclass(frozen=True)
class ReproduceResult:
    """What `reproduce` gives.

    Attributes:
        report: the HTML file.
        numbers: method, seed, analysis, name, value (and recipe, steps, images).
        findings: the claims, judged.
    """

    report: Path
    numbers: pd.DataFrame
    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        mean = self.numbers.groupby(["analysis", "name", "method"])["value"].mean().unstack()
        methods = ordered(list(mean.columns))
        rows = [(analysis, name) for analysis, names in ROWS["short"].items() for name in names]
        cells = [[as_text(row[1], mean.loc[row, m]) for m in methods] for row in rows]
        text = pd.DataFrame(cells, columns=methods, index=[label(name) for _, name in rows])
        verdicts = [f"  {f.verdict:<13}  {f.claim.text}" for f in self.findings]
        if self.numbers["seed"].nunique() == 1:
            verdicts = wrap(ONE_SEED, 100)
        return "\n".join([text.to_string(), "", *verdicts, "", f"report: {self.report.resolve()}"])


def reproduce(
    out: str | Path = "dsla-report",
    train: bool = False,
    seeds: int = 1,
    *,
    images: int | None = None,
    steps: int | None = None,
    jobs: int = 1,
    models: Mapping[str, Detector] | None = None,
    progress: bool = True,
    overwrite: bool = False,
) -> ReproduceResult:
    """Evaluate, analyse, draw and report; prints where the report is, and a short table.

    Args:
        out: folder: report.html, report.ipynb, results.json, runs.jsonl, figures/ with the table of each beside it.
        train: train the recipes anew, into `out`/runs, instead of the shipped weights. A run that is there is not
            trained again, one that was interrupted goes on.
        seeds: trainings of each recipe.
        images: validation scenes, by default all.
        steps: of training instead of the recipe's.
        jobs: trainings at a time.
        models: detectors by method or recipe name instead of the shipped ones.
        progress: whether to say what is being done.
        overwrite: whether files in `out` that this did not write may be replaced.

    Raises:
        DataError: files that would be replaced, seeds, steps or jobs without training, or weights that are not there.
    """
    if not train:
        for name, given in (("several seeds", seeds > 1), ("steps", steps), ("jobs", jobs > 1)):
            if given:
                raise DataError(f"the weights that ship are evaluated with one seed: {name} need training (--train)")
    missing = sorted(set(SHIPPED) - set(shipped()))
    if missing and not (train or models):
        raise DataError(f"this package came without the weights of {', '.join(missing)}: train them, with --train")
    began = time.perf_counter()

    def say(text: str) -> None:
        if progress:
            print(f"[{time.perf_counter() - began:4.0f} s] {text}", flush=True)

    folder = OwnFolder(out, overwrite=overwrite)
    store = folder.path / FILE
    store.parent.mkdir(parents=True, exist_ok=True)
    runs: list[Run] = []
    if train:
        recipes = [recipe(name) if steps is None else recipe(name, steps=steps) for name in SHIPPED]
        runs = complete(recipes, folder.path, seeds, None, images, jobs, say, progress)
        models = {r.name: trained(r, 0, folder.path)[0] for r in recipes}
    detectors = models or {name: load(name) for name in SHIPPED}
    dataset = Scenes("val", size=images)
    say(f"drawing {len(dataset)} validation scenes")
    dataset.prepare()
    there = {run.get("key"): run for run in read_lines(store)}
    studies = {}
    for name, model in detectors.items():
        title = title_of(name)
        studies[title] = study(model, dataset, say=lambda text, title=title: say(f"{title}: {text}"))  # type: ignore[misc]
        if train:
            continue
        key = key_of(model.recipe, 0, len(dataset), content_hash(model.state_dict()))
        if key not in there:
            there[key] = run_of(name, model, studies[title], key=key, seed=0, images=len(dataset))
            add_line(store, there[key])
        runs.append(there[key])
    say("figures and report")
    numbers = table_of(runs)
    findings = judge_all(CLAIMS, numbers)
    origin = "given models" if models else "weights that ship with the package (the protocol's, warm start, seed 0)"
    about = {
        "dsla": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "data": f"{dataset.name}, seed {dataset.seed}",
        "images": len(dataset),
        "objects": sum(len(dataset.rows(i)) for i in range(len(dataset))),
        "seeds": seeds,
        "trained": f"trained anew by this command, {many(seeds, 'seed')}" if train else origin,
        "recipes": list(detectors),
        "command": "dsla reproduce" + (f" --train --seeds {seeds}" if train else ""),
    }
    story = Story(numbers, findings, studies, dict(zip(studies, detectors.values(), strict=True)), dataset)
    drawn = {chart.name: chart for chart in charts(story)}
    for chart in drawn.values():
        chart.save(folder)
    source = f"Detectors: {about['trained']}. Data: {about['images']} scenes, {about['data']}."
    lines = [f"- **{Path(c.file).name}**: {c.title}. {c.figure.caption} {source}\n" for c in drawn.values()]
    folder.write("figures/captions.md", "".join(lines))
    report = folder.write("report.html", page("reproduce.html", title=TITLE, story=story, about=about, charts=drawn))
    tables = "Each figure lies beside the table it shows; `results.json` and `runs.jsonl` hold all numbers."
    folder.write("report.ipynb", notebook(TITLE, tables, drawn.values()))
    measured = numbers[["method", "seed", "analysis", "name", "value"]].to_dict("records")
    results = {"about": about, "findings": [f.to_dict() for f in findings], "numbers": measured}
    folder.write("results.json", json.dumps(plain(results), indent=1, ensure_ascii=False))
    result = ReproduceResult(report, numbers, findings)
    say("done")
    print(result)
    return result
