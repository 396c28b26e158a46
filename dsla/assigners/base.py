"""The protocol of all assigners: boxes in, an `Assignment` out; and the sparse form that makes it cheap.

The points that a box can teach are few. Here they are enumerated per (box, level) in a window of fixed
size, scored, and reduced to points by one deterministic ``scatter_reduce`` over keys that pack (label,
smaller box, lower index). Cost grows with boxes, not with boxes × points; batches need no loop; and
a batch gives the same bits as its images one by one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..geometry import HeadOutputs, PointGrid, box_area
from .assignment import Assignment
from .explanation import Explanation

if TYPE_CHECKING:
    from collections.abc import Iterable

DEFAULT_RANGES = ((0.0, 64.0), (64.0, 128.0), (128.0, 256.0), (256.0, 512.0), (512.0, 1e8))


@dataclass(frozen=True)
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

    def inside(self, radius: float | None = None) -> Tensor:
        """Strictly inside the box and, given a radius in strides, strictly inside the centre region.

        The centre region reaches radius · stride from the centre of the box (FCOS's centre sampling).
        """
        left, top, right, bottom = self.distances
        in_x, in_y = torch.minimum(left, right) > 0, torch.minimum(top, bottom) > 0
        if radius is not None:
            x1, y1, x2, y2 = self.boxes
            cx, cy, reach = (x1 + x2) / 2, (y1 + y2) / 2, radius * self.stride
            in_x = in_x & (self.x > cx - reach) & (self.x < cx + reach)
            in_y = in_y & (self.y > cy - reach) & (self.y < cy + reach)
        return in_x & in_y


class Assigner(ABC):
    """Decides which box teaches which point, and how strongly.

    Call it as ``assigner(grid, boxes=[[M, 4] …], labels=[[M] …])``; boxes in pixels, labels int64 in
    0…C−1, one tensor an image. Assigners with `needs_predictions` also take ``predictions=HeadOutputs``.
    ``ignore`` lists the crowd boxes [K, 4] of each image and ``image_sizes`` their (height, width): points
    inside a crowd or in the padding that no box claims are marked `Assignment.ignored`, so that nothing
    teaches them.
    """

    name: str = ""
    needs_predictions: bool = False

    def __call__(
        self,
        grid: PointGrid,
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
        predictions: HeadOutputs | None = None,
        ignore: Sequence[Tensor] | None = None,
        image_sizes: Sequence[tuple[int, int]] | None = None,
    ) -> Assignment:
        """Assign a batch.

        Returns:
            `Assignment` with gt_index, label and category, each [B, P].
        Raises:
            ValueError: numbers of boxes and labels differ, boxes are not [M, 4] or not finite, a label
                is negative, or `predictions` is missing where the method needs it.
        """
        if self.needs_predictions and predictions is None:
            raise ValueError(f"{self.name} assigns from predictions: pass predictions=HeadOutputs")
        with torch.no_grad(), torch.autocast(grid.device.type, enabled=False):
            truth = Truth.of(boxes, labels, grid.device)
            found = self._assign(grid, truth, predictions.detach() if predictions is not None else None)
            keys, extras = found if isinstance(found, tuple) else (found, {})
            return truth.decode(
                grid, keys, self, ignored=_ignored(grid, len(boxes), ignore, image_sizes), extras=extras
            )

    @abstractmethod
    def _assign(
        self, grid: PointGrid, truth: Truth, predictions: HeadOutputs | None
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """[B·P] int64 keys of `Truth.keys`, 0 for background; and, if any, further [B, P] columns."""

    @abstractmethod
    def factors(self, pairs: Pairs) -> dict[str, Tensor]:
        """What makes the label of each pair, by name; "label" is their product, 0 where excluded."""

    @abstractmethod
    def explain(self, grid: PointGrid, point: int, box: Iterable[float]) -> Explanation:
        """Each rule for point `point` (its index in the grid) and one box: numbers and verdict."""

    def __repr__(self) -> str:
        options = ", ".join(f"{k}={v!r}" for k, v in self.options().items())
        return f"{type(self).__name__}({options})"

    def options(self) -> dict[str, Any]:
        """The constructor's arguments, so that ``type(a)(**a.options())`` is the same assigner."""
        return {}


@dataclass(frozen=True)
class Truth:
    """The boxes of a batch in one list. N = ΣM over its images."""

    boxes: Tensor  # [N, 4] float32
    labels: Tensor  # [N] int64
    image: Tensor  # [N] int64
    first: Tensor  # [B] index of each image's first box
    order: Tensor  # [N] indices by (area, index), ascending
    rank: Tensor  # [N] place of each box in that order

    @classmethod
    def of(cls, boxes: Sequence[Tensor], labels: Sequence[Tensor], device: torch.device) -> Truth:
        if len(boxes) != len(labels):
            raise ValueError(f"boxes of {len(boxes)} images but labels of {len(labels)}")
        for i, (b, c) in enumerate(zip(boxes, labels, strict=True)):
            if b.ndim != 2 or b.shape[-1] != 4 or len(b) != len(c):
                raise ValueError(
                    f"image {i} of the batch: expected boxes [M, 4] and labels [M], got {list(b.shape)} and "
                    f"{list(c.shape)}; an image without objects has boxes of shape [0, 4]"
                )
        counts = torch.tensor([len(b) for b in boxes])
        first = (counts.cumsum(0) - counts).to(device)
        total = int(counts.sum())
        image = torch.repeat_interleave(torch.arange(len(boxes)), counts, output_size=total).to(device)
        flat = torch.cat([b.to(device, torch.float32) for b in boxes]) if total else torch.zeros(0, 4)
        names = torch.cat([c.to(device, torch.int64) for c in labels]) if total else torch.zeros(0)
        flat, names = flat.to(device), names.to(device, torch.int64)
        if device.type == "cpu" and total and not (flat.isfinite().all() and (names >= 0).all()):
            # only where looking is free: on a GPU it would halt the step
            bad = int((~flat.isfinite().all(-1) | (names < 0)).nonzero()[0])
            raise ValueError(
                f"image {int(image[bad])} of the batch, box {bad - int(first[image[bad]])}: "
                f"box {flat[bad].tolist()}, label {int(names[bad])}; boxes must be finite and labels in 0…C−1"
            )
        order = torch.argsort(box_area(flat), stable=True)
        rank = torch.empty_like(order).scatter_(0, order, torch.arange(total, device=device))
        return cls(flat, names, image, first, order, rank)

    def keys(self, label: Tensor, box: Tensor) -> Tensor:
        """int64 keys whose maximum is the pair that wins a point: highest label, smaller box, lower index.

        A label in [0, 1] is a non-negative float32, whose bits sort as its value does. Pairs of label
        0 get key 0, which is background.
        """
        key = label.view(torch.int32).long() << 32
        key |= _MAX_RANK - self.rank[box]
        return key.masked_fill_(label <= 0, 0)

    def decode(
        self, grid: PointGrid, keys: Tensor, assigner: Assigner, ignored: Tensor, extras: dict[str, Tensor]
    ) -> Assignment:
        """Winning keys [B·P] → the assignment."""
        size = (len(self.first), len(grid))
        keys = keys.view(size)
        positive = keys > 0
        label = (keys >> 32).int().view(torch.float32)
        if len(self.boxes):
            box = self.order[(_MAX_RANK - (keys & _MAX_RANK)).where(positive, 0)]
            gt_index = (box - self.first[:, None]).where(positive, -1)
            category = self.labels[box].where(positive, -1)
        else:
            gt_index = category = torch.full(size, -1, dtype=torch.int64, device=grid.device)
        return Assignment(
            gt_index=gt_index,
            label=label,
            category=category,
            ignored=ignored & ~positive,
            grid=grid,
            boxes=self.boxes,
            first=self.first,
            assigner=assigner,
            extras=extras,
        )


_MAX_RANK = 2**31 - 1


@dataclass(frozen=True)
class Windows:
    """For every box and each of K levels, the window of H × W points that it might teach."""

    pairs: Pairs  # tensors [N, K, H or 1, W or 1]
    point: Tensor  # [N, K, H, W] index into B·P
    valid: Tensor  # [N, K, H, W] bool: on the map, at a level the box can reach

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

        stride, reach = table.stride[level], table.high[level]
        start_x, start_y = torch.maximum(x1, x2 - reach), torch.maximum(y1, y2 - reach)
        if radius is not None:
            start_x = torch.maximum(start_x, (x1 + x2) / 2 - radius * stride)
            start_y = torch.maximum(start_y, (y1 + y2) / 2 - radius * stride)
        width, height = table.width[level], table.height[level]
        column, on_x = _cells(start_x, stride, width, table.columns, grid.offset)  # [N, K, W]
        row, on_y = _cells(start_y, stride, height, table.rows, grid.offset)  # [N, K, H]

        base = truth.image[:, None] * len(grid) + table.first[level]
        point = (base[..., None] + row * width[..., None])[..., None] + column[:, :, None]
        pairs = Pairs(
            x=((column.float() + grid.offset) * stride[..., None])[:, :, None],
            y=((row.float() + grid.offset) * stride[..., None])[..., None],
            boxes=(x1[..., None, None], y1[..., None, None], x2[..., None, None], y2[..., None, None]),
            stride=stride[..., None, None],
            level=level[..., None, None],
        )
        return cls(pairs, point, (on_y & fits[..., None])[..., None] & on_x[:, :, None])

    def reduce(self, truth: Truth, label: Tensor, grid: PointGrid) -> Tensor:
        """Labels of the pairs [N, K, H, W], 0 where excluded → winning key of each point [B·P]."""
        box = torch.arange(len(truth.boxes), device=label.device).view(-1, 1, 1, 1)
        key = truth.keys(label * self.valid, box)
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
    span = high if radius is None else tuple(min(h, 2 * radius * s) for h, s in zip(high, strides, strict=True))
    count = [int(min(a / s, 2**30)) + 2 for a, s in zip(span, strides, strict=True)]
    points = [h * w for h, w in shapes]
    values = (low, high, tuple(map(float, strides)))
    sizes = ([h for h, _ in shapes], [w for _, w in shapes], [sum(points[:i]) for i in range(len(points))])
    return _Levels(
        *(torch.tensor(v, dtype=torch.float32, device=device) for v in values),
        *(torch.tensor(v, dtype=torch.int64, device=device) for v in sizes),
        rows=max(min(h, n) for (h, _), n in zip(shapes, count, strict=True)),
        columns=max(min(w, n) for (_, w), n in zip(shapes, count, strict=True)),
        most=max(
            # the count of fitting levels can only be largest where the interval of one begins
            1, *(sum(lo <= a <= _TWO * hi for lo, hi in zip(low, high, strict=True)) for a in low)
        ),
    )


def _cells(start: Tensor, stride: Tensor, size: Tensor, count: int, offset: float) -> tuple[Tensor, Tensor]:
    """`count` cell indices [N, K, count] from the one at or before `start`, and which of them exist."""
    last = (size - 1)[..., None]
    begin = (start / stride - offset).floor().clamp(min=0, max=2.0**30).long()
    cell = begin[..., None] + torch.arange(count, device=start.device)
    return torch.minimum(cell, last), cell <= last


def _ignored(
    grid: PointGrid,
    images: int,
    crowds: Sequence[Tensor] | None,
    image_sizes: Sequence[tuple[int, int]] | None,
) -> Tensor:
    """[B, P] bool: in the padding or strictly inside a crowd box."""
    if image_sizes is None:
        ignored = torch.zeros((images, len(grid)), dtype=torch.bool, device=grid.device)
    else:
        ignored = ~grid.inside(image_sizes)
    for image, boxes in enumerate(crowds or ()):
        if len(boxes):  # crowds are rare: most batches never come here
            b = boxes.to(grid.device, torch.float32)
            within = (grid.xy[:, None] > b[:, :2]) & (grid.xy[:, None] < b[:, 2:])
            ignored[image] |= within.all(-1).any(-1)
    return ignored
