"""What all data sets share: transforms, batches, COCO files and results; `pictures` reads the images.

M boxes of an image, K crowd boxes, D detections, C classes.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from ..coco.columns import plain_id
from ..coco.foreign import strange_keys
from ..coco.ground_truth import GroundTruth
from ..errors import DataError, require_corners
from ..files import put_in_place, refuse_existing, write
from .pictures import as_bytes, as_floats

Target = dict[str, Any]
TRIES = 4  # images, and times each, at which transforms are looked at before the work
Transforms = Callable[[Any, Target], tuple[Any, Target]]


def collate(batch: Iterable[tuple[Tensor, Target]]) -> tuple[list[Tensor], list[Target]]:
    """Items of a data set to (list of images, list of targets), the detector's calling convention."""
    images, targets = zip(*batch, strict=True)
    return list(images), list(targets)


def name_of(target: Mapping[str, Any], otherwise: str = "a target") -> str:
    """Its image by the id, if it has one."""
    return f"image {plain_id(target['image_id'])}" if "image_id" in target else otherwise


def apart(target: Mapping[str, Any]) -> Target:
    """A target whose crowds, flagged by torchvision's ``iscrowd`` [M], stand in ``crowd_boxes`` [K, 4], as ours do.

    Raises:
        DataError: keys that nothing here understands (`strange_keys`), or flags that are not one a box.
    """
    if (strange := strange_keys(target)) is not None:
        raise DataError(f"{name_of(target)}: {strange}")
    if "iscrowd" not in target:
        return dict(target)
    boxes, labels, crowd = (torch.as_tensor(target[key]) for key in ("boxes", "labels", "iscrowd"))
    if not len(boxes) == len(labels) == len(crowd):
        counts = f"{len(boxes)}, {len(labels)} and {len(crowd)}"
        raise DataError(f"{name_of(target)}: boxes, labels and iscrowd need one entry for each object, got {counts}")
    crowd = crowd.bool()
    crowds = torch.cat([torch.as_tensor(target.get("crowd_boxes", boxes[:0])), boxes[crowd]])
    rest = {k: v for k, v in target.items() if k != "iscrowd"}
    return {**rest, "boxes": boxes[~crowd], "labels": labels[~crowd], "crowd_boxes": crowds}


def as_tv_tensors(image: Tensor, target: Target) -> tuple[tv_tensors.Image, Target]:
    """Wraps an item for `torchvision.transforms.v2`.

    Crowd boxes, or boxes with ``iscrowd`` 1, are appended to boxes [M+K, 4] with label -1, so that every transform,
    the ones that filter boxes by their labels too, moves them alike; `from_tv_tensors` takes them apart. ``area`` [M],
    which no transform moves, is left out.

    Raises:
        DataError: as `apart`; or boxes that torchvision says are not x1, y1, x2, y2.
    """
    for key in ("boxes", "crowd_boxes"):
        require_corners(target.get(key), name_of(target))
    target = apart(target)
    crowds = target.get("crowd_boxes", target["boxes"][:0])
    size = (int(image.shape[-2]), int(image.shape[-1]))
    boxes = torch.cat([target["boxes"], crowds])
    labels = torch.cat([target["labels"], torch.full((len(crowds),), -1)])
    wrapped = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size)
    rest = {k: v for k, v in target.items() if k not in ("crowd_boxes", "area")}
    return tv_tensors.Image(image), {**rest, "boxes": wrapped, "labels": labels}


def from_tv_tensors(image: Any, target: Target) -> tuple[Tensor, Target]:
    """The inverse: plain tensors, images of bytes or float32. Boxes that a crop has cut to nothing are dropped."""
    image = image.as_subclass(Tensor)
    if image.dtype not in (torch.uint8, torch.float32):
        image = F.to_dtype(image, torch.float32, scale=True)
    height, width = image.shape[-2:]
    require_corners(target["boxes"], f"image {target.get('image_id')} after its transforms")
    boxes = target["boxes"].as_subclass(Tensor).float()
    boxes = torch.stack([boxes[:, 0::2].clamp(0, width), boxes[:, 1::2].clamp(0, height)], 2).reshape(-1, 4)
    kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    boxes, labels = boxes[kept], target["labels"][kept]
    crowd = labels < 0
    return image, {**target, "boxes": boxes[~crowd], "labels": labels[~crowd], "crowd_boxes": boxes[crowd]}


class DetectionDataset(Dataset[tuple[Tensor, Target]]):
    """Protocol of all data sets.

    `ds[i]` is (image, target): image float32 [3, H, W] in 0..1; target has boxes float32 [M, 4] xyxy in pixels,
    labels int64 [M] in 0..C-1, image_id and, if there are crowds, crowd_boxes float32 [K, 4] or torchvision's iscrowd
    [M]. `category_ids[label]` is the COCO id and `class_names[label]` the name. `transforms(image, target)` gets
    tv_tensors (see `as_tv_tensors`); those that move boxes are for training: `evaluate`, the analyses and the views
    compare with the ground truth as annotated, and refuse them.

    A data set of one's own has name, class_names, category_ids, `__len__`, `load` and `ground_truth`, a COCO dict.
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

    @cached_property
    def truth(self) -> GroundTruth:
        """The ground truth in columns; of a subclass that has `ground_truth`, which is asked once."""
        if type(self).ground_truth is DetectionDataset.ground_truth:
            raise DataError(f"{type(self).__name__} has no ground truth: write its ground_truth(), a COCO dict")
        return GroundTruth.of(self.ground_truth())

    def image_id(self, i: int) -> Any:
        """COCO id of image i."""
        return self.truth.image_ids.item(self.check_index(i))

    def image_size(self, i: int) -> tuple[int, int]:
        """(height, width) of image i, untransformed, without reading it."""
        i = self.check_index(i)
        return int(self.truth.heights[i]), int(self.truth.widths[i])

    def annotated(self) -> set[Any]:
        """COCO ids of the images with an annotation, be it a crowd, of which something lies inside."""
        inside = np.isfinite(self.truth.inside[:, 0])
        return set(self.truth.image_ids[np.unique(self.truth.image[inside])].tolist())

    def ground_truth(self) -> dict[str, Any]:
        """COCO dict of the usable annotations, boxes and areas as in the file; each has an id >= 1 and iscrowd."""
        return self.truth.to_coco()

    def fingerprint(self) -> str:
        """Twelve letters that tell this set from others, as far as is known without its pictures."""
        return digest(self.origin())

    def origin(self) -> Any:
        """What the fingerprint is of: plain values."""
        return [self.class_names, [(self.image_id(i), self.image_size(i)) for i in range(len(self))]]

    def files_read(self) -> Iterator[Path]:
        """Those that it reads."""
        yield from ()

    def __getitem__(self, i: int) -> tuple[Tensor, Target]:
        image, target = self.item(i)
        return as_floats(image), target

    def item(self, i: int) -> tuple[Tensor, Target]:
        """`ds[i]`, but for bytes that stay bytes: the model turns them into floats on its device."""
        image, target = self.load(self.check_index(i))
        if self.transforms is None:
            return image, target
        return from_tv_tensors(*self.transforms(*as_tv_tensors(image, target)))

    def unmoved(self, i: int) -> tuple[Tensor, Target]:
        """`ds[i]` where it is compared with the ground truth, which has the objects as they are annotated.

        Raises:
            DataError: the transforms move its boxes, or give it another size.
        """
        if self.transforms is None or _writes_items(self):
            return self[i]
        wrapped = as_tv_tensors(*self.load(i))
        before, target = from_tv_tensors(*wrapped)
        image, after = from_tv_tensors(*self.transforms(*wrapped))
        same = all(torch.equal(target[key], after[key]) for key in ("boxes", "labels", "crowd_boxes"))
        if not same or image.shape[-2:] != before.shape[-2:]:
            raise DataError(
                f"{self.name}, image {self.image_id(i)}: the transforms move its boxes or resize it, but its "
                "ground truth is as annotated: give a data set without them (transforms=None); models resize images "
                "themselves"
            )
        return as_floats(image), after

    def check_index(self, i: int) -> int:
        """The index counted from the front; IndexError outside, which also ends a plain `for` loop."""
        if not -len(self) <= i < len(self):
            raise IndexError(f"{self.name}: image {i} of {len(self)}")
        return i % len(self)

    def to_coco(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Writes a data set as `folder/images/*.png` and `folder/instances.json`; returns the JSON's path.

        Images come without transforms, in the frame of the annotations. `CocoDataset(folder / "images", returned
        path)` reads the same boxes back.

        Raises:
            DataError: one of these files is there already, or is one that the data set reads; nothing is written then.
        """
        path = Path(folder) / "instances.json"
        files = [path.parent / "images" / f"{i:06d}.png" for i in range(len(self))]
        refuse_existing([path, *files], inputs=self.files_read(), overwrite=overwrite)
        truth = self.ground_truth()
        entries = {entry["id"]: entry for entry in truth["images"]}
        images = []
        for i, file in enumerate(files):
            pixels = as_bytes(self.load(i)[0]).permute(1, 2, 0).numpy()
            with put_in_place(file) as partial:
                Image.fromarray(pixels).save(partial, "PNG")
            images.append({**entries[self.image_id(i)], "file_name": file.name})
        return write(path, json.dumps({**truth, "images": images}, ensure_ascii=False))


write_coco = DetectionDataset.to_coco  # of any data set


def digest(values: Any) -> str:
    """The first twelve letters of the SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(values, default=str).encode()).hexdigest()[:12]


def item_of(dataset: DetectionDataset, i: int) -> tuple[Tensor, Target]:
    """Bytes where the data set has them; what its own `__getitem__` gives, where a class has written one."""
    return dataset[i] if _writes_items(dataset) else dataset.item(i)


def _writes_items(dataset: DetectionDataset) -> bool:
    return type(dataset).__getitem__ is not DetectionDataset.__getitem__


def unmoved(dataset: Any, i: int) -> tuple[Tensor, Target]:
    """`DetectionDataset.unmoved`; `dataset[i]` of a data set that is none."""
    return dataset.unmoved(i) if hasattr(dataset, "unmoved") else dataset[i]


def check_unmoved(dataset: DetectionDataset) -> None:
    """Raises, before the work, what `unmoved` raises of the first images that have an annotation."""
    if dataset.transforms is not None:
        annotated = dataset.annotated()
        for i in [i for i in range(len(dataset)) if dataset.image_id(i) in annotated][:TRIES] * TRIES:
            dataset.unmoved(i)  # more than once, since chance may spare an image


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
    for image_id, columns in zip(image_ids, detections, strict=True):
        boxes, labels = columns["boxes"].detach().double().cpu(), columns["labels"].tolist()
        if labels and not 0 <= min(labels) <= max(labels) < len(dataset.category_ids):
            raise DataError(
                f"image {image_id}: a detection has a label outside 0..{len(dataset.category_ids) - 1}; "
                f"the model was made for other classes than {dataset.name}."
            )
        boxes = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
        if not (boxes.isfinite().all() and columns["scores"].isfinite().all()):
            raise DataError(f"image {image_id}: a detection's box or score is not finite; the weights are broken")
        name = plain_id(image_id)
        for box, score, label in zip(boxes.tolist(), columns["scores"].tolist(), labels, strict=True):
            category = dataset.category_ids[label]
            rows.append({"image_id": name, "category_id": category, "bbox": box, "score": score})
    return rows
