"""Rectangles of cells: which points of each level a box covers, enumerated without a loop.

Where the number of points of a box has no bound (a large box on a fine level), the fixed windows of
`dsla.assigners.sparse.windows` would be as large as the map. Here their number is counted first: one number is read
back from the device, and memory grows with the points covered.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from ...geometry import PointGrid
from ..base import Pairs, Truth


class Levels(NamedTuple):
    """What regions need to know of the levels, [L] each."""

    stride: Tensor  # float32
    height: Tensor  # int64
    width: Tensor
    first: Tensor  # index of the level's first point

    @classmethod
    def of(cls, grid: PointGrid) -> Levels:
        return _levels(grid.shapes, grid.strides, grid.device)


@lru_cache(maxsize=64)
def _levels(shapes: tuple[tuple[int, int], ...], strides: tuple[int, ...], device: torch.device) -> Levels:
    points = [h * w for h, w in shapes]
    sizes = ([h for h, _ in shapes], [w for _, w in shapes], [sum(points[:i]) for i in range(len(points))])
    stride = torch.tensor(strides, dtype=torch.float32, device=device)
    return Levels(stride, *(torch.tensor(v, dtype=torch.int64, device=device) for v in sizes))


def map_sizes(grid: PointGrid, truth: Truth) -> tuple[Tensor, Tensor]:
    """Rows and columns of each level that lie in the image of each box, [N, L] int64 twice.

    The whole map, or less where `Truth.sizes` says that the image ends inside its padding: what a box
    is taught must not depend on its batch.
    """
    table = Levels.of(grid)
    shape = (len(truth.boxes), len(table.stride))
    if truth.sizes is None:
        return table.height.expand(shape), table.width.expand(shape)
    cells = (truth.sizes[truth.image, :, None] / table.stride - grid.offset).ceil().long()  # [N, 2, L]
    return torch.minimum(cells[:, 0], table.height), torch.minimum(cells[:, 1], table.width)


def spread(counts: Tensor) -> tuple[Tensor, Tensor]:
    """For Σ counts elements, the owner of each and its place among the owner's: counts [G] → [Q], [Q]."""
    total = int(counts.sum())  # read back from the device
    owner = torch.repeat_interleave(counts, output_size=total)
    first = counts.cumsum(0) - counts
    return owner, torch.arange(total, device=counts.device) - first[owner]


@dataclass(frozen=True)
class Region:
    """A rectangle of cells for each (box, level), both ends included; empty where an end precedes its start.

    Attributes: left, top, right, bottom: [N, L] int64 columns and rows.
    """

    grid: PointGrid
    truth: Truth
    left: Tensor
    top: Tensor
    right: Tensor
    bottom: Tensor

    @classmethod
    def inside(cls, grid: PointGrid, truth: Truth, x1: Tensor, y1: Tensor, x2: Tensor, y2: Tensor) -> Region:
        """The points of the image strictly inside the given sides, pixels, [N, L] or [N, 1] each."""
        rows, columns = map_sizes(grid, truth)
        stride = Levels.of(grid).stride
        left, right = _span(x1, x2, stride, columns, grid.offset)
        top, bottom = _span(y1, y2, stride, rows, grid.offset)
        return cls(grid, truth, left, top, right, bottom)

    def __and__(self, other: Region) -> Region:
        low = (torch.maximum(getattr(self, side), getattr(other, side)) for side in ("left", "top"))
        high = (torch.minimum(getattr(self, side), getattr(other, side)) for side in ("right", "bottom"))
        return Region(self.grid, self.truth, *low, *high)

    @cached_property
    def start(self) -> Tensor:
        """[N, L] index into B·P of the first point of the level in the box's image."""
        return self.truth.image[:, None] * len(self.grid) + Levels.of(self.grid).first

    def cells(self) -> Cells:
        """All (box, point) of the rectangles, by box, level, row and column."""
        columns = (self.right - self.left + 1).clamp(min=0).flatten()
        rows = (self.bottom - self.top + 1).clamp(min=0).flatten()
        owner, place = spread(columns * rows)
        along = columns[owner]
        row = place.div(along, rounding_mode="floor")
        column = place - row * along
        row, column = row + self.top.flatten()[owner], column + self.left.flatten()[owner]
        levels = self.left.shape[1]
        level = owner % levels
        point = self.start.flatten()[owner] + row * Levels.of(self.grid).width[level] + column
        return Cells(self.grid, self.truth, owner.div(levels, rounding_mode="floor"), level, row, column, point)

    def covered(self) -> Tensor:
        """[B, P] bool: the points in the rectangle of any box.

        Each row of a rectangle is a run of points: +1 where it begins, −1 behind its end, then one sum.
        """
        runs = (self.bottom - self.top + 1).clamp(min=0) * (self.right >= self.left)
        owner, place = spread(runs.flatten())
        width = Levels.of(self.grid).width[owner % self.left.shape[1]]
        base = self.start.flatten()[owner] + (self.top.flatten()[owner] + place) * width
        size = len(self.truth.first) * len(self.grid)
        change = torch.zeros(size + 1, dtype=torch.int32, device=base.device)
        one = torch.ones_like(base, dtype=torch.int32)
        change.index_add_(0, base + self.left.flatten()[owner], one)
        change.index_add_(0, base + self.right.flatten()[owner] + 1, -one)
        return (change.cumsum(0)[:size] > 0).view(-1, len(self.grid))

    def contains(self, level: int, row: int, column: int) -> bool:
        """Whether the rectangle of the first box holds this cell."""
        left, top, right, bottom = (int(v[0, level]) for v in (self.left, self.top, self.right, self.bottom))
        return left <= column <= right and top <= row <= bottom


@dataclass(frozen=True)
class Cells:
    """Flat (box, point) pairs: box [Q] into N, point [Q] into B·P; level, row, column of the point."""

    grid: PointGrid
    truth: Truth
    box: Tensor
    level: Tensor
    row: Tensor
    column: Tensor
    point: Tensor

    @cached_property
    def pairs(self) -> Pairs:
        stride = Levels.of(self.grid).stride[self.level]
        x, y = ((v.float() + self.grid.offset) * stride for v in (self.column, self.row))
        x1, y1, x2, y2 = self.truth.boxes.t().contiguous()[:, self.box].unbind()
        return Pairs(x, y, (x1, y1, x2, y2), stride, self.level)


def reduce_pairs(grid: PointGrid, truth: Truth, box: Tensor, point: Tensor, priority: Tensor) -> Tensor:
    """Pairs of any one shape → [B·P] winning keys: highest priority (0 excludes), smaller box, lower index."""
    best = torch.zeros(len(truth.first) * len(grid), dtype=torch.int64, device=grid.device)
    return best.scatter_reduce_(0, point.flatten(), truth.keys(priority, box).flatten(), "amax")


def priority_of(keys: Tensor, grid: PointGrid) -> Tensor:
    """[B·P] keys → the [B, P] float32 that won each point, 0 at background."""
    return (keys >> 32).int().view(torch.float32).view(-1, len(grid))


def _span(low: Tensor, high: Tensor, stride: Tensor, size: Tensor, offset: float) -> tuple[Tensor, Tensor]:
    """First and last cell with low < coordinate < high, limited to 0…size−1.

    The quotient can round to the wrong side of a cell: the comparison itself decides, by one cell.
    """
    first = (low / stride - offset).floor().clamp(-1, 2.0**24) + 1
    first = first - ((first - 1 + offset) * stride > low).float() + ((first + offset) * stride <= low).float()
    last = (high / stride - offset).ceil().clamp(-1, 2.0**24) - 1
    last = last + ((last + 1 + offset) * stride < high).float() - ((last + offset) * stride >= high).float()
    return first.long().clamp(min=0), torch.minimum(last.long(), size - 1)
