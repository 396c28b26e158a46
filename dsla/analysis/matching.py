"""Detections meet objects: IoU of the pairs, best object, COCO's greedy matching, average precision."""

from typing import Any

import numpy as np
import pandas as pd

from ..coco.columns import EVERY_CLASS
from ..coco.matching import Pairs, greedy, iou, overlapping, precisions, ranks, slices
from .running import sources
from .tables import BOX, SIZE, Table, analysis, stream

CROWD = ("ignore", "background")


def crowd_rule(crowd: str) -> None:
    """Raises ValueError for a name that is not in CROWD."""
    if crowd not in CROWD:
        raise ValueError(f"crowd is {' or '.join(map(repr, CROWD))}, got {crowd!r}")


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

    def iou_of(i: np.ndarray, j: np.ndarray) -> np.ndarray:
        return shared(detections, objects, i, j)

    ours, theirs = group_keys(class_aware, detections, objects)
    pairs = overlapping(ours, theirs, iou_of)
    everywhere = np.flatnonzero((objects["category"] == EVERY_CLASS) & objects["crowd"])
    if not class_aware or not len(everywhere):
        return pairs
    ours, theirs = group_keys(False, detections, objects.iloc[everywhere])
    more = overlapping(ours, theirs, lambda i, j: iou_of(i, everywhere[j]))
    left = np.concatenate([pairs.detection, more.detection])
    right = np.concatenate([pairs.object, everywhere[more.object]])
    order = np.lexsort([right, left])
    return Pairs(left[order], right[order], np.concatenate([pairs.iou, more.iou])[order])


def shared(detections: pd.DataFrame, objects: pd.DataFrame, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """IoU of detections at positions i [N] with objects at j [N]; for crowds the share of the detection inside."""
    a, b = (table[BOX].to_numpy(dtype=float)[at] for table, at in ((detections, i), (objects, j)))
    sizes = (table[SIZE].to_numpy(dtype=float)[at].prod(axis=1) for table, at in ((detections, i), (objects, j)))
    return iou(a, b, objects["crowd"].to_numpy(dtype=bool)[j], tuple(sizes))


def average_precision(
    image: Any, category: np.ndarray, score: np.ndarray, hit: np.ndarray, ignored: np.ndarray, objects: pd.Series
) -> pd.DataFrame:
    """COCO's interpolated AP of every class, for objects of all sizes.

    Args:
        image, category, score: [D]; of equal scores the lower image id comes first, then the earlier row.
        hit, ignored: [T,D] bool.  objects: number of non-crowd objects by category.

    Returns:
        index category (those with objects), one column a threshold.
    """
    counts = objects[objects > 0].sort_index()
    place = counts.index.get_indexer(pd.Index(category))
    order = np.lexsort([pd.factorize(np.asarray(image), sort=True)[0], -score, place])
    hit, ignored = hit[:, order], ignored[:, order]
    parts = zip(slices(place[order], len(counts)), counts, strict=True)
    values = [precisions(hit[:, rows], ignored[:, rows], total).mean(axis=1) for rows, total in parts]
    return pd.DataFrame(np.reshape(values, (len(counts), len(hit))), index=counts.index)


@analysis("match")
def match(
    detections: Any,
    truth: Any,
    *,
    class_aware: bool = True,
    crowd: str = "ignore",
    score_threshold: float = 0.0,
    iou_threshold: float = 0.5,
    before_nms: bool = False,
    boxes: bool = True,
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
        boxes: False leaves out x1, y1, x2, y2; candidates are many.
        running: batch_size, device, max_images, progress of a model's run.

    Returns:
        Table: image, detection, category, x1, y1, x2, y2 (pixels), score, iou with the best non-crowd object
        (0 where none overlaps), gt (that object's annotation id, <NA> if none), match (annotation id of the
        one-to-one match, <NA> if none), ignored.
    """
    crowd_rule(crowd)
    source, truth = sources(detections, truth, before_nms=before_nms, **running)
    columns = ["image", "detection", "category", *(BOX if boxes else []), "score"]
    parts = []
    for chunk, objects in stream(source, truth, score_threshold=score_threshold):
        pairs = overlaps(chunk, objects, class_aware)
        is_crowd = objects["crowd"].to_numpy(dtype=bool)
        real = ~is_crowd[pairs.object]
        plain = pairs.where(real)
        best = plain.best("detection", len(chunk))
        rank = ranks(chunk["score"].to_numpy(), *group_keys(class_aware, chunk))
        taken, ignored = greedy(pairs if crowd == "ignore" else plain, rank, is_crowd, np.array([iou_threshold]))
        ids = objects["gt"].to_numpy(dtype=np.int64)
        part = {name: chunk[name].copy() for name in columns}
        part["iou"] = pick(plain.value, best, 0.0)
        part["gt"] = _optional(ids, pick(plain.object, best, -1))
        part["match"] = _optional(ids, taken[0])
        part["ignored"] = ignored[0]
        parts.append(part)
    # Column after column, each gone from the chunks once it is whole: boxes before NMS are many.
    table = Table({name: _whole([part.pop(name) for part in parts]) for name in list(parts[0])}, copy=False)
    table.attrs = {"images": len(truth.images), "objects": int((~truth.objects["crowd"].astype(bool)).sum())}
    return table


def pick(values: np.ndarray, index: np.ndarray, otherwise: Any) -> np.ndarray:
    """values[index], and the other value where the index is −1."""
    if not len(values):
        return np.full(len(index), otherwise)
    return np.where(index >= 0, values[index], otherwise)


def _whole(parts: list[Any]) -> pd.Series:
    return pd.concat([pd.Series(part, copy=False) for part in parts], ignore_index=True)


def _optional(ids: np.ndarray, index: np.ndarray) -> Any:
    """ids[index] as nullable integers, <NA> where the index is −1."""
    return pd.arrays.IntegerArray(pick(ids, index, 0).astype(np.int64), index < 0)
