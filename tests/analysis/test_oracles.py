"""Oracles: the AP that each replacement must give in a case small enough to see it."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from pycocotools import mask

from dsla.analysis import oracle
from dsla.analysis.oracles import _centerness
from dsla.coco.evaluation import evaluate_detections


def ap_of(table):
    return table.set_index("variant")["AP"]


def test_every_variant_by_hand(one_image):
    truth, rows = one_image(
        [(1, 0, 0, 100, 100)], [(1, 0.9, 0, 0, 100, 71), (1, 0.5, 0, 0, 100, 96), (1, 0.7, 300, 300, 400, 400)]
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
    candidates = {
        "boxes": torch.tensor([[0.0, 0, 100, 71], [0, 0, 100, 96], [0, 0, 100, 98]]),
        "scores": torch.tensor([0.9, 0.5, 0.4]),
        "labels": torch.tensor([0, 0, 0]),
        "label": torch.tensor([0.8, 0.7, 0.0]),
    }
    ap = ap_of(oracle([candidates], [target]))
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


def test_protocol_by_hand(one_image):
    truth, rows = one_image(
        [(1, 0, 0, 100, 100), (2, 0, 0, 100, 100), (1, 500, 500, 600, 600)],
        [(1, 0.9, 0, 0, 100, 100), (2, 0.8, 0, 0, 100, 100), (1, 0.95, 510, 510, 530, 530)],
    )
    truth["annotations"][2]["iscrowd"] = 1
    within = oracle(rows, truth)
    assert ap_of(within)["score"] == pytest.approx(1.0)
    # Across classes the box of class 2 goes: half of the classes find nothing.
    assert ap_of(oracle(rows, truth, class_aware=False))["score"] == pytest.approx(0.5)
    # In the crowd region a box of higher score counts as false: precision 1/2 for class 1.
    assert ap_of(oracle(rows, truth, crowd="background"))["score"] == pytest.approx(0.75)
    assert {k: within.attrs[k] for k in ("class_aware", "crowd")} == {"class_aware": True, "crowd": "ignore"}
    with pytest.raises(ValueError, match="'ignore' or 'background', got 'drop'"):
        oracle(rows, truth, crowd="drop")


def test_a_hundred_of_a_class_count_as_in_pycocotools(one_image):
    boxes = [(1, round(0.9 - 0.005 * i, 3), 20 * i, 50, 20 * i + 9, 60) for i in range(120)]
    truth, rows = one_image([(1, 0, 50, 9, 60), (1, 2380, 50, 2389, 60)], boxes)  # the first and the 120th hit
    table = oracle(rows, truth, max_detections=1000)
    assert ap_of(table)["score"] == pytest.approx(51 / 101)
    assert ap_of(table)["iou"] == pytest.approx(1.0)


def slow(truth, rows, variant, limit):
    """pycocotools' AP of one variant: objects, scores, boxes and NMS by loops."""
    objects = [a for a in truth["annotations"] if not a["iscrowd"]]

    def best(row):
        same = [a for a in objects if (a["image_id"], a["category_id"]) == (row["image_id"], row["category_id"])]
        share = mask.iou([row["bbox"]], [a["bbox"] for a in same], [0] * len(same)) if same else [[]]
        return max(zip(np.round(share[0], 12), range(0, -len(same), -1), same, strict=True), default=(0.0, 0, None))

    hits = [best(row) for row in rows]
    changed = []
    for row, (iou, _, thing) in zip(rows, hits, strict=True):
        new = dict(row)
        if variant == "iou":
            new["score"] = iou
        if variant == "centerness":
            (x, y, w, h), new["score"] = row["bbox"], 0.0
            if thing is not None and iou > 0:
                left, top, wide, high = thing["bbox"]
                dx, dy = x + w / 2 - left, y + h / 2 - top
                if 0 < dx < wide and 0 < dy < high:
                    new["score"] = math.sqrt(min(dx, wide - dx) / max(dx, wide - dx))
                    new["score"] *= math.sqrt(min(dy, high - dy) / max(dy, high - dy))
        if variant == "box" and iou >= 0.5:
            shares = mask.iou([r["bbox"] for r in rows], [thing["bbox"]], [0]).ravel().round(12)
            mine = [
                i
                for i, r in enumerate(rows)
                if (r["image_id"], r["category_id"]) == (row["image_id"], row["category_id"])
            ]
            new["bbox"] = rows[max(mine, key=lambda i: (shares[i], rows[i]["score"], -i))]["bbox"]
        changed.append(new)
    kept = []
    for new in sorted(changed, key=lambda r: -r["score"]):
        rivals = [r["bbox"] for r in kept
                  if (r["image_id"], r["category_id"]) == (new["image_id"], new["category_id"])]  # fmt: skip
        if not rivals or mask.iou([new["bbox"]], rivals, [0] * len(rivals)).max() <= limit:
            kept.append(new)
    kept = [row for row in changed if any(row is k for k in kept)]  # of equal scores the order of the file
    return evaluate_detections(truth, kept).summary[["AP", "AP50", "AP75"]].to_numpy()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("variant", ["score", "iou", "centerness", "box"])
def test_every_variant_equals_a_slow_reference(random_case, seed, variant):
    truth, rows = random_case(seed, images=12, digits=9)
    row = oracle(rows, truth, nms_threshold=0.55).set_index("variant").loc[variant]
    np.testing.assert_allclose(row.to_numpy(float), slow(truth, rows, variant, 0.55), atol=1e-12)
