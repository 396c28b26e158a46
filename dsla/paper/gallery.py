"""``dsla figures``: everything in ``figures/``, made anew: each picture with its table, and their captions."""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from matplotlib.cbook import get_sample_data

from ..assigners import DSLA, METHODS, jittered_predictions
from ..data import Scenes
from ..files import OwnFolder, read_toml
from ..geometry import PointGrid
from ..models import build, load
from ..plots import compare, diagrams
from ..plots import network as networks
from ..plots import trends as plots
from ..plots.comparison import STRIDES
from ..plots.draw import as_image
from ..plots.label_maps import label_maps, label_rows, label_table
from ..plots.style import Picture
from ..recipes import RECIPES
from ..settings import repository_file
from . import tables
from .exhibits import LOOKED_AT, busiest, busiest_under, point_counts
from .pages import Chart
from .protocol import VERSION, stage_of
from .reactions import reaction_table
from .report import reproduce
from .runs import read, read_curves, read_runs, stores

SHOWN = read_toml(__file__, "gallery")


def make_figures(
    out: str | Path = "figures", *, images: int | None = None, progress: bool = True, overwrite: bool = False
) -> list[Path]:
    """Writes every figure (SVG for line art, PNG for photographs), its CSV, and ``captions.md``.

    The figures of trained models come from the shipped weights, by `reproduce`; those over seeds from the runs in
    `out`, else the repository's, and are left out where there are none. A second run on the same machine gives equal
    bytes.

    Args:
        out: folder.
        images: validation scenes, by default all.
        progress: whether to say what is being done.
        overwrite: whether files in `out` that this did not write may be replaced.
    """
    folder = OwnFolder(out, overwrite=overwrite)
    with tempfile.TemporaryDirectory() as temporary:
        made, lines = OwnFolder(temporary), []
        for name, figure, table in (*_method_figures(), *_figures_over_seeds(folder.path, progress)):
            chart = Chart(name, "", figure, table, "png" if name in SHOWN["png"] else "svg")
            chart.save(made)
            lines.append(f"- **{Path(chart.file).name}**: {chart.figure.caption}\n")
        reproduce(temporary, images=images, progress=progress)
        text = "# Figures\n\nMade by `dsla figures`; the table of each lies beside it.\n\n" + "".join(lines)
        captions = made.path / "figures" / "captions.md"
        captions.write_text(text + captions.read_text(encoding="utf-8"), encoding="utf-8")
        return [folder.write(path.name, path.read_bytes()) for path in sorted(captions.parent.iterdir())]


def _method_figures() -> Iterator[tuple[str, Picture, pd.DataFrame]]:
    """Figures that need no runs: name, picture, table."""
    scenes = Scenes("test", size=SHOWN["scene"] + 1, image_size=512)
    image, target = scenes[SHOWN["scene"]]
    figure = compare(image, target["boxes"], target["labels"], ["fcos", "dsla"], class_names=scenes.class_names)
    yield "compare", figure, point_counts(figure)

    of_method = {r.method: r for r in reversed(RECIPES.values()) if r.name.startswith("scenes-")}
    every = {entry.title: of_method[name] for name, entry in METHODS.items()}
    figure = busiest_under(Scenes("val", size=LOOKED_AT), every)
    yield "methods", figure, point_counts(figure)

    yield from _label_maps()

    for name, table_of, draw in (
        ("intervals", diagrams.interval_table, diagrams.intervals),
        ("core-zone", diagrams.centerness_table, diagrams.centerness_maps),
        ("quality-focal-loss", diagrams.quality_focal_table, diagrams.quality_focal),
        ("network", partial(networks.network_table, "r50-1x", 80, (800, 1344)), networks.network),
    ):
        table = table_of()
        yield name, draw(table), table

    table = reaction_table(load("scenes-dsla"), Scenes("val", size=100))
    yield "reactions", diagrams.reactions(table), table


def _label_maps() -> Iterator[tuple[str, Picture, pd.DataFrame]]:
    """Labels on five levels with jittered boxes for predictions; on three with the shipped model, before and after."""
    photo = as_image(get_sample_data("grace_hopper.jpg", asfileobj=False))
    boxes, labels = [torch.tensor(SHOWN["boxes"], dtype=torch.float32)], [torch.arange(len(SHOWN["boxes"]))]
    grid = PointGrid((photo.shape[0], photo.shape[1]), STRIDES, 0.0)
    title = f"Dynamic label, predictions: true boxes jittered by {SHOWN['jitter']:.0%}"
    predictions = {title: jittered_predictions(grid, boxes, labels, SHOWN["jitter"], len(labels[0]))}
    rows = label_rows(DSLA()(grid, boxes, labels), predictions)
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
    predictions = {"Dynamic label before training": raw[fresh].outputs, after: raw[trained].outputs}
    rows = label_rows(trained.assign(raw[trained]), predictions)
    yield "label-maps-trained", label_maps(image, rows), label_table(rows)


def _figures_over_seeds(folder: Path, progress: bool) -> Iterator[tuple[str, Picture, pd.DataFrame]]:
    """The ablation, the sweep of γ, conditions and training curves, each beside the published ones."""
    committed = repository_file("figures/captions.md")
    paths = stores(folder) or (stores(committed.parent) if committed else [])
    if not paths:
        if progress:
            print("no runs: the ablation, the sweep of γ and the training curves are left out")
        return
    runs = read_runs(*paths)
    for study, draw in (("ablation", plots.ablation), ("gamma", plots.gamma_sweep)):
        table = tables.study_table(runs, study)
        yield study, draw(table), table
    table = tables.condition_table(runs)
    if len(table):
        yield "conditions", plots.conditions(table), table
    for name, stage in (("protocol", "main"), ("photographs", stage_of("photographs", "main"))):
        table = tables.protocol_table(read(*paths, protocol=VERSION), stage)
        if len(table):
            yield name, plots.protocol(table), table
    table = tables.curve_table(read_curves(*paths))
    yield "training-curves", plots.training_curves(table), table
