"""Detections meet objects: IoU of the pairs, best object, COCO's greedy matching, average precision."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from ..coco.columns import EVERY_CLASS, SIZE
from ..coco.ground_truth import GroundTruth
from ..coco.matching import Pairs, greedy, iou, overlapping, precisions, ranks, slices
from ..errors import DataError
from .running import run
from .tables import BOX, Table, analysis, stream, truth_of

CROWD = ("ignore", "background")


@dataclass(frozen=True, eq=False)
class Meeting:
    """The D detections of some images meet their M objects.

    Attributes:
        rows, objects: as `tables.stream` has them.
        class_aware: detections meet, and compete, within classes only.
        crowds: whether what lies in a crowd is ignored; otherwise crowds count for nothing.
    """

    rows: pd.DataFrame
    objects: pd.DataFrame
    class_aware: bool = True
    crowds: bool = True

    @cached_property
    def score(self) -> np.ndarray:
        """[D] of the detections."""
        return self.rows["score"].to_numpy(dtype=float)

    @cached_property
    def crowd(self) -> np.ndarray:
        """[M] bool: which objects are crowds."""
        return self.objects["crowd"].to_numpy(dtype=bool)

    @cached_property
    def group(self) -> np.ndarray:
        """[D] numbers that are equal for detections of one image (and class)."""
        image, (code, names) = self.rows["image_index"].to_numpy(dtype=np.int64), pd.factorize(self.rows["category"])
        return image * len(names) + code if self.class_aware else image

    @cached_property
    def rank(self) -> np.ndarray:
        """[D] place of each detection in its group."""
        return ranks(self.score, self.group)

    @cached_property
    def pairs(self) -> Pairs:
        """Those of one image (and class) with IoU > 0."""
        return self.overlaps(self.class_aware)

    @cached_property
    def plain(self) -> Pairs:
        """Those with objects that are no crowds."""
        return self.pairs.where(~self.crowd[self.pairs.object])

    @property
    def counted(self) -> Pairs:
        """Those that a matching has to do with."""
        return self.pairs if self.crowds else self.plain

    def overlaps(self, class_aware: bool) -> Pairs:
        """Pairs as above, within classes or not; a crowd of no class is of each."""
        a, b = (table["image_index"].to_numpy(dtype=np.int64) for table in (self.rows, self.objects))
        ours, theirs = (table["category"].to_numpy() for table in (self.rows, self.objects))
        every = self.crowd & (theirs == EVERY_CLASS) | (not class_aware)

        def iou_of(i: np.ndarray, j: np.ndarray) -> np.ndarray:
            value, fits = np.zeros(len(i)), np.flatnonzero(every[j] | (ours[i] == theirs[j]))
            value[fits] = self.iou(i[fits], j[fits])
            return value

        return overlapping(a, b, iou_of)

    def iou(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """IoU of detections at positions i [N] with objects at j [N]; for crowds the share of the detection inside."""
        sides = ((self.rows, i), (self.objects, j))
        a, b = (table[BOX].to_numpy(dtype=float)[at] for table, at in sides)
        sizes = (table[SIZE].to_numpy(dtype=float)[at].prod(axis=1) for table, at in sides)
        return iou(a, b, self.crowd[j], tuple(sizes))

    def greedy(self, *thresholds: float) -> tuple[np.ndarray, np.ndarray]:
        """COCO's matching at each of the thresholds, see `dsla.coco.matching.greedy`."""
        return greedy(self.counted, self.rank, self.crowd, np.array(thresholds))


def meetings(
    detections: Any,
    truth: Any,
    *,
    class_aware: bool = True,
    crowd: str = "ignore",
    score_threshold: float | None = None,
    max_detections: int | None = None,
    before_nms: bool = False,
    **running: Any,
) -> tuple[GroundTruth, Iterator[Meeting]]:
    """The ground truth, and detections with its objects, some images after the other; a model is run.

    Args:
        detections, truth: see `dsla.analysis.tables`; or a model and a data set.
        class_aware: detections meet objects of their own class only.
        crowd: "ignore" marks a detection without a match whose share inside a crowd region reaches the IoU threshold;
            "background" lets crowd regions count for nothing.
        score_threshold: detections below it are left out; None takes all, negative scores (logits) too.
        max_detections: of an image (and class), by score; None for all.
        before_nms: take a model's candidates; tables and lists are taken as they are.
        running: batch_size, device, max_images, progress of a model's run.

    Raises:
        DataError, TypeError: a model without a data set, or the like.
    """
    if crowd not in CROWD:
        raise ValueError(f"crowd is {' or '.join(map(repr, CROWD))}, got {crowd!r}")
    annotations = truth_of(truth, running.get("max_images"))
    if isinstance(detections, nn.Module):
        if not hasattr(truth, "ground_truth"):
            raise DataError("a model needs a data set to run on, as the second argument")
        detections = run(detections, truth, before_nms=before_nms, **running)
    elif running:
        raise TypeError(
            f"{', '.join(running)}: no such option, or only for a model with a data set, not for detections"
        )

    def met() -> Iterator[Meeting]:
        for rows, objects in stream(detections, annotations, score_threshold=score_threshold):
            here = Meeting(rows, objects, class_aware, crowd == "ignore")
            if max_detections is not None:
                here = replace(here, rows=rows[here.rank < max_detections].reset_index(drop=True))
            yield here

    return annotations, met()


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


@analysis("match", meetings)
def match(detections: Any, truth: Any, *, iou_threshold: float = 0.5, boxes: bool = True, **options: Any) -> Table:
    """One row a detection: its best object and whether COCO's greedy matching gives it one.

    Args:
        detections, truth: see `dsla.analysis.tables`; or a model and a data set.
        iou_threshold: least IoU of a match.
        boxes: False leaves out x1, y1, x2, y2; candidates are many.
        options: class_aware, crowd, score_threshold, before_nms, and batch_size, device, max_images, progress of a
            model's run; see `meetings`.

    Returns:
        Table: image, detection, category, x1, y1, x2, y2 (pixels), score, iou with the best non-crowd object
        (0 where none overlaps), gt (that object's annotation id, <NA> if none), match (annotation id of the
        one-to-one match, <NA> if none), ignored (no match, and inside a crowd by at least the IoU threshold).
    """
    columns = ["image", "detection", "category", *(BOX if boxes else []), "score"]
    parts = []
    truth, images = meetings(detections, truth, **options)
    for here in images:
        best = here.plain.best("detection", len(here.rows))
        taken, ignored = here.greedy(iou_threshold)
        part = {name: here.rows[name].copy() for name in columns}
        part["iou"] = pick(here.plain.value, best, 0.0)
        part["gt"] = optional(here.objects["gt"], pick(here.plain.object, best, -1))
        part["match"] = optional(here.objects["gt"], taken[0])
        part["ignored"] = ignored[0]
        parts.append(part)
    # Column after column, each gone from the chunks once it is whole: boxes before NMS are many.
    table = Table({name: _whole([part.pop(name) for part in parts]) for name in list(parts[0])}, copy=False)
    table.attrs = {"images": len(truth.images), "objects": int((~truth.objects["crowd"].astype(bool)).sum())}
    return table


def pick(values: np.ndarray, index: np.ndarray, otherwise: Any) -> np.ndarray:
    """values[index], and the other value where the index is −1."""
    if not len(values):
        return np.full((len(index), *values.shape[1:]), otherwise)
    return np.where((index >= 0).reshape(-1, *[1] * (values.ndim - 1)), values[index], otherwise)


def _whole(parts: list[Any]) -> pd.Series:
    return pd.concat([pd.Series(part, copy=False) for part in parts], ignore_index=True)


def optional(column: pd.Series, index: np.ndarray) -> Any:
    """Ids of a column at these positions, <NA> where the position is −1; text stays text."""
    if column.dtype.kind != "i" and len(column):
        return pd.array(pick(column.to_numpy(dtype=object), index, pd.NA), dtype=object)
    return pd.arrays.IntegerArray(pick(column.to_numpy(dtype=np.int64), index, 0).astype(np.int64), index < 0)
