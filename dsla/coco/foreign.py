"""Other forms than COCO's: folders of YOLO text, supervision's `Detections`, dicts of boxes as torchmetrics has them.

`GroundTruth.of` and `Results.of` ask here first, so that whatever takes COCO's files takes these, too. Labels are
0…C−1, the places of the classes; boxes of objects and dicts are x1, y1, x2, y2 in pixels.

- A folder of YOLO text holds a file an image, a line a box: class, centre x, centre y, width, height as fractions of
  the image, in results the score. Ground truth needs sizes and names: the images lie in the folder, or where "labels"
  in its path is "images"; names in classes.txt or data.yaml, there or in a folder above. Images without a file have no
  object.
- `Detections` are known by their fields xyxy, class_id and confidence; nothing is imported. One an image.
- A dict has boxes, labels and scores; of ground truth iscrowd and area, if they matter, and crowd_boxes [K,4], which
  are crowds of every class. Keys such as ignore or difficult, which say which boxes count, are refused.

Several images are a list in the order of the ground truth's images (a dict may hold image_id), or a mapping from an
image's id or file name.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from ..errors import DataError, require_corners
from ..files import PICTURES
from .columns import CORNERS, EVERY_CLASS, array, in_reach, plain_id
from .heads import frame, opened
from .problems import refuse
from .reading import name_of

REACH = 0.01  # share of the image that a fraction may lie outside 0…1: exporters round
CROWDS = ("iscrowd", "crowd_boxes")
CHANGING = ("ignore", "crowd", "difficult", "weight")  # words of keys that would change which objects count
CLASSES = 100_000  # more are a mistake in a file, which would cost memory without bound

Fields = dict[str, np.ndarray]  # boxes [N,4], labels [N], and scores, iscrowd, area, id [N] where there are some


def as_coco(source: Any) -> Any:
    """A ground truth as a COCO dict; what is COCO's already is given back.

    Raises:
        DataError: names the file and line, or the image.
    """
    if are_texts(source):
        names, each = _class_names(Path(source)), _labelled(Path(source))
    elif are_boxes(source):
        keys = (({"id": n if key is None else key}, one) for n, (key, one) in enumerate(images_of(source)))
        names, each = [], ((i, _objects(one, f"{name_of(source)}, image {i['id']}")) for i, one in keys)
    else:
        return source
    images, annotations, highest = [], list[dict[str, Any]](), -1
    for image, given in each:
        images.append(image)
        boxes, labels = given.pop("boxes"), given.pop("labels")
        size = boxes[:, 2:] - boxes[:, :2]
        given |= {"category_id": labels, "bbox": np.concatenate([boxes[:, :2], size], axis=1)}
        rows = zip(*(values.tolist() for values in given.values()), strict=True)
        annotations += [dict(zip(given, row, strict=True), image_id=image["id"]) for row in rows]
        highest = max(highest, int(labels.max(initial=-1)))
    if len(names) <= highest and names:
        raise DataError(f"{source}: class {highest}, but only the classes 0…{len(names) - 1} have a name; add its")
    names += [str(k) for k in range(len(names), highest + 1)]
    categories = [{"id": k, "name": name} for k, name in enumerate(names)]
    return {"images": images, "annotations": annotations, "categories": categories}


def as_table(source: Any, truth: Any) -> pd.DataFrame | None:
    """Detections as a table of image and category (ids), x1, y1, x2, y2, score; None for COCO's own forms.

    Args:
        source: anything.
        truth: the `GroundTruth` whose images, sizes and classes are meant.
    """
    if not (are_texts(source) or are_boxes(source)):
        return None
    images, parts = [], [(np.zeros((0, 4)), np.zeros(0, dtype=object), np.zeros(0))]
    for image, where, given in (_detected if are_texts(source) else _seen)(source, truth):
        labels = labels_of(given, where, truth)
        images += [image] * len(labels)
        ids = labels if truth.labels is None else truth.label_ids[labels]
        parts.append((given["boxes"], ids.astype(object), given["scores"]))
    boxes, category, score = (np.concatenate(part) for part in zip(*parts, strict=True))
    table = pd.DataFrame(boxes, columns=CORNERS)
    return table.assign(image=pd.Series(images, dtype=object), category=category, score=score)


def are_texts(source: Any) -> bool:
    """Whether this is a folder, as YOLO's text lies in."""
    return isinstance(source, (str, Path)) and Path(source).is_dir()


def are_boxes(source: Any) -> bool:
    """Whether this is what one image has, or a list or mapping of such."""
    if isinstance(source, Mapping) and not _one(source):
        return bool(source) and all(map(_one, source.values()))
    return _one(source) or (isinstance(source, (list, tuple)) and bool(source) and _one(source[0]))


def _one(value: Any) -> bool:
    """Whether this is what one image has."""
    return hasattr(value, "xyxy") or (isinstance(value, Mapping) and "boxes" in value)


def labels_of(given: Fields, where: str, truth: Any) -> np.ndarray:
    """The labels of detections, which are classes of the ground truth.

    Target dicts do not say how many classes there are: with them every label is one, maybe without an object.

    Raises:
        DataError: they are not; begins with `where`.
    """
    highest, classes = given["labels"].max(initial=-1), len(truth.label_ids)
    if highest >= classes and truth.labels is not None:
        raise DataError(f"{where}: class {highest}, but {truth.name} has the classes 0…{classes - 1}")
    return given["labels"]


def images_of(source: Any) -> Iterator[tuple[Any, Any]]:
    """(id, file name, or None by the order; what the image has, as a dict)."""
    mapping = isinstance(source, Mapping) and not _one(source)
    for key, one in source.items() if mapping else ((None, one) for one in ([source] if _one(source) else source)):
        if hasattr(one, "xyxy"):
            one = {"boxes": one.xyxy, "labels": one.class_id, "scores": one.confidence}
        if not mapping and isinstance(one, Mapping) and one.get("image_id") is not None:
            key = plain_id(one["image_id"])
        yield key, one


def _seen(source: Any, truth: Any) -> Iterator[tuple[Any, str, Fields]]:
    """(image id, its name in messages, boxes) of each image that dicts or `Detections` are of."""
    name, ids = name_of(source), truth.image_ids.tolist()
    for n, (key, one) in enumerate(images_of(source)):
        if key is None and n >= len(ids):
            raise DataError(f"{name}: more images than the {len(ids)} of {truth.name}, in whose order they are")
        place = n if key is None else truth.place(key)
        image = ids[place] if place >= 0 else key
        yield image, f"{name}, image {image}", fields(one, f"{name}, image {image}", scored=True)


def strange_keys(target: Mapping[str, Any]) -> str | None:
    """Why a target's keys cannot be used; None where they can. The same for what is taught and what is evaluated."""
    strange = [k for k in target if k not in CROWDS and any(word in str(k).lower() for word in CHANGING)]
    if not strange:
        return None
    return (
        f"the keys {strange} would change which objects count and are not understood: give crowds as 'iscrowd' [M] or "
        "'crowd_boxes' [K, 4], leave out the key, and the boxes that are not to count"
    )


def fields(one: Any, where: str, scored: bool = False) -> Fields:
    """The columns of what an image has.

    Raises:
        DataError: begins with `where`; shapes and numbers that do not fit, labels that are no classes, or no scores.
    """
    if not _one(one):
        raise DataError(f"{where}: a {type(one).__name__} without boxes (supervision: xyxy)")
    if one.get("labels") is None:
        raise DataError(f"{where}: boxes need labels (supervision: class_id)")
    if scored and one.get("scores") is None:
        raise DataError(f"{where}: detections need scores (supervision: confidence)")
    require_corners(one["boxes"], where)
    names = ("boxes", "labels", "scores", "iscrowd", "area")
    given = {k: array(one[k]) for k in names if one.get(k) is not None}
    if given["boxes"].size and given["boxes"].shape[1:] != (4,):
        raise DataError(f"{where}: boxes are [N, 4], x1, y1, x2, y2; got {list(given['boxes'].shape)}")
    boxes = given.pop("boxes").astype(float).reshape(-1, 4)
    if lengths := {k: v.size for k, v in given.items() if v.size != len(boxes)}:
        raise DataError(f"{where}: {len(boxes)} boxes, but {lengths}")
    given = {"boxes": boxes} | {k: v.reshape(-1) for k, v in given.items()}
    labels = given["labels"]
    whole = labels.dtype.kind in "biuf" and bool(((labels >= 0) & (labels < CLASSES) & (labels % 1 == 0)).all())
    if bad := [] if whole else [k for k in labels.tolist() if not _is_class(k)]:
        raise DataError(f"{where}: labels are whole numbers from 0 to {CLASSES - 1:,}, got {bad[0]!r:.40}")
    return given | {"labels": labels.astype(np.int64)}


def _objects(one: Any, where: str) -> Fields:
    """The columns of what an image has of a ground truth; ids are places in the image."""
    given = fields(one, where)
    if (strange := strange_keys(one)) is not None:
        raise DataError(f"{where}: {strange}")
    crowds = array(one["crowd_boxes"] if one.get("crowd_boxes") is not None else ()).reshape(-1, 4).astype(float)
    every, boxes = np.full(len(crowds), EVERY_CLASS), np.concatenate([given["boxes"], crowds])
    if not (usable := in_reach(boxes) & (boxes[:, 2:] >= boxes[:, :2]).all(1)).all():
        wrong = boxes[~usable][0].tolist()
        raise DataError(f"{where}: a box is x1, y1, x2, y2, finite, x1 ≤ x2, y1 ≤ y2; got {wrong}")
    flags = given.get("iscrowd", np.zeros(len(given["labels"]))).reshape(-1)  # torchvision's, with their class
    columns = {"id": np.arange(len(boxes)), "boxes": boxes, "labels": np.concatenate([given["labels"], every])}
    columns["iscrowd"] = np.concatenate([flags, np.ones(len(crowds))])
    if "area" in given:
        columns["area"] = np.concatenate([given["area"], (crowds[:, 2:] - crowds[:, :2]).prod(1)])
    return columns


def _is_class(label: Any) -> bool:
    return isinstance(label, (int, float)) and 0 <= label < CLASSES and label == int(label)


def _texts(folder: str | Path) -> dict[str, Path]:
    files = {f.stem: f for f in sorted(Path(folder).glob("*.txt")) if f.name != "classes.txt"}
    if not files:
        raise DataError(f"{folder}: a folder without .txt files, so none of YOLO text; name a COCO file, or the labels")
    return files


def _detected(folder: str | Path, truth: Any) -> Iterator[tuple[Any, str, Fields]]:
    """(image id, file, boxes) of a folder of results, whose files have the images' names."""
    sizes = zip(truth.image_ids.tolist(), truth.widths.tolist(), truth.heights.tolist(), strict=True)
    stems = [Path(f.replace("\\", "/")).stem or str(i) for f, i in zip(truth.file_names, truth.image_ids, strict=True)]
    again = sorted(stem for stem, count in Counter(stems).items() if count > 1)
    refuse(str(folder), f"several images of {truth.name} have the same file name, by which files are found:", again)
    images = dict(zip(stems, sizes, strict=True))
    for stem, file in _texts(folder).items():
        image, *size = images.get(stem, (stem, 1, 1))
        given = _boxes(file, size, 6)
        if len(given["labels"]) and not all(size):
            raise DataError(f"{file}: {truth.name} does not say the size of its image, which fractions need")
        yield image, str(file), given


def _labelled(folder: Path) -> Iterator[tuple[dict[str, Any], Fields]]:
    """(row of 'images', boxes) of each image beside a folder of labels."""
    texts, turned = _texts(folder), ("images" if part == "labels" else part for part in folder.absolute().parts)
    places = [Path(*turned), folder.parent / "images", folder]
    listed = [[f for f in sorted(place.glob("*")) if f.suffix.lower() in PICTURES] for place in places]
    files = next(filter(None, listed), [])
    pictures = {file.stem: file for file in files}
    again = [f"{file} and {pictures[file.stem].name}" for file in files if file != pictures[file.stem]]
    refuse(str(folder), "images of the same name, of which a text file may mean either; rename one of them:", again)
    lost = [f"{texts[stem]}: no image {stem}.jpg, .png … beside it" for stem in texts if stem not in pictures]
    refuse(str(folder), f"text files without an image, whose size is needed; looked in {places[0]}:", lost)
    for stem, file in pictures.items():
        with opened(file) as picture:
            height, width = frame(picture)
        image = int(stem) if stem.isdecimal() else stem
        given = _boxes(texts.get(stem), (width, height), 5)
        yield {"id": image, "file_name": file.name, "width": width, "height": height}, given


def _boxes(file: Path | None, size: Sequence[int], wanted: int) -> Fields:
    """The columns of a file's lines, of `wanted` numbers each, on an image of (width, height)."""
    rows, lines = dict[str, list[float]](), []
    for n, line in enumerate(_read(file).splitlines() if file else (), 1):
        try:
            row = [float(word) for word in line.split()]
        except ValueError:
            row = [np.nan]
        if not row:
            continue
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
        rows[f"{file.name if file else ''}:{n}"] = row
    refuse(str(file), "lines that are no boxes of YOLO text:", lines)
    values = np.array(list(rows.values()), dtype=float).reshape(-1, wanted)
    middle, half = values[:, 1:3], values[:, 3:5] / 2
    given = {"id": np.array(list(rows), dtype=object), "labels": values[:, 0].astype(np.int64)}
    given["boxes"] = np.concatenate([middle - half, middle + half], axis=1) * (*size, *size)
    return given | ({"scores": values[:, 5]} if wanted > 5 else {})


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from error


def holds_results(folder: str | Path) -> bool:
    """Whether a folder of YOLO text has scores; False without such text."""
    files = (file.read_text(encoding="utf-8-sig", errors="replace") for file in sorted(Path(folder).glob("*.txt")))
    lines = (text.split("\n", 1)[0].split() for text in files)
    return len(next(filter(lambda words: len(words) > 4, lines), ())) > 5


def _class_names(labels: Path) -> list[str]:
    """Class names from classes.txt or data.yaml in the folder or one of the two above; none without such a file."""
    for folder in (labels, *list(labels.absolute().parents)[:2]):
        if (file := folder / "classes.txt").is_file():
            return _read(file).rstrip().splitlines()
        if (file := folder / "data.yaml").is_file():
            try:
                names = (yaml.safe_load(_read(file)) or {}).get("names") or []
                if isinstance(names, str):
                    raise TypeError("one text")
                named = {
                    int(k): str(name) for k, name in (names.items() if isinstance(names, dict) else enumerate(names))
                }
            except (yaml.YAMLError, AttributeError, TypeError, ValueError, RecursionError) as error:
                raise DataError(f"{file}: its 'names' are no list of the classes ({error})") from error
            if not all(0 <= k < CLASSES for k in named):
                raise DataError(f"{file}: the numbers of 'names' are whole, from 0 to {CLASSES - 1:,}")
            return [named.get(k, str(k)) for k in range(max(named, default=-1) + 1)]
    return []
