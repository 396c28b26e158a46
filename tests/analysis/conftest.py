"""Random and hand-made cases for the analyses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest


@pytest.fixture
def random_case():
    """(seed, …) → COCO ground truth and results rows with near hits, misses, crowds, and gaps in all ids."""

    def make(seed: int, images: int = 6, digits: int = 3, crowds: bool = True) -> tuple[dict[str, Any], list[Any]]:
        rng = np.random.default_rng(seed)
        categories = [{"id": c, "name": f"class {c}"} for c in (3, 90, 7)]
        truth: dict[str, Any] = {"images": [{"id": 10 * i + 1} for i in range(images)], "annotations": [],
                                 "categories": categories}  # fmt: skip
        rows = []
        for image in truth["images"]:
            for _ in range(rng.integers(0, 5)):
                box = [*rng.integers(0, 60, 2).tolist(), *rng.integers(8, 60, 2).tolist()]
                truth["annotations"].append(
                    {"id": len(truth["annotations"]), "image_id": image["id"], "bbox": box,
                     "category_id": int(rng.choice([3, 90])), "iscrowd": int(crowds and rng.random() < 0.2)}
                )  # fmt: skip
                for _ in range(rng.integers(0, 6)):
                    moved = np.round(np.array(box) + rng.normal(0, 0.12, 4) * np.array(box[2:] * 2)).tolist()
                    moved = [*moved[:2], max(moved[2], 1), max(moved[3], 1)]
                    rows.append({"image_id": image["id"], "category_id": int(rng.choice([3, 90, 90, 7])),
                                 "bbox": moved, "score": round(float(rng.random()), digits)})  # fmt: skip
        return truth, rows

    return make


@pytest.fixture
def one_image():
    """([(category, x1, y1, x2, y2)], [(category, score, x1, y1, x2, y2)]) → truth, rows of image 1."""

    def make(objects: list[Any], detections: list[Any]) -> tuple[dict[str, Any], list[Any]]:
        truth = {
            "images": [{"id": 1}],
            "annotations": [
                {"id": 100 + i, "image_id": 1, "category_id": c, "bbox": [x1, y1, x2 - x1, y2 - y1]}
                for i, (c, x1, y1, x2, y2) in enumerate(objects)
            ],
            "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        }
        rows = [
            {"image_id": 1, "category_id": c, "score": s, "bbox": [x1, y1, x2 - x1, y2 - y1]}
            for c, s, x1, y1, x2, y2 in detections
        ]
        return truth, rows

    return make
