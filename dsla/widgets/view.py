"""What an explorer shows, as a value: a `View` gives the assignments to draw, and the Python that gives them again."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..assigners import METHODS, Assigner, Assignment, Explanation, jittered_assignment
from ..geometry import Frame, HeadOutputs, boxes_to_distances
from ..plots.comparison import JITTERED, Row

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=lambda name: name == "point.html.jinja",
    trim_blocks=True,
    lstrip_blocks=True,
)
CODE, POINT = map(_ENVIRONMENT.get_template, ("assignments.py.jinja", "point.html.jinja"))


@dataclass(frozen=True)
class Shown:
    """One row: an assignment (batch of one), the predictions that it was coupled with, and the values drawn.

    coupled: whether the label is coupled with the IoU of the predictions. values: [P] the label; coupled, what the
    classification would be taught. labels: [M] of the boxes, among the classes of the predictions. note: of a picture's
    title, whose predictions change what is drawn, and how.
    """

    title: str
    method: str
    assignment: Assignment
    predictions: HeadOutputs | None
    frame: Frame
    labels: Tensor
    coupled: bool
    note: str

    @cached_property
    def values(self) -> Tensor:
        a = self.assignment
        return a.target(self.predictions.boxes)[0] if self.coupled and self.predictions is not None else a.label[0]

    @cached_property
    def table(self) -> pd.DataFrame:
        """`to_frame()`, given the predictions if there are any."""
        return self.assignment.to_frame(self.predictions)

    @cached_property
    def counts(self) -> np.ndarray:
        return self.assignment.counts().numpy()

    def row(self) -> Row:
        """For `dsla.plots.comparison.figure_of`: a picture of the very values drawn here."""
        drawn = replace(self.assignment, label=self.values[None], coupling="off")
        return Row(self.title + self.note, drawn, self.counts)

    def explain(self, point: int, box: int) -> Explanation:
        a = self.assignment
        about: dict[str, Any] = {"predictions": self.predictions, "image_size": self.frame.size}
        about |= {"category": int(self.labels[box]), "others": torch.cat((a.boxes[:box], a.boxes[box + 1 :]))}
        return a.assigner.explain(a.grid, point, a.boxes[box], coupling=a.coupling if self.coupled else "off", **about)

    def point_html(self, point: int, chosen: int) -> str:
        """A point's row of `to_frame()`, and the rules for the chosen box, else for its winner or the nearest one."""
        a = self.assignment
        won = int(a.gt_index[0, point])
        if not 0 <= chosen < len(a.boxes):
            chosen = won
        if chosen < 0 and len(a.boxes):
            outside = (-boxes_to_distances(a.grid.xy[point], a.boxes)).clamp(min=0).amax(-1)
            area = (a.boxes[:, 2:] - a.boxes[:, :2]).prod(-1)
            chosen = int(torch.argmin(outside * 1e6 + area / area.max()))
        rules = self.explain(point, chosen)._repr_html_() if chosen >= 0 else ""
        cells = self.table.query("point == @point").drop(columns=["image", "point"]).to_dict("records")
        return POINT.render(row=self, point=point, won=won, rules=rules, cells=cells)


@dataclass(frozen=True)
class View:
    """All that decides what is drawn.

    Attributes:
        size: (height, width) of the image.  boxes: [M, 4] in its pixels.  labels: [M].
        assigners: title → (name, assigner).  state: as `dsla.widgets.state.initial` has it.
        image, model: Python that loads them, where it is known.
        raw: what the trained model says of the image, in place of strides and offset; None where it is not coupled.
    """

    size: tuple[int, int]
    boxes: Tensor
    labels: Tensor
    assigners: dict[str, tuple[str, Assigner]]
    state: Mapping[str, Any]
    image: str = "..."
    model: str = "..."
    raw: Any = None

    @property
    def strides(self) -> tuple[int, ...]:
        return tuple(self.state["strides"] if self.raw is None else self.raw.outputs.grid.strides)

    @property
    def frame(self) -> Frame:
        if self.raw is not None:
            return Frame(self.size, *2 * self.raw.image_sizes)
        return Frame.of(self.size, self.state["input"])

    def offset(self, assigner: Assigner) -> float:
        return float(assigner.point_offset if self.state["offset"] is None else self.state["offset"])

    def jittered(self, assigner: Assigner) -> bool:
        """Whether its predictions are jittered boxes."""
        return self.raw is None and bool(self.state["coupling"] != "off" or assigner.needs_predictions)

    def rows(self) -> list[Shown]:
        """The assignments, in the order of the assigners.

        Raises:
            ValueError: an assigner with ranges for another number of levels.
        """
        return [self._row(title, *pair) for title, pair in self.assigners.items()]

    def _row(self, title: str, name: str, assigner: Assigner) -> Shown:
        assigner.check_levels(self.strides, title)
        frame = self.frame
        boxes, labels, sizes = frame.boxes(self.boxes), self.labels, [frame.size]
        predictions = None if self.raw is None else self.raw.outputs
        grid = frame.grid(self.strides, self.offset(assigner)) if predictions is None else predictions.grid
        if self.jittered(assigner):
            about = self.state["jitter"], self.state["seed"]
            assignment, predictions = jittered_assignment(assigner, grid, boxes, labels, *about, image_sizes=sizes)
            labels = labels.unique(return_inverse=True)[1]
        else:
            assignment = assigner(grid, [boxes], [labels], predictions, image_sizes=sizes)
        coupled = "off" not in (self.state["coupling"], assignment.coupling)
        source = JITTERED.format(self.state["jitter"]) if self.raw is None else " · predictions: the trained model's"
        note = f" · coupled with the IoU{source}" if coupled else source if assigner.needs_predictions else ""
        return Shown(title, name, assignment, predictions, frame, labels, coupled, note)

    def code(self, name: str, assigner: Assigner) -> str:
        """Python that makes the assigner; a class of the reader's own comes from the registry."""
        custom = name in METHODS and not isinstance(METHODS[name].source, str)
        made = repr(assigner)
        return f"dsla.assigners.method({name!r}).kind{made[made.index('(') :]}" if custom else made

    def python(self) -> str:
        """Code that makes the same assignments: `assignments`, title → `Assignment`."""
        boxes = [[float(f"{v:.9g}") for v in box] for box in self.boxes.tolist()]
        return CODE.render(view=self, boxes=boxes)


def drawn(row: Shown) -> dict[str, Any]:
    """A row as the browser draws it: gt int32 and values float32 of all points, as bytes."""
    assignment, grid = row.assignment, row.assignment.grid
    width, height = row.frame.scale
    return {
        "title": row.title,
        "method": row.method,
        "follows": row.coupled,
        "shapes": [list(shape) for shape in grid.shapes],
        "strides": list(grid.strides),
        "offset": grid.offset,
        "scale": [1 / width, 1 / height],
        "gt": assignment.gt_index[0].int().numpy().tobytes(),
        "values": row.values.float().numpy().tobytes(),
    }
