"""What an explorer shows, as a value: a `View` gives the assignments to draw, and the Python that gives them again."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..assigners import METHODS, Assigner, Assignment, Explanation, jittered_predictions
from ..geometry import Frame, HeadOutputs, InputSize
from ..models.evaluation import evaluation_mode
from ..plots.comparison import Row

CODE = jinja2.Template(
    Path(__file__).with_name("assignments.py.jinja").read_text(encoding="utf-8"),
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


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
        assigner.check_levels(strides, title)
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
        rows = [self._code(title, *pair) for title, pair in self.assigners.items()]
        about = {"boxes": _numbers(self.boxes), "input_size": repr(self.input_size), "jitter": f"{self.jitter:g}"}
        body = CODE.render(view=self, rows=rows, **about)
        modules = [f"import dsla.{module}" for module in ("geometry", "data", "plots") if f"dsla.{module}." in body]
        return "\n".join(["import torch", "", "import dsla", *modules, "from dsla.assigners import *", "", body])

    def _code(self, title: str, name: str, assigner: Assigner) -> dict[str, Any]:
        """What the code says of an assigner."""
        code, more = repr(assigner), ""
        if name in METHODS and not isinstance(METHODS[name].source, str):  # a class of the reader's own
            code = f"dsla.assigners.method({name!r}).kind{code[code.index('(') :]}"
            more = f", coupling={assigner.default_coupling!r}"
        offset = assigner.point_offset if self.offset is None else self.offset
        needs = self.coupling != "off" or assigner.needs_predictions
        return {"title": repr(title), "code": code, "more": more, "offset": f"{offset:g}", "needs": needs}


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
