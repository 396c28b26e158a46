"""Detections meet objects: IoU of the pairs, best object, COCO's greedy matching, average precision.

All of it in whole-array numpy over many images at once. `greedy` and `average_precision` give what
pycocotools gives for objects of all sizes, several times faster; tests hold the two together.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from .running import sources
from .tables import BOX, EVERY_CLASS, Table, stream

CROWD = ("ignore", "background")
THRESHOLDS = np.linspace(0.5, 0.95, 10)  # COCO's
_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Pairs:
    """Overlapping (detection, object) pairs: positions in their tables and IoU > 0, sorted by detection."""

    detection: np.ndarray
    object: np.ndarray
    iou: np.ndarray

    def best(self, of: str, size: int, prefer: np.ndarray | None = None) -> np.ndarray:
        """[size] for each detection (or object) the index of its pair of highest IoU, −1 without one.

        Of equal IoU: the higher `prefer` [pairs] first, then the lower position.
        """
        owner, other = self.detection, self.object
        if of == "object":
            owner, other = other, owner
        keys = [other, self.iou] if prefer is None else [other, prefer, self.iou]
        # lexsort ascends and the last one written wins, so the preferred pair comes last.
        order = np.lexsort([-keys[0], *keys[1:], owner])
        found = np.full(size, -1)
        found[owner[order]] = order
        return found


def iou(a: np.ndarray, b: np.ndarray, crowd: np.ndarray | bool = False) -> np.ndarray:
    """IoU of box i of `a` [N,4] with box i of `b` [N,4]; where `b` is a crowd, the share of `a` inside it."""
    size = np.clip(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0, None)
    shared = size[:, 0] * size[:, 1]
    area_a, area_b = ((x[:, 2] - x[:, 0]) * (x[:, 3] - x[:, 1]) for x in (a, b))
    union = np.where(crowd, area_a, area_a + area_b - shared)
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def join(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions (i, j) of all pairs with a[i] == b[j], sorted by i, then j."""
    order = np.argsort(b, kind="stable")
    start, end = (np.searchsorted(b[order], a, side) for side in ("left", "right"))
    count = end - start
    left = np.repeat(np.arange(len(a)), count)
    within = np.arange(len(left)) - np.repeat(np.cumsum(count) - count, count)
    return left, order[np.repeat(start, count) + within]


def group_keys(class_aware: bool, *tables: pd.DataFrame) -> list[np.ndarray]:
    """For each table, numbers that are equal for rows of the same image (and class)."""
    images = [table["image_index"].to_numpy(dtype=np.int64) for table in tables]
    if not class_aware:
        return images
    codes, names = pd.factorize(np.concatenate([table["category"].to_numpy() for table in tables]))
    parts = np.split(codes, np.cumsum([len(table) for table in tables])[:-1])
    return [image * len(names) + code for image, code in zip(images, parts, strict=True)]


def overlaps(detections: pd.DataFrame, objects: pd.DataFrame, class_aware: bool = True) -> Pairs:
    """Pairs of one image (and class) with IoU > 0; for crowds IoU is the share of the detection inside."""
    left, right = join(*group_keys(class_aware, detections, objects))
    everywhere = np.flatnonzero((objects["category"] == EVERY_CLASS) & objects["crowd"])
    if class_aware and len(everywhere):
        more, which = join(*group_keys(False, detections, objects.iloc[everywhere]))
        left, right = np.concatenate([left, more]), np.concatenate([right, everywhere[which]])
        order = np.lexsort([right, left])
        left, right = left[order], right[order]
    a, b = (table[BOX].to_numpy(dtype=float) for table in (detections, objects))
    value = iou(a[left], b[right], objects["crowd"].to_numpy(dtype=bool)[right])
    keep = value > 0
    return Pairs(left[keep], right[keep], value[keep])


def ranks(score: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Place of each row in its group, from 0 for the highest score; equal scores keep their order."""
    order = np.lexsort([np.arange(len(score)), -score, group])
    start = np.flatnonzero(np.diff(group[order], prepend=np.nan))
    place = np.empty(len(score), dtype=np.int64)
    place[order] = np.arange(len(score)) - np.repeat(start, np.diff([*start, len(score)]))
    return place


def greedy(
    pairs: Pairs, rank: np.ndarray, crowd: np.ndarray, thresholds: np.ndarray = THRESHOLDS
) -> tuple[np.ndarray, np.ndarray]:
    """COCO's one-to-one matching: detections in order of score take the best free object.

    One step handles the detections of one rank in all images and classes at once.

    Args:
        pairs: within images and classes.  rank: [D] place of each detection in its image and class.
        crowd: [M] bool; a detection without an object that lies in a crowd region is ignored.
        thresholds: [T] least IoU of a match.

    Returns:
        match [T,D] position of the object, −1 without; ignored [T,D] bool.
    """
    limits = np.minimum(thresholds, 1 - 1e-10)[:, None]
    match = np.full((len(thresholds), len(rank)), -1)
    near = pairs.iou >= limits.min()
    order = np.flatnonzero(near & ~crowd[pairs.object])
    # In a step, a detection's pairs stand together, the best last: of equal IoU COCO takes the later object.
    keys = [pairs.object[order], pairs.iou[order], pairs.detection[order], rank[pairs.detection[order]]]
    order = order[np.lexsort(keys)]
    detection, thing, value = pairs.detection[order], pairs.object[order], pairs.iou[order]
    step = rank[detection]
    free = np.ones((len(thresholds), len(crowd)), dtype=bool)
    bounds = np.flatnonzero(np.diff(step, prepend=-1, append=-1)) if len(step) else np.zeros(1, dtype=int)
    for low, high in pairwise(bounds):
        own, to = detection[low:high], thing[low:high]
        begin = np.flatnonzero(np.diff(own, prepend=-1))
        fits = free[:, to] & (value[low:high] >= limits)
        last = np.maximum.reduceat(np.where(fits, np.arange(high - low), -1), begin, axis=1)  # [T, detections]
        level, which = np.nonzero(last >= 0)
        chosen = to[last[level, which]]
        match[level, own[begin][which]] = chosen
        free[level, chosen] = False
    inside = np.zeros(len(rank))
    of_crowd = crowd[pairs.object]
    np.maximum.at(inside, pairs.detection[of_crowd], pairs.iou[of_crowd])
    return match, (match < 0) & (inside > 0) & (inside >= limits)


def average_precision(
    category: np.ndarray, score: np.ndarray, hit: np.ndarray, ignored: np.ndarray, objects: pd.Series
) -> pd.DataFrame:
    """COCO's interpolated AP of every class, for objects of all sizes.

    Args:
        category, score: [D].  hit, ignored: [T,D] bool.  objects: number of non-crowd objects by category.

    Returns:
        index category (those with objects), one column a threshold.
    """
    rows = {}
    for name, total in objects[objects > 0].sort_index().items():
        mine = np.flatnonzero(category == name)
        mine = mine[np.argsort(-score[mine], kind="stable")]
        true = (hit[:, mine] & ~ignored[:, mine]).cumsum(axis=1)  # [T, D of the class]
        false = (~hit[:, mine] & ~ignored[:, mine]).cumsum(axis=1)
        recall, precision = true / total, true / (true + false + np.spacing(1))
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        padded = np.concatenate([precision, np.zeros((len(hit), 1))], axis=1)
        at = np.stack([np.searchsorted(line, _RECALLS, side="left") for line in recall])
        rows[name] = np.take_along_axis(padded, at, axis=1).mean(axis=1)
    return pd.DataFrame.from_dict(rows, orient="index", columns=range(len(hit)), dtype=float)


def match(
    detections: Any,
    truth: Any,
    *,
    class_aware: bool = True,
    crowd: str = "ignore",
    score_threshold: float = 0.0,
    iou_threshold: float = 0.5,
    before_nms: bool = False,
    **running: Any,
) -> Table:
    """One row a detection: its best object and whether COCO's greedy matching gives it one.

    Args:
        detections, truth: see `dsla.analysis.tables`; or a model and a data set.
        class_aware: compare with objects of the detection's own class only.
        crowd: "ignore" marks a detection without a match whose share inside a crowd region reaches the IoU
            threshold; "background" lets crowd regions count for nothing.
        score_threshold: detections below it are left out.
        iou_threshold: least IoU of a match.
        before_nms: take a model's candidates; tables and lists are taken as they are.
        running: batch_size, device, max_images, progress of a model's run.

    Returns:
        Table: image, detection, category, x1, y1, x2, y2 (pixels), score, iou with the best non-crowd object
        (0 where none overlaps), gt (that object's annotation id, <NA> if none), match (annotation id of the
        one-to-one match, <NA> if none), ignored.
    """
    if crowd not in CROWD:
        raise ValueError(f"crowd is {' or '.join(map(repr, CROWD))}, got {crowd!r}")
    source, known = sources(detections, truth, before_nms=before_nms, **running)
    parts = []
    for found, objects in stream(source, known, score_threshold=score_threshold):
        pairs = overlaps(found, objects, class_aware)
        is_crowd = objects["crowd"].to_numpy(dtype=bool)
        real = ~is_crowd[pairs.object]
        plain = Pairs(pairs.detection[real], pairs.object[real], pairs.iou[real])
        best = plain.best("detection", len(found))
        rank = ranks(found["score"].to_numpy(), *group_keys(class_aware, found))
        taken, ignored = greedy(pairs if crowd == "ignore" else plain, rank, is_crowd, np.array([iou_threshold]))
        ids = objects["gt"].to_numpy(dtype=np.int64)
        part = found[["image", "detection", "category", *BOX, "score"]].copy()
        part["iou"] = pick(plain.iou, best, 0.0)
        part["gt"] = _optional(ids, pick(plain.object, best, -1))
        part["match"] = _optional(ids, taken[0])
        part["ignored"] = ignored[0]
        parts.append(part)
    table = Table(pd.concat(parts, ignore_index=True))
    table.attrs = {
        "analysis": "match",
        "class_aware": class_aware,
        "crowd": crowd,
        "score_threshold": score_threshold,
        "iou_threshold": iou_threshold,
        "images": len(known.images),
        "objects": int((~known.objects["crowd"].astype(bool)).sum()),
    }
    return table


def pick(values: np.ndarray, index: np.ndarray, otherwise: Any) -> np.ndarray:
    """values[index], and the other value where the index is −1."""
    if not len(values):
        return np.full(len(index), otherwise)
    return np.where(index >= 0, values[index], otherwise)


def _optional(ids: np.ndarray, index: np.ndarray) -> Any:
    """ids[index] as nullable integers, <NA> where the index is −1."""
    return pd.arrays.IntegerArray(pick(ids, index, 0).astype(np.int64), index < 0)
