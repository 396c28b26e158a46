"""Criteria: a slow reference in NumPy float64, the release's numbers, and batches without anything to learn."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import dsla
from dsla.assigners import DSLA, FCOS
from dsla.losses import focal_loss
from dsla.models.criteria import DSLACriterion, FCOSCriterion
from dsla.models.transform import Transform

RANGES = ((0.0, 32.0), (32.0, 64.0), (64.0, 1e8))
GRID = dsla.PointGrid((64, 96), (8, 16, 32), 0.5)
BOXES = [torch.tensor([[10.0, 8, 40, 44], [20, 20, 90, 60]]), torch.zeros(0, 4)]
LABELS = [torch.tensor([2, 0]), torch.zeros(0)]


def outputs(seed=0, quality=False, classes=3):
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, len(GRID), classes, generator=g, requires_grad=True)
    distances = (torch.rand(2, len(GRID), 4, generator=g) * 40).requires_grad_()
    branch = torch.randn(2, len(GRID), generator=g, requires_grad=True) if quality else None
    return dsla.HeadOutputs(logits, distances, GRID, branch)


def iou_of(a, b):
    w, h = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    inter = max(w, 0) * max(h, 0)
    return inter / max((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter, 1e-6)


def bce(p, y):
    return -(y * np.log(p) + (1 - y) * np.log1p(-p))


@pytest.mark.parametrize("coupling", ["on", "off", "iou-only"])
def test_dsla_criterion_equals_a_slow_reference(coupling):
    out = outputs()
    a = DSLA(RANGES, truncate=False)(GRID, BOXES, LABELS, coupling=coupling)
    losses = DSLACriterion(coupling, cls_weight=2.0, box_loss="iou")(out, a)
    cls = box = sum_dynamic = sum_static = 0.0
    p = 1 / (1 + np.exp(-out.logits.detach().double().numpy()))
    for i in range(2):
        for n in range(len(GRID)):
            y_s, gt = float(a.label[i, n]), int(a.gt_index[i, n])
            target = np.zeros(3)
            if gt >= 0:
                q = iou_of(out.boxes[i, n].detach().double().tolist(), BOXES[i][gt].tolist())
                y_d = {"on": y_s * q, "off": y_s, "iou-only": q}[coupling]
                target[int(LABELS[i][gt])] = y_d
                sum_dynamic, sum_static = sum_dynamic + y_d, sum_static + y_s
                box += y_s * -np.log(max(q, 1e-6))
            cls += (np.abs(target - p[i, n]) ** 2 * bce(p[i, n], target)).sum()
    assert sum_static > 1  # the scene has something to teach
    assert float(losses["loss_cls"].detach()) == pytest.approx(2 * cls / max(sum_dynamic, 1), rel=1e-5)
    assert float(losses["loss_box"].detach()) == pytest.approx(box / max(sum_static, 1), rel=1e-5)


def test_soft_labels_under_the_focal_loss_are_taught_as_the_assignment_shows_them():
    out, a = outputs(), DSLA(RANGES)(GRID, BOXES, LABELS, coupling="off")
    assert ((a.label > 0) & (a.label < 1)).any()
    targets = torch.zeros_like(out.logits)
    for i, n in a.positive.nonzero().tolist():
        targets[i, n, a.category[i, n]] = a.target(out.boxes.detach())[i, n]
    expected = focal_loss(out.logits, targets).sum() / a.positive.sum()
    loss = FCOSCriterion(quality=None)(out, a)["loss_cls"]
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


@pytest.mark.parametrize("quality", ["centerness", "iou"])
def test_fcos_criterion_equals_a_slow_reference(quality):
    out = outputs(quality=True)
    a = FCOS(RANGES)(GRID, BOXES, LABELS)
    losses = FCOSCriterion(quality=quality, box_loss="iou")(out, a)
    p = 1 / (1 + np.exp(-out.logits.detach().double().numpy()))
    b = 1 / (1 + np.exp(-out.quality.detach().double().numpy()))
    cls = box = branch = weights = count = 0.0
    for i in range(2):
        for n in range(len(GRID)):
            gt, target = int(a.gt_index[i, n]), np.zeros(3)
            if gt >= 0:
                target[int(LABELS[i][gt])] = 1
                x, y = GRID.xy[n].tolist()
                x1, y1, x2, y2 = BOXES[i][gt].tolist()
                across, along = sorted((x - x1, x2 - x)), sorted((y - y1, y2 - y))
                c = np.sqrt(across[0] / across[1] * along[0] / along[1])
                q = iou_of(out.boxes[i, n].detach().double().tolist(), BOXES[i][gt].tolist())
                box, weights, count = box - c * np.log(max(q, 1e-6)), weights + c, count + 1
                branch += bce(b[i, n], c if quality == "centerness" else q)
            weight = np.where(target > 0, 0.25, 0.75)
            cls += (weight * np.abs(target - p[i, n]) ** 2 * bce(p[i, n], target)).sum()
    assert float(losses["loss_cls"].detach()) == pytest.approx(cls / count, rel=1e-5)
    assert float(losses["loss_box"].detach()) == pytest.approx(box / weights, rel=1e-5)
    assert float(losses["loss_quality"].detach()) == pytest.approx(branch / count, rel=1e-5)


@pytest.mark.parametrize("criterion", [DSLACriterion(), FCOSCriterion(), FCOSCriterion(box_weighting="none")])
def test_without_objects_boxes_cost_exactly_0_and_every_gradient_is_finite(criterion):
    out = outputs(quality=True)
    nothing = [torch.zeros(0, 4)] * 2, [torch.zeros(0)] * 2
    between_points = [torch.tensor([[0.5, 0.5, 1.5, 1.5]])] * 2, [torch.tensor([1])] * 2
    for boxes, labels in (nothing, between_points):
        kind = DSLA if isinstance(criterion, DSLACriterion) else FCOS
        losses = criterion(out, kind(RANGES)(GRID, boxes, labels))
        assert float(losses["loss_box"].detach()) == 0
        assert float(losses["loss_cls"].detach()) > 0
        sum(losses.values()).backward()
        for tensor in (out.logits, out.distances):
            assert torch.isfinite(tensor.grad).all()
        assert out.logits.grad.abs().sum() > 0


def test_ignored_points_teach_no_class():
    out = outputs()
    crowd = [torch.tensor([[0.0, 0, 96, 64]]), torch.zeros(0, 4)]
    a = DSLA(RANGES)(GRID, BOXES, LABELS, ignore=crowd)
    DSLACriterion()(out, a)["loss_cls"].backward()
    touched = out.logits.grad.abs().sum(-1) > 0
    assert torch.equal(touched[0], a.positive[0])
    assert touched[1].all()


def test_the_target_of_to_frame_is_what_the_loss_is_taught():
    out = outputs()
    a = DSLA(RANGES)(GRID, BOXES, LABELS)
    frame = a.to_frame(out)
    expected = DSLACriterion()(out, a)["loss_cls"].detach()
    p = out.logits.detach().sigmoid()
    target = torch.zeros_like(p)
    for row in frame.itertuples():
        target[row.image, row.point, row.category] = row.target
    entropy = torch.nn.functional.binary_cross_entropy(p, target, reduction="none")
    again = ((target - p) ** 2 * entropy).sum() / max(frame["target"].sum(), 1)
    assert float(again) == pytest.approx(float(expected), rel=1e-4)


def test_a_quality_criterion_without_a_branch_says_so():
    a = FCOS(RANGES)(GRID, BOXES, LABELS)
    with pytest.raises(ValueError, match="the head has none"):
        FCOSCriterion()(outputs(), a)


def _batch(z, batch):
    counts = z[f"{batch}_num_gts"].tolist()
    boxes = torch.tensor(z[f"{batch}_gt_bboxes"]).reshape(-1, 4).split(counts)
    return boxes, torch.tensor(z[f"{batch}_gt_labels"]).long().split(counts)


def _flat(maps):
    return torch.cat([m.flatten(2).transpose(1, 2) for m in maps], 1)


def _compare_gradients(maps, z, name):
    for i, m in enumerate(maps):
        np.testing.assert_allclose(m.grad.numpy(), z[f"{name}_l{i}"], rtol=1e-4, atol=1e-6)


def test_dsla_losses_and_gradients_equal_the_release(recorded):
    z = recorded("loss")
    levels = range(len(z["strides"]))
    grid = dsla.PointGrid.from_shapes(z["sizes"].tolist(), z["strides"].tolist(), 0.0)
    for k, run in enumerate(json.loads(str(z["runs_json"]))):
        cls = [torch.tensor(z[f"cls_l{i}"]).requires_grad_() for i in levels]
        box = [torch.tensor(z[f"bbox_{run['preds']}_l{i}"]).requires_grad_() for i in levels]
        distances = _flat(box) * grid.stride[:, None] if run["norm_on_bbox"] else _flat(box)
        assigner = DSLA(
            relaxation=run["interval_relaxation_factor"] if run["enable_interval_relaxation"] else None,
            core_zone=bool(run["enable_centerness_core_zone"]),
            center_sampling=run["center_sample_radius"] if run["center_sampling"] else None,
        )
        kind, weight = run["loss_bbox"]["type"], run["loss_bbox"]["loss_weight"]
        coupling = "iou-only" if run["enable_iou_score_only"] else "on" if run["enable_iou_score_coupling"] else "off"
        criterion = DSLACriterion(
            coupling=coupling,
            cls_weight=run["loss_cls"]["loss_weight"],
            beta=run["loss_cls"]["beta"],
            box_loss="giou"
            if kind == "GIoULoss"
            else {"log": "iou", "linear": "iou-linear"}[run["loss_bbox"].get("mode", "log")],
            box_loss_weight=weight,
        )
        a = assigner(grid, *_batch(z, run["batch"]), coupling=coupling)
        losses = criterion(dsla.HeadOutputs(_flat(cls), distances, grid), a)
        for ours, theirs in (("loss_cls", "loss_cls"), ("loss_box", "loss_bbox")):
            assert float(losses[ours].detach()) == pytest.approx(float(z[f"r{k}_{theirs}"]), rel=1e-5, abs=1e-9)
        sum(losses.values()).backward()
        _compare_gradients(cls, z, f"r{k}_gcls")
        _compare_gradients(box, z, f"r{k}_gbbox")


def test_fcos_losses_and_gradients_equal_mmdetection(recorded):
    z = recorded("fcos_loss")
    levels = range(len(z["strides"]))
    grid = dsla.PointGrid.from_shapes(z["sizes"].tolist(), z["strides"].tolist(), 0.5)
    for k, run in enumerate(json.loads(str(z["runs_json"]))):
        stride = z["strides"] if run["norm_on_bbox"] else np.ones(len(z["strides"]))
        cls = [torch.tensor(z[f"cls_l{i}"]).requires_grad_() for i in levels]
        box = [torch.tensor(z[f"bbox_l{i}"] / np.float32(stride[i])).requires_grad_() for i in levels]
        ctr = [torch.tensor(z[f"ctr_l{i}"]).requires_grad_() for i in levels]
        distances = _flat(box) * grid.stride[:, None] if run["norm_on_bbox"] else _flat(box)
        out = dsla.HeadOutputs(_flat(cls), distances, grid, _flat(ctr)[..., 0])
        a = FCOS(center_sampling=1.5 if run["center_sampling"] else None)(grid, *_batch(z, run["batch"]))
        losses = FCOSCriterion(box_loss="giou" if run["loss_bbox"] == "GIoULoss" else "iou")(out, a)
        names = (("loss_cls", "loss_cls"), ("loss_box", "loss_bbox"), ("loss_quality", "loss_centerness"))
        for ours, theirs in names:
            assert float(losses[ours].detach()) == pytest.approx(float(z[f"r{k}_{theirs}"]), rel=1e-5, abs=1e-9)
        sum(losses.values()).backward()
        _compare_gradients(box, z, f"r{k}_gbbox")
        _compare_gradients(ctr, z, f"r{k}_gctr")
        if run["has_gcls"]:
            _compare_gradients(cls, z, f"r{k}_gcls")


def test_a_positive_has_the_share_of_the_box_loss_that_is_asked_for():
    """By its label, or all alike; under hard labels that is the same to the bit."""
    out, soft, hard = outputs(), DSLA(RANGES)(GRID, BOXES, LABELS, coupling="off"), FCOS(RANGES)(GRID, BOXES, LABELS)
    for a in (soft, hard):
        at = a.positive.nonzero().tolist()
        ious = [iou_of(out.boxes[i, n].tolist(), BOXES[i][a.gt_index[i, n]].tolist()) for i, n in at]
        each = [(float(a.label[i, n]), -np.log(max(iou, 1e-6))) for (i, n), iou in zip(at, ious, strict=True)]
        label, none = (FCOSCriterion(None, w)(out, a)["loss_box"].detach() for w in ("label", "none"))
        assert float(label) == pytest.approx(sum(y * b for y, b in each) / sum(y for y, _ in each), rel=1e-5)
        assert float(none) == pytest.approx(sum(b for _, b in each) / len(each), rel=1e-5)
    assert torch.equal(label, none)


@pytest.mark.parametrize(
    ("make", "culprit"),
    [
        (lambda: FCOSCriterion(quality="centernes"), "quality='centernes'"),
        (lambda: FCOSCriterion(box_weighting="centernes"), "box_weighting='centernes'"),
        (lambda: DSLACriterion("of"), "coupling='of'"),
        (lambda: DSLACriterion(box_loss="gio"), "box_loss='gio'"),
        (lambda: Transform(rounding="nearst"), "rounding='nearst'"),
    ],
)
def test_an_option_that_there_is_not_is_refused(make, culprit):
    with pytest.raises(ValueError, match=culprit):
        make()
