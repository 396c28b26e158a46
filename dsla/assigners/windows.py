"""The sparse form that makes assignment cheap: windows of points around each box.

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

from ..geometry import PointGrid
from .base import Pairs, Truth


@dataclass(frozen=True)
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
    valid: Tensor  # [N, K, H, W] bool: on the map, inside the box (and centre region), low ≤ m ≤ high

    @classmethod
    def of(
        cls,
        grid: PointGrid,
        truth: Truth,
        low: tuple[float, ...],
        high: tuple[float, ...],
        radius: float | None = None,
    ) -> Windows:
        """Windows that hold every point with low[level] ≤ max(l, t, r, b) ≤ high[level] inside a box.

        low, high: pixels, one a level. radius: of centre sampling, in strides.
        """
        if not len(grid.shapes) == len(low) == len(high):
            raise ValueError(f"{len(low)} regression ranges for a grid of {len(grid.shapes)} levels")
        table = _levels(grid.shapes, grid.strides, low, high, radius, grid.device)
        x1, y1, x2, y2 = (truth.boxes[:, i, None] for i in range(4))  # [N, 1] each

        # m lies between half the longer side (at the centre) and the longer side: which levels fit?
        side = torch.maximum(x2 - x1, y2 - y1)
        fits = (side >= table.low) & (side <= table.high * _TWO)  # [N, L]
        fits, level = fits.long().sort(dim=1, descending=True, stable=True)
        fits, level = fits[:, : table.most].bool(), level[:, : table.most]  # [N, K]

        stride, below, reach = table.stride[level], table.low[level, None], table.high[level, None]
        width, height = table.width[level], table.height[level]
        column, x, in_x, far_x = _axis(
            x1, x2, stride, width, table.columns, grid.offset, below, reach, radius
        )
        row, y, in_y, far_y = _axis(y1, y2, stride, height, table.rows, grid.offset, below, reach, radius)
        base = truth.image[:, None] * len(grid) + table.first[level]
        valid = (in_y & fits[..., None])[..., None] & in_x[:, :, None]
        valid &= far_y[..., None] | far_x[:, :, None]
        return cls(truth, grid, level, stride, x, y, column, base[..., None] + row * width[..., None], valid)

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
        """The valid pairs. On a CPU only they are kept, a tenth; a GPU keeps the fixed shape, since
        counting them would halt the step."""
        if self.valid.device.type != "cpu":
            box = torch.arange(len(self.truth.boxes), device=self.valid.device)
            return Candidates(self, self.pairs, box.view(-1, 1, 1, 1), self.point, self.valid)
        n, k, h, w = self.valid.nonzero(as_tuple=True)
        at = n * self.level.shape[1] + k
        at_x, at_y = at * self.x.shape[-1] + w, at * self.y.shape[-1] + h
        x1, y1, x2, y2 = self.truth.boxes.t().contiguous()[:, n].unbind()
        pairs = Pairs(
            x=self.x.flatten()[at_x],
            y=self.y.flatten()[at_y],
            boxes=(x1, y1, x2, y2),
            stride=self.stride.flatten()[at],
            level=self.level.flatten()[at],
        )
        return Candidates(self, pairs, n, self.row.flatten()[at_y] + self.column.flatten()[at_x])


@dataclass(frozen=True)
class Candidates:
    """(point, box) pairs that may teach, and how they are reduced to one box a point."""

    windows: Windows
    pairs: Pairs
    box: Tensor  # index into N; broadcasts
    point: Tensor  # index into B·P
    valid: Tensor | None = None  # None: all are

    def reduce(self, label: Tensor) -> Tensor:
        """Label of each pair, 0 where excluded → winning key of each point, [B·P] int64."""
        truth, grid = self.windows.truth, self.windows.grid
        key = truth.keys(label if self.valid is None else label * self.valid, self.box)
        best = torch.zeros(len(truth.first) * len(grid), dtype=torch.int64, device=label.device)
        return best.scatter_reduce_(0, self.point.flatten(), key.flatten(), "amax")


_TWO = 2 * (1 + 1e-6)  # a hair wide, so that float32 rounding excludes no level


@dataclass(frozen=True)
class _Levels:
    """What windows need to know of the levels; kept per grid, so that a step makes no small copies."""

    low: Tensor  # [L]
    high: Tensor
    stride: Tensor
    height: Tensor  # [L] int64
    width: Tensor
    first: Tensor  # [L] int64, index of the level's first point
    rows: int  # size of a window
    columns: int
    most: int  # levels that one box can have points at


@lru_cache(maxsize=64)
def _levels(
    shapes: tuple[tuple[int, int], ...],
    strides: tuple[int, ...],
    low: tuple[float, ...],
    high: tuple[float, ...],
    radius: float | None,
    device: torch.device,
) -> _Levels:
    span = (
        high if radius is None else tuple(min(h, 2 * radius * s) for h, s in zip(high, strides, strict=True))
    )
    count = [int(min(a / s, 2**30)) + 2 for a, s in zip(span, strides, strict=True)]
    points = [h * w for h, w in shapes]
    first = [sum(points[:i]) for i in range(len(points))]
    return _Levels(
        low=torch.tensor(low, dtype=torch.float32, device=device),
        high=torch.tensor(high, dtype=torch.float32, device=device),
        stride=torch.tensor(strides, dtype=torch.float32, device=device),
        height=torch.tensor([h for h, _ in shapes], device=device),
        width=torch.tensor([w for _, w in shapes], device=device),
        first=torch.tensor(first, device=device),
        rows=max(min(h, n) for (h, _), n in zip(shapes, count, strict=True)),
        columns=max(min(w, n) for (_, w), n in zip(shapes, count, strict=True)),
        most=max(
            # the count of fitting levels can only be largest where the interval of one begins
            1,
            *(sum(lo <= a <= _TWO * hi for lo, hi in zip(low, high, strict=True)) for a in low),
        ),
    )


def _axis(
    start: Tensor,  # [N, 1] x1 or y1
    end: Tensor,
    stride: Tensor,  # [N, K]
    size: Tensor,  # [N, K] cells of the map along this axis
    count: int,
    offset: float,
    low: Tensor,  # [N, K, 1]
    high: Tensor,
    radius: float | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Columns (or rows) of the windows: index, coordinate, within the box and reach?, at least `low` away?

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
    longer = torch.maximum(near, away)
    within = exists & (near > 0) & (away > 0) & (longer <= high)
    if far is not None:
        c, f = centre[..., None], far[..., None]
        within &= (at > c - f) & (at < c + f)
    return cell, at, within, longer >= low
