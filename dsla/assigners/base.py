"""The protocol of all assigners: boxes in, an `Assignment` out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
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

    def of_level(self, *values: Sequence[float]) -> tuple[Tensor, ...]:
        """Each of some lists of L numbers at the level of each pair, float32."""
        table = self.stride.new_tensor(values)
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


class Assigner(ABC):
    """Decides which box teaches which point, and how strongly.

    Call it as ``assigner(grid, boxes=[[M, 4] …], labels=[[M] …])``; boxes in pixels, labels int64 in
    0…C−1, one tensor an image. Assigners with `needs_predictions` also take ``predictions=HeadOutputs``.
    ``ignore`` lists the crowd boxes [K, 4] of each image and ``image_sizes`` their (height, width). Points in
    a crowd that no box claims, and all points of the padding, are marked `Assignment.ignored`: nothing teaches
    them. A box that reaches beyond its image claims no point of the padding.
    """

    name: str = ""
    needs_predictions: bool = False
    coupling: str = "off"  # of the label with the IoU, as the method has it: see `dsla.losses.dynamic_target`

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
            truth = Truth.of(boxes, labels, grid.device, image_sizes)
            found = self._assign(grid, truth, predictions.detach() if predictions is not None else None)
            keys, extras = found if isinstance(found, tuple) else (found, {})
            ignored = _in_crowds(grid, len(boxes), ignore)
            if image_sizes is not None:
                padding = ~grid.inside(image_sizes)
                keys, ignored = keys.view_as(padding).masked_fill(padding, 0), ignored | padding
            return truth.decode(grid, keys, self, ignored, extras)

    @abstractmethod
    def _assign(
        self, grid: PointGrid, truth: Truth, predictions: HeadOutputs | None
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """[B·P] int64 keys of `Truth.keys`, 0 for background; and, if any, further [B, P] columns.

        Two names of columns have a meaning: "label" replaces the label in the keys, which then only says
        who wins; points in "ignored" (bool) that no box wins are taught nothing.
        """

    @abstractmethod
    def factors(self, pairs: Pairs) -> dict[str, Tensor]:
        """What makes the label of each pair, by name; "label" is their product, 0 where excluded."""

    @abstractmethod
    def explain(self, grid: PointGrid, point: int, box: Iterable[float]) -> Explanation:
        """Each rule for point `point` (its index in the grid) and one box: numbers and verdict.

        Assigners with `needs_predictions` also take ``predictions=`` (of a batch), ``image=`` (which of its
        images), ``category=`` (the box's) and ``others=`` ([M, 4], the image's other boxes).
        """

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
    place: Tensor  # [N] index of each box in its image
    sizes: Tensor | None = None  # [B, 2] float32 height, width of the images in their padding, if known

    @classmethod
    def of(
        cls,
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
        device: torch.device,
        image_sizes: Sequence[tuple[int, int]] | None = None,
    ) -> Truth:
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
        sizes = None if image_sizes is None else torch.tensor(image_sizes, dtype=torch.float32, device=device)
        place = torch.arange(total, device=device) - first[image]
        return cls(flat, names, image, first, order, rank, place, sizes)

    def keys(self, label: Tensor, box: Tensor) -> Tensor:
        """int64 keys whose maximum is the pair that wins a point: highest label, smaller box, lower index.

        A label in [0, 1] is a non-negative float32, whose bits sort as its value does. Pairs of label
        0 get key 0, which is background.
        """
        key = label.view(torch.int32).long() << 32
        key |= _MAX_RANK - self.rank.index_select(0, box.flatten()).view_as(box)
        return key.masked_fill_(label <= 0, 0)

    def decode(
        self, grid: PointGrid, keys: Tensor, assigner: Assigner, ignored: Tensor, extras: dict[str, Tensor]
    ) -> Assignment:
        """Winning keys [B·P] → the assignment.

        Few points win a box. A CPU looks at those alone; a GPU at all, since counting them would halt the step.
        """
        size, keys = (len(self.first), len(grid)), keys.flatten()
        every = keys.device.type != "cpu"
        at = torch.arange(len(keys), device=keys.device) if every else (keys > 0).nonzero().squeeze(1)
        key = keys.index_select(0, at)
        label = keys.new_zeros(len(keys), dtype=torch.float32)
        gt_index, category = keys.new_full((2, len(keys)), -1)
        if len(self.boxes):
            won = key > 0
            box = self.order.index_select(0, (_MAX_RANK - (key & _MAX_RANK)).where(won, 0))
            label.scatter_(0, at, (key >> 32).int().view(torch.float32))
            gt_index.scatter_(0, at, self.place.index_select(0, box).where(won, -1))
            category.scatter_(0, at, self.labels.index_select(0, box).where(won, -1))
        label, gt_index, category = label.view(size), gt_index.view(size), category.view(size)
        positive = gt_index >= 0
        extras = dict(extras)
        if "label" in extras:
            label = extras.pop("label") * positive
        if "ignored" in extras:
            ignored = ignored | extras.pop("ignored")
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


def _in_crowds(grid: PointGrid, images: int, crowds: Sequence[Tensor] | None) -> Tensor:
    """[B, P] bool: strictly inside a crowd box of its image."""
    inside = torch.zeros((images, len(grid)), dtype=torch.bool, device=grid.device)
    for image, boxes in enumerate(crowds or ()):
        if len(boxes):  # crowds are rare: most batches never come here
            b = boxes.to(grid.device, torch.float32)
            inside[image] = ((grid.xy[:, None] > b[:, :2]) & (grid.xy[:, None] < b[:, 2:])).all(-1).any(-1)
    return inside
