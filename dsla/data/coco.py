"""COCO-format annotation files: read, checked, normalised. Boxes in files are x, y, width, height."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dsla.data.loading import DetectionDataset, Target, Transforms
from dsla.data.pictures import load_pixels
from dsla.errors import DataError

SMALLEST = 0.01  # pixels; a side shorter than this is a mistake in the file, not an object
SHOWN = 50  # problems that a warning lists; the others are in `CocoDataset.problems`


class Problem(NamedTuple):
    """An annotation that cannot be used as it is; `dropped` says whether it was left out."""

    annotation_id: Any
    image_id: Any
    reason: str
    dropped: bool = True

    def __str__(self) -> str:
        return f"annotation {self.annotation_id!r} (image {self.image_id!r}): {self.reason}"


def read_json(path: str | Path) -> Any:
    """Reads JSON as UTF-8, with or without byte-order mark, whatever the system's code page is."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DataError(f"{path.absolute()}: no such annotation file.") from None
    except OSError as error:
        raise DataError(f"{path.absolute()}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON ({error}).") from error


def whole(value: Any) -> int | None:
    """The value as int if it is a whole number (1 or 1.0, not True, not "1"), else None."""
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or value != value
        or value in (math.inf, -math.inf)
    ):
        return None
    return int(value) if value == int(value) else None


def check_box(bbox: Any, width: int, height: int) -> list[float] | str:
    """A file's bbox as [x, y, w, h], cut to the image where it reaches out, or the reason why it is none."""
    if not isinstance(bbox, (list, tuple)) or len(bbox) != 4:
        return f"bbox is not a list of 4 numbers but {str(bbox)[:60]!r}" if bbox is not None else "no bbox"
    if any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in bbox):
        return f"bbox holds something that is not a number: {str(bbox)[:60]}"
    try:
        x, y, w, h = (float(v) for v in bbox)
    except OverflowError:
        return "bbox holds a number too large for a float"
    if not all(math.isfinite(v) for v in (x, y, w, h, x + w, y + h)):
        return f"bbox is not finite: {bbox}"
    if w <= 0 or h <= 0:
        return f"width or height is not positive: {bbox}"
    if min(w, h) < SMALLEST:
        return f"smaller than {SMALLEST} px: {bbox}"
    x1, y1, x2, y2 = max(x, 0.0), max(y, 0.0), min(x + w, float(width)), min(y + h, float(height))
    if x2 - x1 < SMALLEST or y2 - y1 < SMALLEST:
        return f"outside the image of {width}x{height}: {bbox}"
    if (x1, y1, x2, y2) == (x, y, x + w, y + h):
        return [x, y, w, h]  # to the bit as in the file
    return [x1, y1, x2 - x1, y2 - y1]


def entries(data: dict[str, Any], key: str, path: Path) -> list[Any]:
    """A list of the file, or the error that says what kind of file this is."""
    value = data.get(key)
    if not isinstance(value, list):
        found = "it is missing" if key not in data else f"it is a {type(value).__name__}"
        raise DataError(f"{path}: not a COCO detection file: needs a list {key!r}, {found}; keys: {list(data)[:10]}.")
    return value


def refuse(path: Path, what: str, problems: Iterable[object]) -> None:
    """One error for all problems of a kind, if there are any."""
    lines = [str(p) for p in problems]
    if lines:
        raise DataError(f"{path}: {len(lines)} {what}:\n  " + "\n  ".join(lines))


class CocoDataset(DetectionDataset):
    """A folder of images with a COCO detection file.

    Labels are 0..C-1 in ascending order of the category ids, the same for every file with the same
    categories. `area` and `iscrowd` may be absent (box area; 0). Boxes that reach out of the image are cut to
    it. The file is only read. Annotations that cannot be used (no area, not finite, outside, unknown image or
    category, …) are dropped with one warning that counts and names them; repeated annotation ids are kept,
    since `ground_truth` numbers anew. `problems` lists them all.

    Args:
        images_dir: folder that `file_name` starts from.
        annotation_json: the file; UTF-8, a byte-order mark is allowed.
        keep_empty: keep images without a usable box; they are ordinary background.
        strict: refuse a file with any such problem, in one error that lists all.
        check_files: look now whether all image files are there, instead of at each image's turn.
        transforms: see `DetectionDataset`.
    Raises:
        DataError: names the file, the image or annotation ids, and the reason.
    """

    def __init__(
        self,
        images_dir: str | Path,
        annotation_json: str | Path,
        *,
        keep_empty: bool = True,
        strict: bool = False,
        check_files: bool = False,
        transforms: Transforms | None = None,
    ):
        self.images_dir, self.annotation_json = Path(images_dir), Path(annotation_json)
        self.transforms = transforms
        self.name = self.annotation_json.stem
        path = self.annotation_json
        data = read_json(path)
        if not isinstance(data, dict):
            hint = " (a list is what detection results look like)" if isinstance(data, list) else ""
            raise DataError(f"{path}: not a COCO detection file: a {type(data).__name__} instead of an object{hint}.")
        self._read_categories(entries(data, "categories", path))
        self._images = self._read_images(entries(data, "images", path))
        self._read_annotations(entries(data, "annotations", path))
        dropped, kept = [p for p in self.problems if p.dropped], [p for p in self.problems if not p.dropped]
        if strict:
            refuse(path, "unusable annotations", self.problems)
        elif self.problems:
            text = f"{path}: {len(dropped)} of {len(data['annotations'])} annotations dropped"
            text += f", {len(kept)} kept under new ids" * bool(kept)
            shown = [str(p) for p in (dropped + kept)[:SHOWN]]
            shown += [f"… and {len(self.problems) - SHOWN} more in `problems`"] * (len(self.problems) > SHOWN)
            warnings.warn(":\n  ".join([text, "\n  ".join(shown)]), stacklevel=2)
        if not keep_empty:
            taught = {a["image_id"] for a in self._annotations if not a["iscrowd"]}
            self._images = [image for image in self._images if image["id"] in taught]
        self._boxes_of: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in self._images}
        for annotation in self._annotations:
            if annotation["image_id"] in self._boxes_of:
                self._boxes_of[annotation["image_id"]].append(annotation)
        if check_files:
            missing = [self.path(i).absolute() for i in range(len(self)) if not self.path(i).is_file()]
            refuse(path, "image files are missing (check the image folder)", missing)

    def _read_categories(self, rows: list[Any]) -> None:
        names: dict[int, str] = {}
        problems = [] if rows else ["the list is empty; a detector needs a class"]
        for n, row in enumerate(rows):
            number = whole(row.get("id")) if isinstance(row, dict) else None
            if number is None or not isinstance(row.get("name"), str):
                problems.append(f"categories[{n}]: needs a whole number 'id' and a text 'name': {str(row)[:80]}")
            elif number in names:
                problems.append(f"categories[{n}]: id {number} is taken by {names[number]!r}")
            else:
                names[number] = row["name"]
        refuse(self.annotation_json, "unusable categories", problems)
        self.category_ids = tuple(sorted(names))
        self.class_names = tuple(names[i] for i in self.category_ids)
        self._label = {number: label for label, number in enumerate(self.category_ids)}

    def _read_images(self, rows: list[Any]) -> list[dict[str, Any]]:
        images: dict[int, dict[str, Any]] = {}
        problems = []
        for n, row in enumerate(rows):
            row = row if isinstance(row, dict) else {}
            number, width, height = (whole(row.get(key)) for key in ("id", "width", "height"))
            if number is None or not isinstance(row.get("file_name"), str) or not row["file_name"]:
                problems.append(f"images[{n}]: needs a whole number 'id' and a text 'file_name': {str(rows[n])[:80]}")
            elif number in images:
                problems.append(f"images[{n}] ({row['file_name']}): id {number} is used twice")
            elif width is None or height is None or min(width, height) < 1:
                problems.append(f"image {number} ({row['file_name']}): needs 'width' and 'height', whole and positive")
            else:
                images[number] = {
                    "id": number,
                    "file_name": row["file_name"],
                    "width": width,
                    "height": height,
                }
        refuse(self.annotation_json, "unusable images", problems)
        return list(images.values())

    def _read_annotations(self, rows: list[Any]) -> None:
        """Fills `problems` and `_annotations` (normalised, numbered from 1 in the order of the file)."""
        images = {image["id"]: image for image in self._images}
        self.problems: list[Problem] = []
        self._annotations: list[dict[str, Any]] = []
        seen: set[int] = set()
        for n, row in enumerate(rows):
            if not isinstance(row, dict):
                self.problems.append(Problem(f"at {n}", None, f"not an object but {str(row)[:60]!r}"))
                continue
            own, image_id = row.get("id", f"at {n}"), whole(row.get("image_id"))
            image, category = images.get(image_id), whole(row.get("category_id"))
            crowd = row.get("iscrowd") or 0
            box: list[float] | str
            if image is None:
                box = "no such image id in 'images'"
            elif category not in self._label:
                box = f"no such category id in 'categories': {row.get('category_id')!r}"
            elif crowd not in (0, 1):
                box = f"iscrowd is {crowd!r}, not 0 or 1"
            else:
                box = check_box(row.get("bbox"), image["width"], image["height"])
            if isinstance(box, str):
                self.problems.append(Problem(own, row.get("image_id"), box))
                continue
            number = whole(row.get("id"))
            if number is not None and number in seen:
                self.problems.append(Problem(own, image_id, "id is used twice", dropped=False))
            seen.update([] if number is None else [number])
            area = row.get("area")
            known = isinstance(area, (int, float)) and not isinstance(area, bool) and 0 < area < math.inf
            self._annotations.append(
                {
                    "id": len(self._annotations) + 1,
                    "image_id": image_id,
                    "category_id": category,
                    "bbox": box,
                    "area": float(area) if known else box[2] * box[3],  # type: ignore[arg-type]
                    "iscrowd": int(crowd),
                }
            )

    def __len__(self) -> int:
        return len(self._images)

    def path(self, i: int) -> Path:
        """File of image i. Windows' backslashes in `file_name` are understood everywhere."""
        name = self._images[self.check_index(i)]["file_name"]
        path = self.images_dir / name
        if os.sep == "/" and "\\" in name and not path.exists():
            return self.images_dir / name.replace("\\", "/")
        return path

    def load(self, i: int) -> tuple[Tensor, Target]:
        try:
            image = load_pixels(self.path(i), self.image_size(i))
        except DataError as error:
            raise DataError(f"{self.annotation_json}, image id {self.image_id(i)}: {error}") from None
        return image, self.target(i)

    def target(self, i: int) -> Target:
        """Target of image i alone, without reading the image (see `DetectionDataset`)."""
        image_id = self.image_id(i)
        rows = self._boxes_of[image_id]
        boxes = torch.tensor([a["bbox"] for a in rows], dtype=torch.float64).reshape(-1, 4)
        boxes = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1).float()
        labels = torch.tensor([self._label[a["category_id"]] for a in rows], dtype=torch.int64)
        crowd = torch.tensor([a["iscrowd"] == 1 for a in rows], dtype=torch.bool)
        return {
            "boxes": boxes[~crowd],
            "labels": labels[~crowd],
            "crowd_boxes": boxes[crowd],
            "image_id": image_id,
        }

    def image_id(self, i: int) -> int:
        return self._images[self.check_index(i)]["id"]

    def image_size(self, i: int) -> tuple[int, int]:
        image = self._images[self.check_index(i)]
        return (image["height"], image["width"])

    def annotated(self) -> set[int]:
        return {image_id for image_id, rows in self._boxes_of.items() if rows}

    def ground_truth(self) -> dict[str, Any]:
        """COCO dict of the usable annotations; `area` is the file's where it gives one."""
        return {
            "info": {"description": self.name},
            "images": [dict(image) for image in self._images],
            "annotations": [dict(a) for rows in self._boxes_of.values() for a in rows],
            "categories": [{"id": i, "name": n} for i, n in zip(self.category_ids, self.class_names, strict=True)],
        }
