"""Static and dynamic label maps: the second is the first times the IoU of the predicted box, drawn as such."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dsla import PointGrid
from dsla.assigners import DSLA, FCOS, jittered_predictions
from dsla.errors import DataError
from dsla.geometry import aligned_iou
from dsla.plots.label_maps import label_maps, label_rows, label_table
from dsla.plots.style import LABELS

BOXES = torch.tensor([[20.0, 16.0, 90.0, 76.0], [60.0, 40.0, 126.0, 92.0]])


def made(assigner, jitter=0.2, images=1):
    grid = PointGrid((96, 128), (8, 16, 32, 64, 128), 0.0)
    boxes, labels = [BOXES] * images, [torch.tensor([1, 0])] * images
    outputs = jittered_predictions(grid, boxes, labels, jitter, 2)
    return assigner(grid, boxes, labels), outputs


def test_the_dynamic_label_is_the_static_one_times_the_iou_of_the_box():
    assignment, outputs = made(DSLA())
    static, dynamic = (row.assignment.label for row in label_rows(assignment, {"dynamic": outputs}))
    assert torch.equal(static, assignment.label)
    assert int(assignment.positive.sum()) > 20
    for p in assignment.positive[0].nonzero().flatten().tolist():
        iou = aligned_iou(outputs.boxes[0, p], BOXES[assignment.gt_index[0, p]])
        torch.testing.assert_close(dynamic[0, p], static[0, p] * iou)
    assert (dynamic[~assignment.positive] == 0).all()


def test_perfect_boxes_leave_the_label_of_points_that_predict_their_own_object():
    assignment, outputs = made(DSLA(), jitter=0.0)
    static, dynamic = (row.assignment.label for row in label_rows(assignment, {"dynamic": outputs}))
    exact = torch.isclose(assignment.iou(outputs.boxes), torch.ones(()))
    assert exact.any()
    torch.testing.assert_close(dynamic[exact], static[exact])


def test_an_assigner_without_coupling_keeps_its_labels():
    assignment, outputs = made(FCOS())
    static, dynamic = label_rows(assignment, {"dynamic": outputs})
    assert torch.equal(static.assignment.label, dynamic.assignment.label)


def test_the_picture_shows_these_labels_and_the_table_sums_them():
    assignment, outputs = made(DSLA())
    rows = label_rows(assignment, {"dynamic": outputs})
    figure = label_maps(np.zeros((96, 128, 3), dtype=np.uint8), rows)
    panels = [ax for ax in figure.axes if ax.get_title(loc="left").startswith("P3")]
    assert len(panels) == 2
    for ax, row in zip(panels, rows, strict=True):
        label = assignment.grid.split(row.assignment.label)[0][0].numpy()
        pixels = ax.images[1].get_array()
        where = pixels[..., 3] > 0
        assert where.sum() > 5
        np.testing.assert_allclose(pixels[where][:, :3], LABELS(label[where], bytes=True)[:, :3], atol=1)
    table = label_table(rows).groupby("row")["sum"].sum()
    for row in rows:
        assert table[row.title] == pytest.approx(float(row.assignment.label.sum()), rel=1e-5)


def test_a_batch_is_refused():
    assignment, outputs = made(DSLA(), images=2)
    with pytest.raises(DataError, match="one image"):
        label_rows(assignment, {"dynamic": outputs})
