"""Rectangles of cells: which points of each level a box covers.

Where the number of points of a box has no bound (a large box on a fine level), the fixed windows of
`dsla.assigners.sparse.windows` would be as large as the map. Here a CPU counts the points and lists them; memory grows
with the points covered. A GPU, which must not make the host wait for a count, looks at tables of some boxes and all
points of the map, whose shapes are known.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ...geometry import PointGrid
from ..pairs import Truth
from .cells import Cells, Levels, pick

PIECE = 2**23  # pairs looked at in one go at worst: some 0.5 GB


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
    return owner, torch.arange(total, device=counts.device) - pick(first, owner)


@dataclass(frozen=True, eq=False)
class Region:
    """A rectangle of cells for each (box, level), both ends included; empty where an end precedes its start.

    Attributes:
        left, top, right, bottom: [N, L] int64 columns and rows; or [N, K] of some levels of each box.
        level: [N, K] int64 which levels those are; None: all, in their order.
    """

    grid: PointGrid
    truth: Truth
    left: Tensor
    top: Tensor
    right: Tensor
    bottom: Tensor
    level: Tensor | None = None

    @classmethod
    def inside(cls, grid: PointGrid, truth: Truth, x1: Tensor, y1: Tensor, x2: Tensor, y2: Tensor) -> "Region":
        """The points of the image strictly inside the given sides, pixels, [N, L] or [N, 1] each."""
        rows, columns = map_sizes(grid, truth)
        stride = Levels.of(grid).stride
        left, right = _span(x1, x2, stride, columns, grid.offset)
        top, bottom = _span(y1, y2, stride, rows, grid.offset)
        return cls(grid, truth, left, top, right, bottom)

    def __and__(self, other: "Region") -> "Region":
        left, top = torch.maximum(self.left, other.left), torch.maximum(self.top, other.top)
        right, bottom = torch.minimum(self.right, other.right), torch.minimum(self.bottom, other.bottom)
        return Region(self.grid, self.truth, left, top, right, bottom, self.level)

    @cached_property
    def _rows(self) -> tuple[Tensor, Tensor]:
        """Width of the map of each rectangle, and the index into P of the first point of its first row, [N·K]."""
        table = Levels.of(self.grid)
        every = torch.arange(len(table.first), device=self.left.device).expand(self.left.shape[0], -1)
        level = (every if self.level is None else self.level).flatten()
        width = pick(table.width, level)
        return width, pick(table.first, level) + self.top.flatten() * width

    def cells(self) -> Iterator[Cells]:
        """All (box, point) of the rectangles, in pieces that hold all points of a box; one piece on a CPU."""
        if self.left.device.type == "cpu":
            yield self.listed()
            return
        step = max(1, PIECE // len(self.grid))
        for i in range(0, len(self.left), step):
            yield self._table(torch.arange(i, min(i + step, len(self.left)), device=self.left.device))

    def listed(self) -> Cells:
        columns = (self.right - self.left + 1).clamp(min=0).flatten()
        rows = (self.bottom - self.top + 1).clamp(min=0).flatten()
        width, first = self._rows
        owner, place = spread(columns * rows)
        along = pick(columns, owner)
        row = place.div(along, rounding_mode="floor")
        at = pick(first + self.left.flatten(), owner) + row * pick(width, owner) + (place - row * along)
        return Cells(self.grid, self.truth, owner.div(self.left.shape[1], rounding_mode="floor"), at)

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
        width, first = self._rows
        first = first + (self.truth.image[:, None] * len(self.grid)).expand_as(runs).flatten()
        owner, place = spread(runs.flatten())
        base = first[owner] + place * width[owner]
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


def _span(low: Tensor, high: Tensor, stride: Tensor, size: Tensor, offset: float) -> tuple[Tensor, Tensor]:
    """First and last cell with low < coordinate < high, limited to 0…size−1.

    The quotient can round to the wrong side of a cell: the comparison itself decides, by one cell.
    """
    first = (low / stride - offset).floor().clamp(-1, 2.0**24) + 1
    first = first - ((first - 1 + offset) * stride > low).float() + ((first + offset) * stride <= low).float()
    last = (high / stride - offset).ceil().clamp(-1, 2.0**24) - 1
    last = last + ((last + 1 + offset) * stride < high).float() - ((last + offset) * stride >= high).float()
    return first.long().clamp(min=0), torch.minimum(last.long(), size - 1)
