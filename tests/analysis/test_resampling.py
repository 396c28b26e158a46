"""Weights of images give the AP of a set in which the images stand as often."""

import numpy as np
import pytest

from dsla.analysis.resampling import draws, resampled_ap
from dsla.coco.evaluation import evaluate_detections


def repeated(truth, rows, weight):
    """The set in which image i stands weight[i] times; copies come right behind their image."""
    images, annotations, detections = [], [], []
    for image, times in zip(truth["images"], weight, strict=True):
        for copy in range(times):
            number = 1000 * image["id"] + copy
            images.append({"id": number})
            mine = (a for a in truth["annotations"] if a["image_id"] == image["id"])
            annotations += [{**a, "image_id": number, "id": len(annotations) + n} for n, a in enumerate(mine, 1)]
            detections += [{**r, "image_id": number} for r in rows if r["image_id"] == image["id"]]
    return {**truth, "images": images, "annotations": annotations}, detections


@pytest.mark.parametrize("seed", range(4))
def test_a_weight_is_a_number_of_copies(random_case, seed):
    truth, rows = random_case(seed, images=8, digits=9)
    weights = np.concatenate([np.ones((1, 8), dtype=int), draws(8, 6, seed)])
    expected = [evaluate_detections(*repeated(truth, rows, weight)).summary["AP"] for weight in weights]
    np.testing.assert_allclose(resampled_ap(rows, truth, weights), expected, rtol=1e-12)


def test_draws_are_as_many_as_there_are_images_and_the_same_each_time():
    first = draws(50, 400, seed=3)
    assert first.shape == (400, 50)
    assert set(first.sum(axis=1)) == {50}
    assert (first == draws(50, 400, seed=3)).all()
    assert first.mean(axis=0) == pytest.approx(np.ones(50), abs=0.25)  # standard error 0.05
    assert first.var() == pytest.approx(0.98, abs=0.05)  # of a multinomial: 1 − 1/50
