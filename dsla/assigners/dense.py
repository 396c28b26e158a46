"""The definition: for every point and every box the label, for every point the box that teaches it.

Read this first. It defines FCOS, DSLA and every other method whose label depends on a point and a box alone; what
differs between them is the label, which `PairAssigner.label` makes of their `factors`. `dsla.assigners.sparse` gives
the same labels some hundred times faster, because it looks only at the points that a box can teach; tests hold it
against this file, bit for bit (tests/assigners/test_dense.py).

**P** points of all levels, **M** boxes of an image.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ..geometry import PointGrid, box_area
from .pairs import Pairs
from .pairwise import PairAssigner


class Labels(NamedTuple):
    """What each point is taught: label [P] in [0, 1], gt_index [P] of its box, category [P]; 0, −1, −1: background."""

    label: Tensor
    gt_index: Tensor
    category: Tensor


def label_table(method: PairAssigner, grid: PointGrid, boxes: Tensor) -> Tensor:
    """The label of every pair of a point and a box: boxes [M, 4] → [P, M]."""
    points = torch.arange(len(grid), device=grid.device)[:, None]  # [P, 1]
    return method.label(Pairs.of(grid, points, boxes.unbind(-1)))  # corners [M] each


def assign(method: PairAssigner, grid: PointGrid, boxes: Tensor, labels: Tensor) -> Labels:
    """One image: boxes [M, 4], labels [M], M ≥ 1.

    A point learns the box that gives it the highest label: its class, its label and its box. Of equal labels the
    smaller box wins, of equal boxes the first.
    """
    smallest_first = box_area(boxes).argsort(stable=True)  # [M]
    table = label_table(method, grid, boxes[smallest_first])  # [P, M]
    best = table.argmax(1)  # [P], the first of equal maxima
    label = table.gather(1, best[:, None])[:, 0]
    gt_index, positive = smallest_first[best], label > 0
    return Labels(label, gt_index.where(positive, -1), labels[gt_index].where(positive, -1))
