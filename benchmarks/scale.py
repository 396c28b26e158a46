"""How cost grows with size: ``python benchmarks/scale.py [--quick]`` writes scale.csv and scale.svg beside it.

Assignment against boxes and image size, a training step against image size and classes, reading a COCO file and
evaluating detections against images; for each the seconds of the processor (least of several runs) and the memory it
needs: the most that tensors held at once, or the most that a process of its own grew by. The slope that the figure
names is that of the last doubling or so: 1 is proportional, 0 does not depend.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from assigners import scene
from coco_files import CLASSES, draw
from matplotlib.ticker import NullFormatter
from measure import peak_memory

import dsla
from dsla.coco.evaluation import evaluate_detections
from dsla.coco.ground_truth import GroundTruth
from dsla.plots import style

STRIDES = (8, 16, 32, 64, 128)
Row = tuple[str, str, float, float, float]


def least(work: Callable[[], Any], runs: int) -> float:
    """Seconds of the processor in the quickest of some runs, after one that does not count."""
    work()
    seconds = []
    for _ in range(runs):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return min(seconds)


def assignment(quick: bool) -> Iterator[Row]:
    for name in ("dsla", "atss", "max-iou"):
        assigner = dsla.assigners.as_assigner(name, STRIDES)
        for count in (10, 40, 160, 640)[: 2 if quick else None]:
            grid, (boxes, labels) = dsla.PointGrid((800, 1344), STRIDES), scene(count)
            work = lambda a=assigner, g=grid, b=boxes, c=labels: a(g, b, c)  # noqa: E731
            yield "assignment: boxes an image", name, count, least(work, 3), peak_memory(work) / 1e6
        for side in (400, 800, 1600)[: 2 if quick else None]:
            grid, (boxes, labels) = dsla.PointGrid((side, side), STRIDES), scene(50, 400, 400)
            work = lambda a=assigner, g=grid, b=boxes, c=labels: a(g, b, c)  # noqa: E731
            yield "assignment: side of the image, pixels", name, side, least(work, 3), peak_memory(work) / 1e6


def steps(quick: bool) -> Iterator[Row]:
    def step(side: int, classes: int) -> tuple[float, float]:
        recipe = dsla.recipe("scenes-dsla", min_size=str(side), max_size=side)
        model = dsla.build(recipe, classes).train()
        images = [torch.rand(3, side, side, generator=torch.Generator().manual_seed(i)) for i in range(2)]
        boxes, labels = scene(8, side, side, images=2)
        targets = [{"boxes": b, "labels": c % classes} for b, c in zip(boxes, labels, strict=True)]

        def work() -> None:
            model.zero_grad(set_to_none=True)
            torch.stack(tuple(model(images, targets).values())).sum().backward()

        return least(work, 3), peak_memory(work) / 1e6

    for side in (128, 256, 512, 1024)[: 2 if quick else None]:
        yield "training step: side of the image, pixels", "scenes-dsla", side, *step(side, 5)
    for classes in (5, 80, 365, 1203)[: 2 if quick else None]:
        yield "training step: classes", "scenes-dsla", classes, *step(256, classes)


def files(quick: bool) -> Iterator[Row]:
    for images in (1_000, 8_000, 64_000)[: 1 if quick else None]:
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / "instances.json"
            draw(path, images, images * 7)
            numbers = (np.random.default_rng(0).random((images * 20, 5)) * 100 + 0.01).round(2).tolist()
            rows = [{"image_id": n // 20, "category_id": n % CLASSES + 1, "bbox": box, "score": score / 101}
                    for n, (*box, score) in enumerate(numbers)]  # fmt: skip
            (path.parent / "results.json").write_text(json.dumps(rows))
            for what in ("reading", "evaluation"):
                command = [sys.executable, __file__, "--child", what, name]
                told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
                yield f"{what}: images", "7 objects, 20 detections an image", images, *map(float, told[-2:])


def peak() -> float:
    """The most memory that this process held, MB; getrusage would tell that of the process that started it, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def child(what: str, folder: Path) -> None:
    before = peak()
    began = time.process_time()
    truth = GroundTruth.of(str(folder / "instances.json"), warn=False)
    if what == "evaluation":
        began = time.process_time()
        evaluate_detections(truth, str(folder / "results.json"))
    seconds = time.process_time() - began
    print(seconds, peak() - before)


def figure(table: pd.DataFrame) -> Any:
    parts, units = table["part"].unique(), {"seconds": "CPU seconds", "MB": "memory, MB"}
    with style.style():
        picture = style.picture(2.2 * style.WIDTH / 2, 1.9 * len(parts))
        axes = picture.subplots(len(parts), 2, squeeze=False)
        for row, part in zip(axes, parts, strict=True):
            for ax, (column, unit) in zip(row, units.items(), strict=True):
                for name, group in table[table["part"] == part].groupby("name", sort=False):
                    (x0, x1), (y0, y1) = group["x"].iloc[-2:], group[column].iloc[-2:]
                    slope = np.log(max(y1, 1e-9) / max(y0, 1e-9)) / np.log(x1 / x0) if len(group) > 1 else np.nan
                    ax.plot(group["x"], group[column], marker="o", label=f"{name}, slope {slope:.1f}")
                ax.set(xscale="log", yscale="log", xlabel=part, ylabel=unit)
                every = table.loc[table["part"] == part, ["x", column]]
                ax.set_xticks(every["x"].unique(), [f"{x:,.0f}" for x in every["x"].unique()])
                ends = every[column].agg(["min", "max"])
                ax.set_yticks(ends, [f"{y:.2g}" if y < 100 else f"{y:.0f}" for y in ends])
                for axis in (ax.xaxis, ax.yaxis):
                    axis.set_minor_formatter(NullFormatter())
                ax.legend(fontsize="x-small")
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="the small sizes alone, to see that it runs")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.child:
        child(args.child[0], Path(args.child[1]))
        return
    rows = [row for part in (assignment, steps, files) for row in part(args.quick)]
    table = pd.DataFrame(rows, columns=["part", "name", "x", "seconds", "MB"])
    print(table.to_string(index=False, float_format=lambda v: f"{v:.3g}"))
    if not args.quick:
        here = Path(__file__).with_suffix(".csv")
        table.round(4).to_csv(here, index=False)
        figure(table).savefig(here.with_suffix(".svg"))


if __name__ == "__main__":
    main()
