"""(point, box) pairs as indices: what regions give, and how they are reduced to one box a point."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from ...geometry import PointGrid, constant
from ..pairs import Pairs, Truth, pick
from .keys import winning_key


class Levels(NamedTuple):
    """What regions need to know of the levels, [L] each."""

    stride: Tensor  # float32
    size: Tensor  # [L, 2] int64 columns and rows
    first: Tensor  # int64 index of the level's first point

    @classmethod
    def of(cls, grid: PointGrid) -> "Levels":
        first = tuple(sum(grid.num_points[:level]) for level in range(len(grid.shapes)))
        sizes = tuple((width, height) for height, width in grid.shapes)
        size, begin = (constant(v, grid.device, torch.int64) for v in (sizes, first))
        return cls(constant(grid.strides, grid.device), size, begin)


@dataclass(frozen=True, eq=False)
class Cells:
    """Pairs of boxes and points: a list, or a table of which only the valid ones count."""

    grid: PointGrid
    truth: Truth
    box: Tensor  # index into N
    at: Tensor  # index into P; broadcasts with `box`
    valid: Tensor | None = None  # bool, of the shape of both

    @classmethod
    def each(cls, grid: PointGrid, truth: Truth, at: Tensor) -> "Cells":
        """Some points of each box: at [N, Q] index into P."""
        return cls(grid, truth, torch.arange(len(truth.boxes), device=at.device)[:, None], at)

    @cached_property
    def point(self) -> Tensor:
        """Index into B·P of each pair."""
        return pick(self.truth.image, self.box) * len(self.grid) + self.at

    @cached_property
    def pairs(self) -> Pairs:
        return Pairs.of(self.grid, self.at, [pick(side, self.box) for side in self.truth.boxes.t().contiguous()])

    def counted(self, values: Tensor) -> Tensor:
        """The values of pairs, 0 at those that do not count."""
        return values if self.valid is None else values.where(self.valid, 0)

    def keys(self, value: Tensor, into: Tensor | None = None) -> Tensor:
        """Value of each pair, 0 where excluded → winning key of each point, [B·P].

        The highest value wins, of equal ones the smaller box, then the lower index.

        Args:
            value: float32, not negative; of the shape of the pairs or broadcast to it.
            into: keys of other pairs that take part; changed.
        """
        if into is None:
            into = torch.zeros(len(self.truth.first) * len(self.grid), dtype=torch.int64, device=self.grid.device)
        key = winning_key(self.counted(value), pick(self.truth.rank, self.box))
        key, point = torch.broadcast_tensors(key, self.point)
        return into.scatter_reduce_(0, point.flatten(), key.flatten(), "amax")
