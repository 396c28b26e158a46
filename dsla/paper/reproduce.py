"""The main job: FCOS and DSLA on the embedded set, both inconsistencies of the paper in figures and a report."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from .. import __version__
from ..analysis.study import Study, study
from ..coco.results import add_line, plain, read_lines
from ..data import Scenes
from ..errors import DataError
from ..models import Detector, load
from ..models.weights import content_hash, read, shipped
from ..plots.style import method, ordered
from ..recipes.recipe import Recipe
from ..recipes.scenes import SHIPPED, recipe
from .claims import CLAIMS, Finding, judge, shown
from .exhibits import Story
from .story import write_report

COLUMNS = ["method", "seed", "analysis", "name", "value"]
Say = Callable[[str], None]


@dataclass(frozen=True)
class ReproduceResult:
    """report: the HTML file.  numbers: method, seed, analysis, name, value.  findings: the claims, judged."""

    report: Path
    numbers: pd.DataFrame
    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        rows = self.numbers[self.numbers["name"].isin(SHORT)]
        table = rows.groupby(["name", "method"], sort=False)["value"].mean().unstack().reindex(SHORT)[
            ordered(list(dict.fromkeys(rows["method"])))
        ]  # fmt: skip
        text = pd.DataFrame({c: [shown(n, v) for n, v in table[c].items()] for c in table}, index=list(SHORT.values()))
        verdicts = [f"  {f.verdict:<13}  {f.claim.text}" for f in self.findings]
        return "\n".join([text.to_string(), "", *verdicts, "", f"report: {self.report.resolve()}"])


SHORT = {
    "AP": "AP",
    "AP50": "AP50",
    "alike": "neighbours not told apart",
    "mismatch": "label step − score step",
    "spearman": "Spearman, score and IoU",
    "lost_over_0.05": "objects losing > 0.05 IoU",
    "AP_iou": "AP if scores were IoU",
}


def reproduce(
    out: str | Path = "dsla-report",
    train: bool = False,
    seeds: int = 1,
    *,
    images: int | None = None,
    steps: int | None = None,
    models: Mapping[str, Detector] | None = None,
    progress: bool = True,
) -> ReproduceResult:
    """Evaluate, analyse, draw and report; prints where the report is, and a short table.

    Args:
        out: folder: report.html, results.json, runs.jsonl, figures/ with the table of each figure beside it.
        train: train the recipes anew, into `out`/runs, instead of the shipped weights. A run that is there is not
            trained again, one that was interrupted goes on.
        seeds: trainings of each recipe.
        images: validation scenes, by default all.
        steps: of training instead of the recipe's.
        models: detectors by method or recipe name instead of the shipped ones.
        progress: whether to say what is being done.
    Raises:
        DataError: several seeds without training, or weights that are not there.
    """
    if seeds > 1 and not train:
        raise DataError("weights of one seed are shipped: several seeds need training (--train)")
    missing = sorted(set(SHIPPED) - set(shipped()))
    if missing and not (train or models):
        raise DataError(f"this package came without the weights of {', '.join(missing)}: train them, with --train")
    began = time.perf_counter()

    def say(text: str) -> None:
        if progress:
            print(f"[{time.perf_counter() - began:4.0f} s] {text}", flush=True)

    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    runs = [(name, seed) for seed in range(seeds) for name in (models or SHIPPED)]
    if models is None:
        get = partial(_trained, steps=steps, runs=folder / "runs", progress=progress, say=say) if train else _shipped
        detectors = {run: get(*run) for run in runs}
    else:
        detectors = {run: models[run[0]] for run in runs}
    dataset = Scenes("val", size=images)
    say(f"drawing {len(dataset)} validation scenes")
    dataset.prepare()
    log = _Log(folder / "runs.jsonl", len(dataset))
    first: dict[str, Study] = {}
    for (name, seed), model in detectors.items():
        title, weights = method(name).name, content_hash(model.state_dict())
        label = f"{title}, seed {seed}" if seeds > 1 else title
        known = log.find(name, seed, weights)
        if seed and known:
            say(f"{label}: numbers are there")
            continue
        found = study(model, dataset, say=partial(_prefixed, say, label))
        if not known:
            log.add(name, title, seed, weights, found)
        if not seed:  # the figures are of the first seed
            first[title] = found
    say("figures and report")
    numbers = log.numbers()
    findings = tuple(judge(claim, numbers) for claim in CLAIMS)
    about = {
        "dsla": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "data": f"{dataset.name}, seed {dataset.seed}",
        "images": len(dataset),
        "objects": sum(len(dataset.rows(i)) for i in range(len(dataset))),
        "seeds": seeds,
        "trained": "anew by this command"
        if train
        else "given models"
        if models
        else "weights that ship with the package",
        "recipes": list(models or SHIPPED),
        "command": "dsla reproduce" + (f" --train --seeds {seeds}" if train else ""),
    }
    shown_models = {method(name).name: model for (name, seed), model in detectors.items() if not seed}
    story = Story(about, numbers, findings, first, shown_models, dataset)
    report = write_report(story, folder)
    results = {"about": about, "findings": [f.to_dict() for f in findings], "numbers": numbers.to_dict("records")}
    (folder / "results.json").write_text(json.dumps(plain(results), indent=1, ensure_ascii=False), encoding="utf-8")
    result = ReproduceResult(report, numbers, findings)
    say("done")
    print(result)
    return result


def _prefixed(say: Say, label: str, text: str) -> None:
    say(f"{label}: {text}")


def _shipped(name: str, seed: int) -> Detector:
    return load(name)


def _trained(name: str, seed: int, *, steps: int | None, runs: Path, progress: bool, say: Say) -> Detector:
    """The model of a recipe and a seed: read where it is, else trained, or trained to its end."""
    from ..training.loop import train_anew_or_on

    chosen = recipe(name) if steps is None else recipe(name, steps=steps)
    folder = runs / f"{chosen.name}-{seed}"
    path = folder / "model.safetensors"
    if path.exists() and Recipe.from_dict(read(path)[0]["recipe"]) == chosen:
        say(f"{chosen.name}, seed {seed}: trained before")
        return load(path)
    say(f"{chosen.name}, seed {seed}: training, {chosen.steps} steps")
    size = None if steps is None else min(6000, steps * chosen.batch_size)
    data = Scenes("train", size=size).prepare()
    return train_anew_or_on(chosen, data, folder, seed=seed, progress=progress)


class _Log:
    """runs.jsonl: one line a (recipe, seed, weights, number of images) with all its numbers."""

    def __init__(self, path: Path, images: int) -> None:
        self.path, self.images, self.used = path, images, list[dict[str, Any]]()
        self.rows: list[dict[str, Any]] = read_lines(path)

    def find(self, name: str, seed: int, weights: str) -> bool:
        """Whether the numbers of this run are there; if so they are taken."""
        key = {"recipe": name, "seed": seed, "weights": weights, "images": self.images, "version": __version__}
        for row in self.rows:
            if all(row.get(k) == v for k, v in key.items()):
                self.used.append(row)
                return True
        return False

    def add(self, name: str, title: str, seed: int, weights: str, found: Study) -> None:
        columns = found.numbers[["analysis", "name", "value"]]
        row = {
            "recipe": name,
            "method": title,
            "seed": seed,
            "weights": weights,
            "images": self.images,
            "version": __version__,
            "numbers": plain(columns.to_dict("records")),
        }
        self.used.append(row)
        add_line(self.path, row)

    def numbers(self) -> pd.DataFrame:
        """method, seed, analysis, name, value of the runs used."""
        rows = [{"method": r["method"], "seed": r["seed"], **n} for r in self.used for n in r["numbers"]]
        return pd.DataFrame(rows, columns=COLUMNS).astype({"value": float})
