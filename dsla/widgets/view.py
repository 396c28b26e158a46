"""What an explorer shows, as a value: a `View` gives the assignments to draw, and the Python that gives them again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torchvision.models.detection.transform import resize_boxes

from ..assigners import (
    DEFAULT_RANGES,
    METHODS,
    Assigner,
    Assignment,
    Explanation,
    jittered_predictions,
    method,
)
from ..geometry import HeadOutputs, PointGrid
from ..plots.comparison import Row
from ..plots.draw import many

COUPLINGS = ("off", "jittered boxes", "trained model")
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "fcos, centre sampling 1.5": ("fcos", {"center_sampling": 1.5}),
    "dsla, no core zone": ("dsla", {"core_zone": False}),
    "dsla, hard ranges": ("dsla", {"relaxation": 0.0}),
}
"""Rows beside those of the registry: a method and what of it stays as it is, whatever the controls say."""


def choices() -> list[str]:
    """Rows to choose from: the methods of the registry, each followed by its variants."""
    return [row for name in METHODS for row in (name, *(v for v, (base, _) in VARIANTS.items() if base == name))]


@contextmanager
def one_thread() -> Iterator[None]:
    """For small tensors while a browser draws: two threads save a tenth on idle cores, and wait on busy ones."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def ranges_of(bounds: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """Ends of the regression ranges, one more than levels → (low, high) of each level."""
    return tuple(pairwise(float(b) for b in bounds))


def bounds_for(strides: Sequence[int]) -> tuple[float, ...]:
    """0, then eight strides of each level but the last, then no end: P3…P7's own for their strides."""
    return (0.0, *(8.0 * s for s in strides[:-1]), 1e8)


def make(name: str, options: dict[str, Any]) -> Assigner:
    """The assigner of a row, with those of the options that its method has.

    Raises:
        ValueError: no such row, or options that the method refuses.
    """
    base, fixed = VARIANTS.get(name, (name, {}))
    entry = method(base)
    ranges = options.get("regress_ranges", DEFAULT_RANGES)
    given = {o.name: options[o.name] for o in entry.options if o.name in options}
    # by default the method's own ranges: FoveaBox's differ a little at the ends
    return entry.assigner(None if ranges == DEFAULT_RANGES else ranges, **given | fixed)


@dataclass(frozen=True)
class ModelOutputs:
    """What the detector says about an image, in the frame of the resized image in which it works.

    size: (height, width) there.  source: Python that loads the model, for `View.python`.
    """

    outputs: HeadOutputs
    size: tuple[int, int]
    source: str

    @classmethod
    def of(cls, model: Any, image: Tensor, source: str) -> ModelOutputs:
        """Run the detector on an image [3, H, W]."""
        with torch.no_grad():
            raw = model.eval().forward_raw([image])
        return cls(raw.outputs, raw.image_sizes[0], source)


@dataclass(frozen=True)
class Shown:
    """One row: an assignment (batch of one), the predictions that it was coupled with, and the values drawn.

    values: [P] the label; coupled with predictions, what the classification would be taught. scale: image pixels
    per pixel of the grid's frame, (x, y).  labels: [M] of the boxes.
    """

    title: str
    assignment: Assignment
    predictions: HeadOutputs | None
    scale: tuple[float, float]
    coupled: bool
    labels: Tensor

    @cached_property
    def values(self) -> Tensor:
        a = self.assignment
        if self.predictions is None or not self.coupled:
            return a.label[0]
        return a.target(self.predictions.boxes)[0]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """`to_frame()`, given the predictions if there are any."""
        return self.assignment.to_frame(self.predictions)

    @cached_property
    def counts(self) -> np.ndarray:
        return self.assignment.counts().numpy()

    def maps(self) -> list[bytes]:
        """Per level h·w bytes, row by row: 0 background, 1…255 a point that learns, from label 0 to 1."""
        positive = self.assignment.gt_index[0] >= 0
        levels = ((self.values.clamp(0, 1) * 254 + 1.5) * positive).to(torch.uint8)
        return [level.numpy().tobytes() for level in levels.split(self.assignment.grid.num_points)]

    def row(self) -> Row:
        """For `dsla.plots.comparison.figure_of`: a picture of the very values drawn here."""
        return Row(self.title, replace(self.assignment, label=self.values[None], coupling="off"), self.counts)

    def explain(self, point: int, box: int) -> Explanation:
        a = self.assignment
        chosen = a.boxes[box]
        return a.assigner.explain(
            a.grid,
            point,
            chosen,
            predictions=self.predictions,
            category=int(self.labels[box]),
            others=torch.cat((a.boxes[:box], a.boxes[box + 1 :])),
            coupling=a.coupling if self.coupled else "off",
        )


@dataclass(frozen=True)
class View:
    """All that decides what is drawn.

    Attributes:
        size: (height, width) of the image.  boxes: [M, 4] in its pixels.  labels: [M].
        assigners: title → assigner.  strides: of the levels.  offset: of the points, None: each method's own.
        coupling: one of `COUPLINGS`.  jitter, seed: of `jittered_predictions`.
        model: with "trained model", what it says; its grid and its frame then replace strides and offset.
        image_source: Python that loads the image, where it is known.
    """

    size: tuple[int, int]
    boxes: Tensor
    labels: Tensor
    assigners: dict[str, Assigner]
    strides: tuple[int, ...] = (8, 16, 32, 64, 128)
    offset: float | None = None
    coupling: str = "off"
    jitter: float = 0.1
    seed: int = 0
    model: ModelOutputs | None = None
    image_source: str = "..."

    @property
    def classes(self) -> int:
        return int(self.labels.max()) + 1 if len(self.labels) else 1

    def rows(self) -> list[Shown]:
        """The assignments, in the order of the assigners.

        Raises:
            ValueError: an assigner with ranges for another number of levels.
        """
        return [self._row(title, assigner) for title, assigner in self.assigners.items()]

    def _row(self, title: str, assigner: Assigner) -> Shown:
        strides = self.strides if self.model is None else self.model.outputs.grid.strides
        ranges = assigner.level_ranges or strides
        if len(ranges) != len(strides):
            raise ValueError(
                f"{title} has ranges for {len(ranges)} levels but there are {len(strides)} strides {strides}"
            )
        if self.model is not None:
            size, predictions = self.model.size, self.model.outputs
            grid = predictions.grid
            boxes = resize_boxes(self.boxes, list(self.size), list(size))
        else:
            size, boxes, predictions = self.size, self.boxes, None
            grid = PointGrid(size, strides, assigner.point_offset if self.offset is None else self.offset)
            if self.coupling != "off" or assigner.needs_predictions:
                predictions = jittered_predictions(grid, [boxes], [self.labels], self.jitter, self.classes, self.seed)
        found = assigner(grid, [boxes], [self.labels], predictions=predictions, image_sizes=[size])
        scale = (self.size[1] / size[1], self.size[0] / size[0])
        return Shown(title, found, predictions, scale, self.coupling != "off", self.labels)

    def table(self, rows: Sequence[Shown]) -> pd.DataFrame:
        """`to_frame()` of all rows below each other, the first column `assigner`."""
        parts = [row.frame.assign(assigner=row.title) for row in rows]
        columns = ["assigner", *dict.fromkeys(c for p in parts for c in p.columns if c != "assigner")]
        return pd.concat(parts, ignore_index=True).reindex(columns=columns)

    def python(self) -> str:
        """Code that makes the same assignments: `assignments`, title → `Assignment`."""
        lines = [
            "import torch",
            "",
            "import dsla",
            "from dsla.assigners import *",
            "",
            f"size = {self.size}  # height, width",
            f"boxes = torch.tensor({_numbers(self.boxes)}).reshape(-1, 4)  # x1, y1, x2, y2",
            f"labels = torch.tensor({self.labels.tolist()}, dtype=torch.int64)",
        ]
        if self.model is not None:
            lines += [
                f"model = {self.model.source}",
                f"image = {self.image_source}  # float32 [3, H, W] in 0…1",
                "with torch.no_grad():",
                '    raw = model.eval().forward_raw([image], [{"boxes": boxes, "labels": labels}])',
                "grid, predictions, size = raw.outputs.grid, raw.outputs, raw.image_sizes[0]",
                'boxes = raw.targets[0]["boxes"]',
            ]
        lines.append("assignments = {}")
        for title, assigner in self.assigners.items():
            needs = self.coupling != "off" or assigner.needs_predictions
            if self.model is None:
                offset = assigner.point_offset if self.offset is None else self.offset
                lines.append(f"grid = dsla.PointGrid(size, strides={self.strides}, offset={offset:g})")
                if needs:
                    call = f"[boxes], [labels], {self.jitter:g}, {self.classes}, seed={self.seed}"
                    lines.append(f"predictions = dsla.plots.jittered_predictions(grid, {call})")
            more = ", predictions=predictions" if needs else ""
            lines += [
                f"assigner = {assigner!r}",
                f"assignments[{title!r}] = assigner(grid, [boxes], [labels]{more}, image_sizes=[size])",
            ]
        for module in ("plots", "data"):
            if any(f"dsla.{module}." in line for line in lines):
                lines.insert(3, f"import dsla.{module}")
        return "\n".join(lines) + "\n"


def _numbers(boxes: Tensor) -> str:
    return str([[float(f"{v:.9g}") for v in box] for box in boxes.tolist()])


def drawn(row: Shown) -> dict[str, Any]:
    """A row as `BoxSurface.frame` has it."""
    grid, counts = row.assignment.grid, row.counts
    index = row.assignment.gt_index[0].split(grid.num_points)
    lost = int((counts == 0).sum())
    note = many(int(counts.sum()), "point") + (" learns" if counts.sum() == 1 else " learn") + " an object"
    if row.coupled and row.assignment.coupling != "off":
        note += " · colour: label × IoU of the predicted box"
    if lost:
        note += f" · {many(lost, 'object')} without a point"
    return {
        "title": row.title,
        "note": note,
        "counts": counts.tolist(),
        "objects_at": [level[level >= 0].unique().tolist() for level in index],
        "totals": [int((level >= 0).sum()) for level in index],
        "shapes": [list(shape) for shape in grid.shapes],
        "strides": list(grid.strides),
        "offset": grid.offset,
        "scale": list(row.scale),
        "maps": row.maps(),
    }
