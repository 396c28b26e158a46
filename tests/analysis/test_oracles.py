"""Oracles: the AP that each replacement must give in a case small enough to see it."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch

from dsla.analysis import oracle
from dsla.analysis.oracles import _centerness


def ap_of(table):
    return table.set_index("variant")["AP"]


def test_every_variant_by_hand(one_image):
    truth, rows = one_image(
        [(1, 0, 0, 100, 100)],
        [(1, 0.9, 0, 0, 100, 71), (1, 0.5, 0, 0, 100, 96), (1, 0.7, 300, 300, 400, 400)],
    )
    table = oracle(rows, truth)
    assert table["variant"].tolist() == ["score", "iou", "centerness", "box"]
    # IoU 0.71 reaches 5 of the ten thresholds and removes the better box; 0.96 reaches all.
    # Ranked by centerness, too, the box of 96 rows comes first; as the best candidate it replaces the other.
    assert ap_of(table).tolist() == pytest.approx([0.5, 1.0, 1.0, 1.0])
    assert table["AP50"].tolist() == pytest.approx([1.0] * 4)
    assert table["AP75"].tolist() == pytest.approx([0.0, 1.0, 1.0, 1.0])
    numbers = table.summary()
    assert (numbers["ranking_cost"], numbers["localisation_cost"]) == pytest.approx((0.5, 0.5))
    assert set(numbers.attrs["definitions"]) == set(numbers.index)
    # Without NMS the better box is there, but only after the false alarm: half the precision at 5 thresholds.
    assert ap_of(oracle(rows, truth, nms_threshold=1.0))["score"] == pytest.approx(0.5 + 0.5 / 3)
    assert ap_of(oracle(rows, truth, max_detections=1)).tolist() == pytest.approx([0.5, 1.0, 1.0, 1.0])
    assert ap_of(oracle(rows, truth, score_threshold=0.6)).tolist() == pytest.approx([0.5] * 4)
    assert ap_of(oracle(rows, truth, iou_threshold=0.8))["box"] == pytest.approx(0.5)


def test_static_labels_of_candidates():
    target = {"boxes": torch.tensor([[0.0, 0, 100, 100]]), "labels": torch.tensor([0])}
    found = {
        "boxes": torch.tensor([[0.0, 0, 100, 71], [0, 0, 100, 96], [0, 0, 100, 98]]),
        "scores": torch.tensor([0.9, 0.5, 0.4]),
        "labels": torch.tensor([0, 0, 0]),
        "label": torch.tensor([0.8, 0.7, 0.0]),
    }
    ap = ap_of(oracle([found], [target]))
    assert ap[["label", "dynamic"]].tolist() == pytest.approx([0.5, 1.0])  # 0.8 · 0.71 < 0.7 · 0.96


def test_undefined_and_empty(one_image):
    truth, rows = one_image([(1, 0, 0, 100, 100)], [(1, 0.9, 0, 0, 100, 71)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nothing_found = oracle([], truth)
        nothing_there = oracle(rows, truth | {"annotations": []})
    assert nothing_found["AP"].tolist() == [0.0] * 4
    assert nothing_there["AP"].isna().all()
    numbers = nothing_there.summary()
    assert math.isnan(numbers["ranking_cost"])
    assert numbers.attrs["reasons"]["ranking_cost"] == "no object in the ground truth"


@pytest.mark.parametrize("seed", range(3))
def test_order_does_not_matter_and_better_scores_do_not_hurt(random_case, seed):
    truth, rows = random_case(seed, digits=9, images=10)
    turned = {**truth, "images": truth["images"][::-1]}
    one, two = ap_of(oracle(rows, truth)), ap_of(oracle(rows[::-1], turned))
    assert one[["score", "box"]].tolist() == pytest.approx(two[["score", "box"]].tolist())
    assert one["iou"] >= one["score"]


def test_centerness():
    objects = np.array([[10.0, 10, 50, 50]] * 4)
    centres = np.array([[30, 30], [20, 30], [10, 30], [8, 8]])
    boxes = np.concatenate([centres - 2, centres + 2], axis=1)
    np.testing.assert_allclose(_centerness(boxes, objects), [1.0, 0.57735, 0.0, 0.0], atol=1e-5)
