"""A set of training runs: one store (`runs.jsonl`), one line a run, keyed by a digest of all that decides it.

``dsla reproduce --train --recipes methods,ablation,gamma --seeds 3 --steps 1000 --jobs 2`` made the first one.
Stores of earlier versions, also those named `experiments.jsonl`, are read the same way; their lines have no key.
"""

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
from ..analysis.study import Analysed, study
from ..data import DetectionDataset, Scenes
from ..data.sampling import VERSION as ORDER
from ..errors import DataError
from ..files import add_line, plain, read_lines
from ..models import Detector, load
from ..models.weights import content_hash
from ..models.weights import read as read_weights
from ..plots.curves import losses_of
from ..recipes import GROUPS, RECIPES, SHIPPED, recipe
from ..recipes.recipe import Recipe, unused
from .definitions import as_text, title_of
from .tables import ap_of, method_table

FILE = "runs.jsonl"
EARLIER = "experiments.jsonl"  # of earlier versions, which had two stores
PROTOCOL = {"protocol": 0, "stage": "", "start": "warm", "lr": 0.004, "commit": ""}  # of the runs before there was one
ABOUT = ["recipe", "method", "seed", "steps", "images", "stage", "start", "lr"]
NEEDED = ("recipe", "method", "seed", "images", "numbers")
Run = dict[str, Any]
Say = Callable[[str], None]
_EVALUATIONS = 8  # along the runs whose curves are shown


def stores(folder: str | Path) -> list[Path]:
    """The stores of a folder: those that are there."""
    return [path for path in (Path(folder) / EARLIER, Path(folder) / FILE) if path.is_file()]


def read(*paths: str | Path, protocol: int = 0) -> list[Run]:
    """The runs that stores have of a protocol, 0: of before there was one. Of two lines about a run the last counts."""
    runs: dict[tuple[Any, ...], Run] = {}
    for path in paths:
        for line in read_lines(path, *NEEDED):
            steps = RECIPES[line["recipe"]].steps if line["recipe"] in RECIPES else None
            run = {"key": None, "steps": steps, "curve": [], "evaluations": []} | PROTOCOL | line
            if run["protocol"] == protocol:
                runs[tuple(run[name] for name in ABOUT if name != "method")] = run
    return list(runs.values())


def read_runs(*paths: str | Path, protocol: int = 0) -> pd.DataFrame:
    """One row a number of the runs of stores, with ABOUT, analysis, name, value; `protocol` as in `read`."""
    return table_of(read(*paths, protocol=protocol))


def table_of(runs: Sequence[Run]) -> pd.DataFrame:
    """`read_runs`, of runs that are read; with `resampled`, AP on resampled images, where runs keep it."""
    rows = [{**{k: (PROTOCOL | run)[k] for k in ABOUT}, **number} for run in runs for number in run["numbers"]]
    table = pd.DataFrame(rows, columns=[*ABOUT, "analysis", "name", "value"]).astype({"value": float})
    resampled = [run.get("resampled") if n["name"] == "AP" else None for run in runs for n in run["numbers"]]
    return table.assign(resampled=resampled) if any(resampled) else table


def read_curves(*paths: str | Path) -> pd.DataFrame:
    """recipe, method, seed, steps (of the run), step, name (loss, loss_cls, …, AP), value of the runs of stores."""
    about = ABOUT[:4]
    rows = [
        {**{k: run[k] for k in about}, "step": point["step"], "name": name, "value": value}
        for run in read(*paths)
        for point in (*run["curve"], *run["evaluations"])
        for name, value in point.items()
        if name != "step"
    ]
    return pd.DataFrame(rows, columns=[*about, "step", "name", "value"]).astype({"value": float})


def key_of(r: Recipe | None, seed: int, images: int, weights: str = "", data: Sequence[str] = ()) -> str:
    """A digest of all that decides a run's numbers.

    Args:
        r: the recipe.
        seed: of the training.
        images: validation scenes.
        weights: hash of those that are given; "" where the recipe and the seed make them.
        data: fingerprints of the sets, where they are not the embedded ones of seed 0.
    """
    order = "" if weights else ORDER  # in which training sees the images
    fields = r and r.to_dict()
    if r and "coupling" in unused(r):
        fields = r.to_dict() | {"coupling": "on"}  # what such recipes held when the first keys were made
    parts = [fields, seed, images, weights, order, __version__, *data]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def run_of(name: str, model: Detector, results: Analysed, **about: Any) -> Run:
    """A line of the store.

    Args:
        name: of the recipe.
        model: with its weights.
        results: what the analyses say of it.
        about: key, seed, images; curve and evaluations where it was trained here.
    """
    numbers = results.numbers[["analysis", "name", "value"]].to_dict("records")
    trained = {"steps": model.recipe.steps, "batch_size": model.recipe.batch_size} if model.recipe else {}
    run = {"recipe": name, "method": title_of(name), **trained, "weights": content_hash(model.state_dict())}
    return plain(run | {"version": __version__, "numbers": numbers, "curve": [], "evaluations": []} | about)


def chosen(names: str | Iterable[str | Recipe]) -> list[Recipe]:
    """Recipes, their names and those of `GROUPS`, separated by commas or in a list → recipes, each once.

    Raises:
        DataError: a name that is neither, or that of a recipe which is not for the embedded set.
    """
    every = tuple(name for group in GROUPS.values() for name in group)
    recipes: list[Recipe] = []
    for part in names.split(",") if isinstance(names, str) else names:
        if isinstance(part, Recipe):
            recipes.append(part)
            continue
        for name in every if part.strip() == "all" else GROUPS.get(part.strip(), (part.strip(),)):
            if not name.startswith("scenes-") or name not in RECIPES:
                near = ", ".join([*GROUPS, "all", *(n for n in RECIPES if n.startswith("scenes-"))])
                raise DataError(f"{name!r} is no recipe of the embedded set: choose from {near}")
            recipes.append(recipe(name))
    return list({r.name: r for r in recipes}.values())


def experiments(
    recipes: str | Sequence[str | Recipe],
    out: str | Path,
    *,
    seeds: int = 3,
    steps: int | None = None,
    images: int | None = None,
    jobs: int = 1,
    say: Say = print,
) -> pd.DataFrame:
    """Train each recipe with each seed on the embedded set, ask all analyses, and write one line a run.

    What is in `out`/runs.jsonl is not run again; a training that was interrupted goes on. Seeds are the outer
    loop, so that whatever stops it leaves all recipes equally far.

    Args:
        recipes: as `chosen` takes them. With jobs > 1 a method of your own comes from a file of `--plugin`, or of
            `dsla.assigners.load_plugin`: what a notebook registers is known to its process alone.
        out: folder of the store, and of the trainings in `runs/`.
        seeds: 0 … seeds − 1.
        steps: of training, instead of the recipes'.
        images: validation scenes, default all.
        jobs: runs at a time, each on one core: a network this small gains less from a second one.
        say: is told what is done.

    Returns:
        `tables.method_table` of the runs.
    """
    return method_table(table_of(complete(chosen(recipes), out, seeds, steps, images, jobs, say)))


def complete(
    recipes: Sequence[Recipe],
    out: str | Path,
    seeds: int,
    steps: int | None,
    images: int | None,
    jobs: int,
    say: Say,
    progress: bool = False,
) -> list[Run]:
    """The runs of recipes and seeds, those that the store lacks trained first; arguments as in `experiments`."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    size = len(Scenes("val", size=images))
    each = [r if steps is None else r.replace(steps=steps) for r in recipes]
    wanted = {key_of(r, seed, size): (r, seed) for seed in range(seeds) for r in each}
    there = {run["key"]: run for run in read_lines(folder / FILE, *NEEDED) if run.get("key") in wanted}
    left = [(key, *what) for key, what in wanted.items() if key not in there]
    say(f"{len(wanted)} runs, {len(there)} of them there")
    began = time.perf_counter()
    for number, run in enumerate(_each(left, folder, size, jobs, say, progress), 1):
        there[run["key"]] = run
        add_line(folder / FILE, run)
        minutes, ap = (time.perf_counter() - began) / 60, as_text("AP", ap_of(run))
        say(f"[{minutes:4.0f} min] {number} of {len(left)}: {run['recipe']}, seed {run['seed']}: AP {ap}")
    return [there[key] for key in wanted]


def trained(
    r: Recipe, seed: int, out: Path, images: int | None = None, progress: bool = False
) -> tuple[Detector, list[dict[str, Any]]]:
    """The model of a recipe and a seed on the embedded set, and its log; see `train_or_read`."""
    data = scenes("train", min(6000, (r.steps or 0) * r.batch_size))
    val = scenes("val", images) if r.name in SHIPPED else None
    return train_or_read(r, seed, out, data, val=val, every=(r.steps or 0) / _EVALUATIONS, progress=progress)


def train_or_read(
    r: Recipe,
    seed: int,
    out: Path,
    data: DetectionDataset,
    *,
    val: DetectionDataset | None = None,
    every: float = 0,
    progress: bool = False,
) -> tuple[Detector, list[dict[str, Any]]]:
    """The model of a run and its log, from the folder of the runs in `out`; what is missing is trained.

    Args:
        r, seed, data: as `dsla.train` takes them.
        out: of the store.
        val: evaluated in training.
        every: steps from one evaluation to the next.
        progress: show a bar.
    """
    from ..training.loop import read_log, train_anew_or_on

    folder = out / "runs" / f"{r.name}-{seed}"
    path = folder / "model.safetensors"
    if path.exists() and Recipe.from_dict(read_weights(path)[0]["recipe"]) == r:
        log = read_log(folder / "log.jsonl", "step")
        if not log or log[0].get("data", data.fingerprint()) == data.fingerprint():  # logs of before do not say
            return load(path), log
    options: dict[str, Any] = {"seed": seed, "progress": progress}
    if val is not None:
        options |= {"val": val, "eval_every": every * r.batch_size / len(data)}
    result = train_anew_or_on(r, data, folder, **options)
    return result.model, result.log


def _each(
    runs: Sequence[tuple[str, Recipe, int]], out: Path, images: int, jobs: int, say: Say, progress: bool
) -> Iterator[Run]:
    if jobs <= 1:
        for key, r, seed in runs:
            say(f"{r.name}, seed {seed}: training, {r.steps} steps")
            yield _run(key, r, seed, out, images, progress)
        return
    context, others = multiprocessing.get_context("spawn"), multiprocessing.active_children()
    with ProcessPoolExecutor(jobs, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting = [pool.submit(_run, *run, out, images, False) for run in runs]
        try:
            for done in as_completed(waiting):
                yield done.result()
        except BaseException:
            for process in set(multiprocessing.active_children()).difference(others):
                process.terminate()  # a training writes its checkpoint
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@cache
def scenes(split: str, size: int | None, seed: int = 0) -> Scenes:
    """The scenes of a split, drawn."""
    return Scenes(split, size=size, seed=seed).prepare()


def _run(key: str, r: Recipe, seed: int, out: Path, images: int, progress: bool) -> Run:
    model, log = trained(r, seed, out, images, progress)
    curve = {"curve": _curve(log, max(1, (r.steps or 0) // 40)), "evaluations": evaluations_of(log)}
    return run_of(r.name, model, study(model, scenes("val", images)), key=key, seed=seed, images=images, **curve)


def evaluations_of(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """step and AP of the evaluations in a log."""
    return [{"step": e["step"], "AP": e["AP"]} for e in log if e.get("event") == "evaluate"]


def _curve(log: list[dict[str, Any]], every: int) -> list[dict[str, Any]]:
    """Losses of the log, means over spans of about `every` steps."""
    frame = losses_of(log)
    keep = ["step", *(c for c in frame.columns if c.startswith("loss"))]
    spans = np.ceil(frame["step"] / every).astype(int)
    mean = frame[keep].groupby(spans).mean().round(4)
    mean["step"] = frame["step"].groupby(spans).max()
    return mean.astype({"step": int}).to_dict("records")
