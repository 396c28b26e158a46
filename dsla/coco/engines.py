"""What evaluates: pycocotools, faster-coco-eval, or whole arrays; all three give the same numbers.

pycocotools is the reference. It walks through every image, class and size with Python's own objects, which takes
minutes and gigabytes for half a million detections. "numpy" needs seconds and no package, and gives the same bits;
"faster" (C++, of the package faster-coco-eval) is for those who know and trust it, and differs in the last bit.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..errors import DataError
from .matching import CAPS, RECALLS, THRESHOLDS, Pairs, greedy, iou, join, precisions, ranks, slices
from .results import BOX, SIZE, rows_of

ENGINES = ("pycocotools", "faster", "numpy")
AREAS = ((0, 1e10), (0, 32**2), (32**2, 96**2), (96**2, 1e10))  # all, small, medium, large; pixels
TOGETHER = 1024  # images


@dataclass(frozen=True)
class Curves:
    """Precision [T,101,C,areas] with the 100 best of an image and class, and recall [T,C,areas,caps]; −1 undefined.

    Classes are those of `categories`; `coco` is the object that did the work, where there is one.
    """

    precision: np.ndarray
    recall: np.ndarray
    categories: list[Any]
    coco: Any = None


def curves(engine: str, truth: Mapping[str, Any], table: pd.DataFrame) -> Curves:
    """Of a ground truth and a table of detections as `results` reads them.

    Raises:
        ValueError: an engine of another name.  DataError: the package of the engine is not installed.
    """
    if engine == "numpy":
        return _by_arrays(truth, table)
    if engine == "pycocotools":
        return _by_package("pycocotools.coco", "pycocotools.cocoeval", "COCOeval", truth, rows_of(table))
    if engine != "faster":
        raise ValueError(f"an engine is one of {', '.join(ENGINES)}; got {engine!r}")
    images, categories = (_numbers(truth[key]) for key in ("images", "categories"))  # its ids are whole numbers
    sides = []
    for rows in (truth["annotations"], rows_of(table)):
        ids = [{"image_id": images[r["image_id"]], "category_id": categories[r["category_id"]]} for r in rows]
        sides.append([{**r, **i} for r, i in zip(rows, ids, strict=True)])
    renamed = {"images": [{"id": i} for i in images.values()], "annotations": sides[0]}
    renamed["categories"] = [{"id": i} for i in categories.values()]
    package = "faster_coco_eval"
    found = _by_package(package, package, "COCOeval_faster", renamed, sides[1])
    return Curves(found.precision, found.recall, list(categories), found.coco)


def _numbers(entries: list[dict[str, Any]]) -> dict[Any, int]:
    """Id → its place in the order of the ids, from 1."""
    return {name: i for i, name in enumerate(sorted({entry["id"] for entry in entries}), 1)}


def _by_package(home: str, evaluator: str, name: str, truth: Mapping[str, Any], rows: list[dict[str, Any]]) -> Curves:
    try:
        dataset, evaluation = importlib.import_module(home).COCO, getattr(importlib.import_module(evaluator), name)
    except ImportError as error:
        raise DataError(
            f"the engine needs a package that is not installed: pip install 'dsla[fast]' ({error})"
        ) from error
    with contextlib.redirect_stdout(io.StringIO()):
        sides = []
        # loadRes fails on an empty list and copies the images' table; a COCO filled by hand does neither.
        for annotations in (truth["annotations"], rows):
            side = dataset()
            side.dataset = {**truth, "annotations": annotations}
            side.createIndex()
            sides.append(side)
        run = evaluation(*sides, iouType="bbox")
        run.evaluate()
        run.accumulate()
    return Curves(run.eval["precision"][..., -1], run.eval["recall"], list(run.params.catIds), run)


def _by_arrays(truth: Mapping[str, Any], table: pd.DataFrame) -> Curves:
    images, categories = (pd.Index(list(_numbers(truth[key]))) for key in ("images", "categories"))
    count = len(categories)
    objects = truth["annotations"]
    home, kind = (index.get_indexer(pd.Index([a[key] for a in objects], dtype=index.dtype))
                  for index, key in ((images, "image_id"), (categories, "category_id")))  # fmt: skip
    xywh = np.array([a["bbox"] for a in objects], dtype=float).reshape(-1, 4)
    corners = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    area = np.array([a["area"] for a in objects], dtype=float)
    crowd = np.array([a["iscrowd"] for a in objects], dtype=bool)
    outside = [(area < low) | (area > high) for low, high in AREAS]

    place = images.get_indexer(table["image"])
    order = np.argsort(place, kind="stable")
    place, category = place[order], categories.get_indexer(table["category"])[order]
    score = table["score"].to_numpy(dtype=float)[order]
    rank = ranks(score, place * count + category)
    order, place, category, score, rank = (v[rank < CAPS[-1]] for v in (order, place, category, score, rank))
    boxes = table[BOX].to_numpy(dtype=float)[order]
    size = table[SIZE].to_numpy(dtype=float)[order].prod(axis=1)

    hit, ignored = (np.zeros((len(AREAS), len(THRESHOLDS), len(order)), dtype=bool) for _ in range(2))
    for first in range(0, len(images), TOGETHER):
        here = slice(*np.searchsorted(place, [first, first + TOGETHER]))
        mine = np.flatnonzero((home >= first) & (home < first + TOGETHER))
        left, right = join(place[here] * count + category[here], home[mine] * count + kind[mine])
        a, b = np.arange(here.start, here.stop)[left], mine[right]
        value = iou(boxes[a], corners[b], crowd[b], (size[a], xywh[b, 2] * xywh[b, 3]))
        pairs = Pairs(left, right, value).where(value > 0)
        for i, out in enumerate(outside):
            match, ignored[i, :, here] = greedy(pairs, rank[here], crowd[mine], outside=out[mine])
            hit[i, :, here] = match >= 0
    for i, (low, high) in enumerate(AREAS):
        ignored[i] |= ~hit[i] & ((size < low) | (size > high))

    order = np.lexsort([-score, category])  # of equal scores COCO takes the lower image id, then the earlier row
    category, rank, hit, ignored = category[order], rank[order], hit[..., order], ignored[..., order]
    precision = np.full((len(THRESHOLDS), len(RECALLS), count, len(AREAS)), -1.0)
    recall = np.full((len(THRESHOLDS), count, len(AREAS), len(CAPS)), -1.0)
    for i, out in enumerate(outside):
        total = np.bincount(kind[~crowd & ~out], minlength=count)
        for k, rows in enumerate(slices(category, count)):
            if total[k]:
                precision[:, :, k, i] = precisions(hit[i, :, rows], ignored[i, :, rows], total[k])
                for m, cap in enumerate(CAPS):
                    recall[:, k, i, m] = (hit[i, :, rows] & (rank[rows] < cap)).sum(axis=1) / total[k]
    return Curves(precision, recall, categories.tolist())
