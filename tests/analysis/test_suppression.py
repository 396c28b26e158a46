"""Suppression: a hand-made case column by column, torchvision's NMS, undefined cases."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from torchvision.ops import batched_nms

from dsla.analysis import suppression
from dsla.analysis.nms import kept_by_nms, suppressors_of
from dsla.analysis.tables import stream, truth_of

OBJECTS = [(1, 0, 0, 100, 100), (1, 200, 0, 300, 100), (2, 0, 0, 100, 100), (2, 400, 400, 450, 450)]
CANDIDATES = [
    (1, 0.9, 0, 0, 100, 70),  # kept: IoU 0.7 with object 100
    (1, 0.6, 0, 0, 100, 90),  # its best, 0.9: IoU 7/9 with the one above
    (1, 0.5, 0, 0, 100, 75),  # suppressed as well
    (1, 0.8, 200, 0, 300, 80),  # kept and best: 0.8 of object 101
    (1, 0.7, 200, 0, 300, 60),  # suppressed, not missed
    (2, 0.3, 0, 0, 100, 60),  # another class: kept, 0.6 of object 102
]


def test_columns_by_hand(one_image):
    truth, rows = one_image(OBJECTS, CANDIDATES)
    table = suppression(rows, truth).set_index("gt")
    assert table["candidates"].tolist() == [3, 2, 1, 0]
    assert table["found"].tolist() == [True, True, True, False]
    assert table["best"].tolist() == [1, 3, 5, pd.NA]
    assert table["survived"].tolist() == [False, True, True, pd.NA]
    assert table["suppressor"].tolist() == [0, pd.NA, pd.NA, pd.NA]
    nan = math.nan
    for name, values in {
        "best_score": [0.6, 0.8, 0.3, nan],
        "iou_before": [0.9, 0.8, 0.6, nan],
        "suppressor_score": [0.9, nan, nan, nan],
        "suppressor_iou": [0.7, nan, nan, nan],
        "suppressor_overlap": [7 / 9, nan, nan, nan],
        "iou_after": [0.7, 0.8, 0.6, nan],
        "iou_lost": [0.2, 0.0, 0.0, nan],
    }.items():
        np.testing.assert_allclose(table[name].to_numpy(float), values, err_msg=name)
    numbers = table.reset_index().summary()
    assert (numbers["objects"], numbers["found"]) == (4, 3)
    for name in ("best_suppressed", "lost_over_0", "lost_over_0.05", "lost_over_0.1"):
        assert numbers[name] == pytest.approx(1 / 3)
    assert numbers["iou_before"] == pytest.approx((0.9 + 0.8 + 0.6) / 3)
    assert numbers["iou_after"] == pytest.approx((0.7 + 0.8 + 0.6) / 3)


def test_arguments_by_hand(one_image):
    truth, rows = one_image(OBJECTS, CANDIDATES)
    assert suppression(rows, truth, nms_threshold=0.8).summary()["best_suppressed"] == 0.0
    assert suppression(rows, truth, iou_threshold=0.75).summary()["found"] == 2
    assert suppression(rows, truth, score_threshold=0.65).set_index("gt")["best"].tolist() == [0, 3, pd.NA, pd.NA]
    together = suppression(rows, truth, class_aware=False).set_index("gt")
    assert together["iou_before"].tolist()[:3] == pytest.approx([0.9, 0.8, 0.9])
    assert together["suppressor"].tolist()[:3] == [0, pd.NA, 0]


def test_the_first_box_that_removes_counts(one_image):
    truth, rows = one_image(
        [(1, 0, 0, 100, 100)],
        # 0 would overlap the best by 0.5 only; 1 removes it; 2 would too, but 1 comes first
        [(1, 0.9, 0, 0, 100, 50), (1, 0.8, 0, 20, 100, 100), (1, 0.7, 0, 25, 100, 100), (1, 0.1, 0, 0, 100, 100)],
    )
    row = suppression(rows, truth).iloc[0]
    assert (row["best"], row["suppressor"]) == (3, 1)
    assert row["suppressor_overlap"] == pytest.approx(0.8)


def test_of_equally_good_boxes_the_higher_score_is_the_best(one_image):
    truth, rows = one_image([(1, 0, 0, 100, 100)], [(1, 0.5, 0, 0, 100, 80), (1, 0.9, 0, 20, 100, 100)])
    assert suppression(rows, truth)["best"].tolist() == [1]


def test_nothing_to_suppress_and_no_candidates(one_image):
    truth, rows = one_image(OBJECTS, CANDIDATES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        none = suppression([], truth).summary()
        single = suppression(rows[3:4], truth).summary()
        nothing = suppression(rows, truth | {"annotations": []}).summary()
    assert none["found"] == 0
    for numbers in (none, nothing):
        assert math.isnan(numbers["lost_over_0"])
        assert numbers.attrs["reasons"]["lost_over_0"] == "no object has a candidate"
    assert single["lost_over_0"] == single["best_suppressed"] == 0.0
    assert set(single.attrs["definitions"]) == set(single.index)


def test_crowds_are_no_objects(one_image):
    truth, rows = one_image(OBJECTS, CANDIDATES)
    truth["annotations"][0]["iscrowd"] = 1
    assert suppression(rows, truth)["gt"].tolist() == [101, 102, 103]


@pytest.mark.parametrize("threshold", [0.3, 0.6])
def test_nms_equals_torchvision(random_case, threshold):
    truth, rows = random_case(5, images=20, digits=2)
    for detections, _ in stream(rows, truth_of(truth), chunk=7):
        kept = kept_by_nms(detections, threshold)
        for _, part in detections.groupby("image_index"):
            boxes = torch.tensor(part[["x1", "y1", "x2", "y2"]].to_numpy())
            labels = torch.tensor(part["category"].to_numpy())
            expected = batched_nms(boxes, torch.tensor(part["score"].to_numpy()), labels, threshold)
            assert np.flatnonzero(kept[part.index]).tolist() == sorted(expected.tolist())


@pytest.mark.parametrize("seed", range(3))
def test_order_does_not_matter(random_case, seed):
    truth, rows = random_case(seed, digits=9, images=20)
    turned = {**truth, "images": truth["images"][::-1], "annotations": truth["annotations"][::-1]}
    columns = ["gt", "iou_before", "iou_after", "best_score", "suppressor_score", "survived"]
    one, two = (
        pd.DataFrame(suppression(r, t, nms_threshold=0.4)[columns].sort_values("gt", ignore_index=True))
        for r, t in ((rows, truth), (rows[::-1], turned))
    )
    pd.testing.assert_frame_equal(one, two, check_flags=False)
    assert (one["survived"] == False).any()  # noqa: E712


def test_a_large_group_is_looked_at_in_parts(monkeypatch):
    """Who removed whom is the same however few pairs are looked at at a time."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 60, (300, 2))
    boxes, score = np.concatenate([corner, corner + rng.uniform(10, 40, (300, 2))], 1), rng.random(300)
    keep = rng.random(300) < 0.3
    arguments = (np.flatnonzero(~keep), np.flatnonzero(keep), boxes, score, rng.integers(0, 2, 300), 0.5)
    whole = suppressors_of(*arguments)
    monkeypatch.setattr("dsla.coco.matching.overlapping.__defaults__", (50,))
    for part, all_at_once in zip(suppressors_of(*arguments), whole, strict=True):
        np.testing.assert_array_equal(part, all_at_once)
