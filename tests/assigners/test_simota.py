"""SimOTA against recorded numbers, the whole table, and cases worked out by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import reference_more as ref
import torch

from dsla.assigners import SimOTA
from dsla.assigners.pairs import Truth
from dsla.assigners.simota import _Scene
from dsla.geometry import HeadOutputs, PointGrid

STRIDES = (8, 16, 32)


def cases(recorded):
    z = recorded("simota")
    for c in range(int(z["num_cases"])):
        case = {k.removeprefix(f"c{c}_"): z[k] for k in z.files if k.startswith(f"c{c}_")}
        grid = PointGrid.from_shapes(case["sizes"], case["strides"], offset=0.5)
        np.testing.assert_array_equal(grid.xy, case["priors"][:, :2])
        radius, topk, iou_weight, cls_weight = case["options"]
        method = SimOTA(radius, int(topk), iou_weight, cls_weight)
        outputs = ref.recorded(grid, case["scores"], case["boxes"])
        yield case, grid, method, outputs, torch.tensor(case["gt_bboxes"]), torch.tensor(case["gt_labels"])


def test_recorded_cases(recorded):
    compared = 0
    for case, grid, method, outputs, boxes, labels in cases(recorded):
        a = method(grid, [boxes], [labels], predictions=outputs)
        gt = a.gt_index[0].numpy() + 1
        keep, keep64 = (case["flags"] & (4 | 8 | 32)) == 0, (case["flags64"] & (8 | 32)) == 0
        np.testing.assert_array_equal(gt[keep], case["gt_inds"][keep], err_msg=str(case["name"]))
        np.testing.assert_array_equal(gt[keep64], case["gt_inds64"][keep64], err_msg=str(case["name"]))
        np.testing.assert_array_equal(a.category[0].numpy()[keep], case["labels"][keep])
        sure = (case["gt_inds"] == case["gt_inds64"]) & (gt == case["gt_inds64"]) & (gt > 0)
        iou = a.iou(outputs.boxes.float())[0].numpy()
        np.testing.assert_allclose(iou[sure], case["max_overlaps"][sure], atol=1e-6)
        compared += sure.sum()
    assert compared > 150


def test_recorded_candidates_k_and_costs(recorded):
    for case, grid, method, outputs, boxes, labels in cases(recorded):
        scene = _Scene(method, grid, Truth.of([boxes], [labels], grid.device), outputs)
        np.testing.assert_array_equal(scene.candidate[0], case["candidate"])
        np.testing.assert_array_equal(scene.dynamic_k, case["dynamic_k"])
        if "cost" in case:
            point = torch.tensor(np.flatnonzero(case["candidate"]))[:, None].expand(-1, len(boxes))
            box = torch.arange(len(boxes)).expand_as(point)
            in_both = case["cost"] < 1e7
            np.testing.assert_array_equal(scene.both(box, point), in_both)
            np.testing.assert_allclose(scene.cost(box, point)[in_both], case["cost"][in_both], atol=2e-5)


@pytest.mark.parametrize(
    "options", [{}, {"center_radius": 1.5, "candidate_topk": 5, "iou_weight": 1.0, "cls_weight": 2.0}]
)
@pytest.mark.parametrize("smallest", [2.0, 12.0])
def test_equals_the_whole_table(options, smallest):
    """Small boxes hold too few points of their own and fill up with others."""
    grid = PointGrid((128, 160), STRIDES, offset=0.5)
    boxes, labels = ref.scene(3, images=4, boxes=14, size=(128, 160), smallest=smallest, largest=120.0)
    outputs = ref.head(grid, boxes)
    a = SimOTA(**options)(grid, boxes, labels, predictions=outputs)
    for i in range(4):
        gt, k = ref.simota(grid, boxes[i], labels[i], outputs.logits[i].sigmoid(), outputs.boxes[i], **options)
        assert torch.equal(a.gt_index[i], gt)
        won = a.positive[i]
        assert torch.equal(a.extras["dynamic_k"][i, won].long(), k[gt[won]])
    assert a.positive.sum() > 40


def test_the_quality_is_part_of_the_score_as_yolox_has_it():
    grid = PointGrid((128, 160), STRIDES, offset=0.5)
    boxes, labels = ref.scene(5, images=2, boxes=10, size=(128, 160), smallest=12.0, largest=120.0)
    plain = ref.head(grid, boxes)
    quality = torch.randn(2, len(grid), generator=torch.Generator().manual_seed(0)) * 3
    outputs = HeadOutputs(plain.logits, plain.distances, grid, quality)
    a, without = (SimOTA()(grid, boxes, labels, predictions=p) for p in (outputs, plain))
    for i in range(2):
        scores = plain.logits[i].sigmoid() * quality[i].sigmoid()[:, None]
        assert torch.equal(a.gt_index[i], ref.simota(grid, boxes[i], labels[i], scores, plain.boxes[i])[0])
    assert not torch.equal(a.gt_index, without.gt_index)


def test_by_hand():
    """One class, score ½ everywhere, all predictions equal to the box but for those of two points.

    Box of 32 around (32, 32), stride 8, points at 28, 36, …: 4 × 4 in the box, all within 2.5 strides. Two have a
    perfect box, the others none: the IoUs sum to 2, so k = 2, and these two are the cheapest.
    """
    grid = PointGrid((64, 64), (8,), offset=0.5)
    box = torch.tensor([[16.0, 16.0, 48.0, 48.0]])
    distances = torch.zeros(1, len(grid), 4)
    for point in (3 * 8 + 3, 4 * 8 + 2):
        x, y = grid.xy[point]
        distances[0, point] = torch.stack((x - 16, y - 16, 48 - x, 48 - y))
    outputs = HeadOutputs(torch.zeros(1, len(grid), 1), distances, grid)
    a = SimOTA()(grid, [box], [torch.tensor([0])], predictions=outputs)
    assert a.positive[0].nonzero().flatten().tolist() == [3 * 8 + 3, 4 * 8 + 2]
    assert a.extras["dynamic_k"][0, 3 * 8 + 3] == 2
    cost = -math.log(math.sqrt(0.5)) - 3 * math.log(1 + 1e-7)
    assert float(a.extras["cost"][0, 3 * 8 + 3]) == pytest.approx(cost, rel=1e-6)


def test_box_without_points_of_its_own_takes_the_cheapest_candidate():
    """Centre region and box hold no common point: the box still takes one of the points around its centre."""
    grid = PointGrid((64, 64), (8,), offset=0.5)
    outputs = ref.head(grid, [torch.zeros(0, 4)])
    a = SimOTA()(grid, [torch.tensor([[31.0, 31.0, 33.0, 33.0]])], [torch.tensor([0])], predictions=outputs)
    assert a.positive.sum() == 1
    point = int(a.positive[0].nonzero())
    assert (grid.xy[point] - 32).abs().max() < 20
    far = SimOTA()(grid, [torch.tensor([[900.0, 900.0, 950.0, 950.0]])], [torch.tensor([0])], predictions=outputs)
    assert not far.positive.any()  # no candidates at all


def test_pieces_give_the_same(monkeypatch):
    """Memory is bounded by working in pieces, which must not show."""
    from dsla.assigners import simota
    from dsla.assigners.sparse import best

    grid = PointGrid((128, 160), STRIDES, offset=0.5)
    boxes, labels = ref.scene(8, images=2, boxes=20, size=(128, 160), smallest=2.0)
    outputs = ref.head(grid, boxes)
    whole = SimOTA()(grid, boxes, labels, predictions=outputs)
    monkeypatch.setattr(best, "PIECE", 1000)
    monkeypatch.setattr(simota, "PIECE", 50)
    assert torch.equal(SimOTA()(grid, boxes, labels, predictions=outputs).gt_index, whole.gt_index)


def test_explanation_agrees():
    grid = PointGrid((128, 160), STRIDES, offset=0.5)
    boxes, labels = ref.scene(4, images=2, boxes=3, size=(128, 160), smallest=20.0, largest=80.0)
    outputs = replace(ref.head(grid, boxes), quality=torch.linspace(-3, 2, 2 * len(grid)).view(2, -1))
    a = SimOTA()(grid, boxes, labels, predictions=outputs)
    lost = 0
    for box in range(3):
        others = torch.cat((boxes[1][:box], boxes[1][box + 1 :]))
        for point in [*a.positive[1].nonzero().flatten().tolist(), *range(0, len(grid), 40)]:
            explanation = SimOTA().explain(
                grid, point, boxes[1][box], predictions=outputs, image=1, category=int(labels[1][box]), others=others
            )
            won = int(a.gt_index[1, point]) == box
            assert explanation.admitted or not won  # who is admitted can still lose the point to another box
            lost += explanation.admitted and not won
            if won:
                k = int(a.extras["dynamic_k"][1, point])
                assert explanation["dynamic k"].value == k
                assert explanation["cost"].value == pytest.approx(float(a.extras["cost"][1, point]), rel=1e-6)
    assert lost < 10
    with pytest.raises(ValueError, match="pass predictions=HeadOutputs"):
        SimOTA().explain(grid, 0, boxes[0][0])


@pytest.mark.parametrize("bad", [{"center_radius": 0.0}, {"candidate_topk": 0}, {"iou_weight": -1.0}])
def test_options_are_checked(bad):
    with pytest.raises(ValueError, match="needs center_radius"):
        SimOTA(**bad)
