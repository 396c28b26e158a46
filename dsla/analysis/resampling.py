"""Bootstrap: how far numbers would move with other images of the same kind, and whether two detectors differ.

Images are drawn with replacement, as many as there are, again and again (Efron 1979). Detections are matched once; a
resample only says how often each image counts, so that its AP is a sum over sorted detections. Two detectors are
compared on the same resamples: what is hard for both cancels.

A resample holds fewer different images, so that rare classes seem easier and most APs of resamples lie above the AP
itself. Intervals therefore take their width from the spread of the resamples, and their middle from the number itself
(Efron and Tibshirani's standard interval); mean and percentiles of the resamples stand beside it.
"""

from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from ..coco.detections import Results
from ..coco.engines import AREAS, Matched, outside
from ..coco.engines import matched as matching
from ..coco.ground_truth import GroundTruth
from ..coco.matching import CAPS, RECALLS, THRESHOLDS, slices

RESAMPLES, LEVEL = 200, 0.95
TOGETHER = 4_000_000  # weights of detections that are held at a time
Samples = Mapping[str, np.ndarray]


def draws(images: int, count: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """[count,B] how often each of B images is drawn, as often as there are images, with replacement.

    The same for the same numbers: of two models judged on the same images, draw by draw is compared.
    """
    if not images:
        return np.zeros((count, 0), dtype=np.int64)
    return np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=count)


def resampled_ap(detections: Any, truth: Any, weights: np.ndarray, most: int = CAPS[-1]) -> np.ndarray:
    """COCO's AP over IoU 0.50 to 0.95 of every resample.

    Args:
        detections: a path, rows, or a list of dicts, see `Results.of`.
        truth: a path, a dict or a data set, see `GroundTruth.of`.
        weights: [R,B] how often each image counts; see `draws`.
        most: detections of an image and class that count, the best first.

    Returns:
        [R]; NaN where no object is left.
    """
    columns = GroundTruth.of(truth)
    return resampled(matching(Results.of(detections, columns), most), columns, weights)["AP"]


def resampled(matched: Matched, truth: GroundTruth, weights: np.ndarray) -> dict[str, np.ndarray]:
    """AP, AP50, AP75, AP_small, AP_medium, AP_large of every resample.

    They equal an evaluation of the data with images standing several times, but for the order of equal scores of one
    image and class, where nobody can say which is right.

    Args:
        matched: COCO's matching of the detections.
        truth: their ground truth.
        weights: [R,B] how often each image counts; see `draws`.

    Returns:
        By the name of the number [R], 0…1; NaN where a resample has no such object.
    """
    count, classes, weights = len(weights), len(truth.category_ids), weights.astype(np.int32)
    summed, defined = np.zeros((count, len(AREAS), len(THRESHOLDS))), np.zeros((count, len(AREAS), 1))
    order = np.argsort(truth.category, kind="stable")
    sized = [~truth.crowd & ~out for out in outside(truth)]
    parts = zip(slices(matched.category, classes), slices(truth.category[order], classes), strict=True)
    for rows, things in parts:
        homes = [truth.image[order[things]][mask[order[things]]] for mask in sized]
        step = max(TOGETHER // max(rows.stop - rows.start, 1), 1)
        for some in (slice(first, first + step) for first in range(0, count, step)):
            mine = weights[some][:, matched.image[rows]]  # [R,D of the class]
            for i, home in enumerate(homes):
                total = weights[some][:, home].sum(1)  # [R]
                defined[some, i, 0] += total > 0
                if total.any():
                    summed[some, i] += _class_ap(matched.hit[i, :, rows], matched.ignored[i, :, rows], mine, total)
    every = np.divide(summed, defined, out=np.full(summed.shape, np.nan), where=defined > 0)
    return {"AP": every[:, 0].mean(1), "AP50": every[:, 0, 0], "AP75": every[:, 0, 5]} | {
        f"AP_{size}": every[:, i].mean(1) for i, size in enumerate(AREAS) if i
    }


def _class_ap(hit: np.ndarray, ignored: np.ndarray, weights: np.ndarray, total: np.ndarray) -> np.ndarray:
    """[R,T] AP of a class, of detections (hit, ignored: [T,D]; weights: [R,D]) in falling order of score."""
    ap = np.zeros((len(weights), len(hit)))
    for t in range(len(hit)):
        # Precision is highest at hits: between two of them it only falls.
        counted = np.flatnonzero(~ignored[t])
        at = np.flatnonzero(hit[t, counted])
        seen = weights[:, counted].cumsum(1, dtype=np.int32)[:, at]
        true = weights[:, counted[at]].cumsum(1)
        precision = (true / (seen + np.spacing(1)))[:, ::-1]
        precision = np.maximum.accumulate(precision, axis=1)[:, ::-1]
        reached = np.searchsorted(RECALLS, true / np.maximum(total, 1)[:, None], side="right")
        ap[:, t] = (precision * np.diff(reached, prepend=0)).sum(1) / len(RECALLS)
    return ap


def share_resampled(true: np.ndarray, image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[R] share of the objects that are `true` [N] in every resample; `image` [N] their places."""
    count, objects = (np.bincount(image, w, weights.shape[1]) for w in (true, None))
    total = weights @ objects
    return np.divide(weights @ count, total, out=np.full(len(weights), np.nan), where=total > 0)


def intervals(values: Mapping[str, float], samples: Samples, level: float = LEVEL) -> pd.DataFrame:
    """Numbers with their resamples as intervals.

    Args:
        values: the numbers, by name.
        samples: of each the resamples [R].
        level: of the interval.

    Returns:
        index name; value; low, high: value ± so many standard deviations of the resamples; mean, low_percentile and
        high_percentile of the resamples. NaN without two resamples in which the number is defined.
    """
    drawn = pd.DataFrame(samples, dtype=float)
    drawn.loc[:, drawn.count() < 2] = np.nan
    value, reach = pd.Series(values)[drawn.columns], NormalDist().inv_cdf((1 + level) / 2) * drawn.std()
    low, high = (drawn.quantile((1 + side * level) / 2) for side in (-1, 1))
    columns = {"value": value, "low": value - reach, "high": value + reach, "mean": drawn.mean()}
    return pd.DataFrame(columns | {"low_percentile": low, "high_percentile": high}).rename_axis("name")


def differences(first: Samples, second: Samples) -> dict[str, np.ndarray]:
    """The first minus the second, resample by resample, of the numbers that both have."""
    return {name: first[name] - second[name] for name in first if name in second}
