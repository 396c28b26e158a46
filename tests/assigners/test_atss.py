"""ATSS against recorded numbers, the whole table, and cases worked out by hand."""

import numpy as np
import pytest
import reference_more as ref
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dsla.assigners import ATSS
from dsla.assigners.atss import anchors, nearest
from dsla.assigners.pairs import Truth
from dsla.geometry import PointGrid

STRIDES = (8, 16, 32, 64, 128)


def test_recorded_cases(recorded):
    z = recorded("atss")
    grid = PointGrid.from_shapes(z["sizes"], z["strides"])
    np.testing.assert_array_equal(anchors(grid, 8.0), z["anchors"])
    for c in range(int(z["num_cases"])):
        case = {k: z[f"c{c}_{k}"] for k in ("gt_bboxes", "gt_labels", "topk", "gt_inds", "max_overlaps", "labels")}
        keep = ~z[f"c{c}_sensitive"]
        boxes, labels = torch.tensor(case["gt_bboxes"]), torch.tensor(case["gt_labels"])
        a = ATSS(int(case["topk"]))(grid, [boxes], [labels])
        np.testing.assert_array_equal(a.gt_index[0][keep] + 1, case["gt_inds"][keep])
        np.testing.assert_array_equal(a.category[0][keep], case["labels"][keep])
        won = keep & (case["gt_inds"] > 0)
        np.testing.assert_allclose(a.extras["anchor_iou"][0][won], case["max_overlaps"][won], atol=1e-6)
        assert won.any() == (len(boxes) > 0)


@pytest.mark.parametrize("file", ["atss_loss", "gfl"])
def test_recorded_targets_of_a_batch(recorded, file):
    z = recorded(file)
    grid = PointGrid.from_shapes(z["sizes"], z["strides"])
    boxes = torch.tensor(z["gt_bboxes"]).split(z["num_gts"].tolist())
    labels = torch.tensor(z["gt_labels"]).split(z["num_gts"].tolist())
    a = ATSS(int(z["topk"]) if "topk" in z else 9)(grid, boxes, labels)
    for level, (category, matched) in enumerate(zip(grid.split(a.category), grid.split(a.matched_boxes), strict=True)):
        want = z[f"labels_l{level}"].astype(int)
        positive = want < int(z["num_classes"])
        np.testing.assert_array_equal(category.flatten(1).where(category.flatten(1) >= 0, torch.tensor(5)), want)
        got = matched.flatten(1, 2).numpy()[positive]
        np.testing.assert_allclose(got, z[f"bbox_targets_l{level}"][positive], atol=1e-4)
    # the recorded count takes an image without positives as one
    assert int(a.positive.sum(1).clamp(min=1).sum()) == int(z["num_total_pos"])


@pytest.mark.parametrize(("topk", "scale", "offset"), [(9, 8.0, 0.0), (9, 8.0, 0.5), (4, 4.0, 0.5), (200, 8.0, 0.0)])
def test_equals_the_whole_table(topk, scale, offset):
    grid = PointGrid((256, 320), STRIDES, offset)
    boxes, labels = ref.scene(topk, images=3, boxes=25)
    a = ATSS(topk, scale)(grid, boxes, labels)
    for i in range(3):
        assert torch.equal(a.gt_index[i], ref.atss(grid, boxes[i], labels[i], topk, scale))
    assert a.positive.sum() > 30


@settings(max_examples=60)
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    k=st.integers(1, 30),
    centre=st.tuples(st.integers(-80, 160), st.integers(-80, 160)),
    offset=st.sampled_from([0.0, 0.5]),
)
def test_nearest_points_of_any_map_and_centre(shape, k, centre, offset):
    """Also with the centre far outside, maps smaller than k, and many ties (whole numbers of pixels)."""
    grid = PointGrid.from_shapes([shape, (3, 2)], (8, 16), offset)
    x, y = centre
    truth = Truth.of([torch.tensor([[x - 4.0, y - 4.0, x + 4.0, y + 4.0]])], [torch.zeros(1)], grid.device)
    point, valid = nearest(grid, truth, k)
    distance = (grid.xy - torch.tensor([float(x), float(y)])).square().sum(-1)
    want = []
    for level in range(2):
        here = (grid.level == level).nonzero().flatten()
        want += here[distance[here].argsort(stable=True)[:k]].tolist()
    assert sorted(point[valid].tolist()) == sorted(want)


def test_by_hand():
    """One level, stride 8, box [8, 8, 24, 24] around (16, 16); anchors of side 16; the 9 nearest are the 3 × 3 around.

    IoU: 1 at the centre, 128 / 384 = 1/3 at its 4 neighbours, 64 / 448 = 1/7 at the corners: mean 61/189 = 0.3228,
    deviation 0.2660. Only the centre reaches 0.5888.
    """
    grid = PointGrid((48, 48), (8,))
    a = ATSS(9, anchor_scale=2.0)(grid, [torch.tensor([[8.0, 8.0, 24.0, 24.0]])], [torch.tensor([3])])
    assert a.positive.nonzero().tolist() == [[0, 14]]
    assert a.category[0, 14] == 3
    near = ATSS(9, 2.0).candidates(grid, Truth.of([a.boxes], [torch.zeros(1)], grid.device))
    assert float(near.mean) == pytest.approx((1 + 4 / 3 + 4 / 7) / 9)
    assert float(near.deviation) == pytest.approx(
        ((1 - 61 / 189) ** 2 + 4 * (1 / 3 - 61 / 189) ** 2 + 4 * (1 / 7 - 61 / 189) ** 2) ** 0.5 / 8**0.5
    )


def test_single_candidate_has_no_deviation():
    grid = PointGrid.from_shapes([(1, 1)], (32,), offset=0.5)
    a = ATSS()(grid, [torch.tensor([[2.0, 2.0, 30.0, 30.0]])], [torch.tensor([0])])
    assert a.gt_index.tolist() == [[0]]


def test_points_in_the_padding_are_no_candidates():
    """A box at the right edge of a 64 px wide image: the same points as in its own grid, not those of the padding."""
    box, label = [torch.tensor([[40.0, 8.0, 64.0, 40.0]])], [torch.tensor([1])]
    alone, padded = PointGrid((64, 64), STRIDES), PointGrid((64, 256), STRIDES)
    a = ATSS()(alone, box, label)
    b = ATSS()(padded, box, label, image_sizes=[(64, 64)])
    for one, other in zip(alone.split(a.gt_index), padded.split(b.gt_index), strict=True):
        assert torch.equal(one[0], other[0][:, : one.shape[2]])
    assert a.positive.sum() == b.positive.sum() > 0


def test_explanation_gives_candidates_and_threshold():
    grid = PointGrid((256, 320), STRIDES)
    box = torch.tensor([60.0, 50.0, 170.0, 130.0])
    a = ATSS()(grid, [box[None]], [torch.tensor([0])])
    near = ATSS().candidates(grid, Truth.of([box[None]], [torch.zeros(1)], grid.device))
    for point in [*near.point[0].tolist(), 0, 700]:
        explanation = ATSS().explain(grid, point, box)
        assert explanation.admitted == bool(a.positive[0, point])
        assert explanation["candidate"].passed == (point in near.point[0][near.valid[0]].tolist())
    assert explanation["threshold"].text.endswith(f"= {float(near.threshold):.4g}")
    assert "42 candidates in all" in explanation["candidate"].text  # 9 at three levels, all 20 … of the small ones


@pytest.mark.parametrize("bad", [{"topk": 0}, {"anchor_scale": 0.0}])
def test_options_are_checked(bad):
    with pytest.raises(ValueError, match="topk must be at least 1 and anchor_scale above 0"):
        ATSS(**bad)
