"""How long it takes to count the points of as many objects as COCO's train2017 has: `python benchmarks/coverage.py`.

118,287 images and 860,001 boxes, drawn from a seed with COCO's usual image sizes and spread of box sizes, scaled to
800/1333; one setting a line, on as many cores as torch may use.
"""

from __future__ import annotations

import time

import numpy as np

from dsla.analysis.assignments import assignment_statistics
from dsla.coco.ground_truth import GroundTruth
from dsla.coco.problems import Problems

IMAGES, BOXES = 118_287, 860_001
SIZES = np.array([(480, 640), (640, 480), (427, 640), (640, 427), (500, 375), (375, 500), (333, 500), (640, 640)])


def drawn(images: int = IMAGES, boxes: int = BOXES) -> GroundTruth:
    """A ground truth of that many images and boxes, as columns."""
    rng = np.random.default_rng(0)
    sizes = SIZES[rng.integers(0, len(SIZES), images)] - rng.integers(0, 30, (images, 1))
    image = np.sort(rng.integers(0, images, boxes)).astype(np.int32)
    room = sizes[image][:, ::-1].astype(float)
    side = np.minimum(np.exp(rng.normal(3.9, 1.1, (boxes, 2))).clip(2, 600), room - 1)
    corner = rng.random((boxes, 2)) * (room - side)
    none = np.zeros(boxes, dtype=bool)
    return GroundTruth(
        name="drawn",
        image_ids=np.arange(images),
        file_names=("",) * images,
        widths=sizes[:, 1],
        heights=sizes[:, 0],
        category_ids=np.arange(80),
        category_names=tuple(map(str, range(80))),
        ids=np.arange(boxes),
        image=image,
        category=rng.integers(0, 80, boxes).astype(np.int32),
        boxes=np.concatenate([corner, side], axis=1),
        area=side.prod(axis=1),
        crowd=none,
        ignore=none,
        problems=Problems("drawn"),
    )


if __name__ == "__main__":
    truth = drawn()
    for method in ("fcos", "dsla"):
        start = time.perf_counter()
        numbers = assignment_statistics(method, truth, input_size=(800, 1333)).summary()
        seconds = time.perf_counter() - start
        print(f"{method}: {seconds:.1f} s; {numbers['without_point']:,.0f} objects without a point")
