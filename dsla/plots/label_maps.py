"""Static and dynamic labels of one image, level by level: what the rule says, and what is left of it by the IoU."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from ..assigners import Assignment
from ..errors import DataError
from ..geometry import Frame, HeadOutputs
from . import draw
from .comparison import Row, figure_of
from .style import Picture, caption


def label_rows(assignment: Assignment, predictions: Mapping[str, HeadOutputs]) -> list[Row]:
    """The static label [1, P] and, for each prediction, the dynamic one, as rows of a figure.

    Args:
        assignment: of one image.  predictions: title → outputs at the assignment's points.
    """
    if len(assignment.label) != 1:
        raise DataError(f"label maps show one image, got an assignment of {len(assignment.label)}")
    labels = {"Static label": assignment.label}
    for title, outputs in predictions.items():
        labels[title] = assignment.target(outputs.detach().boxes.float())
    counts = assignment.counts().numpy()
    return [
        Row(title, replace(assignment, label=label, coupling="off"), counts,
            f"mean label {float(label.sum()) / max(counts.sum(), 1):.2f}")
        for title, label in labels.items()
    ]  # fmt: skip


def label_maps(image: Any, rows: Sequence[Row], class_names: Sequence[str] | None = None) -> Picture:
    """One row a label of `label_rows`, one column a pyramid level. `image`: as `dsla.compare` takes it."""
    assignment = rows[0].assignment
    classes = assignment.category.new_zeros(len(assignment.boxes))
    classes[assignment.gt_index[assignment.positive]] = assignment.category[assignment.positive]
    pixels, text = draw.as_image(image), caption("label-maps")
    return figure_of(rows, pixels, Frame.of(pixels.shape), assignment.boxes, classes, class_names, text)


def label_table(rows: Sequence[Row]) -> pd.DataFrame:
    """row (title), object, level, points, sum, mean and max of their labels."""
    labels = (row.assignment.to_frame().groupby(["gt", "level"])["label"] for row in rows)
    tables = [of_level.agg(points="count", sum="sum", mean="mean", max="max") for of_level in labels]
    return pd.concat(tables, keys=[row.title for row in rows], names=["row", "object", "level"]).reset_index()
