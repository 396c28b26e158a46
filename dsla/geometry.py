"""Points, boxes and their overlap: the coordinates that every other floor uses.

Axis letters, here and everywhere: **B** images, **P** points of all levels, **M** boxes of an image,
**C** classes, **L** levels. Boxes are ``x1, y1, x2, y2`` in pixels, distances ``left, top, right, bottom``
in pixels, both float32 whatever the precision of the network (300 × 300 overflows half precision).
"""

import math
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor

from .errors import DataError, strides_of, unknown, whole_numbers

InputSize = str | int | Sequence[int]  # see `Frame.of`
IOU_EPS = 1e-6  # smallest union, as in the release: keeps the IoU of empty boxes at 0


def short_repr(value: Any) -> str:
    """The `__repr__` of dataclasses that hold tensors: their shapes, not their numbers."""
    held = {field.name: getattr(value, field.name) for field in fields(value)}
    short = (f"{name}={list(v.shape) if isinstance(v, Tensor) else repr(v)}" for name, v in held.items())
    return f"{type(value).__name__}({', '.join(short)})"


@lru_cache(maxsize=256)
def constant(values: tuple[Any, ...], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Nested tuples of numbers as a tensor that is copied to a device once, not at every step."""
    with torch.inference_mode(False):  # what is kept from an evaluation must serve a training, too
        return torch.tensor(values, dtype=dtype).to(device)


class PointGrid:
    """The points at which the detector predicts: one per cell of each pyramid level.

    ``PointGrid((height, width), strides, offset)`` takes an image size in pixels; a level of stride s then
    has ceil(height / s) × ceil(width / s) cells. `from_shapes` takes the feature-map sizes themselves.

    The point of row i, column j lies at ``((j + offset)·s, (i + offset)·s)``: offset 0 is the DSLA
    release's, 0.5 the one of FCOS in mmdetection 2.x. Points run level by level, row by row.

    Attributes:
        xy: [P, 2] float32, pixels.  stride: [P] float32.  level, row, column: [P] int64.
        shapes: (h, w) of each level.  strides: pixels between points.  num_points: points per level.
        All grids of one size share these tensors: do not change them in place.
    Raises:
        ValueError: sizes or strides that are not positive whole numbers, or of different number; strides that do not
            ascend.
    """

    def __init__(self, image_size: Sequence[int], strides: Sequence[int], offset: float = 0.0) -> None:
        height, width = whole_numbers("height and width of the image", image_size, 2)
        strides = strides_of(strides)
        self._build([(math.ceil(height / s), math.ceil(width / s)) for s in strides], strides, offset, "cpu")

    @classmethod
    def from_shapes(
        cls,
        shapes: Sequence[Sequence[int]],
        strides: Sequence[int],
        offset: float = 0.0,
        device: torch.device | str = "cpu",
    ) -> "PointGrid":
        """The grid of feature maps with these (h, w); one stride for each."""
        if len(shapes) != len(strides):
            raise ValueError(f"{len(shapes)} feature maps but {len(strides)} strides")
        maps = [whole_numbers(f"height and width of feature map {i}", size, 2) for i, size in enumerate(shapes)]
        grid = cls.__new__(cls)
        grid._build([(h, w) for h, w in maps], strides_of(strides), offset, str(device))
        return grid

    def _build(self, shapes: list[tuple[int, int]], strides: tuple[int, ...], offset: Any, device: str) -> None:
        finite = False
        with suppress(TypeError, ValueError, RuntimeError):  # text, or several numbers
            finite = math.isfinite(offset)
        if not finite:
            raise ValueError(f"a grid needs a finite offset, got {offset}")
        self.shapes, self.strides, self.offset = tuple(shapes), strides, float(offset)
        self.num_points = tuple(h * w for h, w in shapes)
        self.xy, self.stride, self.level, self.row, self.column = _grid_tensors(
            self.shapes, strides, self.offset, device
        )

    def __len__(self) -> int:
        return sum(self.num_points)

    def __repr__(self) -> str:
        levels = ", ".join(f"{h}×{w}/{s}" for (h, w), s in zip(self.shapes, self.strides, strict=True))
        return f"PointGrid({levels}, offset={self.offset:g}, {len(self)} points)"

    @property
    def device(self) -> torch.device:
        return self.xy.device

    def to(self, device: torch.device | str) -> "PointGrid":
        """The same grid with its tensors on another device."""
        return PointGrid.from_shapes(self.shapes, self.strides, self.offset, device)

    def split(self, values: Tensor) -> list[Tensor]:
        """[B, P, …] → per level [B, h, w, …]: views, no copies."""
        if values.shape[1] != len(self):
            raise ValueError(f"expected [B, {len(self)}, …], got {list(values.shape)}")
        parts = values.split(self.num_points, dim=1)
        return [p.unflatten(1, shape) for p, shape in zip(parts, self.shapes, strict=True)]

    def inside(self, image_sizes: Sequence[tuple[int, int]] | Tensor) -> Tensor:
        """[B, P] bool: points that lie in the image itself, (height, width) each, not in its padding."""
        sizes = image_sizes if isinstance(image_sizes, Tensor) else torch.tensor(image_sizes, dtype=torch.float32)
        (size,) = on_device(self.device, sizes.reshape(-1, 1, 2))
        return (self.xy < size.flip(-1)).all(-1)


@lru_cache(maxsize=64)
def _grid_tensors(
    shapes: tuple[tuple[int, int], ...], strides: tuple[int, ...], offset: float, device: str
) -> tuple[Tensor, ...]:
    """Columns of a grid, of its device. Kept, since a training run asks for the same few grids at every step."""
    levels = []
    with torch.inference_mode(False):  # what is kept from an evaluation must serve a training, too
        for level, ((h, w), s) in enumerate(zip(shapes, strides, strict=True)):
            row, column = torch.cartesian_prod(torch.arange(h), torch.arange(w)).unbind(-1)
            xy = (torch.stack((column, row), -1).float() + offset) * s
            stride, of_level = (torch.full((h * w,), value) for value in (s, level))
            levels.append((xy, stride.float(), of_level, row, column))
        return tuple(torch.cat(column).to(device) for column in zip(*levels, strict=True))


def on_device(device: torch.device, *values: Tensor) -> list[Tensor]:
    """Tensors on a device: those in main memory go there in one copy from pinned memory, for which nobody waits.

    They travel as float64, which holds float32 and whole numbers below 2^53 exactly.
    """
    outside = [v for v in values if v.device.type == "cpu"]
    if device.type == "cpu" or not outside:
        return [v.to(device) for v in values]
    packed = torch.cat([v.flatten().double() for v in outside])
    packed = packed.pin_memory() if device.type == "cuda" else packed
    parts = iter(packed.to(device, non_blocking=True).split([v.numel() for v in outside]))
    return [next(parts).to(v.dtype).view(v.shape) if v.device.type == "cpu" else v.to(device) for v in values]


@dataclass(frozen=True, eq=False, repr=False)
class HeadOutputs:
    """What the head says about every point of a batch.

    Attributes:
        logits: [B, P, C] class logits.
        distances: [B, P, 4] left, top, right, bottom from the point, pixels, float32.
        grid: the points.
        quality: [B, P] logits of a centerness or IoU branch, or None.
    """

    logits: Tensor
    distances: Tensor
    grid: PointGrid
    quality: Tensor | None = None

    __repr__ = short_repr

    @cached_property
    def boxes(self) -> Tensor:
        """[B, P, 4] predicted boxes, pixels; not clipped to the image."""
        return distances_to_boxes(self.grid.xy, self.distances)

    def of_image(self, image: int) -> "HeadOutputs":
        """Those of one image of the batch, as a batch of one."""
        quality = None if self.quality is None else self.quality[image, None]
        return HeadOutputs(self.logits[image, None], self.distances[image, None], self.grid, quality)

    def detach(self) -> "HeadOutputs":
        quality = None if self.quality is None else self.quality.detach()
        return replace(self, logits=self.logits.detach(), distances=self.distances.detach(), quality=quality)


def distances_to_boxes(xy: Tensor, distances: Tensor) -> Tensor:
    """Points [..., 2] and their distances [..., 4] → boxes [..., 4]."""
    return torch.cat((xy - distances[..., :2], xy + distances[..., 2:]), -1)


def boxes_to_distances(xy: Tensor, boxes: Tensor) -> Tensor:
    """Points [..., 2] and boxes [..., 4] → distances [..., 4]; negative where the point lies outside."""
    return torch.cat((xy - boxes[..., :2], boxes[..., 2:] - xy), -1)


def box_area(boxes: Tensor) -> Tensor:
    """[..., 4] → [...] pixels²; float32, or float64 for whole numbers and float64."""
    boxes = coordinates(boxes)
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and union of boxes that broadcast against each other, [..., 4] → [...] twice; types as in `box_area`.

    The union is clamped at 1e-6 (release: ``bbox_overlaps``), so that empty boxes have IoU 0, not NaN. Where boxes only
    touch, or one has a side of length 0, the intersection has no gradient, which `clamp` would have up to PyTorch 2.12.
    """
    a, b = coordinates(a), coordinates(b)
    size = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).relu()
    intersection = size[..., 0] * size[..., 1]
    union = (box_area(a) + box_area(b) - intersection).clamp(min=IOU_EPS)
    return intersection / union, union


def aligned_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of box i of `a` with box i of `b`: [..., 4], [..., 4] → [...]."""
    return overlap(a, b)[0]


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of every box of `a` with every box of `b`: [N, 4], [M, 4] → [N, M]."""
    return overlap(a[:, None], b[None])[0]


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision to float32; float64 stays, for reference computations."""
    return x if x.dtype == torch.float64 else x.float()


def probability(logits: Tensor) -> Tensor:
    """Sigmoid in float32, equal for equal logits wherever they stand.

    `torch.sigmoid` rounds the last few of a tensor otherwise than the rest on a CPU, so that a batch would differ from
    its images.
    """
    return at_least_float32(logits).neg().exp_().add_(1).reciprocal_().float()


def coordinates(x: Tensor) -> Tensor:
    """Coordinates in a type in which areas do not overflow: whole numbers to float64, half precision to float32."""
    return at_least_float32(x) if x.is_floating_point() else x.double()


def resized(size: Sequence[int], short: float, long: float, rounding: str = "down") -> tuple[int, int]:
    """(height, width) scaled so that the shorter side is `short`, or less where the longer one would exceed `long`.

    Args:
        size: (height, width) of the image, pixels.
        short: pixels.
        long: pixels.
        rounding: of the sides, "down" as torchvision or to the "nearest" as mmdetection; at least one pixel.
    """
    scale = min(short / min(size), long / max(size))
    if rounding not in (halves := {"down": 0.0, "nearest": 0.5}):
        raise unknown("rounding", rounding, halves)
    height, width = (max(1, int(side * scale + halves[rounding])) for side in size)
    return height, width


def scaled(boxes: Tensor, before: Sequence[int], after: Sequence[int]) -> Tensor:
    """Boxes [..., 4] of an image of one size in the same image at another; no host waits for the device.

    The ratio of the sides is a float32, as torchvision's.
    """
    down, across = (float(torch.tensor(float(b)) / a) for a, b in zip(before, after, strict=True))
    return torch.stack((boxes[..., 0::2] * across, boxes[..., 1::2] * down), -1).flatten(-2)


@dataclass(frozen=True)
class Frame:
    """The size at which points and boxes meet: an image, as a detector would see it.

    Attributes:
        image: (height, width) of the image as it is stored, pixels.
        size: (height, width) of the resized image, whose upper left corner is that of the input.
        padded: (height, width) of the input, padding included.
    """

    image: tuple[int, int]
    size: tuple[int, int]
    padded: tuple[int, int]

    @classmethod
    def of(cls, image: Sequence[int], input_size: InputSize = "native") -> "Frame":
        """The frame of an image of (height, width).

        Args:
            image: (height, width), pixels.
            input_size: "native": as it is stored. (800, 1333): as `resized` has it, detectors of COCO. 640: the longer
                side is 640, padded below or at the right to a square (letterbox). Or the same as text, "800/1333".

        Raises:
            DataError: none of these.
        """
        height, width = int(image[0]), int(image[1])
        sides = _sides(input_size)
        if not sides:
            return cls((height, width), (height, width), (height, width))
        size = resized((height, width), sides[0], sides[-1])
        return cls((height, width), size, (sides[0], sides[0]) if len(sides) == 1 else size)

    @property
    def scale(self) -> tuple[float, float]:
        """(x, y) pixels of the input per pixel of the image."""
        return self.size[1] / self.image[1], self.size[0] / self.image[0]

    def boxes(self, boxes: Tensor) -> Tensor:
        """Boxes [..., 4] of the image → of the input."""
        return scaled(boxes, self.image, self.size)

    def back(self, boxes: Tensor) -> Tensor:
        """Boxes [..., 4] of the input → of the image."""
        return scaled(boxes, self.size, self.image)

    def grid(self, strides: Sequence[int], offset: float = 0.0) -> PointGrid:
        """The points of the input."""
        return PointGrid(self.padded, strides, offset)

    def __str__(self) -> str:
        """In a picture, width first: 1333 × 800 pixels (of 640 × 384)."""
        text = f"{self.size[1]} × {self.size[0]} pixels"
        text += f" (stored as {self.image[1]} × {self.image[0]})" if self.size != self.image else ""
        return text + (f", padded to {self.padded[1]} × {self.padded[0]}" if self.padded != self.size else "")


def size_text(input_size: InputSize) -> str:
    """As a person types it: native, 640, 800/1333."""
    several = isinstance(input_size, Sequence) and not isinstance(input_size, str)
    return "/".join(map(str, input_size)) if several else str(input_size)  # type: ignore[arg-type]


def _sides(input_size: InputSize) -> tuple[int, ...]:
    """() for native, one side for a letterbox, else the shorter and the longest long side."""
    text = size_text(input_size).strip().lower()
    if text == "native":
        return ()
    match = re.fullmatch(r"(\d+)(?:\s*[/x×]\s*(\d+))?", text)
    sides = tuple(int(side) for side in match.groups() if side) if match else (0,)
    if not 0 < sides[0] <= sides[-1] <= 16384:
        raise DataError(
            f"input size {input_size!r}: write 'native', the shorter side first and then the longest longer one as "
            "(800, 1333), or the side of a padded square as 640; whole pixels up to 16384"
        )
    return sides
