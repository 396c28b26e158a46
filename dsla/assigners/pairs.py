"""What assigners work with: the boxes of a batch (`Truth`), points and boxes that meet (`Pairs`), a `Decision`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..errors import require_corners
from ..geometry import PointGrid, box_area, constant, on_device, short_repr

EXPECTED = "expected boxes [M, 4] and labels [M]"


@dataclass(frozen=True, eq=False, repr=False)
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

    __repr__ = short_repr

    @classmethod
    def of(
        cls,
        boxes: Sequence[Any],
        labels: Sequence[Any],
        device: torch.device,
        image_sizes: Sequence[tuple[int, int]] | None = None,
        classes: int | None = None,
    ) -> "Truth":
        """From one table of boxes and one list of labels an image: tensors, arrays or lists.

        Args:
            boxes: [M, 4] each.
            labels: [M] each.
            device: where the assignment is to be computed.
            image_sizes: (height, width) of each image in its padding.
            classes: C, where labels must lie below it.
        Raises:
            ValueError: numbers or shapes that do not fit each other; in main memory also boxes that are not finite
                and labels that are not whole or outside 0…C−1. On a device nobody looks at values: that would
                halt the step.
        """
        if len(boxes) != len(labels) or (image_sizes is not None and len(image_sizes) != len(boxes)):
            sizes_of = "" if image_sizes is None else f" and sizes of {len(image_sizes)}"
            raise ValueError(f"boxes of {len(boxes)} images but labels of {len(labels)}{sizes_of}")
        tables = [as_boxes(b, i) for i, b in enumerate(boxes)]
        names = [torch.as_tensor(c) for c in labels]
        for i, (b, c) in enumerate(zip(tables, names, strict=True)):
            if c.shape != b.shape[:1]:
                raise ValueError(f"image {i} of the batch: {EXPECTED}, got {list(b.shape)} and {list(c.shape)}")
            if c.is_floating_point() and c.device.type == "cpu" and not torch.equal(c, c.trunc()):
                raise ValueError(f"image {i} of the batch: labels are whole numbers, got {c.tolist()[:8]}")
        names = [c.to(torch.int64) for c in names]
        counts = torch.tensor([len(b) for b in tables], dtype=torch.int64)
        first, total = counts.cumsum(0) - counts, int(counts.sum())
        image = torch.repeat_interleave(torch.arange(len(tables)), counts, output_size=total)
        if any(v.device.type != "cpu" for v in (*tables, *names)):
            tables, names = ([v.to(device, non_blocking=True) for v in each] for each in (tables, names))
        flat = torch.cat(tables) if tables else torch.zeros(0, 4)
        name = torch.cat(names) if names else torch.zeros(0, dtype=torch.int64)
        if flat.device.type == "cpu":
            _check_values(flat, name, image, first, classes)
        host = [flat, name, image, first]
        if image_sizes is not None:
            host.append(torch.as_tensor(image_sizes, dtype=torch.float32).reshape(-1, 2))
        flat, name, image, first, *sizes = on_device(device, *host)
        order, every = torch.argsort(box_area(flat), stable=True), torch.arange(total, device=device)
        rank = torch.empty_like(order).scatter_(0, order, every)
        return cls(flat, name, image, first, order, rank, every - first[image], *sizes)


def pick(values: Tensor, index: Tensor) -> Tensor:
    """``values[index]`` along the first axis; on a CPU several times faster."""
    return values.index_select(0, index.flatten()).view((*index.shape, *values.shape[1:]))


def as_boxes(value: Any, image: int) -> Tensor:
    """Boxes of image number `image` of a batch, a tensor, array or nested list, as [M, 4] float32.

    Raises:
        ValueError: anything that is not [M, 4]; the message names the image.
    """
    require_corners(value, f"image {image} of the batch")
    shape = f"image {image} of the batch: {EXPECTED}, one table of boxes an image"
    try:
        boxes = torch.as_tensor(value, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{shape}; got {type(value).__name__}: {error}") from error
    if isinstance(value, list | tuple) and not value:
        return boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[-1] != 4:
        raise ValueError(f"{shape}; got {list(boxes.shape)}; an image without objects has boxes of shape [0, 4]")
    return boxes


def _check_values(boxes: Tensor, labels: Tensor, image: Tensor, first: Tensor, classes: int | None) -> None:
    wrong = ~boxes.isfinite().all(-1) | (labels < 0)
    if classes is not None:
        wrong |= labels >= classes
    if wrong.any():
        bad = int(wrong.nonzero()[0])
        last = "C−1" if classes is None else f"{classes - 1}: the predictions are of C = {classes} classes"
        raise ValueError(
            f"image {int(image[bad])} of the batch, box {bad - int(first[image[bad]])}: box {boxes[bad].tolist()}, "
            f"label {int(labels[bad])}; boxes must be finite and labels in 0…{last}"
        )


@dataclass(frozen=True, eq=False, repr=False)
class Pairs:
    """(point, box) pairs, as tensors that broadcast against each other; pixels, float32."""

    x: Tensor
    y: Tensor
    boxes: tuple[Tensor, Tensor, Tensor, Tensor]  # x1, y1, x2, y2
    stride: Tensor
    level: Tensor  # int64

    __repr__ = short_repr

    @classmethod
    def of(cls, grid: PointGrid, point: Tensor, boxes: Sequence[Tensor]) -> "Pairs":
        """Points of a grid by their index, and x1, y1, x2, y2 of boxes; of shapes that broadcast."""
        x, y = (pick(axis, point) for axis in grid.xy.unbind(-1))
        x1, y1, x2, y2 = boxes
        return cls(x, y, (x1, y1, x2, y2), pick(grid.stride, point), pick(grid.level, point))

    @classmethod
    def one(cls, grid: PointGrid, point: int, box: Iterable[float]) -> "Pairs":
        """A single point and box as scalars, computed just as many are.

        Raises:
            ValueError: a point that is not in the grid, or not one box.
        """
        if not 0 <= point < len(grid):
            raise ValueError(f"point {point} is not in a grid of {len(grid)} points")
        values = torch.as_tensor(list(box), dtype=torch.float32)
        if values.shape != (4,):
            raise ValueError(f"expected one box x1, y1, x2, y2, got {values.tolist()}")
        return cls.of(grid.to("cpu"), torch.tensor(point), values.unbind())

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

    def inside(self, radius: float | None = None) -> Tensor:
        """Strictly inside the box and, given a radius in strides, inside the centre region (FCOS's centre sampling)."""
        return self.depth > 0 if radius is None else (self.depth > 0) & self.central(radius)

    def central(self, radius: float) -> Tensor:
        """Inside the centre region alone: strictly within radius · stride of the box's centre along x and along y."""
        x1, y1, x2, y2 = self.boxes
        cx, cy, reach = (x1 + x2) / 2, (y1 + y2) / 2, radius * self.stride
        in_x = (self.x > cx - reach) & (self.x < cx + reach)
        in_y = (self.y > cy - reach) & (self.y < cy + reach)
        return in_x & in_y

    def core(self) -> Tensor:
        """DSLA's core zone: within half a stride of the box's centre, ends included, and inside the box."""
        dx, dy = self.from_centre
        return (dx <= self.stride / 2) & (dy <= self.stride / 2) & (self.depth > 0)


@dataclass(frozen=True, eq=False, repr=False)
class Decision:
    """What an assigner hands to its base class: K points that win a box.

    Attributes:
        point: [K] int64 index into B·P, each at most once.
        box: [K] int64 index into the N boxes of the batch; −1: nobody wins the point after all.
        label: [K] what the point is taught, in [0, 1].
        extras: further columns [K] by name, for `Assignment.extras`.
        ignored: [B·P] bool, points that are taught nothing unless they win a box; None: no such points.
    """

    point: Tensor
    box: Tensor
    label: Tensor
    extras: dict[str, Tensor] = field(default_factory=dict)
    ignored: Tensor | None = None

    __repr__ = short_repr
