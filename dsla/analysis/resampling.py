"""AP if other images had been drawn: weights of images in place of a second evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ..coco.matching import THRESHOLDS, greedy, precisions, ranks, slices
from .matching import group_keys, overlaps
from .running import sources
from .tables import stream


def draws(images: int, count: int, seed: int = 0) -> np.ndarray:
    """[count, images] how often each image is drawn, as often as there are images, with replacement.

    The same for the same numbers: of two models judged on the same images, draw by draw is compared.
    """
    return np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=count)


def resampled_ap(detections: Any, truth: Any, weights: np.ndarray, most: int = 100) -> np.ndarray:
    """COCO's AP over IoU 0.50 to 0.95, each image counted as often as a row of weights says.

    Args:
        detections, truth: see `dsla.analysis.tables`.
        weights: [R, images] whole numbers.
        most: detections of an image and class that count, the best first.

    Returns:
        [R]; NaN where no object is left.
    """
    source, truth = sources(detections, truth)
    parts, owners = list[pd.DataFrame](), list[pd.DataFrame]()
    for chunk, objects in stream(source, truth):
        crowd = objects["crowd"].to_numpy(dtype=bool)
        rank = ranks(chunk["score"].to_numpy(dtype=float), *group_keys(True, chunk))
        match, ignored = greedy(overlaps(chunk, objects), rank, crowd, THRESHOLDS)
        rows = chunk[["image_index", "category", "score"]].assign(hit=list((match >= 0).T), ignored=list(ignored.T))
        parts.append(rows[rank < most])
        owners.append(objects.loc[~crowd, ["image_index", "category"]])
    objects = pd.concat(owners)
    kinds = np.unique(objects["category"])
    rows = pd.concat(parts)[lambda d: d["category"].isin(kinds)]
    rows = rows.sort_values(["category", "score"], ascending=[True, False], kind="stable")
    hit, ignored = (
        np.array(rows[name].tolist(), dtype=bool).reshape(-1, len(THRESHOLDS)).T for name in ("hit", "ignored")
    )
    image, kind = rows["image_index"].to_numpy(dtype=int), np.searchsorted(kinds, rows["category"])
    home, owner = objects["image_index"].to_numpy(dtype=int), np.searchsorted(kinds, objects["category"])
    values = []
    for weight in weights:
        drawn, total = np.repeat(np.arange(len(image)), weight[image]), np.bincount(owner, weight[home], len(kinds))
        each = zip(slices(kind[drawn], len(kinds)), total, strict=True)
        ap = [precisions(hit[:, drawn[at]], ignored[:, drawn[at]], n).mean() for at, n in each if n]
        values.append(np.mean(ap) if ap else np.nan)
    return np.array(values)
