"""What evaluates: whole arrays, or pycocotools, the reference; both give the same bits.

pycocotools walks through every image, class and size with Python's own objects, which takes minutes and gigabytes for
half a million detections; "numpy" needs seconds. C classes, T IoU thresholds.
"""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .columns import ascending
from .detections import Results
from .ground_truth import GroundTruth
from .matching import CAPS, RECALLS, THRESHOLDS, greedy, iou, overlapping, precisions, ranks, slices

ENGINES = ("numpy", "pycocotools")
SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}  # COCO's, square pixels
AREAS = {"all": (0, 1e10)} | SIZES
TOGETHER = 1024  # images


@dataclass(frozen=True, eq=False)
class Matched:
    """COCO's matching of the D detections that count, by class and within a class in falling order of score.

    Attributes:
        image, category: [D] places among the images and classes of the ground truth.
        score: [D].  rank: [D] place among the detections of its image and class.
        hit, ignored: [areas,T,D] bool, for objects of each of AREAS and at each of THRESHOLDS.
    """

    image: np.ndarray
    category: np.ndarray
    score: np.ndarray
    rank: np.ndarray
    hit: np.ndarray
    ignored: np.ndarray


@dataclass(frozen=True)
class Curves:
    """Precision [T,101,C,areas] with as many detections of an image and class as the last cap, recall [T,C,areas,caps];
    −1 undefined.

    Attributes:
        extremes: precision [T,101,C] for objects of all sizes if of equal scores the false ones came first, and if the
            true ones did; empty where no scores are equal, and of pycocotools.
        coco: the `COCOeval` that did the work, where it was that.
        matched: what the curves are drawn from; None of pycocotools.
    """

    precision: np.ndarray
    recall: np.ndarray
    extremes: tuple[np.ndarray, ...] = ()
    coco: Any = None
    matched: Matched | None = None


def size_names(area: np.ndarray) -> np.ndarray:
    """The name in SIZES of each area, square pixels."""
    return np.array(list(SIZES), dtype=object)[np.digitize(area, [low for low, _ in SIZES.values()][1:])]


def outside(truth: GroundTruth) -> list[np.ndarray]:
    """For each of AREAS, which objects [M] are not of that size."""
    return [(truth.area < low) | (truth.area > high) for low, high in AREAS.values()]


def check_engine(engine: str) -> None:
    """Raises a ValueError where there is no engine of this name."""
    if engine not in ENGINES:
        raise ValueError(f"an engine is one of {', '.join(ENGINES)}; got {engine!r}")


def curves(engine: str, results: Results, caps: Sequence[int] = CAPS) -> Curves:
    """Of detections against their ground truth.

    Args:
        engine: one of ENGINES.
        caps: detections of an image and class that count, ascending.

    Raises:
        ValueError: an engine of another name.
    """
    check_engine(engine)
    return (_by_arrays if engine == "numpy" else _by_pycocotools)(results, caps)


def image_ranks(truth: GroundTruth) -> np.ndarray:
    """[B] place of each image in the order of the ids, in which COCO goes through them."""
    return np.argsort(ascending(truth.image_ids))


def _by_pycocotools(results: Results, caps: Sequence[int]) -> Curves:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    # It sorts ids with numpy, which takes one kind only: their ranks stand for them.
    truth, classes = results.truth, np.arange(len(results.truth.category_ids))
    truth = replace(truth, image_ids=image_ranks(truth), category_ids=classes)
    with contextlib.redirect_stdout(io.StringIO()):
        sides = []
        # loadRes fails on an empty list and copies the images' table; a COCO filled by hand does neither.
        content = truth.to_coco()
        for row, name in zip(content["annotations"], truth.ids.tolist(), strict=True):
            row["original_id"] = name
        for rows in (content["annotations"], replace(results, truth=truth).to_rows()):
            side = COCO()
            side.dataset = {**content, "annotations": rows}
            side.createIndex()
            sides.append(side)
        run = COCOeval(*sides, iouType="bbox")
        run.params.maxDets = list(caps)
        run.evaluate()
        run.accumulate()
    return Curves(run.eval["precision"][..., -1], run.eval["recall"], coco=run)


def matched(results: Results, most: int = CAPS[-1]) -> Matched:
    """COCO's matching of detections with their ground truth.

    Args:
        results: the detections.
        most: detections of an image and class that count.
    """
    truth = results.truth
    count, images = len(truth.category_ids), len(truth)
    rank_of = image_ranks(truth)
    home, kind, crowd = rank_of[truth.image], truth.classes.astype(np.int64), truth.crowd
    corners, extent = truth.corners, truth.boxes[:, 2] * truth.boxes[:, 3]
    others = outside(truth)

    place = rank_of[results.image]
    order = np.argsort(place, kind="stable")
    place, category, score = place[order], results.category[order].astype(np.int64), results.score[order]
    rank = ranks(score, place * count + category)
    order, place, category, score, rank = (v[rank < most] for v in (order, place, category, score, rank))
    boxes, size = results.corners[order], results.boxes[order, 2] * results.boxes[order, 3]

    hit, ignored = (np.zeros((len(AREAS), len(THRESHOLDS), len(order)), dtype=bool) for _ in range(2))
    for first in range(0, images, TOGETHER):
        here = slice(*np.searchsorted(place, [first, first + TOGETHER]))
        mine = np.flatnonzero((home >= first) & (home < first + TOGETHER))

        def iou_of(i: np.ndarray, j: np.ndarray, first: int = here.start, mine: np.ndarray = mine) -> np.ndarray:
            a, b = i + first, mine[j]
            return iou(boxes[a], corners[b], crowd[b], (size[a], extent[b]))

        keys = place[here] * count + category[here], home[mine] * count + kind[mine]
        pairs = overlapping(*keys, iou_of)
        for i, out in enumerate(others):
            match, ignored[i, :, here] = greedy(pairs, rank[here], crowd[mine], outside=out[mine])
            hit[i, :, here] = match >= 0
    for i, (low, high) in enumerate(AREAS.values()):
        ignored[i] |= ~hit[i] & ((size < low) | (size > high))

    image = results.image[order]
    order = np.lexsort([-score, category])  # of equal scores COCO takes the lower image id, then the earlier row
    return Matched(*(v[..., order] for v in (image, category, score, rank, hit, ignored)))


def _by_arrays(results: Results, caps: Sequence[int]) -> Curves:
    truth, rows = results.truth, matched(results, caps[-1])
    count, category, hit, ignored = len(truth.category_ids), rows.category, rows.hit, rows.ignored
    precision = np.full((len(THRESHOLDS), len(RECALLS), count, len(AREAS)), -1.0)
    recall = np.full((len(THRESHOLDS), count, len(AREAS), len(caps)), -1.0)
    totals = [np.bincount(truth.category[~truth.crowd & ~out], minlength=count) for out in outside(truth)]
    for i, total in enumerate(totals):
        precision[..., i] = _precision(hit[i], ignored[i], category, total)
        for k, mine in enumerate(slices(category, count)):
            if total[k]:
                for m, cap in enumerate(caps):
                    recall[:, k, i, m] = (hit[i, :, mine] & (rows.rank[mine] < cap)).sum(axis=1) / total[k]
    extremes = _extremes(hit[0], ignored[0], category, rows.score, totals[0])
    return Curves(precision, recall, extremes, matched=rows)


def _precision(hit: np.ndarray, ignored: np.ndarray, category: np.ndarray, total: np.ndarray) -> np.ndarray:
    """[T,101,C] of detections (hit, ignored: [T,D]) by class, in falling order of score; −1 without objects."""
    precision = np.full((len(hit), len(RECALLS), len(total)), -1.0)
    for k, rows in enumerate(slices(category, len(total))):
        if total[k]:
            precision[:, :, k] = precisions(hit[:, rows], ignored[:, rows], total[k])
    return precision


def _extremes(
    hit: np.ndarray, ignored: np.ndarray, category: np.ndarray, score: np.ndarray, total: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Precision with the false detections of every equal score first, and with the true ones first."""
    changes = (np.diff(score, prepend=np.inf) != 0) | (np.diff(category, prepend=-1) != 0)
    if changes.all():
        return ()
    group = np.cumsum(changes)
    orders = (np.argsort(2 * group + side, axis=1, kind="stable") for side in (hit, ~hit))
    return tuple(
        _precision(np.take_along_axis(hit, order, 1), np.take_along_axis(ignored, order, 1), category, total)
        for order in orders
    )
