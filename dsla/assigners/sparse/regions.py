"""Rectangles of cells: which points of each level a box can teach.

`candidates` makes `dsla.assigners.dense` sparse, proven by tests/assigners/test_dense.py: of each box and level it
gives the few points that the box can teach. They are scored, and reduced to points by one deterministic
``scatter_reduce`` over keys that pack (label, smaller box, lower index). Cost grows with boxes, not with boxes ×
points; batches need no loop; and a batch gives the same bits as its images one by one.

A CPU counts the points and lists them; memory grows with the points covered. A GPU must not make the host wait for a
count: it looks at windows of a fixed size or, where those would hold more than the map (a large box on a fine level
without a range), at tables of some boxes and all points of the map.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ...geometry import PointGrid, constant
from ..pairs import Truth, pick
from .cells import Cells, Levels
from .keys import winners

PIECE = 2**23  # pairs looked at in one go at worst: some 0.5 GB


def map_sizes(grid: PointGrid, truth: Truth) -> Tensor:
    """Columns and rows of each level that lie in the image of each box, [N, L, 2] int64.

    The whole map, or less where `Truth.sizes` says that the image ends inside its padding: what a box
    is taught must not depend on its batch.
    """
    table = Levels.of(grid)
    if truth.sizes is None:
        return table.size.expand(len(truth.boxes), -1, -1)
    sides = truth.sizes.flip(-1)[truth.image, None]  # [N, 1, 2]
    return torch.minimum((sides / table.stride[:, None] - grid.offset).ceil().long(), table.size)


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
        first, last: [N, L, 2] int64 column and row.
        most: columns and rows that no rectangle exceeds, where that is known without looking at them.
    """

    grid: PointGrid
    truth: Truth
    first: Tensor
    last: Tensor
    most: tuple[int, int] | None = None

    @classmethod
    def inside(
        cls, grid: PointGrid, truth: Truth, low: Tensor, high: Tensor, most: tuple[int, int] | None = None
    ) -> "Region":
        """The points of the image strictly between two corners, [N, L or 1, 2] pixels each.

        The quotient can round to the wrong side of a cell: the comparison itself decides, by one cell.
        """
        stride, offset = Levels.of(grid).stride[:, None], grid.offset
        first = (low / stride - offset).floor().clamp(-1, 2.0**24) + 1
        first = first - ((first - 1 + offset) * stride > low).float() + ((first + offset) * stride <= low).float()
        last = (high / stride - offset).ceil().clamp(-1, 2.0**24) - 1
        last = last + ((last + 1 + offset) * stride < high).float() - ((last + offset) * stride >= high).float()
        return cls(grid, truth, first.long().clamp(min=0), torch.minimum(last.long(), map_sizes(grid, truth) - 1), most)

    def __and__(self, other: "Region") -> "Region":
        first, last = torch.maximum(self.first, other.first), torch.minimum(self.last, other.last)
        return Region(self.grid, self.truth, first, last)

    @cached_property
    def start(self) -> Tensor:
        """[N, L] index into P of the first point of each rectangle."""
        table = Levels.of(self.grid)
        return table.first + self.first[..., 1] * table.size[:, 0] + self.first[..., 0]

    @property
    def _listing(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Columns and rows of each rectangle, its first point in P, and the width of its map, [N · L] each."""
        columns, rows = (self.last - self.first + 1).clamp(min=0).flatten(0, 1).unbind(-1)
        width = Levels.of(self.grid).size[:, 0].expand_as(self.start)
        return columns, rows, self.start.flatten(), width.flatten()

    def cells(self) -> Iterator[Cells]:
        """All (box, point) of the rectangles, in pieces that hold all points of a box."""
        if self.first.device.type == "cpu":
            yield self.listed()
        elif self.most and math.prod(self.most) * len(self.grid.shapes) < len(self.grid):
            yield self.windows(*self.most)
        else:
            boxes = torch.arange(len(self.first), device=self.first.device)
            yield from map(self.table, boxes.split(max(1, PIECE // len(self.grid))))

    def winners(self, value: Callable[[Cells], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The value of each pair → point, box and value of those that win, as `keys.winners` has them."""
        keys = torch.zeros(len(self.truth.first) * len(self.grid), dtype=torch.int64, device=self.grid.device)
        for cells in self.cells():
            cells.keys(value(cells), into=keys)
        return winners(self.truth, keys)

    def listed(self) -> Cells:
        """The pairs alone; their number is read back from the device."""
        columns, rows, start, width = self._listing
        owner, place = spread(columns * rows)
        along = pick(columns, owner)
        row = place.div(along, rounding_mode="floor")
        at = pick(start, owner) + row * pick(width, owner) + (place - row * along)
        return Cells(self.grid, self.truth, owner.div(self.first.shape[1], rounding_mode="floor"), at)

    def windows(self, columns: int, rows: int) -> Cells:
        """Tables [N, L, rows, columns] that begin where the rectangles do; only what lies in these is valid."""
        device, width = self.first.device, Levels.of(self.grid).size[:, 0]
        column, row = torch.arange(columns, device=device), torch.arange(rows, device=device)[:, None]
        size = (self.last - self.first)[:, :, None, None]  # [N, L, 1, 1, 2]
        valid = (column <= size[..., 0]) & (row <= size[..., 1])
        at = self.start[..., None, None] + row * width[:, None, None] + column
        box = torch.arange(len(at), device=device).view(-1, 1, 1, 1)
        return Cells(self.grid, self.truth, box, at.where(valid, 0), valid)

    def table(self, box: Tensor) -> Cells:
        """Tables [n, P] of some boxes with all points; only what lies in their rectangles is valid."""
        grid = self.grid
        cell = torch.stack((grid.column, grid.row), -1)
        valid = (self.first[box][:, grid.level] <= cell) & (cell <= self.last[box][:, grid.level])
        return Cells(grid, self.truth, box[:, None], torch.arange(len(grid), device=box.device), valid.all(-1))

    def covered(self) -> Tensor:
        """[B, P] bool: the points in the rectangle of any box.

        Each row of a rectangle is a run of points: +1 where it begins, −1 behind its end, then one sum.
        """
        columns, rows, start, width = self._listing
        owner, place = spread(rows * (columns > 0))
        image = self.truth.image.repeat_interleave(self.first.shape[1])
        begin = (start + image * len(self.grid))[owner] + place * width[owner]
        size = len(self.truth.first) * len(self.grid)
        change = torch.zeros(size + 1, dtype=torch.int32, device=begin.device)
        one = torch.ones_like(begin, dtype=torch.int32)
        change.index_add_(0, begin, one).index_add_(0, begin + columns[owner], -one)
        return (change.cumsum(0)[:size] > 0).view(-1, len(self.grid))


def candidates(
    grid: PointGrid, truth: Truth, low: Sequence[float], high: Sequence[float], radius: float | None = None
) -> Region:
    """Every point inside a box with low[level] ≤ max(l, t, r, b) ≤ high[level], and some with less or a hair more.

    Both distances of a point along an axis are at most `high`, so it lies between max(start, end − high) and
    min(end, start + high). Which of these pairs a label excludes is for the method to say.

    Args:
        grid: of L levels.
        truth: the boxes.
        low: pixels, one a level.
        high: pixels, one a level.
        radius: of centre sampling, in strides.
    """
    spans = high if radius is None else [min(h, 2 * radius * s) for h, s in zip(high, grid.strides, strict=True)]
    counts = [int(min(span / s, 2**30)) + 2 for span, s in zip(spans, grid.strides, strict=True)]
    rows, columns = (max(map(min, sides, counts)) for sides in zip(*grid.shapes, strict=True))
    least, most = constant((tuple(low), tuple(high)), grid.device)[..., None]  # [L, 1]
    stride = Levels.of(grid).stride[:, None]
    hair = stride / 100  # so that rounding leaves out nothing
    start, end = truth.boxes[:, None, :2], truth.boxes[:, None, 2:]  # [N, 1, 2]
    first, last = torch.maximum(start, end - most - hair), torch.minimum(end, start + most + hair)  # [N, L, 2]
    if radius is not None:
        centre, far = (start + end) / 2, radius * stride + hair
        first, last = torch.maximum(first, centre - far), torch.minimum(last, centre + far)
    fits = (end - start).amax(-1, keepdim=True) >= least - hair  # no distance exceeds the longer side
    return Region.inside(grid, truth, first, last.where(fits, first), (columns, rows))
