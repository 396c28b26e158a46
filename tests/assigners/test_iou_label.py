"""The IoU label against recorded numbers of GFL and cases worked out by hand."""

import numpy as np
import pytest
import reference_more as ref
import torch

from dsla.assigners import ATSS, DSLA, FCOS, QualityLabel, TaskAligned
from dsla.geometry import HeadOutputs, PointGrid, aligned_iou

STRIDES = (8, 16, 32, 64, 128)


def test_recorded_scores_of_gfl(recorded):
    """Distances are the expectations of recorded distributions; the label is the recorded target, per point."""
    z = recorded("gfl")
    grid = PointGrid.from_shapes(z["sizes"], z["strides"])
    bins = torch.arange(int(z["reg_max"]) + 1.0)
    distances = []
    for i, s in enumerate(z["strides"]):
        logits = torch.tensor(z[f"bbox_l{i}"]).float().flatten(2).transpose(1, 2).unflatten(2, (4, -1))
        distances.append((logits.softmax(-1) * bins).sum(-1) * float(s))
    outputs = HeadOutputs(torch.zeros(3, len(grid), int(z["num_classes"])), torch.cat(distances, 1), grid)
    boxes = torch.tensor(z["gt_bboxes"]).split(z["num_gts"].tolist())
    labels = torch.tensor(z["gt_labels"]).split(z["num_gts"].tolist())
    a = QualityLabel(ATSS(int(z["topk"])))(grid, boxes, labels, predictions=outputs)
    for i, (label, category) in enumerate(zip(grid.split(a.label), grid.split(a.category), strict=True)):
        np.testing.assert_allclose(label.flatten(1), z[f"score_l{i}"], atol=1e-6)
        want = z[f"labels_l{i}"].astype(int)
        np.testing.assert_array_equal(category.flatten(1), np.where(want == int(z["num_classes"]), -1, want))
    assert (a.label > 0).sum() > 50


@pytest.mark.parametrize("base", [ATSS(), FCOS(center_sampling=1.5), DSLA(), TaskAligned()])
def test_keeps_the_points_of_the_base(base):
    grid = PointGrid((256, 320), STRIDES)
    boxes, labels = ref.scene(1, images=2)
    outputs = ref.head(grid, boxes)
    method = QualityLabel(base)
    a, b = method(grid, boxes, labels, predictions=outputs), base(grid, boxes, labels, predictions=outputs)
    assert torch.equal(a.gt_index, b.gt_index)
    image, point = a.positive.nonzero(as_tuple=True)
    matched = torch.stack([boxes[i][m] for i, m in zip(image, a.gt_index[image, point], strict=True)])
    assert torch.equal(a.label[image, point], aligned_iou(outputs.boxes[image, point], matched))
    assert a.label[~a.positive].eq(0).all()
    assert set(b.extras) <= set(a.extras)
    assert method.name == f"{base.name} + IoU label"


def test_positive_whose_prediction_misses_stays_positive():
    grid = PointGrid((64, 64), STRIDES)
    outputs = HeadOutputs(torch.zeros(1, len(grid), 1), torch.zeros(1, len(grid), 4), grid)
    box = [torch.tensor([[8.0, 8.0, 40.0, 40.0]])]
    a = QualityLabel()(grid, box, [torch.tensor([0])], predictions=outputs)
    assert a.positive.any()
    assert a.label.eq(0).all()
    assert torch.equal(a.gt_index, ATSS()(grid, box, [torch.tensor([0])]).gt_index)


def test_explanation_ends_with_the_iou():
    grid = PointGrid((128, 160), STRIDES)
    boxes, labels = ref.scene(4, boxes=1, size=(128, 160), smallest=40.0, largest=80.0)
    outputs = ref.head(grid, boxes)
    for base in (ATSS(), TaskAligned()):
        method = QualityLabel(base)
        a = method(grid, boxes, labels, predictions=outputs)
        for point in [*a.positive[0].nonzero().flatten().tolist(), 0]:
            found = method.explain(grid, point, boxes[0][0], predictions=outputs, category=int(labels[0]))
            assert found.label == pytest.approx(float(a.label[0, point]), abs=1e-7)
            assert found.assigner == method.name
    with pytest.raises(ValueError, match="pass predictions=HeadOutputs"):
        QualityLabel().explain(grid, 0, boxes[0][0])
