"""Task-aligned assignment against recorded numbers, the whole table, and cases worked out by hand."""

import numpy as np
import pytest
import reference_more as ref
import torch

from dsla.assigners import ATSS, TaskAligned
from dsla.assigners.atss import anchors
from dsla.assigners.pairs import Truth
from dsla.assigners.sparse.best import best_by_overlap
from dsla.geometry import HeadOutputs, PointGrid

STRIDES = (8, 16, 32, 64, 128)


def test_recorded_cases(recorded):
    z = recorded("tal")
    compared = 0
    for c in range(int(z["num_cases"])):
        case = {k.removeprefix(f"c{c}_"): z[k] for k in z.files if k.startswith(f"c{c}_")}
        grid = PointGrid.from_shapes(case["sizes"], z["strides"])
        np.testing.assert_array_equal(anchors(grid, 8.0), case["anchors"])
        topk, alpha, beta = case["options"]
        boxes, labels = torch.tensor(case["gt_bboxes"]), torch.tensor(case["gt_labels"])
        outputs = ref.recorded(grid, case["scores"], case["boxes"])
        a = TaskAligned(int(topk), alpha, beta)(grid, [boxes], [labels], predictions=outputs)
        keep = (case["flags"] & (8 | 32)) == 0
        won = keep & (case["gt_inds"] > 0)
        np.testing.assert_array_equal(a.gt_index[0][keep] + 1, case["gt_inds"][keep], err_msg=str(case["name"]))
        np.testing.assert_array_equal(a.category[0][keep], case["labels"][keep])
        np.testing.assert_allclose(a.extras["alignment"][0][keep], case["assign_metrics"][keep], rtol=1e-6)
        sure = (case["flags"] & (8 | 16 | 32)) == 0
        np.testing.assert_allclose(a.label[0][sure], case["norm_metrics"][sure], atol=1e-6)
        iou = a.iou(outputs.boxes.float())[0]
        np.testing.assert_allclose(iou[won], case["max_overlaps"][won], atol=1e-6)
        compared += won.sum()
    assert compared > 200


@pytest.mark.parametrize("stage", ["tal", "init"])
def test_recorded_targets_of_a_batch(recorded, stage):
    """Three images, one of them smaller than the batch: its padding takes no part."""
    z = recorded("tal")
    grid = PointGrid.from_shapes(z["h_sizes"], z["strides"])
    boxes = torch.tensor(z["h_gt_bboxes"]).split(z["h_num_gts"].tolist())
    labels = torch.tensor(z["h_gt_labels"]).split(z["h_num_gts"].tolist())
    levels = range(len(grid.shapes))
    scores = torch.cat([torch.tensor(z[f"h_cls_l{i}"]).flatten(2) for i in levels], 2).transpose(1, 2)
    predicted = torch.cat([torch.tensor(z[f"h_bbox_l{i}"]).flatten(2) for i in levels], 2).transpose(1, 2)
    each = [ref.recorded(grid, s, (p * grid.stride[:, None]).numpy()) for s, p in zip(scores, predicted, strict=True)]
    outputs = HeadOutputs(torch.cat([o.logits for o in each]), torch.cat([o.distances for o in each]), grid)
    topk, alpha, beta = z["h_options"]
    method = TaskAligned(int(topk), alpha, beta) if stage == "tal" else ATSS()
    sizes = [tuple(s) for s in z["h_pad_hw"].tolist()]
    a = method(grid, boxes, labels, predictions=outputs, image_sizes=sizes)
    parts = (grid.split(v) for v in (a.category, a.matched_boxes, a.label, a.ignored))
    for i, (category, matched, label, ignored) in enumerate(zip(*parts, strict=True)):
        category, label = category.flatten(1), label.flatten(1)
        want = torch.tensor(z[f"h_{stage}_labels_l{i}"].astype(int))
        assert torch.equal(category.where(category >= 0, int(z["h_num_classes"])), want)
        np.testing.assert_allclose(label, z[f"h_{stage}_metrics_l{i}"], atol=1e-6)
        positive = (category >= 0).numpy()
        targets = z[f"h_{stage}_bbox_targets_l{i}"]
        np.testing.assert_allclose(matched.flatten(1, 2).numpy()[positive], targets[positive], atol=1e-4)
        np.testing.assert_array_equal(ignored.flatten(1), z[f"h_{stage}_label_weights_l{i}"] == 0)
    assert a.positive.any()


@pytest.mark.parametrize("options", [{}, {"topk": 4, "alpha": 0.5, "beta": 2.0}, {"topk": 5000}])
def test_equals_the_whole_table(options):
    grid = PointGrid((256, 320), STRIDES)
    boxes, labels = ref.scene(11, images=3, boxes=20)
    outputs = ref.head(grid, boxes)
    a = TaskAligned(**options)(grid, boxes, labels, predictions=outputs)
    for i in range(3):
        gt, label = ref.task_aligned(
            grid, boxes[i], labels[i], outputs.logits[i].sigmoid(), outputs.boxes[i], **options
        )
        assert torch.equal(a.gt_index[i], gt)
        torch.testing.assert_close(a.label[i].double(), label, atol=1e-5, rtol=0)
    assert a.positive.sum() > 60


@pytest.mark.parametrize("kind", ["anything", "far", "inverted", "broken", "tiny"])
def test_best_points_are_those_of_the_whole_table(kind):
    """Whatever is predicted: boxes far from their points, inside out, infinite or not a number."""
    g = torch.Generator().manual_seed(1)
    grid = PointGrid((200, 264), STRIDES)
    (gt,), (labels,) = ref.scene(2, boxes=30)
    corner = torch.rand(1, len(grid), 2, generator=g) * torch.tensor([264.0, 200.0])
    side = torch.rand(1, len(grid), 2, generator=g) * (4 if kind == "tiny" else 150)
    boxes = torch.cat((corner, corner + side), -1)
    if kind == "far":
        boxes[:, ::2] += 5000
    elif kind == "inverted":
        boxes[:, ::3] = boxes[:, ::3, [2, 3, 0, 1]]
    elif kind == "broken":
        boxes[:, ::5, 2] = torch.inf
        boxes[:, 1::7] = torch.nan
    iou = ref.iou_table(boxes[0].nan_to_num(0, 0, 0), gt)
    iou[~boxes[0].isfinite().all(-1)] = 0
    if kind == "inverted":
        iou[::3] = 0
    truth = Truth.of([gt], [labels], grid.device)
    value, point = best_by_overlap(
        grid, truth, boxes, 7, score=lambda box, point, iou: iou, bound=lambda box, tile, iou: iou
    )
    best = iou.t().sort(dim=1, descending=True, stable=True)
    torch.testing.assert_close(value, best.values[:, :7])
    assert torch.equal(point, best.indices[:, :7].where(best.values[:, :7] > 0, 0))
    assert (value > 0).sum() > 20


def test_by_hand():
    """Two points with scores ½ and ¼ and IoUs ½ and 1: with α = 1, β = 2 alignments 1/8 and 1/4.

    The best gets the box's best IoU, 1; the other half of it. A third point predicts a perfect box but lies
    outside: it takes one of the places and is dropped.
    """
    grid = PointGrid((64, 64), (8,))
    box, label = torch.tensor([[10.0, 10.0, 42.0, 42.0]]), torch.tensor([1])
    logits, distances = torch.full((1, len(grid), 2), -10.0), torch.zeros(1, len(grid), 4)
    for point, score, width in ((2 * 8 + 2, 0.5, 16.0), (3 * 8 + 3, 0.25, 32.0), (0, 0.9, 32.0)):
        x, y = grid.xy[point]
        distances[0, point] = torch.stack((x - 10, y - 10, 10 + width - x, 42 - y))
        logits[0, point, 1] = torch.tensor(score).logit()
    outputs = HeadOutputs(logits, distances, grid)
    a = TaskAligned(topk=3, beta=2.0)(grid, [box], [label], predictions=outputs)
    assert a.positive[0].nonzero().flatten().tolist() == [18, 27]
    assert a.extras["alignment"][0, [18, 27]].tolist() == pytest.approx([0.125, 0.25])
    assert a.label[0, [18, 27]].tolist() == pytest.approx([0.5, 1.0], abs=1e-5)
    one = TaskAligned(topk=1, beta=2.0)(grid, [box], [label], predictions=outputs)
    assert not one.positive.any()  # the outer point had the best alignment, and is not replaced


def test_explanation_agrees():
    grid = PointGrid((128, 160), STRIDES)
    (boxes,), (labels,) = ref.scene(4, boxes=1, size=(128, 160), smallest=40.0, largest=80.0)
    outputs = ref.head(grid, [torch.zeros(0, 4), boxes])
    a = TaskAligned()(grid, [boxes[:0], boxes], [labels[:0], labels], predictions=outputs)
    for point in [*a.positive[1].nonzero().flatten().tolist(), *range(0, len(grid), 16)]:
        explanation = TaskAligned().explain(
            grid, point, boxes[0], predictions=outputs, image=1, category=int(labels[0])
        )
        assert explanation.label == pytest.approx(float(a.label[1, point]), abs=1e-7)
        assert explanation["alignment"].value >= 0
    assert 3 < a.positive.sum() <= 13
    with pytest.raises(ValueError, match="image 2 is not in predictions of 2 images"):
        TaskAligned().explain(grid, 0, boxes[0], predictions=outputs, image=2)


@pytest.mark.parametrize("bad", [{"topk": 0}, {"alpha": -1.0}, {"beta": 0.0}])
def test_options_are_checked(bad):
    with pytest.raises(ValueError, match="needs topk ≥ 1"):
        TaskAligned(**bad)
