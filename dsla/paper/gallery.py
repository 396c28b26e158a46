"""``dsla figures``: everything in ``figures/``, made anew: each picture with its table, and their captions."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch
from matplotlib.cbook import get_sample_data

from ..assigners import DSLA, METHODS, jittered_predictions
from ..data import Scenes
from ..geometry import PointGrid
from ..models import build, load
from ..models.build import assigner
from ..plots import compare, diagrams
from ..plots import network as networks
from ..plots import trends as plots
from ..plots.comparison import STRIDES
from ..plots.draw import as_image
from ..plots.label_maps import label_maps, label_rows, label_table
from ..plots.style import Picture, picture_bytes
from ..recipes.scenes import RECIPES
from ..settings import repository_file
from . import trends
from .claims import read_curves, read_numbers, read_runs
from .conditions import condition_table
from .exhibits import LOOKED_AT, busiest
from .reproduce import reproduce
from .runs import FILE

SCENE = 7  # of the test split at 512 pixels: the one of the README
PHOTOGRAPHS = ("compare", "methods", "label-maps", "label-maps-trained")
PHOTOGRAPH = (  # boxes drawn by hand on matplotlib's "grace_hopper.jpg": person, cap, face, name tag, ribbons, button
    (24, 22, 510, 598),
    (150, 20, 372, 186),
    (158, 124, 374, 342),
    (80, 482, 168, 516),
    (322, 488, 452, 524),
    (233, 569, 258, 596),
)
JITTER = 0.1  # of the boxes that stand for predictions, in shares of an object's sides


def make_figures(out: str | Path = "figures", *, images: int | None = None, progress: bool = True) -> list[Path]:
    """Writes every figure (SVG for line art, PNG for photographs), its CSV, and ``captions.md``.

    The figures of trained models come from the shipped weights, by `reproduce`; those over seeds from the runs of
    `experiments` in `out`/experiments.jsonl, else the repository's, and are left out where there are none.
    Equal bytes on a second run on the same machine. images: validation scenes, by default all.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    captions: dict[str, str] = {}
    for name, figure, table in (*_own(), *_of_runs(folder, progress)):
        kind = "png" if name in PHOTOGRAPHS else "svg"
        (folder / f"{name}.{kind}").write_bytes(picture_bytes(figure, kind))
        table.round(6).to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
        captions[f"{name}.{kind}"] = figure.caption
    with tempfile.TemporaryDirectory() as temporary:
        reproduce(temporary, images=images, progress=progress)
        made = Path(temporary) / "figures"
        shown = (made / "captions.md").read_text(encoding="utf-8")
        for path in made.iterdir():
            if path.suffix in (".svg", ".png", ".csv"):
                (folder / path.name).write_bytes(path.read_bytes())
    text = "# Figures\n\nMade by `dsla figures`; the table of each lies beside it.\n\n"
    text += "".join(f"- **{name}**: {caption}\n" for name, caption in captions.items()) + shown
    (folder / "captions.md").write_text(text, encoding="utf-8")
    return sorted(folder.iterdir())


def _own() -> Iterator[tuple[str, Picture, pd.DataFrame]]:
    """Figures that need no model: name, picture, table."""
    scenes = Scenes("test", size=SCENE + 1, image_size=512)
    image, target = scenes[SCENE]
    figure = compare(image, target["boxes"], target["labels"], ["fcos", "dsla"], class_names=scenes.class_names)
    yield "compare", figure, _counts(figure)

    small = Scenes("val", size=LOOKED_AT)
    image, target = small[busiest(small)]
    of_method = {r.method: r for r in reversed(RECIPES.values()) if r.name.startswith("scenes-")}
    rows = {entry.title: assigner(of_method[name]) for name, entry in METHODS.items()}
    strides = of_method["dsla"].strides
    figure = compare(image, target["boxes"], target["labels"], rows, strides=strides, class_names=small.class_names)
    yield "methods", figure, _counts(figure)

    yield from _label_maps()

    for name, table_of, draw in (
        ("intervals", diagrams.interval_table, diagrams.intervals),
        ("core-zone", diagrams.centerness_table, diagrams.centerness_maps),
        ("quality-focal-loss", diagrams.quality_focal_table, diagrams.quality_focal),
    ):
        table = table_of()
        yield name, draw(table), table

    table = networks.network_table("r50-1x", 80, (800, 1344))
    yield "network", networks.network(table), table


def _label_maps() -> Iterator[tuple[str, Picture, pd.DataFrame]]:
    """Labels on five levels with jittered boxes for predictions; on three with the shipped model, before and after."""
    photo = as_image(get_sample_data("grace_hopper.jpg", asfileobj=False))
    boxes, labels = [torch.tensor(PHOTOGRAPH, dtype=torch.float32)], [torch.arange(len(PHOTOGRAPH))]
    grid = PointGrid((photo.shape[0], photo.shape[1]), STRIDES, 0.0)
    title = f"Dynamic label, predictions: true boxes jittered by {JITTER:.0%}"
    said = {title: jittered_predictions(grid, boxes, labels, JITTER, len(PHOTOGRAPH))}
    rows = label_rows(DSLA()(grid, boxes, labels), said)
    figure = label_maps(photo, rows)
    figure.caption += " The jittered box is that of the smallest object around the point, even if it learns another."
    yield "label-maps", figure, label_table(rows)

    trained = load("scenes-dsla").eval()
    assert trained.recipe is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # as its training began
        fresh = build(trained.recipe, class_names=trained.class_names).eval()
    small = Scenes("val", size=LOOKED_AT)
    image, target = small[busiest(small)]
    with torch.inference_mode():
        raw = {m: m.forward_raw([image], [target]) for m in (fresh, trained)}
    after = f"Dynamic label after {trained.recipe.steps:,} steps"
    said = {"Dynamic label before training": raw[fresh].outputs, after: raw[trained].outputs}
    rows = label_rows(trained.assign(raw[trained]), said)
    yield "label-maps-trained", label_maps(image, rows), label_table(rows)


def _of_runs(folder: Path, progress: bool) -> Iterator[tuple[str, Picture, pd.DataFrame]]:
    """Figures over seeds: the ablation, the sweep of γ, training curves, each beside the published ones."""
    path = folder / FILE if (folder / FILE).exists() else repository_file(f"figures/{FILE}")
    if path is None:
        if progress:
            print(f"no {FILE}: the ablation, the sweep of γ and the training curves are left out")
        return
    runs = read_runs(path)
    for name, study, draw in (("ablation", "ablation", plots.ablation), ("gamma", "gamma", plots.gamma_sweep)):
        table = trends.study_table(runs, study)
        yield name, draw(table), table
    longer = path.with_name("runs.jsonl")
    table = condition_table(runs, read_numbers(longer) if longer.exists() else None)
    if len(table):
        yield "conditions", plots.conditions(table), table
    table = trends.curve_table(read_curves(path))
    yield "training-curves", plots.training_curves(table), table


def _counts(figure: Picture) -> pd.DataFrame:
    """method, object, points."""
    rows = [{"method": r.title, "object": i, "points": int(n)} for r in figure.rows for i, n in enumerate(r.counts)]
    return pd.DataFrame(rows, columns=["method", "object", "points"])
