"""FoveaBox against recorded numbers, the painted maps, and cases worked out by hand."""

import numpy as np
import pytest
import reference_more as ref
import torch

from dsla.assigners import DSLA, FoveaBox
from dsla.geometry import PointGrid, boxes_to_distances

STRIDES = (8, 16, 32, 64, 128)


def test_recorded_targets(recorded):
    z = recorded("fovea")
    counts, classes = z["num_gts"].tolist(), int(z["num_classes"])
    boxes = torch.tensor(z["gt_bboxes"]).split(counts)
    labels = torch.tensor(z["gt_labels"]).split(counts)
    for o in range(int(z["num_options"])):
        grid = PointGrid.from_shapes(z[f"o{o}_sizes"], z[f"o{o}_strides"], offset=0.5)
        a = FoveaBox(z[f"o{o}_scale_ranges"], float(z[f"o{o}_sigma"]))(grid, boxes, labels)
        keep = (z[f"o{o}_flags"] & (8 | 32)) == 0
        category = torch.cat([c.flatten() for c in grid.split(a.category)]).numpy()
        np.testing.assert_array_equal(np.where(category < 0, classes, category)[keep], z[f"o{o}_labels"][keep])
        edge = torch.tensor(z[f"o{o}_base_edge"], dtype=torch.float32)[grid.level, None]
        target = (boxes_to_distances(grid.xy, a.matched_boxes) / edge).clamp(1 / 16, 16).log()
        target = torch.cat([t.flatten(0, 2) for t in grid.split(target)]).numpy()
        rows = z[f"o{o}_pos_index"]
        np.testing.assert_allclose(target[rows][keep[rows]], z[f"o{o}_reg"][keep[rows]], atol=1e-5)
        assert keep[rows].sum() > 50


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize(("sigma", "offset"), [(0.4, 0.5), (0.7, 0.0)])
def test_equals_painted_maps(smooth, sigma, offset):
    grid = PointGrid((256, 320), STRIDES, offset)
    boxes, labels = ref.scene(5, images=3, boxes=25)
    method = FoveaBox(sigma=sigma, smooth=smooth)
    a = method(grid, boxes, labels)
    for i in range(3):
        gt, label = ref.fovea(grid, boxes[i], labels[i], method.scale_ranges, sigma, smooth)
        assert torch.equal(a.gt_index[i], gt)
        torch.testing.assert_close(a.label[i].double(), label, atol=1e-5, rtol=0)
    assert a.positive.sum() > 40


def test_by_hand():
    """Box 40 × 40 at (20, 20): scale 40 acts at strides 8 and 16. The fovea is 32…48.

    At stride 8 it is 4…6 cells, points at index + ½: cells 4 and 5. At stride 16, 2…3: cell 2.
    """
    grid = PointGrid((128, 128), STRIDES, offset=0.5)
    a = FoveaBox()(grid, [torch.tensor([[20.0, 20.0, 60.0, 60.0]])], [torch.tensor([2])])
    got = [(int(grid.level[p]), int(grid.row[p]), int(grid.column[p])) for p in a.positive[0].nonzero().flatten()]
    assert got == [(0, 4, 4), (0, 4, 5), (0, 5, 4), (0, 5, 5), (1, 2, 2)]
    assert a.label[a.positive].unique().tolist() == [1.0]


def test_the_smaller_box_wins_and_ranges_overlap():
    grid = PointGrid((128, 128), STRIDES, offset=0.5)
    boxes = [torch.tensor([[8.0, 8.0, 72.0, 72.0], [26.0, 26.0, 54.0, 54.0]])]
    a = FoveaBox()(grid, boxes, [torch.tensor([0, 1])])
    assert a.gt_index[0, 4 * 16 + 4] == 1  # both foveas hold (36, 36)
    assert grid.level[a.gt_index[0] == 0].unique().tolist() == [0, 1, 2]  # scale 64: in three ranges


def test_smooth_labels_are_dslas():
    """Centerness and core zone of DSLA, in the fovea; the relaxation is that of the box's size.

    Box 36 × 36: in the range of strides 8 and 16. At the size 30 it lies outside [32, 128] but in the relaxed
    range from 25.6: h = (30 − 25.6) / 6.4 = 0.6875.
    """
    grid = PointGrid((128, 128), STRIDES, offset=0.5)
    box = torch.tensor([[20.0, 20.0, 56.0, 56.0]])
    a = FoveaBox(smooth=True)(grid, [box], [torch.tensor([0])])
    dsla = DSLA(regress_ranges=[(0, 1e8)] * 5, relaxation=None)(grid, [box], [torch.tensor([0])])
    assert torch.equal(a.label[a.positive], dsla.label[a.positive])
    small = FoveaBox(smooth=True)(grid, [torch.tensor([[25.0, 25.0, 55.0, 55.0]])], [torch.tensor([0])])
    at = (grid.level == 1) & (grid.row == 2) & (grid.column == 2)  # (40, 40), the centre
    assert float(small.label[0, at]) == pytest.approx(0.6875)
    assert FoveaBox(smooth=True).name == "FoveaBox + DSLA"
    assert not FoveaBox()(grid, [torch.tensor([[25.0, 25.0, 55.0, 55.0]])], [torch.tensor([0])]).positive[0, at]


@pytest.mark.parametrize("smooth", [False, True])
def test_explanation_agrees(smooth):
    grid, method = PointGrid((128, 160), STRIDES, 0.5), FoveaBox(smooth=smooth)
    box = torch.tensor([30.0, 20.0, 110.0, 80.0])
    a = method(grid, [box[None]], [torch.tensor([0])])
    for point in [*a.positive[0].nonzero().flatten().tolist(), *range(0, len(grid), 7)]:
        explanation = method.explain(grid, point, box)
        assert explanation.label == pytest.approx(float(a.label[0, point]), abs=1e-6), str(explanation)
    assert a.positive.sum() == (17 if smooth else 5)  # relaxed, 64 reaches up to 76.8
    assert method.explain(grid, len(grid) - 1, box)["scale range"].passed is False


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"scale_ranges": [(4, 4)]}, "range must be"),
        ({"sigma": 0.0}, "sigma must be in"),
        ({"relaxation": 1.0}, "relaxation in"),
    ],
)
def test_options_are_checked(bad, message):
    with pytest.raises(ValueError, match=message):
        FoveaBox(**bad)
    with pytest.raises(ValueError, match="FoveaBox has ranges for 5 levels but there are 1 strides"):
        FoveaBox()(PointGrid((64, 64), (8,)), [torch.zeros(0, 4)], [torch.zeros(0)])
