"""One coupling: what an assignment of a detector says is taught is what its loss teaches, for every recipe."""

import pytest
import torch

import dsla
from dsla.losses import focal_loss
from dsla.models.criteria import DSLACriterion, FCOSCriterion
from dsla.models.detector import Raw

BOXES = [torch.tensor([[20.0, 24, 90, 100], [60.0, 10, 160, 120]]), torch.tensor([[5.0, 5, 150, 120]])]
LABELS = [torch.tensor([0, 2]), torch.tensor([1])]


def assigned(name):
    if dsla.recipe(name).backbone.startswith("efficientnet"):
        pytest.importorskip("efficientnet_lite_pytorch", reason='needs pip install "dsla[efficientnet]"')
    with torch.device("meta"):  # weights play no part
        model = dsla.build(name, 3)
    grid = dsla.PointGrid((128, 160), model.recipe.strides, model.recipe.offset)
    outputs = dsla.assigners.jittered_predictions(grid, BOXES, LABELS, 0.2, 3)
    quality = torch.zeros(2, len(grid)) if model.recipe.quality else None
    outputs = dsla.HeadOutputs(outputs.logits, outputs.distances, grid, quality)
    targets = [{"boxes": b, "labels": c} for b, c in zip(BOXES, LABELS, strict=True)]
    return model, outputs, model.assign(Raw(outputs, [(128, 160)] * 2, targets))


def of_classes(target, a):
    """[B, P] at the category of each point, 0 at the other classes: [B, P, 3]."""
    return target[..., None] * (a.category[..., None] == torch.arange(3))


@pytest.mark.parametrize("name", dsla.RECIPES)
def test_the_loss_teaches_target(name):
    model, outputs, a = assigned(name)
    target = a.target(outputs.boxes)
    assert (target > 0).sum() >= 5
    frame = a.to_frame(outputs)
    torch.testing.assert_close(torch.tensor(frame["target"].to_numpy()), target[a.positive])
    if isinstance(model.criterion, FCOSCriterion):
        assert target[a.positive].eq(1).all()
        loss = focal_loss(outputs.logits, of_classes(target, a))[~a.ignored].sum() / target.sum()
        assert float(model.criterion(outputs, a)["loss_cls"]) == pytest.approx(float(loss), rel=1e-5)
        return
    assert isinstance(model.criterion, DSLACriterion)
    logits = of_classes(target, a).logit().clamp(-40, 40)
    perfect = dsla.HeadOutputs(logits, outputs.distances, outputs.grid, outputs.quality)
    assert float(model.criterion(perfect, a)["loss_cls"]) == pytest.approx(0, abs=1e-9)
    assert float(model.criterion(outputs, a)["loss_cls"]) > 1e-3


def test_of_one_method_with_three_couplings():
    """The same static labels; what is taught is label · IoU, the label, or the IoU."""
    _, outputs, on = assigned("scenes-dsla")
    iou = on.iou(outputs.boxes)
    for name, wanted in (("static", on.label), ("iou-only", iou)):
        _, _, other = assigned(f"scenes-dsla-{name}")
        assert torch.equal(other.label, on.label)
        assert torch.equal(other.target(outputs.boxes), wanted)
    assert torch.equal(on.target(outputs.boxes), on.label * iou)
