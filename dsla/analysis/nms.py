"""Suppression: the best box of an object before NMS, and what NMS makes of it."""

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch
from torchvision.ops import nms

from ..coco.matching import iou, overlapping, ranks
from .matching import Meeting, meetings, optional, pick
from .tables import BOX, Measured, Table, analysis, summarises

LOSSES = (0.0, 0.05, 0.1)


def kept_by_nms(detections: pd.DataFrame, threshold: float = 0.6, class_aware: bool = True) -> np.ndarray:
    """[D] bool: what survives NMS within its image (and class); of equal scores the earlier row.

    Rows of an image stand together.
    """
    boxes, image = detections[BOX].to_numpy(dtype=float), detections["image_index"].to_numpy()
    kept = np.zeros(len(boxes), dtype=bool)
    if class_aware and len(boxes):
        # Classes are moved apart so that they do not meet; in float64, which keeps their IoU.
        code = pd.factorize(detections["category"])[0]
        boxes = boxes + (code * (boxes.max() - boxes.min() + 1))[:, None]
    corners, value = torch.tensor(boxes), torch.tensor(detections["score"].to_numpy(dtype=float))
    start = np.flatnonzero(np.diff(image, prepend=-1))
    for low, high in pairwise([*start.tolist(), len(image)]):
        kept[low + nms(corners[low:high], value[low:high], threshold).numpy()] = True
    return kept


@analysis("suppression", meetings)
def suppression(
    candidates: Any,
    truth: Any,
    *,
    nms_threshold: float = 0.6,
    class_aware: bool = True,
    iou_threshold: float = 0.5,
    before_nms: bool = True,
    **options: Any,
) -> Table:
    """One row a non-crowd object: its best box before NMS, whether NMS kept it, and which box took its place.

    Crowd regions are no objects; candidates in them are candidates like others.

    Args:
        candidates, truth: as in `dsla.analysis.tables`, boxes before NMS; a model is run up to there. Results
            after NMS are taken as candidates, too: then the answer is what a second NMS would do.
        nms_threshold: NMS removes boxes whose IoU with one of higher score (and their class) is above it.
        class_aware: NMS, and the best box, within classes.
        iou_threshold: an object counts as found before NMS if its best box reaches this IoU.
        before_nms: False takes a model's detections after its own NMS.
        options: score_threshold, batch_size, …, as in `match`.

    Returns:
        Table: image, gt, category, x1, y1, x2, y2 (pixels), found; candidates (that overlap it); of the best
        candidate (highest IoU, then score): best (its `detection` number), best_score, iou_before; survived;
        of the box that removed it: suppressor, suppressor_score, suppressor_iou (with the object),
        suppressor_overlap (with the best box); iou_after (best IoU among the boxes kept) and iou_lost. NaN or
        <NA> where there is no candidate or no suppressor.
    """
    parts = []
    for here in meetings(candidates, truth, class_aware=class_aware, before_nms=before_nms, **options)[1]:
        pairs, count = here.plain, len(here.objects)
        kept = kept_by_nms(here.rows, nms_threshold, class_aware)
        pair = pairs.best("object", count, prefer=here.score[pairs.detection])
        stay = pairs.where(kept[pairs.detection])
        best, before, has = pick(pairs.detection, pair, -1), pick(pairs.value, pair, np.nan), pair >= 0
        after = np.where(has, pick(stay.value, stay.best("object", count), 0.0), np.nan)
        survived = has & pick(kept, best, False)
        by, about = removers(here, np.where(survived, -1, best), kept, nms_threshold)
        part = here.objects[["image", "gt", "category", *BOX]].assign(
            candidates=np.bincount(pairs.object, minlength=count),
            found=np.nan_to_num(before) >= iou_threshold,
            best=optional(here.rows["detection"], best),
            best_score=pick(here.score, best, np.nan),
            iou_before=before,
            survived=pd.arrays.BooleanArray(survived, ~has),
            suppressor=optional(here.rows["detection"], by),
            **about,
            iou_after=after,
            iou_lost=before - after,
        )
        parts.append(part[~here.crowd])
    return Table(pd.concat(parts, ignore_index=True))


def removers(
    here: Meeting, removed: np.ndarray, kept: np.ndarray, threshold: float
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Of each object the box for which NMS removed one that fits it.

    Args:
        here: detections and objects.
        removed: [M] position of the removed box, −1 where there is none.
        kept: [D] bool, what NMS kept.
        threshold: of NMS.

    Returns:
        [M] its position, −1 without; suppressor_score, suppressor_iou (with the object), suppressor_overlap (with the
        removed box) [M].
    """
    by, overlap, value = np.full(len(removed), -1), *np.full((2, len(removed)), np.nan)
    mine = np.flatnonzero(removed >= 0)
    boxes = here.rows[BOX].to_numpy(dtype=float)
    by[mine], overlap[mine] = suppressors_of(
        removed[mine], np.flatnonzero(kept), boxes, here.score, here.group, threshold
    )
    has = np.flatnonzero(by >= 0)
    value[has] = here.iou(by[has], has)
    score = pick(here.score, by, np.nan)
    return by, {"suppressor_score": score, "suppressor_iou": value, "suppressor_overlap": overlap}


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
