"""The peer of `analyses.py`: the same answers one image after the other, as notebooks and gists have them."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import torch
from pycocotools import mask
from scipy import stats
from torchvision.ops import box_iou, nms

Rows = list[dict[str, Any]]


def by_image(rows: Rows) -> dict[Any, Rows]:
    groups: dict[Any, Rows] = defaultdict(list)
    for row in rows:
        groups[row["image_id"]].append(row)
    return groups


def ranking(truth: dict[str, Any], rows: Rows) -> dict[str, float]:
    """Spearman correlations of score and IoU over all, mean per image and per object, of boxes with IoU ≥ 0.5."""
    objects, detections = by_image(truth["annotations"]), by_image(rows)
    scores, ious, image_means, object_means = [], [], [], []
    for image in truth["images"]:
        mine, pairs = detections[image["id"]], []
        real = [a for a in objects[image["id"]] if not a["iscrowd"]]
        crowds = [a for a in objects[image["id"]] if a["iscrowd"]]
        taken: set[int] = set()
        for row in sorted(mine, key=lambda r: -r["score"]):
            same = [a for a in real if a["category_id"] == row["category_id"]]
            share = mask.iou([row["bbox"]], [a["bbox"] for a in same], [0] * len(same))[0] if same else np.zeros(0)
            free = [i for i, a in enumerate(same) if a["id"] not in taken and share[i] >= 0.5]
            if free:
                taken.add(same[max(free, key=lambda i: share[i])]["id"])
            else:
                around = [a["bbox"] for a in crowds if a["category_id"] == row["category_id"]]
                if around and mask.iou([row["bbox"]], around, [1] * len(around)).max() >= 0.5:
                    continue
            if len(same) and share.max() >= 0.5:
                pairs.append((row["score"], round(share.max(), 12), same[int(share.argmax())]["id"]))
        scores += [p[0] for p in pairs]
        ious += [p[1] for p in pairs]
        image_means.append(spearman(pairs))
        things = defaultdict(list)
        for pair in pairs:
            things[pair[2]].append(pair)
        object_means += [spearman(some) for some in things.values()]
    return {
        "spearman": stats.spearmanr(scores, ious).statistic,
        "spearman_image": float(np.nanmean(image_means)),
        "spearman_object": float(np.nanmean(object_means)),
    }


def spearman(pairs: list[tuple[float, float, int]]) -> float:
    if len({p[0] for p in pairs}) < 2 or len({p[1] for p in pairs}) < 2:
        return np.nan
    return float(stats.spearmanr([p[0] for p in pairs], [p[1] for p in pairs]).statistic)


def suppression(truth: dict[str, Any], rows: Rows, threshold: float = 0.6) -> dict[str, float]:
    """Objects with a candidate of IoU ≥ 0.5, and the mean of their best IoU before and after NMS."""
    objects, detections = by_image(truth["annotations"]), by_image(rows)
    before, after = [], []
    for image in truth["images"]:
        for kind in {a["category_id"] for a in objects[image["id"]]}:
            mine = [r for r in detections[image["id"]] if r["category_id"] == kind]
            real = [a for a in objects[image["id"]] if a["category_id"] == kind and not a["iscrowd"]]
            if not mine or not real:
                continue
            boxes, things = (corners([r["bbox"] for r in some]) for some in (mine, real))
            kept = nms(boxes, torch.tensor([r["score"] for r in mine], dtype=torch.float64), threshold)
            share = box_iou(boxes, things)
            hit = share.amax(0) >= 0.5
            before += share.amax(0)[hit].tolist()
            after += share[kept].amax(0)[hit].tolist()
    return {"found": len(before), "iou_before": float(np.mean(before)), "iou_after": float(np.mean(after))}


def corners(boxes: list[list[float]]) -> torch.Tensor:
    x, y, w, h = torch.tensor(boxes, dtype=torch.float64).unbind(1)
    return torch.stack([x, y, x + w, y + h], 1)
