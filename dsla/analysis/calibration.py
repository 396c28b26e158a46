"""Calibration: is a score the chance of a hit, or the IoU that comes with it, and which threshold serves each class?

D-ECE: Küppers et al., "Multivariate confidence calibration for object detection", CVPR workshops 2020. LaECE: Oksuz,
Joy and Dokania, "Towards building self-aware object detectors via reliable uncertainty quantification and calibration",
CVPR 2023. LRP: Oksuz, Cam, Kalkan and Akbas, "One metric to measure them all: Localisation Recall Precision (LRP) for
evaluating visual detection tasks", IEEE TPAMI 2021. Hits are those of COCO's one-to-one matching within classes;
detections that it ignores, in crowds, are left out.
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..coco.matching import slices
from .matching import meetings
from .tables import Measured, Table, analysis, summarises

LAECE_BINS, LAECE_IOU = 25, 0.1  # those of the paper's code


@analysis("calibration", meetings)
def calibration(
    detections: Any,
    truth: Any,
    *,
    iou_threshold: float = 0.5,
    laece_iou: float = LAECE_IOU,
    max_detections: int | None = 100,
    **options: Any,
) -> Table:
    """One row a detection: what its score promises, and what it got.

    Args:
        detections, truth: see `dsla.analysis.tables`; or a model and a data set.
        iou_threshold: least IoU of a hit, for D-ECE and LRP.
        laece_iou: the same for LaECE.
        options: crowd, score_threshold, before_nms, …, as in `match`. Detections that are never used, below the score
            at which a user cuts, weigh much in D-ECE and LaECE: they are many.
        max_detections: of an image and class, by score (COCO: 100); None for all.

    Returns:
        Table: image, detection, category, score; iou with the object that it matches (NaN without one), ignored; the
        same at `laece_iou`: loose_iou, loose_ignored. `class_thresholds` makes a row a class of it.
    """
    parts = []
    annotations, images = meetings(detections, truth, max_detections=max_detections, **options)
    for here in images:
        match, ignored = here.greedy(iou_threshold, laece_iou)
        part = here.rows[["image", "detection", "category", "score"]].copy()
        for i, name in enumerate(("", "loose_")):
            hit = np.flatnonzero(match[i] >= 0)
            part[f"{name}iou"], part[f"{name}ignored"] = np.nan, ignored[i]
            part.loc[hit, f"{name}iou"] = here.iou(hit, match[i, hit])
        parts.append(part)
    table = Table(pd.concat(parts, ignore_index=True))
    real = annotations.objects["category"][~annotations.objects["crowd"].astype(bool)]
    table.attrs["objects"] = counts = real.value_counts().sort_index().to_dict()
    table.attrs["names"] = {c: annotations.categories.get(c, str(c)) for c in counts}
    return table


def d_ece(score: np.ndarray, hit: np.ndarray, bins: int) -> float:
    """Detection expected calibration error, of scores alone: Σ over bins n_b / n · |precision_b − mean score_b|.

    Args:
        score: [D] in 0…1.
        hit: [D] bool.
        bins: equal ones of score; each holds its lower edge, the last also 1.
    """
    if not len(score):
        return np.nan
    place = np.clip(np.searchsorted(np.arange(bins + 1) / bins, score, side="right") - 1, 0, bins - 1)
    return float(np.abs(np.bincount(place, hit - score, bins)).sum() / len(score))


def la_ece(score: np.ndarray, iou: np.ndarray, bins: int = LAECE_BINS) -> float:
    """Localisation-aware ECE of a class: Σ over bins n_b / n · |mean score_b − precision_b · mean IoU of its hits|.

    The score is to be the IoU that a detection brings, 0 where it hits nothing: precision × mean IoU of the hits is the
    mean over all detections of the bin.

    Args:
        score: [D] in 0…1.
        iou: [D] of the hits, 0 for others.
        bins: as in `d_ece`.
    """
    return d_ece(score, iou, bins)


class OptimalLRP(NamedTuple):
    """The least LRP error of a class over all thresholds of score, and what it is made of.

    Attributes:
        error: 0…1, lower is better; 1 where nothing is detected.
        threshold: the score from which detections are kept at the optimum; NaN where none is.
        localisation: mean 1 − IoU of the hits there.
        false_positives: share of the detections kept there that hit nothing.
        false_negatives: share of the objects not found there.
    """

    error: float
    threshold: float
    localisation: float
    false_positives: float
    false_negatives: float


def optimal_lrp(score: np.ndarray, iou: np.ndarray, objects: int, iou_threshold: float = 0.5) -> OptimalLRP:
    """min over s of LRP(s) = (Σ over hits (1 − IoU) / (1 − τ) + false positives + false negatives) / (their number).

    Exact: every score is tried as a threshold, where the authors' code tries 0, 0.01 … 1.

    Args:
        score: [D] of a class's detections.
        iou: [D] with their matches, NaN for false positives.
        objects: of the class.
        iou_threshold: τ, least IoU of a hit.
    """
    if not objects:
        return OptimalLRP(*[np.nan] * 5)
    order = np.argsort(-score, kind="stable")
    score, hit, value = score[order], np.isfinite(iou[order]), np.nan_to_num(iou[order])
    hits, loss = hit.cumsum(), np.where(hit, 1 - value, 0).cumsum()
    kept = np.arange(1, len(score) + 1)
    error = (loss / max(1 - iou_threshold, 1e-10) + (kept - hits) + (objects - hits)) / (kept + objects - hits)
    last = np.flatnonzero(np.diff(score, append=-np.inf) != 0)  # equal scores are kept together
    if not len(last) or not error[last].min() < 1:
        return OptimalLRP(1.0, np.nan, np.nan, np.nan, 1.0)
    at = last[error[last].argmin()]
    parts = (error[at], score[at], loss[at] / hits[at], 1 - hits[at] / kept[at], 1 - hits[at] / objects)
    return OptimalLRP(*map(float, parts))


def class_thresholds(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a class that has objects, of a table of `calibration`: the threshold of score to take along, and why.

    Returns:
        index category; name, objects, detections, the fields of `OptimalLRP` (error as lrp), la_ece.
    """
    rows, about = {}, frame.attrs
    place = pd.Index(list(about["objects"])).get_indexer(pd.Index(frame["category"]))
    order = np.argsort(place, kind="stable")
    score, iou, loose = (frame[name].to_numpy(dtype=float)[order] for name in ("score", "iou", "loose_iou"))
    counted, near = (~frame[name].to_numpy(dtype=bool)[order] for name in ("ignored", "loose_ignored"))
    parts = zip(slices(place[order], len(about["objects"])), about["objects"].items(), strict=True)
    for mine, (category, objects) in parts:
        at, close = counted[mine], near[mine]
        best = optimal_lrp(score[mine][at], iou[mine][at], objects, about["iou_threshold"])
        error = la_ece(score[mine][close], np.nan_to_num(loose[mine][close]))
        rows[category] = [about["names"][category], objects, at.sum(), *best, error]
    columns = ["name", "objects", "detections", "lrp", *OptimalLRP._fields[1:], "la_ece"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("category")


@summarises("calibration", bins=LAECE_BINS)
def calibration_summary(frame: pd.DataFrame, **_: int) -> Measured:
    """D-ECE over all detections; LaECE and optimal LRP as means over classes."""
    counted, classes = frame[~frame["ignored"].astype(bool)], class_thresholds(frame)
    score, hit = counted["score"].to_numpy(dtype=float), counted["iou"].notna().to_numpy()
    values: dict[str, Any] = {"detections": len(counted)}
    values |= {f"d_ece_{bins}": d_ece(score, hit, bins) for bins in (10, 20)}
    values |= {"la_ece": classes["la_ece"].dropna(), "lrp": classes["lrp"]}
    parts = ("localisation", "false_positives", "false_negatives")
    values |= {f"lrp_{name}": classes[name].dropna() for name in parts}
    reasons = dict.fromkeys(("d_ece_10", "d_ece_20"), "no detection")
    return values, reasons | {"la_ece": "no class with objects and detections", "": "no class with objects"}
