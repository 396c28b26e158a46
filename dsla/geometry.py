"""Points, boxes and their overlap: the coordinates that every other floor uses.

Axis letters, here and everywhere: **B** images, **P** points of all levels, **M** boxes of an image,
**C** classes, **L** levels. Boxes are ``x1, y1, x2, y2`` in pixels, distances ``left, top, right, bottom``
in pixels, both float32 whatever the precision of the network (300 × 300 overflows half precision).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import torch
from torch import Tensor

IOU_EPS = 1e-6  # smallest union, as in the release: keeps the IoU of empty boxes at 0


class PointGrid:
    """The points at which the detector predicts: one per cell of each pyramid level.

    ``PointGrid((height, width), strides, offset)`` takes an image size in pixels; a level of stride s then
    has ceil(height / s) × ceil(width / s) cells. `from_shapes` takes the feature-map sizes themselves.

    The point of row i, column j lies at ``((j + offset)·s, (i + offset)·s)``: offset 0 is the DSLA
    release's, 0.5 the one of FCOS in mmdetection 2.x. Points run level by level, row by row.

    Attributes:
        xy: [P, 2] float32, pixels.  stride: [P] float32.  level, row, column: [P] int64.
        shapes: (h, w) of each level.  strides: pixels between points.  num_points: points per level.
    Raises:
        ValueError: sizes or strides that are not positive, or of different number.
    """

    def __init__(self, image_size: Sequence[int], strides: Sequence[int], offset: float = 0.0) -> None:
        height, width = (int(v) for v in image_size)
        strides = tuple(int(s) for s in strides)
        if min(height, width, *strides) <= 0:
            raise ValueError(f"image size and strides must be positive, got {image_size} and {strides}")
        self._build([(math.ceil(height / s), math.ceil(width / s)) for s in strides], strides, offset, "cpu")

    @classmethod
    def from_shapes(
        cls,
        shapes: Sequence[Sequence[int]],
        strides: Sequence[int],
        offset: float = 0.0,
        device: torch.device | str = "cpu",
    ) -> PointGrid:
        """The grid of feature maps with these (h, w); one stride for each."""
        if len(shapes) != len(strides):
            raise ValueError(f"{len(shapes)} feature maps but {len(strides)} strides")
        grid = cls.__new__(cls)
        grid._build(
            [(int(h), int(w)) for h, w in shapes], tuple(int(s) for s in strides), offset, str(device)
        )
        return grid

    def _build(
        self, shapes: list[tuple[int, int]], strides: tuple[int, ...], offset: float, device: str
    ) -> None:
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

    def to(self, device: torch.device | str) -> PointGrid:
        """The same grid with its tensors on another device."""
        return PointGrid.from_shapes(self.shapes, self.strides, self.offset, device)

    def split(self, values: Tensor) -> list[Tensor]:
        """[B, P, …] → per level [B, h, w, …]: views, no copies."""
        if values.shape[1] != len(self):
            raise ValueError(f"expected [B, {len(self)}, …], got {list(values.shape)}")
        parts = values.split(self.num_points, dim=1)
        return [p.unflatten(1, shape) for p, shape in zip(parts, self.shapes, strict=True)]

    def inside(self, image_sizes: Sequence[tuple[int, int]]) -> Tensor:
        """[B, P] bool: points that lie in the image itself, (height, width) each, not in its padding."""
        size = torch.tensor(image_sizes, dtype=torch.float32, device=self.device).reshape(-1, 1, 2)
        return (self.xy < size.flip(-1)).all(-1)


@lru_cache(maxsize=64)
def _grid_tensors(
    shapes: tuple[tuple[int, int], ...], strides: tuple[int, ...], offset: float, device: str
) -> tuple[Tensor, ...]:
    """Coordinates of a grid. Kept, since a training run asks for the same few grids at every step."""
    with torch.inference_mode(False):  # what is kept from an evaluation must serve a training, too
        return _grid_columns(shapes, strides, offset, device)


def _grid_columns(
    shapes: tuple[tuple[int, int], ...], strides: tuple[int, ...], offset: float, device: str
) -> tuple[Tensor, ...]:
    columns: list[list[Tensor]] = [[] for _ in range(5)]
    for level, ((h, w), s) in enumerate(zip(shapes, strides, strict=True)):
        row, column = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        row, column = row.flatten(), column.flatten()
        xy = (torch.stack((column, row), -1).float() + offset) * s
        each = (xy, torch.full((h * w,), float(s)), torch.full((h * w,), level), row, column)
        for store, value in zip(columns, each, strict=True):
            store.append(value)
    return tuple(torch.cat(c).to(device) for c in columns)


@dataclass(frozen=True)
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

    @cached_property
    def boxes(self) -> Tensor:
        """[B, P, 4] predicted boxes, pixels; not clipped to the image."""
        return distances_to_boxes(self.grid.xy, self.distances)

    def detach(self) -> HeadOutputs:
        quality = None if self.quality is None else self.quality.detach()
        return replace(self, logits=self.logits.detach(), distances=self.distances.detach(), quality=quality)


def distances_to_boxes(xy: Tensor, distances: Tensor) -> Tensor:
    """Points [..., 2] and their distances [..., 4] → boxes [..., 4]."""
    return torch.cat((xy - distances[..., :2], xy + distances[..., 2:]), -1)


def boxes_to_distances(xy: Tensor, boxes: Tensor) -> Tensor:
    """Points [..., 2] and boxes [..., 4] → distances [..., 4]; negative where the point lies outside."""
    return torch.cat((xy - boxes[..., :2], boxes[..., 2:] - xy), -1)


def box_area(boxes: Tensor) -> Tensor:
    """[..., 4] → [...] pixels²."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and union of boxes that broadcast against each other, [..., 4] → [...] twice, float32.

    The union is clamped at 1e-6 (release: ``bbox_overlaps``), so that empty boxes have IoU 0, not NaN.
    """
    a, b = at_least_float32(a), at_least_float32(b)
    size = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
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
