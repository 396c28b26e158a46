"""The protocol of `docs/protocol.md`: its runs, in their order, each on the scenes that are for it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from ..analysis.resampling import draws, resampled_ap
from ..analysis.study import Analysed, numbers_of, study
from ..analysis.tables import series
from ..data import Scenes
from ..files import add_line
from ..models.evaluation import evaluate
from ..recipes import Recipe, recipe
from .definitions import as_text, read
from .runs import FILE, Run, evaluations_of, key_of, run_of, train_or_read
from .runs import read as read_store

PLAN = read("protocol")
VERSION: int = PLAN["version"]


@dataclass(frozen=True)
class Planned:
    """A run of the protocol.

    Attributes:
        stage: "tuning" or "main".
        start: "warm" or "cold".
        base: name of the recipe that it changes.
        recipe: as it is trained.
        seed: of the training.
    """

    stage: str
    start: str
    base: str
    recipe: Recipe
    seed: int

    @classmethod
    def of(cls, stage: str, start: str, base: str, rate: float, seed: int) -> Planned:
        steps = PLAN["tuning"]["steps"] if stage == "tuning" else PLAN["steps"]
        name = f"{base}-{start}-{stage}-{rate:g}"
        changed = recipe(base, box_bias=PLAN["starts"][start], lr=rate, steps=steps).replace(name=name)
        return cls(stage, start, base, changed, seed)


def tuning() -> list[Planned]:
    """The grid: each method from each start at each rate, one seed."""
    settings = [(start, base) for base in PLAN["methods"] for start in PLAN["starts"]]
    seed, rates = PLAN["tuning"]["seed"], PLAN["tuning"]["rates"]
    return [Planned.of("tuning", *setting, rate, seed) for setting in settings for rate in rates]


def tuned(runs: Iterable[Run]) -> dict[tuple[str, str], float]:
    """(start, recipe) → the rate of highest AP on the tuning scenes, of equal ones the lower."""
    best: dict[tuple[str, str], tuple[float, float]] = {}
    for run in runs:
        if run["stage"] == "tuning":
            where, ap = (run["start"], run["recipe"]), next(n["value"] for n in run["numbers"] if n["name"] == "AP")
            best[where] = max(best.get(where, (-1.0, 0.0)), (ap or 0.0, -run["lr"]))
    return {where: -rate for where, (_, rate) in best.items()}


def planned(runs: Iterable[Run]) -> list[Planned]:
    """All runs in their order; those of the main stage once every run of the tuning is there.

    Seeds are the outer loop of the main stage, so that whatever stops it leaves the settings equally far.
    """
    runs, grid = list(runs), tuning()
    if _left(grid, runs):
        return grid
    rates = tuned(runs)
    settings = [(start, base) for base in PLAN["methods"] for start in PLAN["starts"]]
    main = [Planned.of("main", *s, rates[s], seed) for seed in range(PLAN["seeds"]) for s in settings]
    return [*grid, *main]


def missing(runs: Iterable[Run]) -> list[Planned]:
    """The runs that are not there, the next one first."""
    runs = list(runs)
    return _left(planned(runs), runs)


def _left(plans: list[Planned], runs: list[Run]) -> list[Planned]:
    there = {tuple(run[k] for k in ("stage", "start", "recipe", "lr", "seed")) for run in runs}
    return [p for p in plans if (p.stage, p.start, p.base, p.recipe.lr, p.seed) not in there]


def follow(out: str | Path, say: Callable[[str], None] = print, progress: bool = False) -> pd.DataFrame:
    """Make the runs of the protocol that the store in a folder lacks, one after the other, a line each.

    What is stopped goes on from its last checkpoint.

    Returns:
        stage, start, recipe, rate, seed, AP of all runs of the store.
    """
    store = Path(out) / FILE
    store.parent.mkdir(parents=True, exist_ok=True)
    commit = commit_of(Path(__file__).parent)
    while left := missing(read_store(store, protocol=VERSION)):
        say(f"{left[0].recipe.name}, seed {left[0].seed}: {left[0].recipe.steps} steps; {len(left)} runs are missing")
        run = _made(left[0], Path(out), commit, progress)
        add_line(store, run)
        say(f"AP {as_text('AP', next(n['value'] for n in run['numbers'] if n['name'] == 'AP'))}")
    runs = read_store(store, protocol=VERSION)
    columns = {"stage": "stage", "start": "start", "recipe": "recipe", "rate": "lr", "seed": "seed"}
    aps = [next(n["value"] for n in run["numbers"] if n["name"] == "AP") for run in runs]
    return pd.DataFrame({name: [run[key] for run in runs] for name, key in columns.items()}).assign(AP=aps)


@cache
def scenes(name: str) -> Scenes:
    """The scenes of the protocol for this purpose, drawn."""
    split, seed, size = PLAN["scenes"][name]
    return Scenes(split, size=size, seed=seed).prepare()


def _made(p: Planned, out: Path, commit: str, progress: bool) -> Run:
    main = p.stage == "main"
    judged = scenes("test" if main else "tuning")
    options = {"val": scenes("validation"), "every": PLAN["curve_every"]} if main else {}
    model, log = train_or_read(p.recipe, p.seed, out, scenes("train"), progress=progress, **options)
    more: dict[str, Any] = {}
    if main:
        asked = study(model, judged)
        results: Analysed = asked
        more["resampled"] = resampled_ap(asked.detections, judged, draws(len(judged), PLAN["resamples"])).round(5)
        more["evaluations"] = evaluations_of(log)
    else:
        numbers = series("evaluation", evaluate(model, judged), {"": "no such object"})
        results = Analysed(numbers_of({"evaluation": numbers}), {})
    data = {"train": scenes("train").fingerprint(), "judged": judged.fingerprint()}
    about = {"protocol": VERSION, "stage": p.stage, "start": p.start, "lr": p.recipe.lr, "commit": commit, "data": data}
    key = key_of(p.recipe, p.seed, len(judged), data=list(data.values()))
    return run_of(p.base, model, results, key=key, seed=p.seed, images=len(judged), **about, **more)


def commit_of(folder: Path) -> str:
    """Of the repository that the folder lies in, with "-dirty" where files differ from it; "" outside of one."""
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""
