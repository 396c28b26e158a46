"""`dsla.compare`: assigners side by side on one image; no weights, no training.

import dsla
boxes = [[120, 60, 480, 420], [300, 200, 360, 380]]              # x1, y1, x2, y2 in pixels
dsla.compare("photo.jpg", boxes, None, ["FCOS", "DSLA"])
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import Any

import numpy as np
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from torch import Tensor

from ..assigners import Assigner, Assignment, as_assigner, jittered_assignment, method
from ..errors import DataError
from ..geometry import Frame, InputSize
from . import draw
from .style import LABELS, LOST, SOFT, Picture, caption, drawing

STRIDES = (8, 16, 32, 64, 128)  # P3…P7
PANEL = 2.15  # inches
JITTERED = " · predictions: true boxes jittered by {:.0%}"  # in titles, where no model predicts
EVERY_TAG = 40  # objects up to which each one carries its count


@dataclass(frozen=True)
class Row:
    """One assigner on the image: its title, its assignment (batch of one), positives of each object [M].

    `note` stands at the right above the row instead of its positives in words.
    """

    title: str
    assignment: Assignment
    counts: np.ndarray
    note: str = ""


def compare(
    image: Any,
    boxes: Any,
    labels: Any = None,
    assigners: Any = ("FCOS", "DSLA"),
    *,
    strides: Sequence[int] | None = None,
    offset: float | None = None,
    class_names: Sequence[str] | None = None,
    input_size: InputSize = "native",
    jitter: float = 0.1,
    seed: int = 0,
) -> Picture:
    """Which point learns which object, and how strongly: one row an assigner, one column a pyramid level.

    Args:
        image: a path, a PIL image, an array or a tensor; its pixels are the boxes' pixels.
        boxes: [M, 4] x1, y1, x2, y2.
        labels: [M] class of each box, or None where it does not matter.
        assigners: one or several: objects, names in `dsla.assigners`, or a dict of title → either.
        strides: of the levels; by default P3…P7. With names, level ranges of 8 strides are made to fit.
        offset: of the points in strides; by default each method's own, 0 for DSLA and 0.5 for all others.
        class_names: name of each label.
        input_size: what a detector would scale the image to: "native" (as it is), (800, 1333) for the shorter and the
            longest longer side, 640 for a padded square; see `dsla.geometry.Frame`. The caption says which.
        jitter, seed: for assigners that need predictions, see `jittered_predictions`.
    Returns:
        A matplotlib Figure. First column: the objects, each with the number of its points; red and dashed
        where no point learns it. `figure.rows` holds the assignments.
    Raises:
        DataError: image, boxes or labels that cannot be used.  ValueError: unknown assigner, wrong strides.
    """
    pixels = draw.as_image(image)
    frame = Frame.of(pixels.shape, input_size)
    corners = draw.as_boxes(boxes, frame.image)
    classes = as_labels(labels, len(corners))
    rows = [
        assign(name, assigner, frame, corners, classes, strides, offset, jitter, seed)
        for name, assigner in named_assigners(assigners, strides).items()
    ]
    return figure_of(rows, pixels, frame, corners, classes, class_names)


def named_assigners(assigners: Any, strides: Sequence[int] | None = None) -> dict[str, Assigner]:
    """One assigner or several, objects or names → title: assigner. Equal titles are numbered."""
    if isinstance(assigners, Mapping):
        return {str(title): as_assigner(value, strides) for title, value in assigners.items()}
    if isinstance(assigners, (str, Assigner, type)):
        assigners = [assigners]
    named: dict[str, Assigner] = {}
    for value in assigners:
        assigner = as_assigner(value, strides)
        first = method(value).title if isinstance(value, str) else assigner.name
        titles = chain([first], (f"{first} ({number})" for number in count(2)))
        named[next(title for title in titles if title not in named)] = assigner
    if not named:
        raise ValueError("compare needs at least one assigner")
    return named


def as_labels(labels: Any, count: int) -> Tensor:
    """[M] int64; zeros for None."""
    if labels is None:
        return torch.zeros(count, dtype=torch.int64)
    values = np.asarray(labels.cpu() if isinstance(labels, Tensor) else labels).reshape(-1)
    if len(values) != count:
        raise DataError(f"{count} boxes but {len(values)} labels")
    if count and (values.dtype.kind not in "biu" or values.min() < 0):
        raise DataError(f"labels are whole numbers from 0, got {values.tolist()[:8]}; names go into class_names")
    return torch.as_tensor(values.astype(np.int64))


def assign(
    title: str, assigner: Assigner, frame: Frame, boxes: Tensor, labels: Tensor,
    strides: Sequence[int] | None, offset: float | None, jitter: float, seed: int,
) -> Row:  # fmt: skip
    """One row of the comparison."""
    steps = tuple(STRIDES if strides is None else strides)
    assigner.check_levels(steps, title)
    grid, boxes = frame.grid(steps, assigner.point_offset if offset is None else offset), frame.boxes(boxes)
    if assigner.needs_predictions:
        assignment, _ = jittered_assignment(assigner, grid, boxes, labels, jitter, seed, image_sizes=[frame.size])
        title += JITTERED.format(jitter)
    else:
        assignment = assigner(grid, [boxes], [labels], image_sizes=[frame.size])
    return Row(title, assignment, assignment.counts().numpy())


def figure_of(
    rows: Sequence[Row], pixels: np.ndarray, frame: Frame, boxes: Tensor, labels: Tensor, names: Sequence[str] | None,
    text: str = "",
) -> Picture:  # fmt: skip
    """The figure of `compare` from its rows; boxes in pixels of the image; `text`: another caption."""
    size, boxes = frame.size, frame.boxes(boxes)
    colour, dim = draw.backdrop(pixels)
    levels = len(rows[0].assignment.grid.strides)
    wide = PANEL * min(1.0, 1.15 * size[1] / size[0])
    high = wide * size[0] / size[1]
    left, gap, title, head, foot, right = 0.08, 0.06, 0.3, 0.2, 0.42, 0.56
    width = left + (levels + 1) * (wide + gap) + right
    height = len(rows) * (high + title + head) + foot
    with drawing(height, width=width, layout=None) as figure:
        unit = size[1] / (wide * 72)  # pixels of the image a point (1/72 inch)
        for r, row in enumerate(rows):
            top = height - r * (high + title + head)
            figure.text(left / width, (top - 0.17) / height, row.title, weight="bold", fontsize=9.5, va="center")
            end = 1 - (right + gap) / width
            figure.text(end, (top - 0.17) / height, row.note or counted(row), fontsize=8, va="center", ha="right")
            for column in range(levels + 1):
                place = ((left + column * (wide + gap)) / width, (top - title - head - high) / height)
                ax, lost = figure.add_axes((*place, wide / width, high / height)), row.counts == 0
                draw.show_image(ax, dim if column else colour, size)
                draw.show_boxes(ax, boxes[lost], LOST, 1.2 if column else 1.4, (0, (3, 1.2)), zorder=5)
                if column:
                    words = _level(ax, row, column - 1, boxes, unit)
                else:
                    words = _objects(ax, row, boxes, labels, names, unit)
                ax.set(xlim=(0, size[1]), ylim=(size[0], 0))
                ax.set_title(words, pad=3, fontsize=7.5, weight="normal")
        bar = figure.add_axes((1 - (right - 0.12) / width, foot / height, 0.09 / width, high / height))
        figure.colorbar(ScalarMappable(Normalize(0, 1), LABELS), cax=bar, ticks=[0, 0.5, 1]).outline.set_visible(False)
        bar.set_title("label", fontsize=7.5, weight="normal", loc="left")
        figure.caption = text or _caption(rows, frame)
        figure.text(left / width, 0.16 / height, figure.caption, fontsize=7.5, color=SOFT, va="center", wrap=True)
    figure.rows = tuple(rows)
    return figure


def counted(row: Row) -> str:
    """Positives of a row in words: of each object where they are few, else their spread."""
    counts, total = row.counts, int(row.counts.sum())
    text = draw.many(total, "point") + (" learns an object" if total == 1 else " learn an object")
    if len(counts) > 8:
        text += f" · per object {counts.min()} to {counts.max()}, median {np.median(counts):g}"
    elif len(counts):
        text += " · per object " + ", ".join(map(str, counts))
    lost = int((counts == 0).sum())
    return text + (f" · {draw.many(lost, 'object')} without a point" if lost else "")


def _caption(rows: Sequence[Row], frame: Frame) -> str:
    offsets = {f"{r.assignment.grid.offset:g}" for r in rows}
    grid = f"points offset by {offsets.pop()} strides" if len(offsets) == 1 else "each method on its own grid of points"
    return caption("compare", frame=frame, objects=draw.many(len(rows[0].counts), "object"), grid=grid)


def _objects(ax: Any, row: Row, boxes: Tensor, labels: Tensor, names: Sequence[str] | None, unit: float) -> str:
    """Draws the objects, each with the number of its points; returns the title."""
    lost = row.counts == 0
    draw.show_boxes(ax, boxes[~lost], "#10151d", 2.0, alpha=0.55)
    draw.show_boxes(ax, boxes[~lost], "#ffffff", 0.9)
    tagged = np.flatnonzero(lost if len(boxes) > EVERY_TAG else lost | True)
    tagged = tagged[np.argsort(~lost[tagged], kind="stable")]  # the lost ones choose their place first
    texts = [(f"{draw.name_of(labels[i], names)} " if names is not None else "") + str(row.counts[i]) for i in tagged]
    colours = [LOST if lost[i] else "#10151d" for i in tagged]
    draw.show_tags(ax, boxes[tagged], texts, colours, unit, font=5.5)
    return draw.many(len(boxes), "object")


def _level(ax: Any, row: Row, level: int, boxes: Tensor, unit: float) -> str:
    """Draws the labels and points of a level, and its objects; returns the title."""
    grid = row.assignment.grid
    label, index = (grid.split(v)[level][0].numpy() for v in (row.assignment.label, row.assignment.gt_index))
    draw.show_labels(ax, grid, level, label, index >= 0)
    spacing = grid.strides[level] / unit  # points (1/72 inch) between dots
    if spacing >= 5:
        draw.show_points(ax, grid, level, index >= 0, min(spacing / 5, 1.6))
    here = np.isin(np.arange(len(boxes)), index)
    draw.show_boxes(ax, boxes[~here & (row.counts > 0)], "#aab2bf", 0.5, alpha=0.7)
    draw.show_boxes(ax, boxes[here], "#ffffff", 0.9)
    count = int((index >= 0).sum())
    points = draw.many(count, "point") if count else "no points"
    return f"P{np.log2(grid.strides[level]):.3g} · stride {grid.strides[level]} · {points}"
