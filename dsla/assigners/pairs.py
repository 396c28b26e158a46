"""`Pairs`: points and boxes that meet, and what every pair-wise label is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..geometry import PointGrid, constant, short_repr


@dataclass(frozen=True, eq=False, repr=False)
class Pairs:
    """(point, box) pairs, as tensors that broadcast against each other; pixels, float32.

    A window keeps x along its last axis and y along the one before, so that what depends on one of
    them alone is computed once per column or row.
    """

    x: Tensor
    y: Tensor
    boxes: tuple[Tensor, Tensor, Tensor, Tensor]  # x1, y1, x2, y2
    stride: Tensor
    level: Tensor  # int64

    __repr__ = short_repr

    @classmethod
    def one(cls, grid: PointGrid, point: int, box: Iterable[float]) -> Pairs:
        """A single point and box as scalars, computed just as windows are.

        Raises:
            ValueError: a point that is not in the grid, or not one box.
        """
        if not 0 <= point < len(grid):
            raise ValueError(f"point {point} is not in a grid of {len(grid)} points")
        values = torch.as_tensor(list(box), dtype=torch.float32)
        if values.shape != (4,):
            raise ValueError(f"expected one box x1, y1, x2, y2, got {values.tolist()}")
        x, y = grid.xy[point].cpu()
        x1, y1, x2, y2 = values.unbind()
        return cls(x, y, (x1, y1, x2, y2), grid.stride[point].cpu(), grid.level[point].cpu())

    @cached_property
    def distances(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """left, top, right, bottom: negative where the point lies outside."""
        x1, y1, x2, y2 = self.boxes
        return self.x - x1, self.y - y1, x2 - self.x, y2 - self.y

    @cached_property
    def from_centre(self) -> tuple[Tensor, Tensor]:
        """|x − centre of the box|, |y − centre of the box|."""
        x1, y1, x2, y2 = self.boxes
        return (self.x - (x1 + x2) / 2).abs(), (self.y - (y1 + y2) / 2).abs()

    @property
    def measure(self) -> Tensor:
        """m = max(l, t, r, b): what regression ranges are compared with."""
        left, top, right, bottom = self.distances
        return torch.maximum(torch.maximum(left, right), torch.maximum(top, bottom))

    @cached_property
    def depth(self) -> Tensor:
        """min(l, t, r, b): how deep the point lies in the box, negative outside."""
        left, top, right, bottom = self.distances
        return torch.minimum(torch.minimum(left, right), torch.minimum(top, bottom))

    def of_level(self, *values: Sequence[float]) -> tuple[Tensor, ...]:
        """Each of some lists of L numbers at the level of each pair, float32."""
        table = constant(tuple(tuple(map(float, v)) for v in values), self.stride.device)
        picked = table.index_select(1, self.level.flatten())
        return picked.view(len(values), *self.level.shape).unbind()

    @cached_property
    def _within(self) -> Tensor:
        left, top, right, bottom = self.distances
        return (torch.minimum(left, right) > 0) & (torch.minimum(top, bottom) > 0)

    def inside(self, radius: float | None = None) -> Tensor:
        """Strictly inside the box and, given a radius in strides, strictly inside the centre region.

        The centre region reaches radius · stride from the centre of the box (FCOS's centre sampling).
        """
        if radius is None:
            return self._within
        x1, y1, x2, y2 = self.boxes
        cx, cy, reach = (x1 + x2) / 2, (y1 + y2) / 2, radius * self.stride
        in_x = (self.x > cx - reach) & (self.x < cx + reach)
        in_y = (self.y > cy - reach) & (self.y < cy + reach)
        return self._within & (in_x & in_y)

    def core(self) -> Tensor:
        """DSLA's core zone: within half a stride of the box's centre, ends included, and inside the box."""
        dx, dy = self.from_centre
        return (dx <= self.stride / 2) & (dy <= self.stride / 2) & self._within
