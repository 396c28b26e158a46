"""Pictures: files, PIL images and arrays of any kind to tensors, with the limits of what is read."""

import re
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..coco.columns import array
from ..coco.ground_truth import GroundTruth
from ..coco.heads import frame, opened, upright
from ..errors import DataError, DataWarning

MAX_PIXELS = 100_000_000  # of an image that is read: few bytes can say that they are gigabytes


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode of 8 bits to RGB. Transparent pixels are laid on white."""
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def to_pixels(image: Image.Image, value_range: tuple[float, float] | None = None) -> Tensor:
    """An opened image as [3, H, W]: bytes where it has 8 bits, else float32 in 0…1 with all its levels.

    Bytes lie in memory as Pillow has them, the channels of a pixel side by side.

    Black and white follow from the type, never from the single image, so that the frames of a data set keep their
    brightness: 0 and 65535 in whole numbers of more than 8 bits, 0 and 1 in floats.

    value_range: (black, white) of images with more than 8 bits, where theirs differ: (0, 4095) for 12 bits in files
        of 16; beyond it values are cut.
    Raises:
        DataError: values outside the range of their type, where no `value_range` is given; or it is none.
    """
    if value_range is not None and not (len(value_range) == 2 and 0 < abs(value_range[1] - value_range[0]) < np.inf):
        raise DataError(f"value_range is what is black and what is white, two different numbers; got {value_range}")
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return torch.from_numpy(np.array(to_rgb(image))).permute(2, 0, 1)
    grey = np.nan_to_num(np.asarray(image, dtype=np.float64))
    low, high = value_range or (0.0, 1.0 if image.mode == "F" else 65535.0)
    least, most = (float(grey.min()), float(grey.max())) if grey.size else (low, low)
    if value_range is None and (least < low or most > high):
        kind = "floats" if image.mode == "F" else "whole numbers of more than 8 bits"
        raise DataError(
            f"values from {least:g} to {most:g} in an image of {kind}, where {low:g} is black and {high:g} white: say "
            "what they are in this data set by value_range=(black, white), --value-range BLACK WHITE"
        )
    scaled = torch.from_numpy(((grey - low) / (high - low)).clip(0, 1).astype(np.float32))
    return scaled.expand(3, *scaled.shape).contiguous()


def as_floats(image: Tensor) -> Tensor:
    """Bytes to floats in 0…1; floats as they are."""
    return image.contiguous().float() / 255 if image.dtype == torch.uint8 else image


def as_bytes(image: Tensor) -> Tensor:
    """The inverse of `as_floats`; floats a little outside 0…1, as a resampling gives them, are cut to it."""
    return image if image.dtype == torch.uint8 else (image.clamp(0, 1) * 255).round().to(torch.uint8)


def check_range(image: Tensor, name: str) -> None:
    """Float images are in 0…1. Looked at only in main memory: on a GPU the host would wait for the answer.

    Raises:
        DataError: values that are NaN or far outside, as floats in 0…255 or a normalised image have them.
    """
    if image.is_floating_point() and image.device.type == "cpu" and image.numel():
        low, high = (float(v) for v in image.aminmax())
        if not (low >= -0.5 and high <= 1.5):  # nor NaN
            raise DataError(
                f"{name}: floats from {low:.3g} to {high:.3g}, but images are floats in 0…1 or bytes (uint8): divide "
                "by what white is, and leave the normalisation to the model"
            )


def text(size: tuple[int, int]) -> str:
    """(width, height) as people write it."""
    return f"{size[0]}x{size[1]}"


def load_image(
    path: str | Path, size: tuple[int, int] | None = None, value_range: tuple[float, float] | None = None
) -> Tensor:
    """Reads an image file of any mode as float32 [3, H, W] in 0..1; arguments as in `load_pixels`."""
    return as_floats(load_pixels(path, size, value_range))


def load_pixels(
    path: str | Path, size: tuple[int, int] | None = None, value_range: tuple[float, float] | None = None
) -> Tensor:
    """Reads an image file of any mode as [3, H, W]: bytes where it has 8 bits, else float32 in 0..1 (`to_pixels`).

    Phone photographs are stored unrotated with an EXIF orientation. With no `size` the image comes upright;
    with `size` (height, width), as an annotation file gives it, in the frame that has this size: upright if
    both have.

    Raises:
        DataError: the file is missing, is no image, or neither frame has the size; names the file and the
        sizes.
    """
    path = Path(path)
    with opened(path) as image:
        if image.width * image.height > MAX_PIXELS:
            raise DataError(
                f"{path.absolute()}: {text(image.size)} pixels; images of up to {MAX_PIXELS:,} are read "
                "(dsla.data.pictures.MAX_PIXELS)"
            )
        if re.search(";16[BLN]", str(image.tile)) and not image.mode.startswith("I"):  # Pillow keeps 8 bits
            what = "colour or opacity in channels of 16 bits, of which the upper 8 are read"
            if value_range is not None:
                raise DataError(f"{path}: {what}, so that a value_range has no effect: convert it to 8 bits or grey")
            _say(f"{path.parent}: {what}; if they hold 12 bits, they are dark: convert them")
        wanted, seen = frame(image, size), upright(image)
        if size and wanted != (size[0], size[1]):
            other = f" (upright, by its EXIF orientation: {text(seen[::-1])})" if seen != image.size[::-1] else ""
            raise DataError(
                f"{path}: the image is {text(image.size)}{other}, but the annotations say {text(size[::-1])} "
                "(width x height); correct the file or its entry in 'images'."
            )
        if getattr(image, "is_animated", False) and image.format != "MPO":  # of a phone, with a preview
            _say(f"{path.parent}: of a file with several pictures the first is read")
        if wanted == seen:
            ImageOps.exif_transpose(image, in_place=True)
        pixels = to_pixels(image, value_range)
        if image.mode == "F" and np.isnan(np.asarray(image)).any():
            _say(f"{path.parent}: pixels of a float picture that are not numbers (NaN) are read black")
        if value_range is None and image.mode.startswith("I") and 0 < float(pixels.max()) < 4096 / 65535:
            dark = f"{path.parent}: a picture of 16 bits has no value above 4095 and is read dark"
            _say(f"{dark}; if all are of 12 bits, say value_range=(0, 4095) or --value-range 0 4095")
        return pixels


def annotated_pixels(
    truth: GroundTruth,
    i: int,
    folder: str | Path,
    *,
    outside: bool = False,
    value_range: tuple[float, float] | None = None,
) -> Tensor:
    """The picture of image i of a ground truth, in the frame that its boxes are in; [3, H, W] as `load_pixels` has it.

    Args:
        truth: annotations; where they have no size of the image, it comes upright.
        i: place of the image among them.
        folder: that file names start from.
        outside: allow files outside the folder.
        value_range: as in `to_pixels`.

    Raises:
        DataError: no such file, or its size is not the annotated one; names the annotations, the image and the file.
    """
    path, size = truth.file(i, folder, outside=outside), (int(truth.heights[i]), int(truth.widths[i]))
    try:
        return load_pixels(path, size if all(size) else None, value_range)
    except DataError as error:
        raise DataError(f"{truth.name}, image id {truth.image_ids[i]}: {error}") from None


@cache
def _say(text: str) -> None:
    """Once, however many pictures of a folder it holds of."""
    warnings.warn_explicit(text, DataWarning, "<dsla>", 1)


def image_tensor(image: Any) -> Tensor:
    """Any picture → float32 [3, H, W] in 0…1, in main memory.

    Args:
        image: a path (`load_image`); a PIL image, brought upright; or an array, a tensor or nested lists [H, W],
            [H, W, C] or [C, H, W] with 1, 3 or 4 channels (the last is opacity, on white): whole numbers by the range
            of their type (8 bits 0…255, 16 bits 0…65535), floats 0…1, or 0…255 if one is above 2.
    Raises:
        DataError: the file cannot be read, or the shape or the values are not those of a picture.
    """
    if isinstance(image, (str, Path)):
        return load_image(image)
    if isinstance(image, Image.Image):
        return as_floats(to_pixels(ImageOps.exif_transpose(image)))
    pixels = _pixels(array(image))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _pixels(values: np.ndarray) -> np.ndarray:
    """An array as `image_tensor` takes it → float32 [H, W, 3] in 0…1."""
    what = f"image of shape {list(values.shape)}, {values.dtype}"
    values = values[..., None] if values.ndim == 2 else values
    if values.ndim == 3 and values.shape[-1] not in (1, 3, 4):
        values = values.transpose(1, 2, 0)
    if values.dtype.kind not in "buif" or values.ndim != 3 or values.shape[-1] not in (1, 3, 4) or not values.size:
        forms = "an array [H, W], or [H, W, C] or [C, H, W] of 1, 3 or 4 channels"
        raise DataError(f"{what}: expected a path, a PIL image, or {forms}")
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(low + high) or low < 0:
        raise DataError(f"{what}: values must be finite and not negative; undo the normalisation first")
    top = 255.0
    if values.dtype.kind == "b" or (values.dtype.kind == "f" and high <= 1):
        top = 1.0
    elif values.dtype in (np.uint16, np.int16):
        top = 65535.0
    if high > top or (values.dtype.kind == "f" and 1 < high <= 2):
        raise DataError(f"{what}: the largest value is {high:g}; divide by what is white, so that values are 0…1")
    values = values.astype(np.float32) / np.float32(top)
    if values.shape[-1] == 4:  # transparent pixels lie on white, as in the data sets
        values = values[..., :3] * values[..., 3:] + 1 - values[..., 3:]
    return np.array(np.broadcast_to(values, (*values.shape[:2], 3)))
