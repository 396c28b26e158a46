"""Images and targets into the network's frame and back."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ..coco.foreign import strange_keys
from ..data.loading import name_of
from ..data.pictures import check_range
from ..errors import DataError, require_corners
from ..geometry import resized, scaled
from ..recipes.recipe import checked

Target = dict[str, Tensor]
Size = tuple[int, int]  # height, width

COARSEST = 32  # stride of the backbone's last map, of which batches are padded to multiples
_BOXES = ("boxes", "crowd_boxes")


class Transform(nn.Module):
    """Images to one batch: resized with the aspect kept, padded, normalised; their boxes come along.

    Images are floats in 0…1, or bytes: a quarter to bring to a GPU, which turns them into floats itself. The
    padding is 0 after normalisation, as in torchvision.

    Args:
        min_size: the short side; while training one of these is drawn for each image ("value" multi-scale), unless
            its target has it as ``short_side``; else the last one holds. Empty: images stay as they are.
        max_size: the long side does not exceed it.
        mean, std: of the channels, after `pixel_scale` and `bgr`.
        bgr: the network reads blue, green, red.
        pixel_scale: what a white pixel, 1.0, becomes.
        rounding: of the sides, "down" as torchvision or to the "nearest" as mmdetection; at least one pixel.
    """

    mean: Tensor  # [3, 1, 1]
    std: Tensor

    def __init__(
        self,
        min_size: Sequence[int] = (800,),
        max_size: int = 1333,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        bgr: bool = False,
        pixel_scale: float = 1.0,
        rounding: str = "down",
    ) -> None:
        super().__init__()
        self.min_size, self.max_size, self.rounding = tuple(min_size), max_size, checked("rounding", rounding)
        self.bgr, self.pixel_scale = bgr, pixel_scale
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Target] | None = None
    ) -> tuple[Tensor, list[Size], list[Target] | None]:
        """The batch [B, 3, H, W] in the network's precision, each image's size in it, and the targets in its frame."""
        before = sizes(images)
        after = [self.size_of(size, None if targets is None else targets[i]) for i, size in enumerate(before)]
        height, width = (-(-max(sides) // COARSEST) * COARSEST for sides in zip(*after, strict=True))
        batch = torch.empty((len(images), 3, height, width), dtype=self.mean.dtype, device=images[0].device)
        for place, (image, old, (h, w)) in enumerate(zip(images, before, after, strict=True)):
            picture = image if old == (h, w) else interpolated(image, (h, w))
            here = batch[place, :, :h, :w].copy_(picture)
            if image.dtype == torch.uint8:
                here.div_(255)
            self.normalize(here)
            batch[place, :, h:] = 0
            batch[place, :, :h, w:] = 0
        return batch, after, None if targets is None else list(map(moved, targets, before, after))

    def normalize(self, image: Tensor) -> Tensor:
        """Images [..., 3, H, W] in 0…1 as the network reads them; in place, since new memory costs a CPU more time."""
        if self.bgr:
            image.copy_(image.flip(-3))
        if self.pixel_scale != 1:
            image.mul_(self.pixel_scale)
        return image.sub_(self.mean.to(image.device)).div_(self.std.to(image.device))

    def size_of(self, size: Size, target: Target | None = None) -> Size:
        """(height, width) that an image of this size gets."""
        if not self.min_size:
            return size
        if target is not None and "short_side" in target:
            side = int(target["short_side"])
        elif self.training and len(self.min_size) > 1:
            side = self.min_size[int(torch.randint(len(self.min_size), ()))]
        else:
            side = self.min_size[-1]
        return resized(size, side, self.max_size, self.rounding)


def interpolated(image: Tensor, size: Size) -> Tensor:
    """[3, H, W] → float32 [3, *size], bilinear; the same bits as with channels first, in a third of the time."""
    last = image.permute(1, 2, 0)[None].float().contiguous()
    return interpolate(last.permute(0, 3, 1, 2), size=size, mode="bilinear")[0]


def moved(target: Target, before: Size, after: Size) -> Target:
    """A target of an image of one size for the same image at another."""
    if before == after:
        return target
    return {**target, **{k: scaled(target[k], before, after) for k in _BOXES if k in target}}


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
        name = name_of(target, f"image {place} of the batch")
        if (problem := _problem(target, num_classes)) is not None:
            raise DataError(f"{name}: {problem}")
        for key in _BOXES:
            require_corners(target.get(key), name)
    return targets


def _problem(target: Target, num_classes: int) -> str | None:
    """Why a target cannot be taught; None where it can."""
    if "boxes" not in target or "labels" not in target:
        return f"a target needs 'boxes' [M, 4] and 'labels' [M], got {sorted(target)}"
    if (strange := strange_keys(target)) is not None:
        return strange
    for key in ("labels", *_BOXES, "iscrowd"):
        if key in target and not isinstance(target[key], Tensor):
            got = type(target[key]).__name__
            return f"{key} must be a tensor, got {got}; where there are none, leave 'crowd_boxes' and 'iscrowd' out"
    boxes, labels = target["boxes"], target["labels"]
    flags = target.get("iscrowd", labels)
    if flags.shape != labels.shape:
        return f"expected iscrowd [M] beside labels {list(labels.shape)}, got {list(flags.shape)}"
    if boxes.ndim != 2 or boxes.shape[-1] != 4 or labels.shape != boxes.shape[:1]:
        return (
            f"expected boxes [M, 4] and labels [M], got {list(boxes.shape)} and {list(labels.shape)}; "
            "without objects boxes are [0, 4]"
        )
    if boxes.device.type != "cpu" or not len(boxes):
        return None
    classless = (labels < 0) | (labels >= num_classes)
    wrong = ~(boxes.isfinite().all(-1) & (boxes[:, 2:] > boxes[:, :2]).all(-1))
    if not (wrong | classless).any():
        return None
    bad = int((wrong | classless).nonzero()[0])
    if wrong[bad]:
        return f"box {bad} is {boxes[bad].tolist()}, but x1, y1, x2, y2 must be finite, x2 > x1 and y2 > y1"
    classes = f"the model has {num_classes} classes, labels 0…{num_classes - 1}"
    return f"box {bad} has label {int(labels[bad])}, but {classes}"


def sizes(images: Sequence[Tensor]) -> list[Size]:
    """(height, width) of each image.

    Raises:
        DataError: no image, or one that is not [3, H, W] of floats in 0…1 or of bytes. Values are looked at only where
            they lie in main memory: on a GPU the host would wait for them.
    """
    if not len(images):
        raise DataError("a batch without images; give one or more")
    for place, image in enumerate(images):
        kind = image.is_floating_point() or image.dtype == torch.uint8
        if image.ndim != 3 or image.shape[0] != 3 or not (kind and image.numel()):
            raise DataError(
                f"image {place} of the batch: expected float [3, H, W] in 0…1, or bytes (uint8), "
                f"got {image.dtype} {list(image.shape)}"
            )
        check_range(image, f"image {place} of the batch")
    return [(int(x.shape[-2]), int(x.shape[-1])) for x in images]
