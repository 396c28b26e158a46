"""What an explorer shows, as a value: a `View` gives the assignments to draw, and the Python that gives them again."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..assigners import METHODS, Assigner, Assignment, Explanation, jittered_predictions
from ..geometry import Frame, HeadOutputs, InputSize
from ..models.evaluation import evaluation_mode
from ..plots.comparison import Row


@contextmanager
def one_thread() -> Iterator[None]:
    """For small tensors while a browser draws: two threads save a tenth on idle cores, and wait on busy ones."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class ModelOutputs:
    """What the detector says about an image, in the frame of the resized image in which it works.

    size: (height, width) there.  source: Python that loads the model, for `View.python`.
    """

    outputs: HeadOutputs
    size: tuple[int, int]
    source: str

    @classmethod
    def of(cls, model: Any, image: Tensor, source: str) -> "ModelOutputs":
        """Run the detector on an image [3, H, W]."""
        with evaluation_mode(model):
            raw = model.forward_raw([image])
        return cls(raw.outputs, raw.image_sizes[0], source)


@dataclass(frozen=True)
class Shown:
    """One row: an assignment (batch of one), the predictions that it was coupled with, and the values drawn.

    values: [P] the label; coupled with predictions, what the classification would be taught. labels: [M] of the boxes.
    """

    title: str
    method: str
    assignment: Assignment
    predictions: HeadOutputs | None
    frame: Frame
    coupled: bool
    labels: Tensor

    @cached_property
    def values(self) -> Tensor:
        a = self.assignment
        if self.predictions is None or not self.coupled:
            return a.label[0]
        return a.target(self.predictions.boxes)[0]

    @cached_property
    def table(self) -> pd.DataFrame:
        """`to_frame()`, given the predictions if there are any."""
        return self.assignment.to_frame(self.predictions)

    @cached_property
    def counts(self) -> np.ndarray:
        return self.assignment.counts().numpy()

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
        assigners: title → (name, assigner).  input_size: as `Frame.of` has it.  strides: of the levels.
        offset: of the points, None: each method's own.
        coupling: one of `COUPLINGS`.  jitter, seed: of `jittered_predictions`.
        model: with "trained model", what it says; its grid and its frame then replace strides and offset.
        image_source: Python that loads the image, where it is known.
    """

    size: tuple[int, int]
    boxes: Tensor
    labels: Tensor
    assigners: dict[str, tuple[str, Assigner]]
    input_size: InputSize = "native"
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
        return [self._row(title, *pair) for title, pair in self.assigners.items()]

    @property
    def frame(self) -> Frame:
        if self.model is not None:
            return Frame(self.size, self.model.size, self.model.size)
        return Frame.of(self.size, self.input_size)

    def _row(self, title: str, name: str, assigner: Assigner) -> Shown:
        strides = self.strides if self.model is None else self.model.outputs.grid.strides
        ranges = assigner.level_ranges or strides
        if len(ranges) != len(strides):
            raise ValueError(
                f"{title} has ranges for {len(ranges)} levels but there are {len(strides)} strides {strides}"
            )
        frame = self.frame
        boxes = frame.boxes(self.boxes)
        if self.model is not None:
            predictions: HeadOutputs | None = self.model.outputs
            grid = self.model.outputs.grid
        else:
            predictions = None
            grid = frame.grid(strides, assigner.point_offset if self.offset is None else self.offset)
            if self.coupling != "off" or assigner.needs_predictions:
                predictions = jittered_predictions(grid, [boxes], [self.labels], self.jitter, self.classes, self.seed)
        assignment = assigner(grid, [boxes], [self.labels], predictions=predictions, image_sizes=[frame.size])
        return Shown(title, name, assignment, predictions, frame, self.coupling != "off", self.labels)

    def table(self, rows: Sequence[Shown]) -> pd.DataFrame:
        """`to_frame()` of all rows below each other, the first column `assigner`."""
        parts = [row.table.assign(assigner=row.title) for row in rows]
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
        else:
            lines += [
                f"frame = dsla.geometry.Frame.of(size, {self.input_size!r})",
                "boxes, size = frame.boxes(boxes), frame.size",
            ]
        lines.append("assignments = {}")
        for title, (name, assigner) in self.assigners.items():
            needs = self.coupling != "off" or assigner.needs_predictions
            if self.model is None:
                offset = assigner.point_offset if self.offset is None else self.offset
                lines.append(f"grid = frame.grid(strides={self.strides}, offset={offset:g})")
                if needs:
                    call = f"[boxes], [labels], {self.jitter:g}, {self.classes}, seed={self.seed}"
                    lines.append(f"predictions = dsla.plots.jittered_predictions(grid, {call})")
            more = ", predictions=predictions" if needs else ""
            code = repr(assigner)
            if name in METHODS and not isinstance(METHODS[name].source, str):  # a class of the reader's own
                code = f"dsla.assigners.method({name!r}).kind{code[code.index('(') :]}"
                more += f", coupling={assigner.default_coupling!r}"
            lines += [
                f"assigner = {code}",
                f"assignments[{title!r}] = assigner(grid, [boxes], [labels]{more}, image_sizes=[size])",
            ]
        for module in ("plots", "data", "geometry"):
            if any(f"dsla.{module}." in line for line in lines):
                lines.insert(3, f"import dsla.{module}")
        return "\n".join(lines) + "\n"


def _numbers(boxes: Tensor) -> str:
    return str([[float(f"{v:.9g}") for v in box] for box in boxes.tolist()])


def drawn(row: Shown) -> dict[str, Any]:
    """A row as the browser draws it: gt int32 and values float32 of all points, as bytes."""
    assignment, grid = row.assignment, row.assignment.grid
    width, height = row.frame.scale
    return {
        "title": row.title,
        "method": row.method,
        "follows": row.coupled and assignment.coupling != "off",
        "shapes": [list(shape) for shape in grid.shapes],
        "strides": list(grid.strides),
        "offset": grid.offset,
        "scale": [1 / width, 1 / height],
        "gt": assignment.gt_index[0].int().numpy().tobytes(),
        "values": row.values.float().numpy().tobytes(),
    }
