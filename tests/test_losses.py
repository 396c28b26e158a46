"""Losses: worked values, the release's numbers, and finiteness everywhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import generalized_box_iou, sigmoid_focal_loss

from dsla.losses import dynamic_target, focal_loss, giou_loss, iou_loss, quality_focal_loss

RELEASE = json.loads((Path(__file__).parent / "assigners" / "release_numbers.json").read_text())
WORKED = [
    ((0.0, 0.0), 0.17329),
    ((0.0, 1.0), 0.17329),
    ((2.0, 0.5), 0.16341),
    ((50.0, 0.73), 0.98415),
    ((-200.0, 1.0), 200.0),
]


@pytest.mark.parametrize(("pair", "value"), WORKED)
def test_quality_focal_loss_worked_by_hand(pair, value):
    logit, target = (torch.tensor(v) for v in pair)
    assert float(quality_focal_loss(logit, target)) == pytest.approx(value, rel=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert float(quality_focal_loss(logit.bfloat16(), target)) == pytest.approx(value, rel=0.01)
        assert float(quality_focal_loss(logit.half(), target.half())) == pytest.approx(value, rel=0.01)


def test_quality_focal_loss_is_0_where_score_equals_target_and_falls_towards_it():
    target = torch.tensor([0.1, 0.5, 0.9])
    logit = torch.logit(target).requires_grad_()
    loss = quality_focal_loss(logit, target)
    assert loss.detach().numpy() == pytest.approx(0, abs=1e-12)
    wide = torch.linspace(-6, 6, 201)
    for t in target:
        values = quality_focal_loss(wide, t.expand(201))
        best = int(values.argmin())
        assert float(wide[best].sigmoid()) == pytest.approx(float(t), abs=0.02)
        assert (values[: best + 1].diff() <= 0).all()
        assert (values[best:].diff() >= 0).all()


def test_quality_focal_loss_refuses_exponents_with_an_infinite_gradient():
    with pytest.raises(ValueError, match="beta"):
        quality_focal_loss(torch.zeros(1), torch.zeros(1), beta=0.5)
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    assert quality_focal_loss(torch.ones(1), torch.ones(1) / 2, beta=0) == bce(torch.ones(1), torch.ones(1) / 2)


def test_focal_loss_equals_torchvision():
    x, y = torch.randn(50, 7) * 5, (torch.rand(50, 7) < 0.2).float()
    torch.testing.assert_close(focal_loss(x, y), sigmoid_focal_loss(x, y))


def test_hard_targets_make_the_quality_focal_loss_a_focal_loss():
    x, y = torch.randn(50), (torch.rand(50) < 0.5).float()
    torch.testing.assert_close(quality_focal_loss(x, y), 2 * focal_loss(x, y, alpha=0.5))


def test_numbers_of_the_release():
    q, b = RELEASE["qfl"], RELEASE["box"]
    logits = torch.tensor(q["logit"]).requires_grad_()
    targets = torch.zeros_like(logits)
    for i, (label, score) in enumerate(zip(q["label"], q["score"], strict=True)):
        if label < logits.shape[1]:
            targets.data[i, label] = score
    loss = quality_focal_loss(logits, targets).sum(1)
    np.testing.assert_allclose(loss.detach().numpy(), q["beta2"], rtol=1e-5)
    np.testing.assert_allclose(quality_focal_loss(logits, targets, 1.0).sum(1).detach(), q["beta1"], rtol=1e-5)
    loss.sum().backward()
    np.testing.assert_allclose(logits.grad.numpy(), q["grad2"], rtol=1e-4, atol=1e-6)
    pred, target = torch.tensor(b["pred"]), torch.tensor(b["target"])
    for mode in ("log", "linear", "square"):
        np.testing.assert_allclose(iou_loss(pred, target, mode), b[mode], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(giou_loss(pred, target), b["giou_loss"], rtol=1e-5, atol=1e-6)
    assert max(b["iou"]) > 0.5  # the rows hold overlapping boxes, not only disjoint ones
    assert min(b["iou"]) == 0


def test_giou_loss_equals_torchvision_on_proper_boxes():
    corner = torch.rand(60, 2, 2) * 100
    boxes = torch.cat([corner[:, 0], corner[:, 0] + corner[:, 1] + 1], -1)
    a, b = boxes[:30], boxes[30:]
    torch.testing.assert_close(giou_loss(a, b), 1 - generalized_box_iou(a, b).diagonal(), rtol=1e-4, atol=1e-5)


def test_identical_and_disjoint_boxes():
    box, far = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[20.0, 0, 30, 10]])
    assert float(iou_loss(box, box)) == 0
    assert float(giou_loss(box, box)) == 0
    assert float(giou_loss(box, far)) == pytest.approx(1 + 1 / 3)
    assert float(iou_loss(box, far)) == pytest.approx(-np.log(1e-6), rel=1e-5)
    with pytest.raises(ValueError, match="mode"):
        iou_loss(box, box, "cubic")


anything = st.floats(-1e6, 1e6, width=32) | st.sampled_from([0.0, 1e-30, -1e-30, 1e-6])


@settings(max_examples=150)
@given(st.lists(anything, min_size=8, max_size=8))
def test_box_losses_are_finite_with_finite_gradients_for_any_boxes(values):
    for loss in (iou_loss, giou_loss):
        pred = torch.tensor([values[:4]], dtype=torch.float32, requires_grad=True)
        value = loss(pred, torch.tensor([values[4:]], dtype=torch.float32)).sum()
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(pred.grad).all()


@settings(max_examples=150)
@given(st.floats(-1e4, 1e4, width=32), st.floats(0, 1, width=32), st.sampled_from([0.0, 1.0, 2.0, 3.0]))
def test_classification_losses_are_finite_with_finite_gradients(logit, target, power):
    for loss in (lambda x, y: quality_focal_loss(x, y, power), lambda x, y: focal_loss(x, y.round())):
        x = torch.tensor([logit], requires_grad=True)
        value = loss(x, torch.tensor([target])).sum()
        value.backward()
        assert value.item() >= 0
        assert torch.isfinite(value)
        assert torch.isfinite(x.grad).all()


def test_a_side_of_length_0_has_the_gradient_of_the_release_on_every_pytorch():
    """By hand: no intersection, a union that grows by the height of the box, in a hull of 26 × 15."""
    target = torch.tensor([[24.0, 107.0, 50.0, 121.0]])
    box = torch.tensor([[40.0, 107.0, 40.0, 122.0]], requires_grad=True)
    giou_loss(box, target).sum().backward()
    assert box.grad[0, [0, 2]].tolist() == pytest.approx([15 / (26 * 15), -15 / (26 * 15)])
    box.grad = None
    iou_loss(box, target, "linear").sum().backward()
    assert not box.grad.any()


def test_dynamic_target():
    label, iou = torch.tensor([0.5, 1.0]), torch.tensor([0.8, 0.2])
    assert dynamic_target(label, iou).tolist() == pytest.approx([0.4, 0.2])
    assert dynamic_target(label, iou, "off") is label
    assert dynamic_target(label, iou, "iou-only") is iou
    with pytest.raises(ValueError, match="coupling"):
        dynamic_target(label, iou, "sometimes")


def test_all_recorded_numbers_of_the_release(recorded):
    z = recorded("unit_losses")
    logits = torch.tensor(z["qfl_logit"])
    classes = logits.shape[1]
    targets, onehot = torch.zeros_like(logits), torch.zeros_like(logits)
    for i, (label, score) in enumerate(zip(z["qfl_label"], z["qfl_score"], strict=True)):
        if label < classes:
            targets[i, label], onehot[i, label] = float(score), 1.0
    for beta in (2, 1):
        x = logits.clone().requires_grad_()
        loss = quality_focal_loss(x, targets, beta).sum(1)
        np.testing.assert_allclose(loss.detach(), z[f"qfl_beta{beta}_loss"], rtol=1e-5, atol=1e-7)
        loss.sum().backward()
        np.testing.assert_allclose(x.grad, z[f"qfl_beta{beta}_grad"], rtol=1e-4, atol=1e-6)
    x = logits.clone().requires_grad_()
    loss = focal_loss(x, onehot)
    np.testing.assert_allclose(loss.detach(), z["focal_loss"], rtol=1e-5, atol=1e-7)
    loss.sum().backward()
    np.testing.assert_allclose(x.grad, z["focal_grad"], rtol=1e-4, atol=1e-6)
    target = torch.tensor(z["box_target"])
    for mode in ("log", "linear", "square"):
        x = torch.tensor(z["box_pred"]).requires_grad_()
        loss = iou_loss(x, target, mode)
        np.testing.assert_allclose(loss.detach(), z[f"iouloss_{mode}"], rtol=1e-5, atol=1e-6)
        loss.sum().backward()
        smooth = np.isfinite(z[f"iouloss_{mode}_grad"]).all(1)
        smooth[50:80] = False
        np.testing.assert_allclose(x.grad[smooth], z[f"iouloss_{mode}_grad"][smooth], rtol=1e-4, atol=1e-6)
    weight = torch.tensor(z["box_weight"])
    for name, function in (("IoULoss", iou_loss), ("GIoULoss", giou_loss)):
        x = torch.tensor(z["box_pred"]).requires_grad_()
        each = function(x, target)
        np.testing.assert_allclose(each.detach(), z[f"{name}_none"], rtol=1e-5, atol=1e-6)
        loss = (each * weight).sum() / 123.5
        np.testing.assert_allclose(float(loss.detach()), float(z[f"{name}_weighted"]), rtol=1e-5)
        loss.backward()
        grad = z[f"{name}_weighted_grad"]
        smooth = np.isfinite(grad).all(1)
        smooth[50:80] = False
        np.testing.assert_allclose(x.grad[smooth], grad[smooth], rtol=1e-4, atol=1e-6)
