"""Boxes meet objects as COCO has it: IoU of pairs, greedy one-to-one matching, precision at 101 recalls.

All of it in whole-array numpy over many images and classes at once, and to the bit what pycocotools' `COCOeval`
computes box by box: the same sums in the same order, the same answers to equal scores and equal IoUs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from ..errors import DataError

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of IoU
RECALLS = np.linspace(0, 1, 101)
CAPS = (1, 10, 100)  # detections of an image and class that count, the best first
MOST = 50_000_000  # pairs that overlap and so are kept at a time, some gigabytes


@dataclass(frozen=True)
class Pairs:
    """Overlapping (detection, object) pairs: positions in their tables and IoU > 0, sorted by detection.

    `iou` is to the bit what COCO compares with its thresholds; `value` is the same without the noise of rounding, so
    that equal overlaps are equal, and 1 is 1.
    """

    detection: np.ndarray
    object: np.ndarray
    iou: np.ndarray

    @cached_property
    def value(self) -> np.ndarray:
        return np.round(self.iou, 12)

    def best(self, of: str, size: int, prefer: np.ndarray | None = None) -> np.ndarray:
        """[size] for each detection (or object) the index of its pair of highest IoU, −1 without one.

        Of equal IoU: the higher `prefer` [pairs] first, then the lower position.
        """
        owner, other = self.detection, self.object
        if of == "object":
            owner, other = other, owner
        keys = [other, self.value] if prefer is None else [other, prefer, self.value]
        # lexsort ascends and the last one written wins, so the preferred pair comes last.
        order = np.lexsort([-keys[0], *keys[1:], owner])
        pair = np.full(size, -1)
        pair[owner[order]] = order
        return pair

    def where(self, mask: np.ndarray) -> "Pairs":
        """Those of the pairs for which the mask [pairs] holds."""
        return Pairs(self.detection[mask], self.object[mask], self.iou[mask])

    def of_rows(self, rows: np.ndarray) -> "Pairs":
        """The pairs of the detections at these positions, which become 0, 1, 2 …"""
        left, right = join(rows, self.detection)
        return Pairs(left, self.object[right], self.iou[right])


def iou(
    a: np.ndarray, b: np.ndarray, crowd: np.ndarray | bool = False, areas: tuple[np.ndarray, np.ndarray] | None = None
) -> np.ndarray:
    """IoU of box i of `a` [N,4] with box i of `b` [N,4]; where `b` is a crowd, the share of `a` inside it.

    `areas` [N] each, where they are known from width and height, as in COCO's files: the difference of two rounded
    corners is not always the width.
    """
    size = np.clip(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0, None)
    shared = size[:, 0] * size[:, 1]
    area_a, area_b = areas or ((x[:, 2] - x[:, 0]) * (x[:, 3] - x[:, 1]) for x in (a, b))
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


def overlapping(
    a: np.ndarray, b: np.ndarray, iou_of: Callable[[np.ndarray, np.ndarray], np.ndarray], most: int = 2_000_000
) -> Pairs:
    """Pairs (i, j) with a[i] == b[j] whose `iou_of(i, j)` is above 0; about `most` pairs are looked at at a time.

    Raises:
        DataError: more pairs overlap than memory may hold.
    """
    edges = np.sort(b)
    count = np.cumsum(np.searchsorted(edges, a, "right") - np.searchsorted(edges, a, "left"))
    cuts = np.flatnonzero(np.diff(count // most)) + 1
    parts, kept = [], 0
    for low, high in pairwise([0, *cuts.tolist(), len(a)]):
        i, j = join(a[low:high], b)
        i += low
        value = iou_of(i, j)
        parts.append((i[value > 0], j[value > 0], value[value > 0]))
        if (kept := kept + len(parts[-1][0])) > MOST:
            raise DataError(
                f"{len(a):,} boxes against {len(b):,}: more than {MOST:,} pairs overlap, as where thousands lie on one "
                "another; leave out those of low scores, or look at fewer images at a time"
            )
    return Pairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def ranks(score: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Place of each row in its group, from 0 for the highest score; equal scores keep their order."""
    order = np.lexsort([-score, group])
    start = np.flatnonzero(np.diff(group[order], prepend=np.nan))
    place = np.empty(len(score), dtype=np.int64)
    place[order] = np.arange(len(score)) - np.repeat(start, np.diff([*start, len(score)]))
    return place


def greedy(
    pairs: Pairs,
    rank: np.ndarray,
    crowd: np.ndarray,
    thresholds: np.ndarray = THRESHOLDS,
    outside: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """COCO's one-to-one matching: detections in order of score take the best free object.

    One step handles the detections of one rank in all images and classes at once.

    Args:
        pairs: within images and classes.  rank: [D] place of each detection in its image and class.
        crowd: [M] bool; a crowd takes any number of detections, which are ignored.
        thresholds: [T] least IoU of a match.
        outside: [M] bool, objects that are not of the size that counts: a detection that takes one is ignored.

    Returns:
        match [T,D] position of the object that counts, −1 without; ignored [T,D] bool.
    """
    limits = np.minimum(thresholds, 1 - 1e-10)[:, None]
    match = np.full((len(thresholds), len(rank)), -1)
    skipped = crowd if outside is None else crowd | outside
    near = pairs.where(pairs.iou >= limits.min())
    # In a step, a detection's pairs stand together, the best last: objects that count before others, whatever the
    # IoU; of equal IoU COCO takes the later object.
    order = np.lexsort([near.object, near.iou, ~skipped[near.object], near.detection, rank[near.detection]])
    detection, thing, value = near.detection[order], near.object[order], near.iou[order]
    step = rank[detection]
    free = np.ones((len(thresholds), len(crowd)), dtype=bool)
    bounds = np.flatnonzero(np.diff(step, prepend=-1, append=-1)) if len(step) else np.zeros(1, dtype=int)
    for low, high in pairwise(bounds):
        of, to = detection[low:high], thing[low:high]
        begin = np.flatnonzero(np.diff(of, prepend=-1))
        fits = free[:, to] & (value[low:high] >= limits)
        last = np.maximum.reduceat(np.where(fits, np.arange(high - low), -1), begin, axis=1)  # [T, detections]
        level, which = np.nonzero(last >= 0)
        chosen = to[last[level, which]]
        match[level, of[begin][which]] = chosen
        free[level, chosen] = crowd[chosen]
    taken = match >= 0
    ignored = taken & skipped[match] if len(skipped) else taken
    match[ignored] = -1
    return match, ignored


def precisions(hit: np.ndarray, ignored: np.ndarray, total: int) -> np.ndarray:
    """[T,101] interpolated precision at RECALLS of detections (hit, ignored: [T,D] bool) in falling order of score."""
    true = (hit & ~ignored).cumsum(axis=1)
    false = (~hit & ~ignored).cumsum(axis=1)
    recall, precision = true / total, true / (true + false + np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    padded = np.concatenate([precision, np.zeros((len(hit), 1))], axis=1)
    at = np.stack([np.searchsorted(line, RECALLS, side="left") for line in recall])
    return np.take_along_axis(padded, at, axis=1)


def slices(codes: np.ndarray, count: int) -> list[slice]:
    """Where each of the codes 0…count−1 lies in the sorted array."""
    edges = np.searchsorted(codes, np.arange(count + 1))
    return [slice(low, high) for low, high in pairwise(edges)]
