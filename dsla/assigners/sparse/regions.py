"""Rectangles of cells: which points of each level a box covers.

Where the number of points of a box has no bound (a large box on a fine level), the fixed windows of
`dsla.assigners.sparse.windows` would be as large as the map. Here a CPU counts the points and lists them; memory grows
with the points covered. A GPU, which must not make the host wait for a count, looks at tables of some boxes and all
points of the map, whose shapes are known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from ...geometry import PointGrid, constant
from ..pairs import Pairs
from ..truth import Truth

PIECE = 2**23  # pairs looked at in one go at worst: some 0.5 GB


class Levels(NamedTuple):
    """What regions need to know of the levels, [L] each."""

    stride: Tensor  # float32
    height: Tensor  # int64
    width: Tensor
    first: Tensor  # index of the level's first point

    @classmethod
    def of(cls, grid: PointGrid) -> Levels:
        first = tuple(sum(grid.num_points[:i]) for i in range(len(grid.shapes)))
        sizes = (constant(v, grid.device, torch.int64) for v in (*zip(*grid.shapes, strict=True), first))
        return cls(constant(grid.strides, grid.device), *sizes)


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


@dataclass(frozen=True, eq=False)
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

    def cells(self) -> Iterator[Cells]:
        """All (box, point) of the rectangles, in pieces that hold all points of a box; one piece on a CPU."""
        if self.left.device.type == "cpu":
            yield self._listed()
            return
        step = max(1, PIECE // len(self.grid))
        for i in range(0, len(self.left), step):
            yield self._table(torch.arange(i, min(i + step, len(self.left)), device=self.left.device))

    def _listed(self) -> Cells:
        columns = (self.right - self.left + 1).clamp(min=0).flatten()
        rows = (self.bottom - self.top + 1).clamp(min=0).flatten()
        owner, place = spread(columns * rows)
        along = columns[owner]
        row = place.div(along, rounding_mode="floor")
        column = place - row * along
        row, column = row + self.top.flatten()[owner], column + self.left.flatten()[owner]
        levels, table = self.left.shape[1], Levels.of(self.grid)
        level = owner % levels
        at = table.first[level] + row * table.width[level] + column
        return Cells(self.grid, self.truth, owner.div(levels, rounding_mode="floor"), at)

    def _table(self, box: Tensor) -> Cells:
        grid = self.grid
        left, top, right, bottom = (v[box][:, grid.level] for v in (self.left, self.top, self.right, self.bottom))
        valid = (left <= grid.column) & (grid.column <= right) & (top <= grid.row) & (grid.row <= bottom)
        return Cells(grid, self.truth, box[:, None], torch.arange(len(grid), device=box.device), valid)

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


@dataclass(frozen=True, eq=False)
class Cells:
    """(box, point) pairs: a list, or a table [n, P] of which only the valid ones count."""

    grid: PointGrid
    truth: Truth
    box: Tensor  # [Q] or [n, 1] index into N
    at: Tensor  # [Q] or [P] index into P
    valid: Tensor | None = None  # [n, P] bool

    @cached_property
    def point(self) -> Tensor:
        """Index into B·P of each pair."""
        return self.truth.image[self.box] * len(self.grid) + self.at

    @cached_property
    def pairs(self) -> Pairs:
        x, y = self.grid.xy[self.at].unbind(-1)
        x1, y1, x2, y2 = self.truth.boxes.t().contiguous()[:, self.box].unbind()
        return Pairs(x, y, (x1, y1, x2, y2), self.grid.stride[self.at], self.grid.level[self.at])

    def counted(self, values: Tensor) -> Tensor:
        """The values of pairs, 0 at those that do not count."""
        return values if self.valid is None else values.where(self.valid, 0)


def _span(low: Tensor, high: Tensor, stride: Tensor, size: Tensor, offset: float) -> tuple[Tensor, Tensor]:
    """First and last cell with low < coordinate < high, limited to 0…size−1.

    The quotient can round to the wrong side of a cell: the comparison itself decides, by one cell.
    """
    first = (low / stride - offset).floor().clamp(-1, 2.0**24) + 1
    first = first - ((first - 1 + offset) * stride > low).float() + ((first + offset) * stride <= low).float()
    last = (high / stride - offset).ceil().clamp(-1, 2.0**24) - 1
    last = last + ((last + 1 + offset) * stride < high).float() - ((last + offset) * stride >= high).float()
    return first.long().clamp(min=0), torch.minimum(last.long(), size - 1)
