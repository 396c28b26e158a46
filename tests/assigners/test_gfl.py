"""GFL's assignment against its recorded targets and cases worked out by hand."""

import numpy as np
import pytest
import reference_more as ref
import torch

from dsla.assigners import ATSS, GFL
from dsla.geometry import HeadOutputs, PointGrid, aligned_iou

STRIDES = (8, 16, 32, 64, 128)


def test_recorded_scores_of_gfl(recorded):
    """Distances are the expectations of recorded distributions; what is taught is the recorded target, per point."""
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
    a = GFL(int(z["topk"]))(grid, boxes, labels)
    target = a.target(outputs.boxes)
    for i, (taught, category) in enumerate(zip(grid.split(target), grid.split(a.category), strict=True)):
        np.testing.assert_allclose(taught.flatten(1), z[f"score_l{i}"], atol=1e-6)
        want = z[f"labels_l{i}"].astype(int)
        np.testing.assert_array_equal(category.flatten(1), np.where(want == int(z["num_classes"]), -1, want))
    assert (target > 0).sum() > 50


def test_points_and_labels_of_atss_taught_the_iou():
    grid = PointGrid((256, 320), STRIDES)
    boxes, labels = ref.scene(1, images=2)
    outputs = ref.head(grid, boxes)
    a, b = GFL()(grid, boxes, labels), ATSS()(grid, boxes, labels)
    assert torch.equal(a.gt_index, b.gt_index)
    assert torch.equal(a.label, b.label)
    assert (a.coupling, b.coupling) == ("iou-only", "off")
    image, point = a.positive.nonzero(as_tuple=True)
    matched = torch.stack([boxes[i][m] for i, m in zip(image, a.gt_index[image, point], strict=True)])
    target = a.target(outputs.boxes)
    assert torch.equal(target[image, point], aligned_iou(outputs.boxes[image, point], matched))
    assert target[~a.positive].eq(0).all()
    assert torch.equal(b.target(outputs.boxes), b.label)
    frame = a.to_frame(outputs)
    np.testing.assert_array_equal(frame["target"], frame["iou"])


def test_positive_whose_prediction_misses_stays_positive():
    grid = PointGrid((64, 64), STRIDES)
    outputs = HeadOutputs(torch.zeros(1, len(grid), 1), torch.zeros(1, len(grid), 4), grid)
    box = [torch.tensor([[8.0, 8.0, 40.0, 40.0]])]
    a = GFL()(grid, box, [torch.tensor([0])])
    assert a.positive.any()
    assert a.label[a.positive].eq(1).all()
    assert a.target(outputs.boxes).eq(0).all()


def test_explanation_ends_with_the_taught_iou():
    grid = PointGrid((128, 160), STRIDES)
    boxes, labels = ref.scene(4, boxes=1, size=(128, 160), smallest=40.0, largest=80.0)
    outputs = ref.head(grid, boxes)
    a = GFL()(grid, boxes, labels)
    target = a.target(outputs.boxes)
    for point in [*a.positive[0].nonzero().flatten().tolist(), 0]:
        told = GFL().explain(grid, point, boxes[0][0], predictions=outputs)
        assert told.label == float(a.label[0, point])
        assert told.rules[-1].name == "taught label"
        assert told.rules[-1].value == pytest.approx(float(target[0, point]), abs=1e-7)
        assert GFL().explain(grid, point, boxes[0][0]).rules[-1].name == "label"
