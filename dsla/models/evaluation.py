"""COCO box evaluation: the 12 numbers of pycocotools, with undefined values as NaN and everything odd said.

pycocotools (`COCOeval`), or one of the quicker `engines`, does the matching and the curves. Around it: the ground
truth is copied and completed (annotation ids from 1, `iscrowd` 0 and `area` w·h where absent), results are checked,
an empty list of detections is allowed, and −1 never leaves this module.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ..coco.engines import curves
from ..coco.matching import CAPS
from ..coco.results import Detections, Rows, plain, read_ground_truth, read_table, render, some
from ..data.loading import to_coco_results
from ..errors import DataError

Progress = Callable[[int, int], None]  # called with (images done, images in all)

METRICS = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR@1", "AR@10", "AR@100", "AR_small", "AR_medium", "AR_large"),
)
_AREAS = ("all", "small", "medium", "large")


@dataclass(frozen=True)
class Evaluation:
    """The result of one evaluation; numbers are 0…1 floats, NaN where undefined (no object to find)."""

    summary: pd.Series  # METRICS → value
    per_class: pd.DataFrame  # index category id; name, objects, detections, AP, AP50, AP75, AR@100
    notes: tuple[str, ...]
    n_images: int
    coco: Any = field(default=None, repr=False, compare=False)  # COCOeval behind it

    def to_json(self) -> str:
        """JSON text with null for undefined values."""
        per_class = [
            {"category_id": index, **row}
            for index, row in zip(self.per_class.index.tolist(), self.per_class.to_dict("records"), strict=True)
        ]
        return json.dumps(
            plain(
                {
                    "summary": self.summary.to_dict(),
                    "per_class": per_class,
                    "notes": list(self.notes),
                    "n_images": self.n_images,
                }
            ),
            indent=1,
            ensure_ascii=False,
            allow_nan=False,
        )

    def to_series(self) -> pd.Series:
        """The summary with per_class, notes and n_images in its `attrs`."""
        series = self.summary.copy()
        # A plain dict: pandas compares attrs with ==, which a DataFrame inside would break.
        series.attrs = {
            "per_class": self.per_class.to_dict("index"),
            "notes": list(self.notes),
            "n_images": self.n_images,
        }
        return series

    def __str__(self) -> str:
        return "\n".join([render(self.summary), *(f"note: {note}" for note in self.notes)])


def evaluate_detections(
    ground_truth: str | Path | Mapping[str, Any], detections: Detections, *, engine: str = "pycocotools"
) -> Evaluation:
    """COCO box evaluation of detections against a ground truth (dicts or paths of JSON files).

    Args:
        detections: COCO results rows, or a table, as `results.read_table` takes them.
        engine: "pycocotools", the reference; "numpy" (whole arrays, least time and memory), which gives the same bits;
            or "faster" (faster-coco-eval, an optional package), the same within 1e-15. Only the first keeps its
            matches, in `Evaluation.coco`.
    """
    truth = read_ground_truth(ground_truth)
    table = read_table(detections, truth)
    found = curves(engine, truth, table)
    precision, recall = found.precision, found.recall
    summary = {
        "AP": _mean(precision[..., 0]),
        "AP50": _mean(precision[0, ..., 0]),
        "AP75": _mean(precision[5, ..., 0]),
    }
    summary |= {f"AP_{_AREAS[i]}": _mean(precision[..., i]) for i in (1, 2, 3)}
    summary |= {f"AR@{cap}": _mean(recall[..., 0, i]) for i, cap in enumerate(CAPS)}
    summary |= {f"AR_{_AREAS[i]}": _mean(recall[..., i, -1]) for i in (1, 2, 3)}
    names = {category["id"]: str(category.get("name", category["id"])) for category in truth["categories"]}
    objects = pd.Series([a["category_id"] for a in truth["annotations"] if not a["iscrowd"]]).value_counts()
    counts = table["category"].value_counts()
    per_class = pd.DataFrame(
        [
            {
                "name": names[c],
                "objects": int(objects.get(c, 0)),
                "detections": int(counts.get(c, 0)),
                "AP": _mean(precision[:, :, k, 0]),
                "AP50": _mean(precision[0, :, k, 0]),
                "AP75": _mean(precision[5, :, k, 0]),
                "AR@100": _mean(recall[:, k, 0, -1]),
            }
            for k, c in enumerate(found.categories)
        ],
        index=pd.Index(found.categories, name="category_id"),
    )
    notes = [] if len(table) else ["0 detections"]
    if not len(objects):
        notes.append("no ground truth object: every number is undefined")
    lost = per_class[(per_class["objects"] == 0) & (per_class["detections"] > 0)] if len(per_class) else per_class
    if len(lost):
        n = int(lost["detections"].sum())
        where = "a class" if len(lost) == 1 else f"{len(lost)} classes"
        notes.append(f"{n} detection{'s' * (n > 1)} in {where} without ground truth: {some(list(lost['name']))}")
    return Evaluation(
        pd.Series(summary, index=list(METRICS), name="value", dtype=float),
        per_class,
        tuple(notes),
        len(truth["images"]),
        found.coco,
    )


def _mean(values: np.ndarray) -> float:
    """Mean of the defined values (pycocotools marks undefined ones −1); NaN if there are none."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else float("nan")


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


def batches(
    dataset: Any,
    batch_size: int = 8,
    max_images: int | None = None,
    device: Any = None,
    progress: Progress | None = None,
) -> Iterator[tuple[list[Tensor], list[dict[str, Any]]]]:
    """Batches of (images on the device, targets) in the data set's order."""
    total = len(dataset) if max_images is None else min(max_images, len(dataset))
    for start in range(0, total, batch_size):
        samples = [dataset[i] for i in range(start, min(start + batch_size, total))]
        yield [image.to(device) for image, _ in samples], [target for _, target in samples]
        if progress is not None:
            progress(start + len(samples), total)


def usable(device: torch.device | str | None = None) -> torch.device:
    """The device of this name; by default a GPU if there is one.

    Raises:
        DataError: there is none, or no such GPU here.
    """
    here = torch.cuda.is_available()
    try:
        found = torch.device(device or ("cuda" if here else "cpu"))
    except RuntimeError as error:
        raise DataError(f"no device {device!r}: there are cpu, cuda, cuda:1, …") from error
    count = torch.cuda.device_count() if here else 0
    if found.type == "cuda" and (found.index or 0) >= count:
        raise DataError(f"device {device}: no such GPU; PyTorch finds {count}, counted from 0; cpu is always there")
    return found


def device_of(model: nn.Module, device: Any = None) -> torch.device:
    """The given device, or the one that the model is on."""
    if device is not None:
        return torch.device(device)
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def predict_dataset(
    model: nn.Module,
    dataset: Any,
    *,
    batch_size: int = 8,
    device: Any = None,
    max_images: int | None = None,
    progress: Progress | None = None,
) -> Rows:
    """The model's detections as COCO results rows (the data set's own image and category ids)."""
    device = device_of(model, device)
    rows: Rows = []
    with evaluation_mode(model.to(device)):
        for images, targets in batches(dataset, batch_size, max_images, device, progress):
            rows += to_coco_results(dataset, [target["image_id"] for target in targets], model(images))
    return rows


def evaluate(
    model: nn.Module,
    dataset: Any,
    *,
    batch_size: int = 8,
    device: Any = None,
    max_images: int | None = None,
    progress: Progress | None = None,
    engine: str = "pycocotools",
) -> pd.Series:
    """The 12 COCO numbers of a model on a data set (its first `max_images` images).

    Args:
        model: called in evaluation mode with a list of [3,H,W] images, returns a list of detection dicts.
        dataset: the package's data sets, or anything with `ground_truth()`, `category_ids`, and samples of
            (image, target with `image_id`).
        progress: called with (images done, images in all) after each batch.
        engine: as in `evaluate_detections`.

    Returns:
        Series of METRICS, 0…1, NaN where undefined; its `attrs` hold per_class (category id → row), notes
        and n_images.
    """
    rows = predict_dataset(
        model, dataset, batch_size=batch_size, device=device, max_images=max_images, progress=progress
    )
    truth = dataset.ground_truth()
    if max_images is not None and max_images < len(dataset):
        kept = {int(dataset.image_id(i)) for i in range(max_images)}
        truth = {
            **truth,
            "images": [image for image in truth["images"] if image["id"] in kept],
            "annotations": [a for a in truth["annotations"] if a["image_id"] in kept],
        }
    return evaluate_detections(truth, rows, engine=engine).to_series()
