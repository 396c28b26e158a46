"""The protocol of `docs/protocol.md`: the runs of its parts, in their order, each on the images that are for it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..analysis.resampling import draws, resampled_ap
from ..analysis.study import Analysed, numbers_of, study
from ..analysis.tables import series
from ..coco.problems import many, some
from ..data import DetectionDataset
from ..data.sampling import Part
from ..data.sources import open_dataset
from ..errors import DataError, unknown
from ..files import InUse, add_line, locked
from ..models.evaluation import evaluate
from ..recipes import Recipe, recipe
from .definitions import as_text, read
from .runs import FILE, Run, evaluations_of, key_of, run_of, scenes, train_or_read
from .runs import read as read_store
from .tables import ap_of

PLAN = read("protocol")
VERSION: int = PLAN["version"]
FIRST = "scenes"  # the part whose stages have no name before theirs
_WAIT = 5.0  # seconds from one look at what other processes have made to the next


def plan(part: str = FIRST) -> dict[str, Any]:
    """What the protocol says of a part.

    Raises:
        DataError: there is no such part.
    """
    if part not in PLAN["parts"]:
        raise unknown("part of the protocol", part, PLAN["parts"])
    return PLAN | PLAN["parts"][part]


def stage_of(part: str, stage: str) -> str:
    """What lines of the store call a stage, "tuning" or "main", of a part."""
    return stage if part == FIRST else f"{part}-{stage}"


@dataclass(frozen=True)
class Planned:
    """A run of the protocol.

    Attributes:
        stage: see `stage_of`.
        start: of the part's starts, "warm" or "cold" unless it has others.
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
    def of(cls, part: str, stage: str, start: str, base: str, rate: float, seed: int, steps: int) -> Planned:
        stage = stage_of(part, stage)
        name = f"{base}-{start}-{stage}-{rate:g}"
        changed = recipe(base, **plan(part)["starts"][start], lr=rate, steps=steps).replace(name=name)
        return cls(stage, start, base, changed, seed)


def settings(part: str = FIRST) -> list[tuple[str, str]]:
    """(start, recipe) of a part, in its order."""
    return [(start, base) for base in plan(part)["methods"] for start in plan(part)["starts"]]


def tuning(part: str = FIRST) -> list[Planned]:
    """The grid: each method from each start at each rate, one seed; none where the part names the rate."""
    if "rate" in plan(part):
        return []
    grid = plan(part)["tuning"]
    each = [(*setting, rate) for setting in settings(part) for rate in grid["rates"]]
    return [Planned.of(part, "tuning", *setting, grid["seed"], grid["steps"]) for setting in each]


def tuned(runs: Iterable[Run], part: str = FIRST) -> dict[tuple[str, str], float]:
    """(start, recipe) → the rate: the named one, or that of highest AP on the tuning images, of equals the lower."""
    if "rate" in plan(part):
        return dict.fromkeys(settings(part), plan(part)["rate"])
    best: dict[tuple[str, str], tuple[float, float]] = {}
    grid = {(p.stage, p.start, p.base, p.recipe.lr, p.seed) for p in tuning(part)}
    for run in runs:
        if tuple(run[k] for k in ("stage", "start", "recipe", "lr", "seed")) in grid:
            where = run["start"], run["recipe"]
            best[where] = max(best.get(where, (-1.0, 0.0)), (float(np.nan_to_num(ap_of(run))), -run["lr"]))
    return {where: -rate for where, (_, rate) in best.items()}


def planned(runs: Iterable[Run], part: str = FIRST) -> list[Planned]:
    """All runs of a part in their order; those of the main stage once every run of the tuning is there.

    Seeds are the outer loop of the main stage, so that whatever stops it leaves the settings equally far.
    """
    runs, grid = list(runs), tuning(part)
    if _left(grid, runs):
        return grid
    rates, steps = tuned(runs, part), plan(part)["steps"]
    each = [(*s, rates[s], seed) for seed in range(plan(part)["seeds"]) for s in settings(part)]
    return [*grid, *(Planned.of(part, "main", *setting, steps) for setting in each)]


def missing(runs: Iterable[Run], part: str = FIRST) -> list[Planned]:
    """The runs of a part that are not there, the next one first."""
    runs = list(runs)
    return _left(planned(runs, part), runs)


def _left(plans: list[Planned], runs: list[Run]) -> list[Planned]:
    there = {tuple(run[k] for k in ("stage", "start", "recipe", "lr", "seed")) for run in runs}
    return [p for p in plans if (p.stage, p.start, p.base, p.recipe.lr, p.seed) not in there]


def follow(
    out: str | Path, say: Callable[[str], None] = print, progress: bool = False, part: str = "all", data: str = ""
) -> pd.DataFrame:
    """Make the runs of the protocol that the store in a folder lacks, one after the other, a line each.

    What is stopped goes on from its last checkpoint. Of several processes with the same folder each makes another run.

    Args:
        out: folder of the store.
        say: is told what is done.
        progress: show a bar.
        part: of the protocol; "all": one after the other, without those of photographs where there is no `data`.
        data: folder of the photographs.

    Returns:
        stage, start, recipe, rate, seed, AP of all runs of the store.

    Raises:
        DataError: no such part; one of photographs without `data`, or one of scenes with it.
    """
    parts = [p for p in PLAN["parts"] if data or "files" not in plan(p)] if part == "all" else [part]
    if part != "all" and bool(data) != ("files" in plan(part)):
        told = "is trained on scenes: leave out --data" if data else "needs photographs: --data FOLDER"
        raise DataError(f"part {part!r} of the protocol {told}")
    if left_out := [p for p in PLAN["parts"] if p not in parts and part == "all"]:
        say(f"without the part {some(left_out)}, which needs --data FOLDER")
    store = Path(out) / FILE
    store.parent.mkdir(parents=True, exist_ok=True)
    commit = commit_of(Path(__file__).parent)
    for each in parts:
        maker, waiting = _Maker(each, data, store, commit, say, progress), False
        while left := missing(read_store(store, protocol=VERSION), each):
            if any(map(maker.claim, left)):
                waiting = False
                continue
            if not waiting:
                say(f"other processes make the {many(len(left), 'run')} left: waiting")
            waiting = True
            time.sleep(_WAIT)
    runs = read_store(store, protocol=VERSION)
    table = pd.DataFrame(runs, columns=["stage", "start", "recipe", "lr", "seed"]).rename(columns={"lr": "rate"})
    return table.assign(AP=list(map(ap_of, runs)))


def images(part: str, name: str, data: str) -> DetectionDataset:
    """The images of a part for this purpose: scenes, or photographs of the folder `data`."""
    if "files" not in plan(part):
        split, seed, size = PLAN["scenes"][name]
        return scenes(split, size, seed)
    split, first, end, _ = plan(part)["files"][name]
    photographs = open_dataset(data, split)
    names = sorted((image["file_name"], i) for i, image in enumerate(photographs.ground_truth()["images"]))
    return Part(photographs, sorted(i for place, (_, i) in enumerate(names) if first <= place % 8 < end))


@dataclass(frozen=True)
class _Maker:
    """Makes runs of a part, each into the store when it is whole.

    Attributes:
        part: of the protocol.
        data: folder of the photographs, "" for scenes.
        store: the file of the lines; what the runs leave lies beside it.
        commit: of the package when the command began, not what lies there when a run ends.
        say: is told what is done.
        progress: show a bar.
    """

    part: str
    data: str
    store: Path
    commit: str
    say: Callable[[str], None]
    progress: bool

    def claim(self, p: Planned) -> bool:
        """Whether this made the run: not if another process is making it, or has made it."""
        with ExitStack() as claims:
            try:
                claims.enter_context(locked(self.store.parent / "runs" / f"{p.recipe.name}-{p.seed}" / "claim"))
            except InUse:
                return False
            if p not in (left := missing(read_store(self.store, protocol=VERSION), self.part)):
                return False
            self.say(f"{p.recipe.name}, seed {p.seed}: {p.recipe.steps} steps; {many(len(left), 'run')} missing")
            run = self.make(p)
            add_line(self.store, run)
            self.say(f"AP {as_text('AP', ap_of(run))}")
            return True

    def make(self, p: Planned) -> Run:
        main, about = p.stage == stage_of(self.part, "main"), plan(self.part)
        train, judged = (images(self.part, name, self.data) for name in ("train", "test" if main else "tuning"))
        options: dict[str, Any] = {"progress": self.progress}
        if main:
            options |= {"val": images(self.part, "validation", self.data), "every": about["curve_every"]}
        model, log = train_or_read(p.recipe, p.seed, self.store.parent, train, **options)
        more: dict[str, Any] = {}
        results: Analysed
        if main:
            results = whole = study(model, judged)
            more["resampled"] = resampled_ap(whole.detections, judged, draws(len(judged), PLAN["resamples"])).round(5)
            more["evaluations"] = evaluations_of(log)
        else:
            numbers = series("evaluation", evaluate(model, judged), {"": "no such object"})
            results = Analysed(numbers_of({"evaluation": numbers}), {})
        of_data = {"train": train.fingerprint(), "judged": judged.fingerprint()}
        of_plan = {"protocol": VERSION, "stage": p.stage, "start": p.start, "lr": p.recipe.lr, "commit": self.commit}
        key = key_of(p.recipe, p.seed, len(judged), data=list(of_data.values()))
        return run_of(p.base, model, results, key=key, seed=p.seed, images=len(judged), data=of_data, **of_plan, **more)


def commit_of(folder: Path) -> str:
    """Of the repository that the folder lies in, with "-dirty" where files differ from it; "" outside of one."""
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""
