"""Images and targets into the network's frame and back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes

from ..errors import DataError

Target = dict[str, Tensor]


class Transform(GeneralizedRCNNTransform):
    """torchvision's: normalise, resize with the aspect kept, pad to a batch; crowd boxes come along.

    Args:
        min_size: the short side; while training one of these is drawn for each image ("value" multi-scale), unless
            its target has it as ``short_side``; else the last one holds. Empty: images stay as they are.
        max_size: the long side does not exceed it.
        mean, std: of the channels, after `pixel_scale` and `bgr`.
        bgr: the network reads blue, green, red.  pixel_scale: what a white pixel, 1.0, becomes.
        size_divisible: batches are padded to multiples of it.
        rounding: of the sides, "down" as torchvision or to the "nearest" as mmdetection; at least one pixel.
    """

    def __init__(
        self,
        min_size: Sequence[int] = (800,),
        max_size: int = 1333,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        bgr: bool = False,
        pixel_scale: float = 1.0,
        size_divisible: int = 32,
        rounding: str = "down",
    ) -> None:
        super().__init__(tuple(min_size), max_size, list(mean), list(std), size_divisible)
        self.bgr, self.pixel_scale, self.rounding = bgr, pixel_scale, rounding

    def normalize(self, image: Tensor) -> Tensor:
        if self.bgr:
            image = image.flip(0)
        return super().normalize(image if self.pixel_scale == 1 else image * self.pixel_scale)

    def resize(self, image: Tensor, target: Target | None = None) -> tuple[Tensor, Target | None]:
        if not self.min_size:
            return image, target
        before = image.shape[-2:]
        if target is not None and "short_side" in target:
            side = int(target["short_side"])
        else:
            side = self.torch_choice(self.min_size) if self.training and len(self.min_size) > 1 else self.min_size[-1]
        scale = min(side / min(before), self.max_size / max(before))
        if scale == 1:
            return image, target  # interpolation by 1 would give the same
        half = 0.5 if self.rounding == "nearest" else 0.0
        size = [max(1, int(x * scale + half)) for x in before]
        image = interpolate(image[None], size=size, mode="bilinear")[0]
        if target is not None:
            moved = {k: resize_boxes(target[k], before, image.shape[-2:]) for k in _BOXES if k in target}
            target = {**target, **moved}
        return image, target


_BOXES = ("boxes", "crowd_boxes")


def check_targets(targets: Sequence[Target] | None, images: int, num_classes: int) -> Sequence[Target]:
    """The targets themselves, if a detector of C classes can be taught with them.

    Values are looked at only where they lie in main memory: on a GPU that would halt the step.

    Raises:
        DataError: naming the image id and the box.
    """
    if targets is None or len(targets) != images:
        got = "none" if targets is None else len(targets)
        raise DataError(f"training needs one target for each of the {images} images, got {got}")
    for place, target in enumerate(targets):
        name = f"image {int(target['image_id'])}" if "image_id" in target else f"image {place} of the batch"
        if "boxes" not in target or "labels" not in target:
            raise DataError(f"{name}: a target needs 'boxes' [M, 4] and 'labels' [M], got {sorted(target)}")
        boxes, labels = target["boxes"], target["labels"]
        if boxes.ndim != 2 or boxes.shape[-1] != 4 or labels.shape != boxes.shape[:1]:
            raise DataError(
                f"{name}: expected boxes [M, 4] and labels [M], got {list(boxes.shape)} and "
                f"{list(labels.shape)}; without objects boxes are [0, 4]"
            )
        if boxes.device.type != "cpu" or not len(boxes):
            continue
        good = boxes.isfinite().all(-1) & (boxes[:, 2:] > boxes[:, :2]).all(-1)
        if not good.all():
            bad = int((~good).nonzero()[0])
            raise DataError(
                f"{name}: box {bad} is {boxes[bad].tolist()}; x1, y1, x2, y2 must be finite, x2 > x1, y2 > y1"
            )
        known = (labels >= 0) & (labels < num_classes)
        if not known.all():
            bad = int((~known).nonzero()[0])
            raise DataError(
                f"{name}: box {bad} has label {int(labels[bad])}, but the model has {num_classes} classes, "
                f"labels 0…{num_classes - 1}"
            )
    return targets


def sizes(images: Sequence[Tensor]) -> list[tuple[int, int]]:
    """(height, width) of each image.

    Raises:
        DataError: an image that is not a float [3, H, W].
    """
    for place, image in enumerate(images):
        if image.ndim != 3 or image.shape[0] != 3 or not torch.is_floating_point(image):
            raise DataError(
                f"image {place} of the batch: expected float [3, H, W] in 0…1, "
                f"got {image.dtype} {list(image.shape)}"
            )
    return [(int(x.shape[-2]), int(x.shape[-1])) for x in images]
