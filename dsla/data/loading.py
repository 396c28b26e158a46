"""What all data sets share: image files to tensors, transforms, batches, COCO files and results.

M boxes of an image, K crowd boxes, D detections, C classes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from ..errors import DataError
from ..files import refuse_existing, write

Target = dict[str, Any]
Transforms = Callable[[Any, Target], tuple[Any, Target]]

TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height
EXIF_ORIENTATION = 0x0112
MAX_PIXELS = 100_000_000  # of an image that is read: few bytes can say that they are gigabytes
_NOT_READ = {"EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5"}  # other programs would run, or Pillow knows the name only


def formats() -> list[str]:
    """Names of the image formats that are read: Pillow's, also of plugins, without those that it cannot read alone."""
    Image.init()
    return sorted(set(Image.OPEN) - _NOT_READ)


def endings() -> set[str]:
    """Endings of the files of these formats, in small letters with their dot."""
    readable = set(formats())
    return {ending for ending, name in Image.registered_extensions().items() if name in readable}


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode of 8 bits to RGB. Transparent pixels are laid on white."""
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def to_pixels(image: Image.Image, value_range: tuple[float, float] | None = None) -> Tensor:
    """An opened image as [3, H, W]: bytes where it has 8 bits, else float32 in 0…1 with all its levels.

    Black and white follow from the type, never from the single image, so that the frames of a data set keep their
    brightness: 0 and 65535 in whole numbers of more than 8 bits, 0 and 1 in floats.

    value_range: (black, white) of images with more than 8 bits, where theirs differ: (0, 4095) for 12 bits in files
        of 16; beyond it values are cut.
    Raises:
        DataError: values outside the range of their type, where no `value_range` is given.
    """
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return torch.from_numpy(np.array(to_rgb(image))).permute(2, 0, 1).contiguous()
    grey = np.nan_to_num(np.asarray(image, dtype=np.float64))
    low, high = value_range or (0.0, 1.0 if image.mode == "F" else 65535.0)
    least, most = (float(grey.min()), float(grey.max())) if grey.size else (low, low)
    if value_range is None and (least < low or most > high):
        kind = "floats" if image.mode == "F" else "whole numbers of more than 8 bits"
        raise DataError(
            f"values from {least:g} to {most:g} in an image of {kind}, where {low:g} is black and {high:g} white: say "
            "what they are in this data set by value_range=(black, white)"
        )
    scaled = torch.from_numpy(((grey - low) / (high - low)).clip(0, 1).astype(np.float32))
    return scaled.expand(3, *scaled.shape).contiguous()


def as_floats(image: Tensor) -> Tensor:
    """Bytes to floats in 0…1; floats as they are."""
    return image.float() / 255 if image.dtype == torch.uint8 else image


def check_range(image: Tensor, name: str) -> None:
    """Float images are in 0…1. Looked at only in main memory: on a GPU the host would wait for the answer.

    Raises:
        DataError: values far outside, as floats in 0…255 or a normalised image have them.
    """
    if image.is_floating_point() and image.device.type == "cpu" and image.numel():
        low, high = (float(v) for v in image.aminmax())
        if low < -0.5 or high > 1.5:
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
    try:
        with Image.open(path, formats=formats()) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise DataError(
                    f"{path.absolute()}: {text(opened.size)} pixels; images of up to {MAX_PIXELS:,} are read "
                    "(dsla.data.loading.MAX_PIXELS)"
                )
            orientation = opened.getexif().get(EXIF_ORIENTATION, 1)
            stored, upright = opened.size, opened.size
            if orientation in TURNED:
                upright = stored[1], stored[0]
            wanted = upright if size is None else (size[1], size[0])
            if wanted not in (stored, upright):
                turned = f" (upright, by its EXIF orientation: {text(upright)})" if upright != stored else ""
                raise DataError(
                    f"{path}: the image is {text(stored)}{turned}, but the annotations say {text(wanted)} "
                    "(width x height); correct the file or its entry in 'images'."
                )
            image = ImageOps.exif_transpose(opened) if wanted == upright else opened
            pixels = to_pixels(image, value_range)
    except FileNotFoundError:
        raise DataError(f"{path.absolute()}: no such image file; check the image folder and 'file_name'.") from None
    except DataError as error:
        raise (error if str(path) in str(error) else DataError(f"{path}: {error}")) from None
    except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
        raise DataError(f"{path.absolute()}: cannot be read as an image ({error}).") from error
    return pixels


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
    pixels = _pixels(np.asarray(image.detach().cpu() if isinstance(image, Tensor) else image))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _pixels(values: np.ndarray) -> np.ndarray:
    """An array as `image_tensor` takes it → float32 [H, W, 3] in 0…1."""
    what = f"image of shape {list(values.shape)}, {values.dtype}"
    if values.dtype.kind not in "buif" or values.ndim not in (2, 3) or not values.size:
        raise DataError(f"{what}: expected a path, a PIL image, or an array [H, W], [H, W, 3] or [3, H, W]")
    if values.ndim == 2:
        values = values[..., None]
    elif values.shape[-1] not in (1, 3, 4):
        values = values.transpose(1, 2, 0)
    if values.shape[-1] not in (1, 3, 4):
        raise DataError(f"{what}: 1, 3 or 4 channels are needed, first or last")
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(low + high) or low < 0:
        raise DataError(f"{what}: values must be finite and not negative; undo the normalisation first")
    top = {"b": 1.0, "u": 255.0, "i": 255.0, "f": 1.0 if high <= 1 else 255.0}[values.dtype.kind]
    if values.dtype in (np.uint16, np.int16) or (values.dtype.kind in "ui" and high > top):
        top = 65535.0
    if high > top or (values.dtype.kind == "f" and 1 < high <= 2):
        raise DataError(f"{what}: the largest value is {high:g}; divide by what is white, so that values are 0…1")
    values = values.astype(np.float32) / np.float32(top)
    if values.shape[-1] == 4:  # transparent pixels lie on white, as in the data sets
        values = values[..., :3] * values[..., 3:] + 1 - values[..., 3:]
    return np.array(np.broadcast_to(values, (*values.shape[:2], 3)))


def collate(batch: Iterable[tuple[Tensor, Target]]) -> tuple[list[Tensor], list[Target]]:
    """Items of a data set to (list of images, list of targets), the detector's calling convention."""
    images, targets = zip(*batch, strict=True)
    return list(images), list(targets)


def as_tv_tensors(image: Tensor, target: Target) -> tuple[tv_tensors.Image, Target]:
    """Wraps an item for `torchvision.transforms.v2`.

    Crowd boxes are appended to boxes [M+K, 4] with label -1, so that every transform, the ones that filter
    boxes by their labels too, moves them alike; `from_tv_tensors` takes them apart.
    """
    size = (int(image.shape[-2]), int(image.shape[-1]))
    boxes = torch.cat([target["boxes"], target["crowd_boxes"]])
    labels = torch.cat([target["labels"], torch.full((len(target["crowd_boxes"]),), -1)])
    wrapped = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size)
    rest = {k: v for k, v in target.items() if k != "crowd_boxes"}
    return tv_tensors.Image(image), {**rest, "boxes": wrapped, "labels": labels}


def from_tv_tensors(image: Any, target: Target) -> tuple[Tensor, Target]:
    """The inverse: plain tensors, images of bytes or float32. Boxes that a crop has cut to nothing are dropped."""
    image = image.as_subclass(Tensor)
    if image.dtype not in (torch.uint8, torch.float32):
        image = F.to_dtype(image, torch.float32, scale=True)
    height, width = image.shape[-2:]
    boxes = target["boxes"].as_subclass(Tensor).float()
    boxes = torch.stack([boxes[:, 0::2].clamp(0, width), boxes[:, 1::2].clamp(0, height)], 2).reshape(-1, 4)
    kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    boxes, labels = boxes[kept], target["labels"][kept]
    crowd = labels < 0
    return image, {**target, "boxes": boxes[~crowd], "labels": labels[~crowd], "crowd_boxes": boxes[crowd]}


class DetectionDataset(Dataset[tuple[Tensor, Target]]):
    """Protocol of all data sets.

    `ds[i]` is (image, target): image float32 [3, H, W] in 0..1; target has boxes float32 [M, 4] xyxy in
    pixels, labels int64 [M] in 0..C-1, crowd_boxes float32 [K, 4] and image_id. `category_ids[label]` is the
    COCO id and `class_names[label]` the name. `transforms(image, target)` gets tv_tensors (see
    `as_tv_tensors`).
    """

    name: str
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    transforms: Transforms | None = None

    def __len__(self) -> int:
        raise NotImplementedError

    def load(self, i: int) -> tuple[Tensor, Target]:
        """Item i, without transforms; its image may also be of bytes, [3, H, W] uint8."""
        raise NotImplementedError

    def image_id(self, i: int) -> int:
        """COCO id of image i."""
        raise NotImplementedError

    def image_size(self, i: int) -> tuple[int, int]:
        """(height, width) of image i, untransformed, without reading it."""
        raise NotImplementedError

    def annotated(self) -> set[int]:
        """COCO ids of the images that have an annotation, be it a crowd."""
        return {a["image_id"] for a in self.ground_truth()["annotations"]}

    def ground_truth(self) -> dict[str, Any]:
        """COCO dict; every annotation has id >= 1, image_id, category_id, bbox, area and iscrowd."""
        raise NotImplementedError

    def __getitem__(self, i: int) -> tuple[Tensor, Target]:
        image, target = self.item(i)
        return as_floats(image), target

    def item(self, i: int) -> tuple[Tensor, Target]:
        """`ds[i]`, but for bytes that stay bytes: the model turns them into floats on its device."""
        image, target = self.load(i)
        if self.transforms is None:
            return image, target
        return from_tv_tensors(*self.transforms(*as_tv_tensors(image, target)))

    def check_index(self, i: int) -> int:
        """The index counted from the front; IndexError outside, which also ends a plain `for` loop."""
        if not -len(self) <= i < len(self):
            raise IndexError(f"{self.name}: image {i} of {len(self)}")
        return i % len(self)

    def results(self, image_ids: Sequence[int], detections: Sequence[Mapping[str, Tensor]]) -> list[dict[str, Any]]:
        """`to_coco_results` with this data set's categories."""
        return to_coco_results(self, image_ids, detections)

    def to_coco(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """`write_coco` of this data set."""
        return write_coco(self, folder, overwrite=overwrite)


def to_coco_results(
    dataset: DetectionDataset, image_ids: Sequence[int], detections: Sequence[Mapping[str, Tensor]]
) -> list[dict[str, Any]]:
    """Detections of a model to COCO result rows.

    Args:
        dataset: its `category_ids` turn labels into COCO ids.
        image_ids: COCO ids, one an element of detections.
        detections: dicts with boxes [D, 4] xyxy pixels of the original image, scores [D], labels [D].
    Returns:
        Rows {"image_id", "category_id", "bbox": [x, y, w, h], "score"}, plain Python numbers.
    """
    if len(image_ids) != len(detections):
        raise DataError(f"{len(image_ids)} image ids but {len(detections)} detection dicts; give one of each an image.")
    rows = []
    for image_id, found in zip(image_ids, detections, strict=True):
        boxes, labels = found["boxes"].detach().double().cpu(), found["labels"].tolist()
        if labels and not 0 <= min(labels) <= max(labels) < len(dataset.category_ids):
            raise DataError(
                f"image {image_id}: a detection has a label outside 0..{len(dataset.category_ids) - 1}; "
                f"the model was made for other classes than {dataset.name}."
            )
        boxes = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
        for box, score, label in zip(boxes.tolist(), found["scores"].tolist(), labels, strict=True):
            category = dataset.category_ids[label]
            rows.append({"image_id": int(image_id), "category_id": category, "bbox": box, "score": score})
    return rows


def write_coco(dataset: DetectionDataset, folder: str | Path, *, overwrite: bool = False) -> Path:
    """Writes a data set as `folder/images/*.png` and `folder/instances.json`; returns the JSON's path.

    Images come without transforms, in the frame of the annotations. `CocoDataset(folder / "images", returned
    path)` reads the same boxes back.

    Raises:
        DataError: one of these files is there already; nothing is written then.
    """
    path = Path(folder) / "instances.json"
    files = [path.parent / "images" / f"{i:06d}.png" for i in range(len(dataset))]
    refuse_existing([path, *files], overwrite=overwrite)
    truth = dataset.ground_truth()
    entries = {entry["id"]: entry for entry in truth["images"]}
    (path.parent / "images").mkdir(parents=True, exist_ok=True)
    images = []
    for i, file in enumerate(files):
        image, _ = dataset.load(i)
        pixels = (as_floats(image) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        file.unlink(missing_ok=True)  # a link is replaced, not what it leads to
        Image.fromarray(pixels).save(file)
        images.append({**entries[dataset.image_id(i)], "file_name": file.name})
    return write(path, json.dumps({**truth, "images": images}, ensure_ascii=False))
