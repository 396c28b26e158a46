"""COCO box evaluation: the 12 numbers of pycocotools, with undefined values as NaN and everything odd said.

pycocotools (`COCOeval`) does the matching and the curves. Around it: the ground truth is copied and normalised
(annotation ids from 1, `iscrowd` 0 and `area` w·h where absent), a results file is checked, an empty list of
detections is allowed, and −1 never leaves this module.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from dsla.errors import DataError

Rows = list[dict[str, Any]]
Progress = Callable[[int, int], None]  # called with (images done, images in all)

METRICS = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large",
           "AR@1", "AR@10", "AR@100", "AR_small", "AR_medium", "AR_large")
_AREAS = ("all", "small", "medium", "large")


# ---------------------------------------------------------------------------------------------- reading
def read_json(source: str | Path | Any) -> tuple[Any, str]:
    """The parsed JSON of a path (UTF-8, with or without byte-order mark), or the object itself, and its name."""
    if not isinstance(source, (str, Path)):
        return source, f"the given {type(source).__name__}"
    path = Path(source)
    try:
        return json.loads(path.read_text(encoding="utf-8-sig")), str(path)
    except OSError as error:
        raise DataError(f"cannot read {path} (looked in {path.resolve()}): {error.strerror}") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path} is not JSON in UTF-8: {error}") from error


def read_ground_truth(source: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a COCO ground truth with every annotation complete: id from 1, area, iscrowd, bbox (floats).

    The annotation's own id is kept as `original_id`; the source is not changed. Raises DataError with the ids of
    annotations that cannot be used: bbox not four finite numbers, image or category not in the file.
    """
    data, name = read_json(source)
    missing = [key for key in ("images", "annotations", "categories") if key not in data] if isinstance(
        data, Mapping) else ["images", "annotations", "categories"]
    if missing:
        raise DataError(f"{name} is not a COCO ground truth: no {', '.join(map(repr, missing))} in it")
    images = {image["id"] for image in data["images"]}
    categories = {category["id"] for category in data["categories"]}
    annotations, bad = [], []
    for position, row in enumerate(data["annotations"]):
        original = row.get("id", position)
        box = _box(row.get("bbox"))
        if box is None:
            bad.append(f"{original} (bbox {row.get('bbox')!r})")
        elif row.get("image_id") not in images:
            bad.append(f"{original} (image_id {row.get('image_id')!r} not among the images)")
        elif row.get("category_id") not in categories:
            bad.append(f"{original} (category_id {row.get('category_id')!r} not among the categories)")
        else:
            area = row.get("area")
            annotations.append({
                "id": len(annotations) + 1, "original_id": original, "image_id": row["image_id"],
                "category_id": row["category_id"], "bbox": box, "iscrowd": int(row.get("iscrowd") or 0),
                "area": float(box[2] * box[3] if area is None else area),
            })
    if bad:
        raise DataError(f"{name}: {len(bad)} annotations cannot be used, ids {_some(bad)}; correct or remove them")
    return {"images": [dict(image) for image in data["images"]], "annotations": annotations,
            "categories": [dict(category) for category in data["categories"]]}


def read_detections(source: str | Path | Iterable[Mapping[str, Any]], ground_truth: Mapping[str, Any]) -> Rows:
    """Checked copies of COCO results rows: image_id, category_id, bbox (x, y, w, h), score, id (from 1).

    Raises DataError for rows without these fields or with a value that is not finite, and for image or category
    ids that the ground truth does not know.
    """
    data, name = read_json(source)
    if isinstance(data, Mapping):
        raise DataError(f"{name} is not a COCO results list of image_id, category_id, bbox, score rows")
    rows: Rows = []
    for position, row in enumerate(data):
        box, score = _box(row.get("bbox")), row.get("score")
        if box is None or not isinstance(score, (int, float, np.floating)) or not np.isfinite(score):
            raise DataError(f"{name}: detection {position} (image_id {row.get('image_id')!r}) has bbox "
                            f"{row.get('bbox')!r} and score {score!r}; four finite numbers and one are needed")
        rows.append({"id": position + 1, "image_id": row.get("image_id"), "category_id": row.get("category_id"),
                     "bbox": box, "area": box[2] * box[3], "iscrowd": 0, "score": float(score)})
    for key, table in (("image_id", "images"), ("category_id", "categories")):
        known = {entry["id"] for entry in ground_truth[table]}
        strange = {row[key] for row in rows} - known
        if strange:
            count = sum(row[key] in strange for row in rows)
            hint = "" if key == "image_id" else (
                f"; it has {_some(sorted(known))}. Results carry the file's own ids, not a network's 0…C−1")
            raise DataError(f"{name}: {count} detections have a {key} that the ground truth does not know: "
                            f"{_some(sorted(strange, key=str))}{hint}")
    return rows


def _box(value: Any) -> list[float] | None:
    """Four finite floats, or None."""
    try:
        box = [float(number) for number in value]
    except (TypeError, ValueError):
        return None
    return box if len(box) == 4 and np.isfinite(box).all() else None


def _some(values: Sequence[Any], most: int = 20) -> str:
    text = ", ".join(str(value) for value in values[:most])
    return text + (f", … ({len(values)} in all)" if len(values) > most else "")


# ------------------------------------------------------------------------------------------- evaluation
@dataclass(frozen=True)
class Evaluation:
    """The result of one evaluation; numbers are 0…1 floats, NaN where undefined (no object to find)."""

    summary: pd.Series  # METRICS → value
    per_class: pd.DataFrame  # index category id; name, objects, detections, AP, AP50, AP75, AR@100
    notes: tuple[str, ...]
    n_images: int
    coco: Any = field(default=None, repr=False, compare=False)  # the COCOeval behind it, with its evalImgs

    def to_json(self) -> str:
        """JSON text with null for undefined values."""
        per_class = [{"category_id": index, **row} for index, row in zip(
            self.per_class.index.tolist(), self.per_class.to_dict("records"), strict=True)]
        return json.dumps(plain({"summary": self.summary.to_dict(), "per_class": per_class,
                                 "notes": list(self.notes), "n_images": self.n_images}),
                          indent=1, ensure_ascii=False, allow_nan=False)

    def to_series(self) -> pd.Series:
        """The summary with per_class, notes and n_images in its `attrs`."""
        series = self.summary.copy()
        # A plain dict: pandas compares attrs with ==, which a DataFrame inside would break.
        series.attrs = {"per_class": self.per_class.to_dict("index"), "notes": list(self.notes),
                        "n_images": self.n_images}
        return series

    def __str__(self) -> str:
        return "\n".join([render(self.summary), *(f"note: {note}" for note in self.notes)])


def render(numbers: pd.Series, digits: int = 3) -> str:
    """Aligned lines of name and value, n/a where undefined."""
    width = max((len(str(name)) for name in numbers.index), default=0)
    return "\n".join(f"{name!s:<{width}}  {number(value, digits)}" for name, value in numbers.items())


def number(value: Any, digits: int = 3) -> str:
    """A value as it is shown: n/a where undefined."""
    if not isinstance(value, (int, float, np.number)):
        return "n/a" if value is None or value is pd.NA else str(value)
    if not np.isfinite(value):
        return "n/a"
    return str(int(value)) if isinstance(value, (int, np.integer)) else f"{value:.{digits}f}"


def plain(value: Any) -> Any:
    """Plain Python values for JSON; NaN, infinity and NA become None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if value is pd.NA or (isinstance(value, float) and not np.isfinite(value)) else value


def evaluate_detections(ground_truth: str | Path | Mapping[str, Any],
                        detections: str | Path | Iterable[Mapping[str, Any]]) -> Evaluation:
    """COCO box evaluation of results rows against a ground truth (dicts or paths of JSON files)."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = read_ground_truth(ground_truth)
    rows = read_detections(detections, truth)
    with contextlib.redirect_stdout(io.StringIO()):
        sides = []
        # loadRes fails on an empty list and copies the images' table; a COCO filled by hand does neither.
        for annotations in (truth["annotations"], rows):
            side = COCO()
            side.dataset = {**truth, "annotations": annotations}
            side.createIndex()
            sides.append(side)
        run = COCOeval(*sides, iouType="bbox")
        run.evaluate()
        run.accumulate()
    precision, recall = run.eval["precision"], run.eval["recall"]  # [T,R,C,areas,caps], [T,C,areas,caps]
    summary = {"AP": _mean(precision[..., 0, -1]), "AP50": _mean(precision[0, ..., 0, -1]),
               "AP75": _mean(precision[5, ..., 0, -1])}
    summary |= {f"AP_{_AREAS[i]}": _mean(precision[..., i, -1]) for i in (1, 2, 3)}
    summary |= {f"AR@{cap}": _mean(recall[..., 0, i]) for i, cap in enumerate(run.params.maxDets)}
    summary |= {f"AR_{_AREAS[i]}": _mean(recall[..., i, -1]) for i in (1, 2, 3)}
    names = {category["id"]: str(category.get("name", category["id"])) for category in truth["categories"]}
    objects = pd.Series([a["category_id"] for a in truth["annotations"] if not a["iscrowd"]]).value_counts()
    found = pd.Series([row["category_id"] for row in rows]).value_counts()
    per_class = pd.DataFrame([
        {"name": names[c], "objects": int(objects.get(c, 0)), "detections": int(found.get(c, 0)),
         "AP": _mean(precision[:, :, k, 0, -1]), "AP50": _mean(precision[0, :, k, 0, -1]),
         "AP75": _mean(precision[5, :, k, 0, -1]), "AR@100": _mean(recall[:, k, 0, -1])}
        for k, c in enumerate(run.params.catIds)
    ], index=pd.Index(run.params.catIds, name="category_id"))
    notes = [] if rows else ["0 detections"]
    if not len(objects):
        notes.append("no ground truth object: every number is undefined")
    lost = per_class[(per_class["objects"] == 0) & (per_class["detections"] > 0)] if len(per_class) else per_class
    if len(lost):
        n = int(lost["detections"].sum())
        where = "a class" if len(lost) == 1 else f"{len(lost)} classes"
        notes.append(f"{n} detection{'s' * (n > 1)} in {where} without ground truth: {_some(list(lost['name']))}")
    return Evaluation(pd.Series(summary, index=list(METRICS), name="value", dtype=float), per_class, tuple(notes),
                      len(truth["images"]), run)


def _mean(values: np.ndarray) -> float:
    """Mean of the defined values (pycocotools marks undefined ones −1); NaN if there are none."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else float("nan")


# -------------------------------------------------------------------------------------------- the model
@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """`model.eval()` without gradients; afterwards each module is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def batches(dataset: Any, batch_size: int = 8, max_images: int | None = None, device: Any = None,
            progress: Progress | None = None) -> Iterator[tuple[list[Tensor], list[dict[str, Any]]]]:
    """Batches of (images on the device, targets) in the data set's order."""
    total = len(dataset) if max_images is None else min(max_images, len(dataset))
    for start in range(0, total, batch_size):
        samples = [dataset[i] for i in range(start, min(start + batch_size, total))]
        yield [image.to(device) for image, _ in samples], [target for _, target in samples]
        if progress is not None:
            progress(start + len(samples), total)


def device_of(model: nn.Module, device: Any = None) -> torch.device:
    """The given device, or the one that the model is on."""
    if device is not None:
        return torch.device(device)
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def predict_dataset(model: nn.Module, dataset: Any, *, batch_size: int = 8, device: Any = None,
                    max_images: int | None = None, progress: Progress | None = None) -> Rows:
    """The model's detections on a data set as COCO results rows (the data set's own image and category ids)."""
    device = device_of(model, device)
    rows: Rows = []
    with evaluation_mode(model.to(device)):
        for images, targets in batches(dataset, batch_size, max_images, device, progress):
            for target, found in zip(targets, model(images), strict=True):
                rows += result_rows(found, int(target["image_id"]), dataset.category_ids)
    return rows


def result_rows(detections: Mapping[str, Tensor], image_id: int, category_ids: Sequence[int]) -> Rows:
    """COCO results rows of one image's boxes [D,4] xyxy, scores [D], labels [D] (0…C−1)."""
    boxes = detections["boxes"].detach().double().cpu()
    boxes = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1).tolist()
    return [{"image_id": image_id, "category_id": category_ids[label], "bbox": box, "score": score}
            for box, score, label in zip(boxes, detections["scores"].double().tolist(),
                                         detections["labels"].tolist(), strict=True)]


def evaluate(model: nn.Module, dataset: Any, *, batch_size: int = 8, device: Any = None,
             max_images: int | None = None, progress: Progress | None = None) -> pd.Series:
    """The 12 COCO numbers of a model on a data set (its first `max_images` images).

    Args:
        model: called in evaluation mode with a list of [3,H,W] images, returns a list of detection dicts.
        dataset: the package's data sets, or anything with `ground_truth()`, `category_ids`, and samples of
            (image, target with `image_id`).
        progress: called with (images done, images in all) after each batch.

    Returns:
        Series of METRICS, 0…1, NaN where undefined; its `attrs` hold per_class (category id → row), notes, n_images.
    """
    rows = predict_dataset(model, dataset, batch_size=batch_size, device=device, max_images=max_images,
                           progress=progress)
    truth = dataset.ground_truth()
    if max_images is not None and max_images < len(dataset):
        kept = {int(dataset.image_id(i)) for i in range(max_images)}
        truth = {**truth, "images": [image for image in truth["images"] if image["id"] in kept],
                 "annotations": [a for a in truth["annotations"] if a["image_id"] in kept]}
    return evaluate_detections(truth, rows).to_series()
