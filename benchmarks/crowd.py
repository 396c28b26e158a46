"""A data set of COCO's size and habits, without pictures: objects, and what a middling detector says about them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

WIDTH, HEIGHT, CLASSES = 640, 480, 80
OBJECTS = 7.3  # an image; val2017 has 36,781 on 5,000


def ground_truth(images: int, seed: int = 0) -> dict[str, Any]:
    """COCO json: geometric numbers of objects, classes by Zipf's law, gaps in the ids, log-normal sizes, 1 % crowds."""
    rng = np.random.default_rng(seed)
    of_image = np.repeat(np.arange(images), np.minimum(rng.geometric(1 / (OBJECTS + 1), images) - 1, 63))
    total = len(of_image)
    weight = 1 / np.arange(1, CLASSES + 1)
    ids = np.delete(np.arange(1, 91), np.arange(11, 91, 8))[:CLASSES]
    side = np.exp(rng.normal(np.log(52), 1.0, (total, 1)) + rng.normal(0, 0.35, (total, 2)))
    size = np.clip(side, 4, [WIDTH - 2, HEIGHT - 2])
    corner = rng.uniform(size=(total, 2)) * ([WIDTH, HEIGHT] - size)
    boxes = np.concatenate([corner, size], axis=1).round(2).tolist()
    category = ids[rng.choice(CLASSES, total, p=weight / weight.sum())].tolist()
    crowd = (rng.uniform(size=total) < 0.01).astype(int).tolist()
    fields = zip(of_image.tolist(), category, boxes, crowd, strict=True)
    return {
        "images": [{"id": 7 * i + 1, "width": WIDTH, "height": HEIGHT} for i in range(images)],
        "categories": [{"id": i, "name": f"class {i}"} for i in ids.tolist()],
        "annotations": [
            {"id": n, "image_id": 7 * i + 1, "category_id": c, "bbox": b, "iscrowd": k, "area": 0.7 * b[2] * b[3]}
            for n, (i, c, b, k) in enumerate(fields, 1)
        ],
    }


def detections(truth: dict[str, Any], count: int, seed: int = 1) -> Iterator[dict[str, Any]]:
    """`count` boxes an image: three quarters near objects, with scores that know a little of their quality, some of
    another class; the others anywhere, with low scores. One dict of tensors an image, labels in order of the ids."""
    rng = np.random.default_rng(seed)
    label = {c["id"]: i for i, c in enumerate(sorted(truth["categories"], key=lambda c: c["id"]))}
    objects: dict[Any, list[Any]] = {image["id"]: [] for image in truth["images"]}
    for a in truth["annotations"]:
        objects[a["image_id"]].append([*a["bbox"], label[a["category_id"]]])
    for image, rows in objects.items():
        table = np.array(rows, dtype=float).reshape(-1, 5)
        near = 3 * count // 4 if len(table) else 0
        base = table[rng.integers(0, max(len(table), 1), near)]
        noise = rng.exponential(0.08, (near, 1))
        moved = base[:, :4] + rng.normal(size=(near, 4)) * noise * np.tile(base[:, 2:4], 2)
        far = rng.uniform(size=(count - near, 4)) * [WIDTH * 0.8, HEIGHT * 0.8, 120, 120]
        xywh = np.concatenate([moved, far])
        xywh[:, 2:] = xywh[:, 2:].clip(2)
        other = rng.integers(0, CLASSES, count)
        named = np.concatenate([base[:, 4].astype(int), other[near:]])
        named = np.where(rng.uniform(size=count) < 0.1, other, named)
        sure = np.concatenate([1.5 - 10 * noise[:, 0], np.full(count - near, -3.0)]) + rng.normal(size=count)
        xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
        prediction = {"boxes": torch.tensor(xyxy), "scores": torch.tensor(1 / (1 + np.exp(-sure))).float()}
        yield {**prediction, "labels": torch.tensor(named), "image_id": image}


def write(folder: Path, images: int, count: int) -> tuple[Path, Path]:
    """instances.json and results.json as detectors write them."""
    truth = ground_truth(images)
    ids = sorted(c["id"] for c in truth["categories"])
    rows = []
    for prediction in detections(truth, count):
        columns = (prediction["boxes"].tolist(), prediction["scores"].tolist(), prediction["labels"].tolist())
        for (x1, y1, x2, y2), score, k in zip(*columns, strict=True):
            box = [round(v, 2) for v in (x1, y1, x2 - x1, y2 - y1)]
            rows.append(
                {"image_id": prediction["image_id"], "category_id": ids[k], "bbox": box, "score": round(score, 5)}
            )
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in (("instances.json", truth), ("results.json", rows)):
        (folder / name).write_text(json.dumps(value), encoding="utf-8")
    return folder / "instances.json", folder / "results.json"
