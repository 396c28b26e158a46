"""Many recipes, several seeds each, one command: every run a line of `experiments.jsonl`, and a table over seeds.

``dsla reproduce --train --recipes methods,ablation,gamma --seeds 3 --steps 1000 --jobs 2`` made the committed one.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from .. import __version__
from ..analysis.running import assign, run_raw
from ..analysis.study import study
from ..coco.results import add_line, plain, read_lines
from ..data import Scenes
from ..errors import DataError
from ..models import Detector
from ..models.weights import content_hash
from ..plots.style import method
from ..recipes.recipe import Recipe
from ..recipes.scenes import GROUPS, RECIPES, SHIPPED, recipe
from .claims import interval, shown

FILE = "experiments.jsonl"
TABLE = {  # column of the table over seeds: analysis, name
    "AP": ("evaluation", "AP"),
    "AP75": ("evaluation", "AP75"),
    "Spearman": ("ranking", "spearman"),
    "lost > 0.05": ("suppression", "lost_over_0.05"),
    "alike": ("adjacency", "alike"),
    "follows IoU": ("adjacency", "follows_iou"),
    "points": ("assignment", "points"),
    "ms": ("assignment", "ms"),
}
DEFINITIONS = {
    "points": "points that learn an object, mean over objects",
    "mass": "sum of the labels of an object's points, mean over objects",
    "unlearned": "share of the objects that no point learns",
    "ms": "milliseconds of one core to assign an image, in batches of 16, boxes and labels of the loss included",
}
TITLES = {  # of recipes that are no method of their own
    "scenes-fcos-sampling": "FCOS + centerness, centre sampling",
    "scenes-fovea": "FoveaBox",
    "scenes-fovea-dsla": "FoveaBox, DSLA's labels",
    "scenes-dsla-merged": "centerness as the class label",
    "scenes-dsla-core": "the same, with core zone",
    "scenes-dsla-static": "DSLA, no IoU coupling",
} | {f"scenes-dsla-gamma-{g:g}": f"DSLA, γ = {g:g}" for g in (0.0, 0.1, 0.3, 0.4)}
_EVALUATIONS = 8  # along the runs whose curves are shown


def chosen(names: str | Iterable[str | Recipe]) -> list[Recipe]:
    """Recipes, their names and those of `GROUPS`, separated by commas or in a list → recipes, each once.

    Raises:
        DataError: a name that is neither, or that of a recipe which is not for the embedded set.
    """
    every = tuple(name for group in GROUPS.values() for name in group)
    found: list[Recipe] = []
    for part in names.split(",") if isinstance(names, str) else names:
        if isinstance(part, Recipe):
            found.append(part)
            continue
        for name in every if part.strip() == "all" else GROUPS.get(part.strip(), (part.strip(),)):
            if not name.startswith("scenes-") or name not in RECIPES:
                near = ", ".join([*GROUPS, "all", *(n for n in RECIPES if n.startswith("scenes-"))])
                raise DataError(f"{name!r} is no recipe of the embedded set: choose from {near}")
            found.append(recipe(name))
    return list({r.name: r for r in found}.values())


def experiments(
    recipes: str | Sequence[str | Recipe],
    out: str | Path,
    *,
    seeds: int = 3,
    steps: int | None = None,
    images: int | None = None,
    jobs: int = 1,
    say: Callable[[str], None] = print,
) -> pd.DataFrame:
    """Train each recipe with each seed on the embedded set, ask all analyses, and write one line a run.

    What is in `out`/experiments.jsonl is not run again; a training that was interrupted goes on. Seeds are the outer
    loop, so that whatever stops it leaves all recipes equally far.

    Args:
        recipes: as `chosen` takes them. Methods of `dsla.register` are known to this process alone: with jobs=1.
        seeds: 0 … seeds − 1.  steps: of training, instead of the recipes'.  images: validation scenes, default all.
        jobs: runs at a time, each on one core: a network this small gains less from a second one.
        say: is told what is done.
    Returns:
        `table` of the runs.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    each = [r if steps is None else r.replace(steps=steps, epochs=None) for r in chosen(recipes)]
    wanted = [(r, seed) for seed in range(seeds) for r in each]
    size = len(Scenes("val", size=images))
    rows = read_lines(folder / FILE)
    there = {_key(row) for row in rows}
    left = [(r, seed) for r, seed in wanted if (r.name, seed, _digest(r), size) not in there]
    say(f"{len(wanted)} runs, {len(wanted) - len(left)} of them there")
    began = time.perf_counter()
    for number, row in enumerate(_each(left, folder, size, jobs), 1):
        rows.append(row)
        add_line(folder / FILE, row)
        ap = next(n["value"] for n in row["numbers"] if n["name"] == "AP")
        minutes = (time.perf_counter() - began) / 60
        say(f"[{minutes:4.0f} min] {number} of {len(left)}: {row['recipe']}, seed {row['seed']}: AP {shown('AP', ap)}")
    keys = {(r.name, seed, _digest(r), size) for r, seed in wanted}
    return table(row for row in rows if _key(row) in keys)


def table(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """One row a recipe, in their order: method, seeds, and for each column of `TABLE` its mean, low and high (95 %)."""
    runs = list(rows)
    lines = []
    for name in dict.fromkeys(run["recipe"] for run in runs):
        mine = [run for run in runs if run["recipe"] == name]
        line: dict[str, Any] = {"recipe": name, "method": mine[0]["method"], "seeds": len(mine)}
        line["steps"] = mine[0]["steps"]
        for column, key in TABLE.items():
            values = [n["value"] for run in mine for n in run["numbers"] if (n["analysis"], n["name"]) == key]
            numbers = [np.nan if v is None else v for v in values]
            line[column], line[f"{column} low"], line[f"{column} high"] = interval(numbers)
        lines.append(line)
    order = {name: i for i, name in enumerate(RECIPES)}
    frame = pd.DataFrame(lines, columns=["recipe", "method", "seeds", "steps", *_columns()])
    return frame.sort_values("recipe", key=lambda c: c.map(order), kind="stable", ignore_index=True)


def markdown(frame: pd.DataFrame) -> str:
    """`table` for a README: mean, and half the width of its 95 % interval."""
    head = ["method", "recipe", *TABLE]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for _, row in frame.iterrows():
        cells = [str(row["method"]), f"`{row['recipe']}`"]
        for column in TABLE:
            half = row[f"{column} high"] - row[column]
            digits = {"AP": 1, "AP75": 1, "points": 1}.get(column, 2)
            scale = 100 if column.startswith("AP") else 1
            mean = "n/a" if row[column] != row[column] else f"{scale * row[column]:.{digits}f}"
            cells.append(mean if half != half else f"{mean} ± {scale * half:.{digits}f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def assignment_numbers(model: Detector, dataset: Any, batch_size: int = 16) -> list[dict[str, Any]]:
    """What the model's assigner teaches on a data set, and what that costs: rows analysis, name, value.

    The cost is the thread's own time, not the wall's, and so that of one core where torch has one thread.
    """
    points, mass, seconds, images = [], [], 0.0, 0
    for raw, _, ids in run_raw(model, dataset, batch_size=batch_size):
        with torch.inference_mode():
            assert model.assigner is not None
            began = time.thread_time()
            own = assign(model.assigner, raw)
            seconds, images = seconds + time.thread_time() - began, images + len(ids)
        for image, target in enumerate(raw.targets):
            taught = own.gt_index[image] >= 0
            index, count = own.gt_index[image][taught], len(target["boxes"])
            points.append(torch.bincount(index, minlength=count).double())
            mass.append(torch.bincount(index, own.label[image][taught].double(), minlength=count))
    every = torch.cat(points)
    values = {
        "points": float(every.mean()),
        "mass": float(torch.cat(mass).mean()),
        "unlearned": float((every == 0).double().mean()),
        "ms": 1000 * seconds / images,
    }
    return [{"analysis": "assignment", "name": k, "value": v} for k, v in values.items()]


def _columns() -> list[str]:
    return [column + end for column in TABLE for end in ("", " low", " high")]


def _digest(r: Recipe) -> str:
    """Of everything that decides a run, so that a changed recipe is run again."""
    return hashlib.sha256(json.dumps(r.to_dict(), sort_keys=True).encode()).hexdigest()[:16]


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(k) for k in ("recipe", "seed", "digest", "images"))


def _each(runs: list[tuple[Recipe, int]], folder: Path, images: int, jobs: int) -> Iterator[dict[str, Any]]:
    if jobs <= 1:
        for r, seed in runs:
            yield _run(r, seed, folder / "runs" / f"{r.name}-{seed}", images)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting = [pool.submit(_run, r, s, folder / "runs" / f"{r.name}-{s}", images) for r, s in runs]
        try:
            for done in as_completed(waiting):
                yield done.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@cache
def _scenes(split: str, size: int) -> Scenes:
    return Scenes(split, size=size).prepare()


def _run(r: Recipe, seed: int, folder: Path, images: int) -> dict[str, Any]:
    """One line of the file."""
    from ..training.loop import read_log, train_anew_or_on

    val = _scenes("val", images)
    steps = r.steps or 0
    data = _scenes("train", min(6000, steps * r.batch_size))
    options: dict[str, Any] = {"seed": seed, "progress": False}
    if r.name in SHIPPED:
        options |= {"val": val, "eval_every": steps * r.batch_size / len(data) / _EVALUATIONS}
    model = train_anew_or_on(r, data, folder, **options)
    log = read_log(folder / "log.jsonl")
    numbers = study(model, val).numbers[["analysis", "name", "value"]].to_dict("records")
    every = max(1, steps // 40)
    return plain(
        {
            "recipe": r.name,
            "method": TITLES.get(r.name) or method(r.name).name,
            "seed": seed,
            "steps": steps,
            "batch_size": r.batch_size,
            "images": images,
            "digest": _digest(r),
            "weights": content_hash(model.state_dict()),
            "version": __version__,
            "numbers": [*numbers, *assignment_numbers(model, val)],
            "curve": _curve(log, every),
            "evaluations": [{"step": e["step"], "AP": e["AP"]} for e in log if e.get("event") == "evaluate"],
        }
    )


def _curve(log: list[dict[str, Any]], every: int) -> list[dict[str, Any]]:
    """Losses of the log, means over spans of about `every` steps."""
    frame = pd.DataFrame([row for row in log if "loss" in row])
    keep = ["step", *(c for c in frame.columns if c.startswith("loss"))]
    spans = np.ceil(frame["step"] / every).astype(int)
    mean = frame[keep].groupby(spans).mean().round(4)
    mean["step"] = frame["step"].groupby(spans).max()
    return mean.astype({"step": int}).to_dict("records")
