"""COCO box evaluation: the 12 numbers of pycocotools, with undefined values as NaN and everything odd said.

The `engines` do the matching and the curves. Around them: files are read with one policy (`ground_truth`), an empty
list of detections is allowed, and −1 never leaves this module.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ..errors import within
from .detections import Detections, Results
from .engines import SIZES, Curves, curves
from .ground_truth import GroundTruth
from .matching import CAPS
from .problems import many, some

METRICS = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR@1", "AR@10", "AR@100", "AR_small", "AR_medium", "AR_large"),
)
VISIBLE = 5e-4  # a difference of AP that shows in three digits


@dataclass(frozen=True)
class Evaluation:
    """The result of one evaluation; numbers are 0…1 floats, NaN where undefined (no object to find).

    Attributes:
        summary: METRICS → value; with another limit than 100 detections AR@100 bears that number.
        per_class: index category id; name, objects, detections, AP, AP50, AP75, AR@100.
        notes: everything odd about these numbers.
        n_images: of the ground truth.
        max_detections: of an image and class that count, the best first.
        curves: what the numbers are means of: precision, recall, and the matching or the `COCOeval` behind them.
    """

    summary: pd.Series
    per_class: pd.DataFrame
    notes: tuple[str, ...]
    n_images: int
    max_detections: int
    curves: Curves = field(repr=False, compare=False)

    @property
    def coco(self) -> Any:
        """The `COCOeval` behind it, of the engine "pycocotools"; else None."""
        return self.curves.coco

    def to_series(self) -> pd.Series:
        """The summary with per_class, notes, n_images and max_detections in its `attrs`."""
        series = self.summary.copy()
        # A plain dict: pandas compares attrs with ==, which a DataFrame inside would break.
        about = {"notes": list(self.notes), "n_images": self.n_images, "max_detections": self.max_detections}
        series.attrs = {"per_class": self.per_class.to_dict("index")} | about
        return series

    def __str__(self) -> str:
        return shown(self.to_series())


def shown(numbers: pd.Series) -> str:
    """An evaluation as `Evaluation.to_series` gives it, in lines: numbers, what AP counts, and the notes."""
    limit = f"AP counts the {numbers.attrs['max_detections']} best detections of an image and class"
    lines = numbers.to_string(float_format="%.3f", na_rep="n/a")
    return "\n".join([lines, limit, *(f"note: {note}" for note in numbers.attrs["notes"])])


def evaluate_detections(
    ground_truth: Any, detections: Detections, *, engine: str = "numpy", max_detections: int = CAPS[-1]
) -> Evaluation:
    """COCO box evaluation of detections against a ground truth.

    Args:
        ground_truth: a path, a COCO dict, a data set, or columns; as `GroundTruth.of`.
        detections: a path, COCO results rows, a table, or columns; as `Results.of`.
        engine: "numpy" (whole arrays, little time and memory) or "pycocotools", the reference, which gives the same
            bits and keeps its matches in `Evaluation.coco`.
        max_detections: of an image and class that count, the best first; COCO's numbers are those with 100.

    Raises:
        DataError: files, rows or a limit that cannot be used.  ValueError: no such engine.
    """
    within(max_detections=max_detections)
    results = Results.of(detections, GroundTruth.of(ground_truth))
    truth = results.truth
    caps = (*(cap for cap in CAPS[:-1] if cap < max_detections), int(max_detections))
    result = curves(engine, results, caps)
    precision, recall = result.precision, result.recall
    values = [_mean(precision[..., 0]), _mean(precision[0, ..., 0]), _mean(precision[5, ..., 0])]
    summary = dict(zip(METRICS, values, strict=False))
    summary |= {f"AP_{size}": _mean(precision[..., i]) for i, size in enumerate(SIZES, 1)}
    summary |= {f"AR@{cap}": _mean(recall[..., 0, i]) for i, cap in enumerate(caps)}
    summary |= {f"AR_{size}": _mean(recall[..., i, -1]) for i, size in enumerate(SIZES, 1)}
    classes = range(len(truth.category_ids))
    per_class = pd.DataFrame(
        {
            "name": truth.category_names,
            "objects": np.bincount(truth.category[~truth.crowd], minlength=len(classes)),
            "detections": np.bincount(results.category, minlength=len(classes)),
            "AP": [_mean(precision[:, :, k, 0]) for k in classes],
            "AP50": [_mean(precision[0, :, k, 0]) for k in classes],
            "AP75": [_mean(precision[5, :, k, 0]) for k in classes],
            f"AR@{caps[-1]}": [_mean(recall[:, k, 0, -1]) for k in classes],
        },
        index=pd.Index(truth.category_ids, name="category_id"),
    )
    notes = [*_counts(results, per_class), *_ties(result.extremes, summary["AP"])]
    return Evaluation(
        pd.Series(summary, name="value", dtype=float), per_class, tuple(notes), len(truth), caps[-1], result
    )


def _counts(results: Results, per_class: pd.DataFrame) -> list[str]:
    """What is missing on one of the sides."""
    notes = [] if len(results) else ["0 detections"]
    if not per_class["objects"].any():
        notes.append("no ground truth object: every number is undefined")
    lost = per_class[(per_class["objects"] == 0) & (per_class["detections"] > 0)]
    if len(lost):
        where = "a class" if len(lost) == 1 else f"{len(lost)} classes"
        detections = many(int(lost["detections"].sum()), "detection")
        notes.append(f"{detections} in {where} without ground truth: {some(list(lost['name']))}")
    images, seen = len(results.truth), len(np.unique(results.image))
    return [*notes, *([f"detections on {seen} of {images} images"] if 0 < seen < images else [])]


def _ties(extremes: tuple[np.ndarray, ...], ap: float) -> list[str]:
    """Whether the order of equal scores changes AP."""
    low, high = (_mean(values) for values in extremes) if extremes else (ap, ap)
    if not high - low >= VISIBLE:
        return []
    return [f"equal scores, whose order the file decides: by it AP lies in {low:.3f}…{high:.3f}, here {ap:.3f}"]


def _mean(values: np.ndarray) -> float:
    """Mean of the defined values (pycocotools marks undefined ones −1); NaN if there are none."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else float("nan")
