"""Max-IoU against torchvision's matcher, the whole table, and cases worked out by hand."""

import pytest
import reference_more as ref
import torch
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from dsla.assigners import MaxIoU
from dsla.assigners.atss import anchors
from dsla.geometry import PointGrid

STRIDES = (8, 16, 32, 64, 128)


@pytest.mark.parametrize("low_quality", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_positives_are_torchvisions(seed, low_quality):
    grid = PointGrid((256, 320), STRIDES, offset=0.5)
    (boxes,), (labels,) = ref.scene(seed, boxes=20, smallest=12.0)
    boxes = (boxes * 4).round() / 4  # quarters of pixels: both codes then round alike
    a = MaxIoU(low_quality=low_quality)(grid, [boxes], [labels])
    iou = box_iou(boxes, anchors(grid, 8.0))
    match = Matcher(0.5, 0.4, allow_low_quality_matches=low_quality)(iou)
    assert torch.equal(a.positive[0], match >= 0)
    assert torch.equal(a.ignored[0], match == Matcher.BETWEEN_THRESHOLDS)
    sure = a.positive[0] & (iou.max(0).values >= 0.5)  # below, torchvision gives a best anchor to any box it overlaps
    assert torch.equal(a.gt_index[0][sure], match[sure])
    assert sure.sum() > 5


@pytest.mark.parametrize(
    "options", [{}, {"positive": 0.6, "negative": 0.3}, {"anchor_scale": 4.0, "low_quality": False}]
)
def test_equals_the_whole_table(options):
    grid = PointGrid((256, 320), STRIDES)
    boxes, labels = ref.scene(7, images=3, boxes=25, smallest=6.0, largest=400.0)
    boxes = [(b * 4).round() / 4 for b in boxes]
    a = MaxIoU(**options)(grid, boxes, labels)
    for i in range(3):
        gt, ignored = ref.max_iou(grid, boxes[i], labels[i], **options)
        # equal IoUs of one box at several anchors must be found equal: quarters are exact in both precisions
        assert torch.equal(a.gt_index[i], gt)
        assert torch.equal(a.ignored[i], ignored)


def test_by_hand():
    """Stride 8, anchors of side 64 at multiples of 8, box of side 64 centred at (64, 64).

    Shifted by one cell: 56 · 64 / (2 · 4096 − 3584) = 7/9. By two: 0.6; three: 5/11 = 0.4545, ignored; four: 1/3.
    """
    grid = PointGrid((128, 128), (8,))
    a = MaxIoU()(grid, [torch.tensor([[32.0, 32.0, 96.0, 96.0]])], [torch.tensor([1])])
    row = (grid.row == 8).nonzero().flatten()
    assert a.positive[0, row].nonzero().flatten().tolist() == [6, 7, 8, 9, 10]
    assert a.ignored[0, row].nonzero().flatten().tolist() == [5, 11]
    assert float(a.extras["anchor_iou"][0, row[7]]) == pytest.approx(7 / 9)
    assert a.label.max() == 1


def test_low_quality_takes_all_equally_good_anchors():
    """A 4 × 4 box lies wholly in every anchor of side 64 whose centre is within 30 px: 7 × 7 or 8 × 8 of them."""
    grid = PointGrid((128, 128), (8,))
    box = [torch.tensor([[62.0, 62.0, 66.0, 66.0]])]
    assert MaxIoU()(grid, box, [torch.tensor([0])]).positive.sum() == 49
    assert MaxIoU(low_quality=False)(grid, box, [torch.tensor([0])]).positive.sum() == 0


def test_explanation_agrees():
    grid = PointGrid((128, 160), STRIDES)
    for box in ([30.0, 20.0, 110.0, 80.0], [62.0, 62.0, 66.0, 66.0]):
        a = MaxIoU()(grid, [torch.tensor([box])], [torch.tensor([0])])
        for point in [*a.positive[0].nonzero().flatten().tolist(), *range(0, len(grid), 9)]:
            assert MaxIoU().explain(grid, point, box).admitted == bool(a.positive[0, point])
    assert "0.4 and 0.5" in MaxIoU().explain(grid, 0, box)["IoU"].text


@pytest.mark.parametrize("bad", [{"negative": 0.0}, {"negative": 0.6}, {"positive": 1.5}])
def test_options_are_checked(bad):
    with pytest.raises(ValueError, match="thresholds must be"):
        MaxIoU(**bad)
