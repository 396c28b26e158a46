"""Windows of points around each box: `dsla.assigners.dense` made sparse, proven by tests/assigners/test_dense.py.

The points that a box can teach are few. Here they are enumerated per (box, level) in a window of fixed
size, scored, and reduced to points by one deterministic ``scatter_reduce`` over keys that pack (label,
smaller box, lower index). Cost grows with boxes, not with boxes × points; batches need no loop; and
a batch gives the same bits as its images one by one.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ...geometry import PointGrid, constant
from ..pairs import Truth
from .cells import Cells, Levels, pick
from .regions import Region


def candidates(
    grid: PointGrid,
    truth: Truth,
    low: tuple[float, ...],
    high: tuple[float, ...],
    radius: float | None = None,
    listed: bool | None = None,
) -> Cells:
    """Every pair with low[level] ≤ max(l, t, r, b) ≤ high[level] and the point inside the box, and some with less.

    For each box and each of the K levels that can fit it there is a window of H × W points. A window is the product of
    its columns and rows; those that count follow one another.

    Args:
        grid: of L levels.
        truth: the boxes.
        low: pixels, one a level; which pairs with less a label excludes is for the method to say.
        high: pixels, one a level.
        radius: of centre sampling, in strides.
        listed: the pairs that count alone, a tenth of the windows; or whole windows, whose shape is known without
            halting a GPU to count. By default as the device wants it.
    Raises:
        ValueError: ranges for another number of levels.
    """
    if not len(grid.shapes) == len(low) == len(high):
        raise ValueError(f"{len(low)} regression ranges for a grid of {len(grid.shapes)} levels")
    table, levels = _fitting(grid.shapes, grid.strides, low, high, radius, grid.device), Levels.of(grid)
    x1, y1, x2, y2 = (truth.boxes[:, i, None] for i in range(4))  # [N, 1] each

    # m lies between half the longer side (at the centre) and the longer side: that says which levels fit
    gap = torch.bucketize(torch.maximum(x2 - x1, y2 - y1)[:, 0], table.edges)
    level, fits = pick(table.level, gap), pick(table.fits, gap)  # [N, K]
    stride, reach = pick(levels.stride, level), pick(constant(high, grid.device), level)[..., None]
    width, height = pick(levels.width, level), pick(levels.height, level)
    column, in_x = _axis(x1, x2, stride, width, table.columns, grid.offset, reach, radius)
    row, in_y = _axis(y1, y2, stride, height, table.rows, grid.offset, reach, radius)
    in_y = in_y & fits[..., None]
    if grid.device.type == "cpu" if listed is None else listed:
        left, top = (
            index.gather(-1, within.byte().argmax(-1, keepdim=True))[..., 0]
            for index, within in ((column, in_x), (row, in_y))
        )
        return Region(grid, truth, left, top, left + in_x.sum(-1) - 1, top + in_y.sum(-1) - 1, level).listed()
    at = (pick(levels.first, level)[..., None] + row * width[..., None])[..., None] + column[:, :, None]
    box = torch.arange(len(level), device=grid.device).view(-1, 1, 1, 1)
    return Cells(grid, truth, box, at, in_y[..., None] & in_x[:, :, None])


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
) -> tuple[Tensor, Tensor]:
    """Columns (or rows) of the windows: index, and whether it is within map, box and reach.

    Both [N, K, count]. Both distances of a point are at most `high`, so it lies between
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
    return cell, within
