"""Rectangles of cells: which points of each level a box can teach.

`candidates` makes `dsla.assigners.dense` sparse, proven by tests/assigners/test_dense.py: of each box and level it
gives the few points that the box can teach. They are scored, and reduced to points by one deterministic
``scatter_reduce`` over keys that pack (label, smaller box, lower index). Cost grows with boxes, not with boxes ×
points; batches need no loop; and a batch gives the same bits as its images one by one.

A CPU counts the points and lists them; memory grows with the points covered. A GPU must not make the host wait for a
count: it looks at windows of a fixed size or, where the number of points of a box has no bound (a large box on a fine
level), at tables of some boxes and all points of the map.
"""

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
        left, top, right, bottom: [N, L] int64 columns and rows.
        most: rows and columns that no rectangle exceeds, where that is known without looking at them.
    """

    grid: PointGrid
    truth: Truth
    left: Tensor
    top: Tensor
    right: Tensor
    bottom: Tensor
    most: tuple[int, int] | None = None

    @classmethod
    def inside(
        cls,
        grid: PointGrid,
        truth: Truth,
        x1: Tensor,
        y1: Tensor,
        x2: Tensor,
        y2: Tensor,
        most: tuple[int, int] | None = None,
    ) -> "Region":
        """The points of the image strictly inside the given sides, pixels, [N, L] or [N, 1] each."""
        rows, columns = map_sizes(grid, truth)
        stride = Levels.of(grid).stride
        left, right = _span(x1, x2, stride, columns, grid.offset)
        top, bottom = _span(y1, y2, stride, rows, grid.offset)
        return cls(grid, truth, left, top, right, bottom, most)

    def __and__(self, other: "Region") -> "Region":
        left, top = torch.maximum(self.left, other.left), torch.maximum(self.top, other.top)
        right, bottom = torch.minimum(self.right, other.right), torch.minimum(self.bottom, other.bottom)
        return Region(self.grid, self.truth, left, top, right, bottom)

    @cached_property
    def _rows(self) -> tuple[Tensor, Tensor]:
        """Width of the map of each rectangle, and the index into P of the first point of its first row, [N·K]."""
        table = Levels.of(self.grid)
        return table.width.expand_as(self.top).flatten(), (table.first + self.top * table.width).flatten()

    def cells(self) -> Iterator[Cells]:
        """All (box, point) of the rectangles, in pieces that hold all points of a box."""
        if self.left.device.type == "cpu":
            yield self.listed()
        elif self.most is not None:
            yield self.windows(*self.most)
        else:
            step = max(1, PIECE // len(self.grid))
            for i in range(0, len(self.left), step):
                yield self._table(torch.arange(i, min(i + step, len(self.left)), device=self.left.device))

    def winners(self, value: Callable[[Cells], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The value of each pair → point, box and value of those that win, as `keys.winners` has them."""
        keys = torch.zeros(len(self.truth.first) * len(self.grid), dtype=torch.int64, device=self.grid.device)
        for cells in self.cells():
            cells.keys(value(cells), into=keys)
        return winners(self.truth, keys)

    def listed(self) -> Cells:
        columns = (self.right - self.left + 1).clamp(min=0).flatten()
        rows = (self.bottom - self.top + 1).clamp(min=0).flatten()
        width, first = self._rows
        owner, place = spread(columns * rows)
        along = pick(columns, owner)
        row = place.div(along, rounding_mode="floor")
        at = pick(first + self.left.flatten(), owner) + row * pick(width, owner) + (place - row * along)
        return Cells(self.grid, self.truth, owner.div(self.left.shape[1], rounding_mode="floor"), at)

    def windows(self, rows: int, columns: int) -> Cells:
        """Tables [N, L, rows, columns] that begin where the rectangles do; only what lies in these is valid."""
        table, device = Levels.of(self.grid), self.left.device
        row = self.top[..., None] + torch.arange(rows, device=device)  # [N, L, rows]
        column = self.left[..., None] + torch.arange(columns, device=device)  # [N, L, columns]
        valid = (row <= self.bottom[..., None])[..., None] & (column <= self.right[..., None])[:, :, None]
        at = (table.first[:, None] + row * table.width[:, None])[..., None] + column[:, :, None]
        box = torch.arange(len(at), device=device).view(-1, 1, 1, 1)
        return Cells(self.grid, self.truth, box, at.where(valid, 0), valid)

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
    stride, (least, most) = Levels.of(grid).stride, constant((tuple(low), tuple(high)), grid.device)
    hair = stride / 100  # so that rounding leaves out nothing
    x1, y1, x2, y2 = (truth.boxes[:, i, None] for i in range(4))  # [N, 1] each
    fits = torch.maximum(x2 - x1, y2 - y1) >= least - hair  # [N, L]: no distance exceeds the longer side
    ends = []
    for start, end in ((x1, x2), (y1, y2)):
        first, last = torch.maximum(start, end - most - hair), torch.minimum(end, start + most + hair)
        if radius is not None:
            centre, far = (start + end) / 2, radius * stride + hair
            first, last = torch.maximum(first, centre - far), torch.minimum(last, centre + far)
        ends += [first, last.where(fits, first)]
    left, right, top, bottom = ends
    return Region.inside(grid, truth, left, top, right, bottom, (rows, columns))


def _span(low: Tensor, high: Tensor, stride: Tensor, size: Tensor, offset: float) -> tuple[Tensor, Tensor]:
    """First and last cell with low < coordinate < high, limited to 0…size−1.

    The quotient can round to the wrong side of a cell: the comparison itself decides, by one cell.
    """
    first = (low / stride - offset).floor().clamp(-1, 2.0**24) + 1
    first = first - ((first - 1 + offset) * stride > low).float() + ((first + offset) * stride <= low).float()
    last = (high / stride - offset).ceil().clamp(-1, 2.0**24) - 1
    last = last + ((last + 1 + offset) * stride < high).float() - ((last + offset) * stride >= high).float()
    return first.long().clamp(min=0), torch.minimum(last.long(), size - 1)
