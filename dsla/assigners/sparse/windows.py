"""Windows of points around each box: `dsla.assigners.dense` made sparse, proven by tests/assigners/test_dense.py.

The points that a box can teach are few. Here they are enumerated per (box, level) in a window of fixed
size, scored, and reduced to points by one deterministic ``scatter_reduce`` over keys that pack (label,
smaller box, lower index). Cost grows with boxes, not with boxes × points; batches need no loop; and
a batch gives the same bits as its images one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from ...geometry import PointGrid, constant
from ..pairs import Pairs
from ..truth import Truth
from .keys import reduce_pairs, winners
from .regions import Levels


@dataclass(frozen=True, eq=False)
class Windows:
    """For every box and each of K levels, the window of H × W points that it might teach.

    A window is the product of its columns and rows, and most tests are of a column or a row alone, so
    they are made there and only their outcome is spread over the window.
    """

    truth: Truth
    grid: PointGrid
    level: Tensor  # [N, K] int64
    stride: Tensor  # [N, K]
    x: Tensor  # [N, K, W]
    y: Tensor  # [N, K, H]
    column: Tensor  # [N, K, W] int64, points before this one in its row
    row: Tensor  # [N, K, H] int64, points of the batch before this row
    in_x: Tensor  # [N, K, W] bool: on the map, inside the box (and centre region), within reach
    in_y: Tensor  # [N, K, H] bool, where the level fits the box

    @classmethod
    def of(
        cls,
        grid: PointGrid,
        truth: Truth,
        low: tuple[float, ...],
        high: tuple[float, ...],
        radius: float | None = None,
    ) -> Windows:
        """Windows that hold every point with low[level] ≤ max(l, t, r, b) ≤ high[level] inside a box, and some
        with less: which of them a label excludes is for the method to say.

        low, high: pixels, one a level. radius: of centre sampling, in strides.
        """
        if not len(grid.shapes) == len(low) == len(high):
            raise ValueError(f"{len(low)} regression ranges for a grid of {len(grid.shapes)} levels")
        table = _fitting(grid.shapes, grid.strides, low, high, radius, grid.device)
        x1, y1, x2, y2 = (truth.boxes[:, i, None] for i in range(4))  # [N, 1] each

        # m lies between half the longer side (at the centre) and the longer side: that says which levels fit
        gap = torch.bucketize(torch.maximum(x2 - x1, y2 - y1)[:, 0], table.edges)
        level, fits = table.level.index_select(0, gap), table.fits.index_select(0, gap)  # [N, K]

        def of_level(values: Tensor) -> Tensor:
            return values.index_select(0, level.flatten()).view_as(level)

        levels = Levels.of(grid)
        stride, reach = of_level(levels.stride), of_level(constant(high, grid.device))[..., None]
        width, height = of_level(levels.width), of_level(levels.height)
        column, x, in_x = _axis(x1, x2, stride, width, table.columns, grid.offset, reach, radius)
        row, y, in_y = _axis(y1, y2, stride, height, table.rows, grid.offset, reach, radius)
        base = truth.image[:, None] * len(grid) + of_level(levels.first)
        row = base[..., None] + row * width[..., None]
        return cls(truth, grid, level, stride, x, y, column, row, in_x, in_y & fits[..., None])

    @cached_property
    def pairs(self) -> Pairs:
        """The pairs as tensors that broadcast to [N, K, H, W]."""
        x1, y1, x2, y2 = (self.truth.boxes[:, i, None, None, None] for i in range(4))
        stride, level = self.stride[..., None, None], self.level[..., None, None]
        return Pairs(self.x[:, :, None], self.y[..., None], (x1, y1, x2, y2), stride, level)

    @cached_property
    def point(self) -> Tensor:
        """[N, K, H, W] index into B·P."""
        return self.row[..., None] + self.column[:, :, None]

    def candidates(self) -> Candidates:
        """The pairs that may teach. A CPU keeps them alone, a tenth of the windows; a GPU keeps the windows,
        whose shape is known without halting the step to count."""
        if self.x.device.type == "cpu":
            return self._listed()
        box = torch.arange(len(self.truth.boxes), device=self.x.device).view(-1, 1, 1, 1)
        valid = self.in_y[..., None] & self.in_x[:, :, None]
        return Candidates(self, self.pairs, box, self.point, valid)

    def _listed(self) -> Candidates:
        """Those columns and those rows of a window follow one another: so its pairs can be counted off."""
        n_x, n_y = self.in_x.sum(-1).flatten(), self.in_y.sum(-1).flatten()
        first_x, first_y = self.in_x.byte().argmax(-1).flatten(), self.in_y.byte().argmax(-1).flatten()
        count = n_x * n_y
        window = torch.arange(len(count))
        at = window.repeat_interleave(count)  # [T]

        def pick(values: Tensor, index: Tensor) -> Tensor:
            return values.flatten().index_select(0, index)  # on a CPU several times faster than values[index]

        number = torch.arange(len(at)) - pick(count.cumsum(0) - count, at)
        wide = pick(n_x, at)
        down = number.div(wide, rounding_mode="floor")
        right = number - down * wide
        at_x = right + pick(first_x + window * self.x.shape[-1], at)
        at_y = down + pick(first_y + window * self.y.shape[-1], at)
        n = at.div(self.level.shape[1], rounding_mode="floor")
        x1, y1, x2, y2 = self.truth.boxes.t().contiguous().index_select(1, n).unbind()
        pairs = Pairs(
            x=pick(self.x, at_x),
            y=pick(self.y, at_y),
            boxes=(x1, y1, x2, y2),
            stride=pick(self.stride, at),
            level=pick(self.level, at),
        )
        return Candidates(self, pairs, n, pick(self.row, at_y) + pick(self.column, at_x))


@dataclass(frozen=True, eq=False)
class Candidates:
    """(point, box) pairs that may teach, and how they are reduced to one box a point."""

    windows: Windows
    pairs: Pairs
    box: Tensor  # index into N; broadcasts
    point: Tensor  # index into B·P
    valid: Tensor | None = None  # None: all are

    def keys(self, label: Tensor) -> Tensor:
        """Label of each pair, 0 where excluded → winning key of each point, [B·P] int64."""
        label = label if self.valid is None else label * self.valid
        return reduce_pairs(self.windows.grid, self.windows.truth, self.box, self.point, label)

    def winners(self, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same → point, box and label, as `keys.winners` has them."""
        return winners(self.windows.truth, self.keys(label))


@dataclass(frozen=True, eq=False)
class _Fitting:
    """Which levels a box can act at, and the size of a window."""

    edges: Tensor  # longer sides at which the levels that fit a box change, ascending
    level: Tensor  # [edges + 1, K] int64: the levels that fit between two edges
    fits: Tensor  # [edges + 1, K] bool: False where there are fewer than K
    rows: int
    columns: int


@lru_cache(maxsize=64)
def _fitting(
    shapes: tuple[tuple[int, int], ...],
    strides: tuple[int, ...],
    low: tuple[float, ...],
    high: tuple[float, ...],
    radius: float | None,
    device: torch.device,
) -> _Fitting:
    span = high if radius is None else tuple(min(h, 2 * radius * s) for h, s in zip(high, strides, strict=True))
    count = [int(min(a / s, 2**30)) + 2 for a, s in zip(span, strides, strict=True)]
    # a box of longer side a fits where low ≤ a ≤ 2·high; a hair wide, so that float32 rounding excludes no level
    spans = [(lo * (1 - 1e-6), 2 * hi * (1 + 1e-6)) for lo, hi in zip(low, high, strict=True)]
    edges = sorted({edge for span in spans for edge in span})
    gaps = list(zip([-1.0, *edges], [*edges, float("inf")], strict=True))
    fitting = [[i for i, (lo, hi) in enumerate(spans) if lo <= a and b <= hi] for a, b in gaps]
    most = max(1, *map(len, fitting))
    return _Fitting(
        edges=constant(tuple(edges), device),
        level=constant(tuple((*f, *[0] * (most - len(f))) for f in fitting), device, torch.int64),
        fits=constant(tuple((*[True] * len(f), *[False] * (most - len(f))) for f in fitting), device, torch.bool),
        rows=max(min(h, n) for (h, _), n in zip(shapes, count, strict=True)),
        columns=max(min(w, n) for (_, w), n in zip(shapes, count, strict=True)),
    )


def _axis(
    start: Tensor,  # [N, 1] x1 or y1
    end: Tensor,
    stride: Tensor,  # [N, K]
    size: Tensor,  # [N, K] cells of the map along this axis
    count: int,
    offset: float,
    high: Tensor,  # [N, K, 1]
    radius: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Columns (or rows) of the windows: index, coordinate, and whether it is within map, box and reach.

    All [N, K, count]. Both distances of a point are at most `high`, so it lies between
    max(start, end − high) and min(end, start + high): `count` cells from the first one hold all of them.
    """
    first = torch.maximum(start, end - high[..., 0])
    centre, far = (start + end) / 2, None
    if radius is not None:
        far = radius * stride
        first = torch.maximum(first, centre - far)
    begin = (first / stride - offset).floor().clamp(min=0, max=2.0**30).long()
    cell = begin[..., None] + torch.arange(count, device=start.device)
    exists = cell < size[..., None]
    cell = torch.minimum(cell, size[..., None] - 1)
    at = (cell.float() + offset) * stride[..., None]
    near, away = at - start[..., None], end[..., None] - at
    within = exists & (near > 0) & (away > 0) & (torch.maximum(near, away) <= high)
    if far is not None:
        c, f = centre[..., None], far[..., None]
        within &= (at > c - f) & (at < c + f)
    return cell, at, within
