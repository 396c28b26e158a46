"""Suppression: the best box of an object before NMS, and what NMS makes of it."""

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch
from torchvision.ops import nms

from ..coco.matching import Pairs, iou, overlapping, ranks
from .matching import group_keys, overlaps, pick, shared
from .running import sources
from .tables import BOX, Measured, Table, analysis, stream, summarises

LOSSES = (0.0, 0.05, 0.1)


def kept_by_nms(detections: pd.DataFrame, threshold: float = 0.6, class_aware: bool = True) -> np.ndarray:
    """[D] bool: what survives NMS within its image (and class); of equal scores the earlier row."""
    boxes, score = detections[BOX].to_numpy(dtype=float), detections["score"].to_numpy(dtype=float)
    category = detections["category"].to_numpy() if class_aware else None
    return survivors(boxes, score, detections["image_index"].to_numpy(), category, threshold)


def survivors(
    boxes: np.ndarray, score: np.ndarray, image: np.ndarray, category: np.ndarray | None, threshold: float
) -> np.ndarray:
    """[D] bool: `kept_by_nms` of arrays; rows of an image stand together."""
    kept = np.zeros(len(score), dtype=bool)
    if category is not None and len(score):
        # Classes are moved apart so that they do not meet; in float64, which keeps their IoU.
        code = pd.factorize(category)[0]
        boxes = boxes + (code * (boxes.max() - boxes.min() + 1))[:, None]
    corners, value = torch.tensor(boxes), torch.tensor(score)
    start = np.flatnonzero(np.diff(image, prepend=-1))
    for low, high in pairwise([*start.tolist(), len(image)]):
        kept[low + nms(corners[low:high], value[low:high], threshold).numpy()] = True
    return kept


@analysis("suppression")
def suppression(
    candidates: Any,
    truth: Any,
    *,
    nms_threshold: float = 0.6,
    class_aware: bool = True,
    score_threshold: float = 0.0,
    iou_threshold: float = 0.5,
    before_nms: bool = True,
    **running: Any,
) -> Table:
    """One row a non-crowd object: its best box before NMS, whether NMS kept it, and which box took its place.

    Crowd regions are no objects; candidates in them are candidates like others.

    Args:
        candidates, truth: as in `dsla.analysis.tables`, boxes before NMS; a model is run up to there. Results
            after NMS are taken as candidates, too: then the answer is what a second NMS would do.
        nms_threshold: NMS removes boxes whose IoU with one of higher score (and their class) is above it.
        class_aware: NMS, and the best box, within classes.
        score_threshold: candidates below it are left out.
        iou_threshold: an object counts as found before NMS if its best box reaches this IoU.
        before_nms: False takes a model's detections after its own NMS.
        running: batch_size, device, max_images, progress of a model's run.

    Returns:
        Table: image, gt, category, x1, y1, x2, y2 (pixels), found; candidates (that overlap it); of the best
        candidate (highest IoU, then score): best (its `detection` number), best_score, iou_before; survived;
        of the box that removed it: suppressor, suppressor_score, suppressor_iou (with the object),
        suppressor_overlap (with the best box); iou_after (best IoU among the boxes kept) and iou_lost. NaN or
        <NA> where there is no candidate or no suppressor.
    """
    source, truth = sources(candidates, truth, before_nms=before_nms, **running)
    parts = []
    for chunk, objects in stream(source, truth, score_threshold=score_threshold):
        objects = objects[~objects["crowd"].astype(bool)].reset_index(drop=True)
        pairs = overlaps(chunk, objects, class_aware)
        kept = kept_by_nms(chunk, nms_threshold, class_aware)
        best, iou_before, iou_after = _best_boxes(pairs, chunk, len(objects), kept)
        has = best >= 0
        survived = has & pick(kept, best, False)
        suppressor, overlap = suppressors(chunk, kept, np.unique(best[has & ~survived]), nms_threshold, class_aware)
        by = np.where(has, pick(suppressor, best, -1), -1)
        score = chunk["score"].to_numpy(dtype=float)
        number = chunk["detection"].to_numpy(dtype=np.int64)
        mine = np.flatnonzero(by >= 0)
        suppressor_iou = np.full(len(objects), np.nan)
        suppressor_iou[mine] = shared(chunk, objects, by[mine], mine)
        part = objects[["image", "gt", "category", *BOX]].copy()
        part["candidates"] = np.bincount(pairs.object, minlength=len(objects))
        part["found"] = np.nan_to_num(iou_before) >= iou_threshold
        part["best"] = pd.arrays.IntegerArray(pick(number, best, 0), ~has)
        part["best_score"], part["iou_before"] = pick(score, best, np.nan), iou_before
        part["survived"] = pd.arrays.BooleanArray(survived, ~has)
        part["suppressor"] = pd.arrays.IntegerArray(pick(number, by, 0), by < 0)
        part["suppressor_score"], part["suppressor_iou"] = pick(score, by, np.nan), suppressor_iou
        part["suppressor_overlap"] = np.where(by >= 0, pick(overlap, best, np.nan), np.nan)
        part["iou_after"], part["iou_lost"] = iou_after, iou_before - iou_after
        parts.append(part)
    return Table(pd.concat(parts, ignore_index=True))


def _best_boxes(
    pairs: Pairs, chunk: pd.DataFrame, size: int, kept: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each object the position of the best candidate (−1 without), its IoU, and the best IoU after NMS."""
    at = pairs.best("object", size, prefer=chunk["score"].to_numpy(dtype=float)[pairs.detection])
    after = np.zeros(size)
    stay = kept[pairs.detection]
    np.maximum.at(after, pairs.object[stay], pairs.value[stay])
    after[at < 0] = np.nan
    return pick(pairs.detection, at, -1), pick(pairs.value, at, np.nan), after


def suppressors(
    chunk: pd.DataFrame, kept: np.ndarray, removed: np.ndarray, threshold: float, class_aware: bool
) -> tuple[np.ndarray, np.ndarray]:
    """[D] position of the box that NMS removed each of `removed` for (−1 elsewhere), and their IoU.

    That is the kept box of the group, first in order of score, whose IoU with it is above the threshold.
    """
    boxes, score = chunk[BOX].to_numpy(dtype=float), chunk["score"].to_numpy(dtype=float)
    at, overlap = suppressors_of(
        removed, np.flatnonzero(kept), boxes, score, group_keys(class_aware, chunk)[0], threshold
    )
    by, value = np.full(len(chunk), -1), np.full(len(chunk), np.nan)
    mine = overlap > threshold
    by[removed[mine]], value[removed[mine]] = at[mine], overlap[mine]
    return by, value


def suppressors_of(
    removed: np.ndarray, kept: np.ndarray, boxes: np.ndarray, score: np.ndarray, group: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """The box that NMS removed each of some boxes for, and their IoU.

    Args:
        removed: [R] positions of these among all boxes.
        kept: positions of those that NMS kept.
        boxes: [D,4] corners of all boxes.
        score: [D].
        group: [D] numbers, equal for boxes of one image and class.
        threshold: IoU above which NMS removes a box.

    Returns:
        [R] the kept box of the group that is first in order of score, stands before the removed one in it, and
        overlaps it by more than the threshold; where there is none, the one before it that overlaps it most (−1, NaN
        without any).
    """
    place = ranks(score, group)
    pairs = overlapping(group[removed], group[kept], lambda i, j: iou(boxes[removed[i]], boxes[kept[j]]))
    pairs = pairs.where(place[kept[pairs.object]] < place[removed[pairs.detection]])
    left, right, overlap = pairs.detection, kept[pairs.object], pairs.iou
    over = overlap > threshold
    order = np.lexsort([np.where(over, -place[right], overlap), over, left])  # the last of each is the one
    by, value = np.full(len(removed), -1), np.full(len(removed), np.nan)
    by[left[order]], value[left[order]] = right[order], overlap[order]
    return by, value


@summarises("suppression", iou_threshold=0.5, nms_threshold=0.6)
def suppression_summary(frame: pd.DataFrame, **_: float) -> Measured:
    """How many objects lose their best box to NMS, and how much IoU with it."""
    rows = frame[frame["found"].astype(bool)]
    lost = rows["iou_lost"].to_numpy(dtype=float)
    values = {"objects": len(frame), "found": len(rows), "best_suppressed": ~rows["survived"].to_numpy(dtype=bool)}
    values |= {f"lost_over_{loss:g}": lost > loss for loss in LOSSES}
    return values | {name: rows[name] for name in ("iou_before", "iou_after")}, {"": "no object has a candidate"}
