"""Other forms than COCO's: folders of YOLO text, supervision's `Detections`, dicts of boxes as torchmetrics has them.

`GroundTruth.of` and `Results.of` ask here first, so that whatever takes COCO's files takes these, too. Labels are
0…C−1, the places of the classes; boxes of objects and dicts are x1, y1, x2, y2 in pixels.

- A folder of YOLO text holds a file an image, a line a box: class, centre x, centre y, width, height as fractions of
  the image, in results the score. Ground truth needs sizes and names: the images lie in the folder, or where "labels"
  in its path is "images"; names in classes.txt or data.yaml, there or in a folder above. Images without a file have no
  object. `Yolo` names other places.
- `Detections` are known by their fields xyxy, class_id and confidence; nothing is imported. One an image.
- A dict has boxes, labels and scores; of ground truth iscrowd and area, if they matter.

Several images are a list in the order of the ground truth's images (a dict may hold image_id), or a mapping from an
image's id or file name.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from ..errors import DataError
from .columns import CORNERS, array
from .problems import refuse
from .reading import name_of

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
REACH = 0.01  # share of the image that a fraction may lie outside 0…1: exporters round
TURNED = 5  # EXIF orientations from here on exchange width and height
CLASSES = 100_000  # more are a mistake in a file, which would cost memory without bound


@dataclass(frozen=True)
class Yolo:
    """A folder of YOLO text whose images and class names lie elsewhere than they are looked for.

    Attributes:
        labels: the folder.
        images: folder of the images.
        names: of the classes, in their order.
    """

    labels: str | Path
    images: str | Path | None = None
    names: Sequence[str] | None = None


def as_coco(source: Any) -> tuple[Any, str]:
    """A ground truth as a COCO dict, and what messages call it; what is COCO's already is given back.

    Raises:
        DataError: names the file and line, or the image.
    """
    name = name_of(source)
    if (folder := _yolo(source)) is not None:
        return _labels(folder), str(folder.labels)
    if not _many(source):
        return source, name
    images, annotations, highest = [], list[dict[str, Any]](), -1
    for n, (key, one) in enumerate(_images(source)):
        image = n if key is None else key
        given = fields(one, f"{name}, image {image}")
        if isinstance(one, Mapping) and len(one.get("crowd_boxes", ())):
            raise DataError(f"{name}, image {image}: crowd_boxes have no class; put them among boxes, with iscrowd 1")
        images.append({"id": image})
        for row, (box, label) in enumerate(zip(given["boxes"].tolist(), given["labels"].tolist(), strict=True)):
            x1, y1, x2, y2 = box
            about: dict[str, Any] = {k: given[k][row].item() for k in ("iscrowd", "area") if k in given}
            about |= {"id": f"{image}:{row}", "image_id": image, "category_id": label}
            annotations.append(about | {"bbox": [x1, y1, x2 - x1, y2 - y1]})
            highest = max(highest, label)
    names = [{"id": k, "name": str(k)} for k in range(highest + 1)]
    return {"images": images, "annotations": annotations, "categories": names}, name


def as_table(source: Any, truth: Any) -> pd.DataFrame | None:
    """Detections as a table of image and category (ids), x1, y1, x2, y2, score; None for COCO's own forms.

    Args:
        source: anything.
        truth: the `GroundTruth` whose images, sizes and classes are meant.
    """
    name, columns = name_of(source), list[tuple[Any, Any, Any, Any]]()
    if (folder := _yolo(source)) is not None:
        place = _stems(truth, str(folder.labels))
        for file in _texts(folder.labels):
            rows, where = _numbers(file, 6)[0], place.get(file.stem, -1)
            size = np.array([truth.widths[where], truth.heights[where]] * 2 if where >= 0 else [1] * 4)
            if len(rows) and not size.all():
                raise DataError(f"{file}: {truth.name} does not say the size of its image, which fractions need")
            ids = truth.image_ids[where] if where >= 0 else file.stem
            columns.append((ids, _categories(rows[:, 0], truth, str(file)), _corners(rows) * size, rows[:, 5]))
    elif _many(source):
        ids = truth.image_ids.tolist()
        known, files = set(ids), {Path(f).name: i for i, f in enumerate(truth.file_names) if f}
        for n, (key, one) in enumerate(_images(source)):
            if key is None and n >= len(ids):
                raise DataError(f"{name}: more images than the {len(ids)} of {truth.name}, in whose order they are")
            image = ids[n] if key is None else key
            if image not in known and Path(str(image)).name in files:
                image = ids[files[Path(str(image)).name]]
            given = fields(one, f"{name}, image {image}")
            if "scores" not in given:
                raise DataError(f"{name}, image {image}: detections need scores (supervision: confidence)")
            labels = _categories(given["labels"], truth, f"{name}, image {image}")
            columns.append((image, labels, given["boxes"], given["scores"]))
    else:
        return None
    count = [len(scores) for *_, scores in columns]
    boxes = np.concatenate([boxes for _, _, boxes, _ in columns] or [np.zeros((0, 4))])
    table = pd.DataFrame(boxes, columns=CORNERS)
    image = [i for (i, *_), n in zip(columns, count, strict=True) for _ in range(n)]
    category = [c for _, labels, _, _ in columns for c in labels]
    scores = np.concatenate([s for *_, s in columns] or [np.zeros(0)])
    return table.assign(image=pd.Series(image, dtype=object), category=pd.Series(category, dtype=object), score=scores)


def _yolo(source: Any) -> Yolo | None:
    if isinstance(source, (str, Path)):
        return Yolo(Path(source)) if Path(source).is_dir() else None
    return source if isinstance(source, Yolo) else None


def _one(value: Any) -> bool:
    """Whether this is what one image has."""
    return hasattr(value, "xyxy") or (isinstance(value, Mapping) and "boxes" in value)


def _many(source: Any) -> bool:
    if isinstance(source, Mapping) and not _one(source):
        return bool(source) and all(map(_one, source.values()))
    return _one(source) or (isinstance(source, (list, tuple)) and bool(source) and _one(source[0]))


def _images(source: Any) -> Iterator[tuple[Any, Any]]:
    """(id, file name, or None by the order; what the image has)."""
    if isinstance(source, Mapping) and not _one(source):
        yield from source.items()
        return
    for one in [source] if _one(source) else source:
        key = one.get("image_id") if isinstance(one, Mapping) else None
        yield key if key is None or isinstance(key, str) else int(key), one


def fields(one: Any, where: str) -> dict[str, np.ndarray]:
    """boxes [N,4], labels [N], and scores, iscrowd, area [N] where there are some, of what an image has.

    Raises:
        DataError: begins with `where`; shapes and numbers that do not fit, labels that are no classes.
    """
    if not _one(one):
        raise DataError(f"{where}: a {type(one).__name__} without boxes (supervision: xyxy)")
    if not isinstance(one, Mapping):
        one = {"boxes": one.xyxy, "labels": one.class_id, "scores": one.confidence}
    if "labels" not in one or one["labels"] is None:
        raise DataError(f"{where}: boxes need labels (supervision: class_id)")
    names = ("boxes", "labels", "scores", "iscrowd", "area")
    given = {k: array(one[k]) for k in names if one.get(k) is not None}
    if given["boxes"].size and given["boxes"].shape[1:] != (4,):
        raise DataError(f"{where}: boxes are [N, 4], x1, y1, x2, y2; got {list(given['boxes'].shape)}")
    given["boxes"] = given["boxes"].astype(float).reshape(-1, 4)
    if lengths := {k: len(v) for k, v in given.items() if len(v) != len(given["boxes"])}:
        raise DataError(f"{where}: {len(given['boxes'])} boxes, but {lengths}")
    if bad := [k for k in given["labels"].tolist() if not _is_class(k)]:
        raise DataError(f"{where}: labels are whole numbers from 0 to {CLASSES - 1:,}, got {bad[0]!r:.40}")
    given["labels"] = given["labels"].astype(np.int64)
    return given


def _is_class(label: Any) -> bool:
    return isinstance(label, (int, float)) and 0 <= label < CLASSES and label == int(label)


def _categories(labels: np.ndarray, truth: Any, where: str) -> list[Any]:
    """Category ids of labels 0…C−1."""
    if bad := [int(k) for k in labels if not 0 <= k < len(truth.category_ids)]:
        raise DataError(f"{where}: class {bad[0]}, but {truth.name} has the classes 0…{len(truth.category_ids) - 1}")
    return [truth.category_ids[int(k)] for k in labels]


def _texts(folder: str | Path) -> list[Path]:
    files = sorted(f for f in Path(folder).glob("*.txt") if f.name != "classes.txt")
    if not files:
        raise DataError(f"{folder}: a folder without .txt files, so none of YOLO text; name a COCO file, or the labels")
    return files


def _numbers(file: Path, wanted: int) -> tuple[np.ndarray, list[int]]:
    """[N,wanted] the numbers of a file's lines, and which lines these are."""
    rows, lines, places = [], [], []
    for n, line in enumerate(_read(file).splitlines(), 1):
        if not (words := line.split()):
            continue
        try:
            row = [float(word) for word in words]
        except ValueError:
            row = []
        hint = ""
        if len(row) != wanted:
            hint = f"needs {wanted} numbers: class, cx, cy, w, h" + ", score (as by save_conf=True)" * (wanted > 5)
        elif not _is_class(row[0]):
            hint = f"a class is a whole number from 0 to {CLASSES - 1:,}"
        elif not all(-REACH <= v <= 1 + REACH for v in row[1:5]):
            hint = "cx, cy, w and h are fractions of the image, 0…1"
        elif not np.isfinite(row).all():
            hint = "a score is a finite number"
        lines += [f"line {n}: {line[:80]!r}: {hint}"] if hint else []
        rows.append(row)
        places.append(n)
    refuse(str(file), "lines that are no boxes of YOLO text:", lines)
    return np.array(rows, dtype=float).reshape(-1, wanted), places


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from error


def _corners(rows: np.ndarray) -> np.ndarray:
    return np.concatenate([rows[:, 1:3] - rows[:, 3:5] / 2, rows[:, 1:3] + rows[:, 3:5] / 2], axis=1)


def _stems(truth: Any, name: str) -> dict[str, int]:
    names = zip(truth.file_names, truth.image_ids, strict=True)
    stems = [Path(file.replace("\\", "/")).stem or str(i) for file, i in names]
    again = sorted(stem for stem, count in Counter(stems).items() if count > 1)
    refuse(name, f"several images of {truth.name} have the same file name, by which text files are found:", again)
    return {stem: i for i, stem in enumerate(stems)}


def holds_results(folder: str | Path) -> bool:
    """Whether a folder of YOLO text has scores; False without such text."""
    files = (file.read_text(encoding="utf-8-sig", errors="replace") for file in sorted(Path(folder).glob("*.txt")))
    lines = (text.split("\n", 1)[0].split() for text in files)
    return len(next(filter(lambda words: len(words) > 4, lines), ())) > 5


def _labels(folder: Yolo) -> dict[str, Any]:
    labels = Path(folder.labels)
    texts = {file.stem: file for file in _texts(labels)}
    turned = [Path(*("images" if part == "labels" else part for part in labels.absolute().parts))]
    places = [Path(folder.images)] if folder.images else [*turned, labels.parent / "images", labels]
    found: list[Path] = []
    for place in places:
        found = found or [f for f in sorted(place.glob("*")) if f.suffix.lower() in PICTURES]
    pictures = {file.stem: file for file in found}
    again = [f"{file} and {pictures[file.stem].name}" for file in found if file != pictures[file.stem]]
    refuse(str(labels), "images of the same name, of which a text file may mean either; rename one of them:", again)
    lost = [f"{texts[stem]}: no image {stem}.jpg, .png … beside it" for stem in texts if stem not in pictures]
    refuse(str(labels), f"text files without an image, whose size is needed; looked in {places[0]}:", lost)
    images, annotations, highest = [], [], -1
    for stem, file in pictures.items():
        try:
            with Image.open(file) as picture:
                size = picture.size[::-1] if picture.getexif().get(0x0112, 1) >= TURNED else picture.size
        except OSError as error:
            raise DataError(f"{file}: no image that can be read ({error})") from error
        image = int(stem) if stem.isdecimal() else stem
        images.append({"id": image, "file_name": file.name, "width": size[0], "height": size[1]})
        rows, lines = _numbers(texts[stem], 5) if stem in texts else (np.zeros((0, 5)), [])
        boxes = _corners(rows) * (size * 2)
        boxes[:, 2:] -= boxes[:, :2]
        annotations += [
            {"id": f"{stem}.txt:{n}", "image_id": image, "category_id": int(row[0]), "bbox": box}
            for n, row, box in zip(lines, rows, boxes.tolist(), strict=True)
        ]
        highest = max(highest, int(rows[:, 0].max(initial=-1)))
    names = list(folder.names if folder.names is not None else _names(labels))
    names += [str(k) for k in range(len(names), highest + 1)]
    return {"images": images, "annotations": annotations,
            "categories": [{"id": k, "name": name} for k, name in enumerate(names)]}  # fmt: skip


def _names(labels: Path) -> list[str]:
    """Class names from classes.txt or data.yaml in the folder or one of the two above; none without such a file."""
    for folder in (labels, *list(labels.absolute().parents)[:2]):
        if (file := folder / "classes.txt").is_file():
            return _read(file).splitlines()
        if (file := folder / "data.yaml").is_file():
            text = "".join(re.split(r"^names:", _read(file), maxsplit=1, flags=re.MULTILINE)[1:])
            inline = re.match(r"\s*[\[{](.*?)[\]}]", text, re.DOTALL)
            block = re.match(r"[^\n]*\n((?:[ \t]*(?:-|\d+\s*:)[^\n]*\n?)*)", text)
            parts = inline[1].split(",") if inline else block[1].splitlines() if block else []
            rows = [re.match(r"\s*(?:-\s|(\d{1,5})\s*:)?(.*)", part, re.DOTALL) for part in parts if part.strip()]
            names = {
                int(row[1] or n): row[2].partition(" #")[0].strip().strip("'\"") for n, row in enumerate(rows) if row
            }
            return [names.get(k, str(k)) for k in range(max(names, default=-1) + 1)]
    return []
