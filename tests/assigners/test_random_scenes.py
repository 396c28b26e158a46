"""Random scenes through all assigners, losses and suppression, against slow float64 references.

Equal everywhere but where float64 itself would decide otherwise after a step of a float32's rounding: where a threshold
or a tie lies that close. Those places are counted and few.
"""

from __future__ import annotations

import os
from collections import Counter

import numpy as np
import pytest
import reference_more as ref
import torch

from dsla.assigners import ATSS, DSLA, FCOS, GFL, FoveaBox, MaxIoU, SimOTA, TaskAligned
from dsla.geometry import PointGrid
from dsla.losses import focal_loss, giou_loss, iou_loss, quality_focal_loss
from dsla.models import Postprocess

SIZE, STRIDES, CLASSES, BATCH = (96, 128), (8, 16, 32), 4, 8
RANGES = ((0.0, 32.0), (32.0, 64.0), (64.0, 1e8))
SCALES = ((1.0, 32.0), (16.0, 64.0), (32.0, 256.0))
STEP = 1e-4  # pixels; some ulps of a float32 coordinate of this size
TRIES = 60  # of such steps, before a difference counts as one
ROUNDED = 2e-4  # share of positive points at which such a step may decide


def label_table(grid, boxes, relaxation, core_zone, radius):
    """Static labels [P, M] of DSLA; without relaxation and core zone the range is hard. float64."""
    xy, stride = grid.xy.double()[:, None], grid.stride.double()[:, None]
    left_top, right_bottom = xy - boxes[:, :2], boxes[:, 2:] - xy
    sides = torch.cat((left_top, right_bottom), -1)
    inside = sides.amin(-1) > 0
    away = (xy - (boxes[:, :2] + boxes[:, 2:]) / 2).abs()
    if radius is not None:
        inside &= (away < radius * stride[..., None]).all(-1)
    share = torch.minimum(left_top, right_bottom) / torch.maximum(left_top, right_bottom).clamp(min=0.01)
    label = share.prod(-1).clamp(min=0).sqrt()
    if core_zone:
        label = torch.where((away <= stride[..., None] / 2).all(-1), 1.0, label)
    low, high = (torch.tensor(RANGES, dtype=torch.float64)[grid.level, i][:, None] for i in (0, 1))
    wide_low, wide_high = (low * (1 - relaxation)).trunc(), (high * (1 + relaxation)).trunc()
    reach = sides.amax(-1)
    below = (reach - wide_low) / (low - wide_low).clamp(min=0.01)
    above = (wide_high - reach) / (wide_high - high).clamp(min=0.01)
    ramp = torch.where(reach < low, below, torch.where(reach > high, above, 1.0)).clamp(min=0)
    return torch.where(inside, label * ramp, 0.0)


def static(relaxation=0.2, core_zone=True, radius=None, hard=False):
    def reference(grid, boxes, labels, predictions):
        table = label_table(grid, boxes, relaxation, core_zone, radius)
        table = (table > 0).double() if hard else table
        gt = first_best(table, boxes)
        return gt, table.gather(1, gt.clamp(min=0)[:, None])[:, 0] * (gt >= 0) if len(boxes) else torch.zeros(len(gt))

    return reference


def first_best(table, boxes):
    if not len(boxes):
        return torch.full((len(table),), -1)
    return ref.first_best(table.masked_fill(table <= 0, -ref.INF), boxes)


def alone(function, **options):
    """A reference that gives gt only, or gt and something that is no label."""

    def reference(grid, boxes, labels, predictions):
        result = function(grid, boxes, labels, **options)
        return (result[0] if isinstance(result, tuple) else result), None

    return reference


def with_predictions(function, label=False, **options):
    def reference(grid, boxes, labels, predictions):
        gt, other = function(grid, boxes, labels, *predictions, **options)
        return gt, other if label else None

    return reference


METHODS = {
    "DSLA": (DSLA(RANGES), static()),
    "DSLA, hard ranges": (DSLA(RANGES, relaxation=None, core_zone=False), static(0.0, False)),
    "DSLA, centre sampling": (DSLA(RANGES, center_sampling=1.5), static(radius=1.5)),
    "FCOS": (FCOS(RANGES), static(0.0, False, hard=True)),
    "FCOS, centre sampling": (FCOS(RANGES, center_sampling=1.5), static(0.0, False, 1.5, hard=True)),
    "ATSS": (ATSS(), alone(ref.atss)),
    "GFL": (GFL(), alone(ref.atss)),
    "max-IoU": (MaxIoU(), alone(ref.max_iou)),
    "FoveaBox": (FoveaBox(SCALES), lambda g, b, la, p: ref.fovea(g, b, la, SCALES)),
    "FoveaBox, smooth": (FoveaBox(SCALES, smooth=True), lambda g, b, la, p: ref.fovea(g, b, la, SCALES, smooth=True)),
    "TAL": (TaskAligned(), with_predictions(ref.task_aligned, label=True)),
    "SimOTA": (SimOTA(), with_predictions(ref.simota)),
}


def scenes(seed):
    """A batch: boxes of some images, also none, also outside, half of them of whole pixels; classes; predictions."""
    g = torch.Generator().manual_seed(seed)
    grid = PointGrid(SIZE, STRIDES, 0.5 * (seed % 2))
    count = int(torch.randint(0, 13, (1,), generator=g))
    boxes, labels = ref.scene(seed, BATCH, count, SIZE, CLASSES, 3.0, 130.0)
    if seed % 4 < 2:
        boxes = [torch.cat((b[:, :2].round(), b[:, 2:].round() + 2), 1) for b in boxes]
    boxes[0], labels[0] = boxes[0][:0], labels[0][:0]
    return grid, boxes, labels, ref.head(grid, boxes, CLASSES, seed)


def step(values, g, size):
    return values + size * (2 * torch.rand(values.shape, generator=g, dtype=torch.float64) - 1)


def compare(seed, counts):
    grid, boxes, labels, predictions = scenes(seed)
    scores, predicted = predictions.logits.double().sigmoid(), predictions.boxes.double()
    for name, (assigner, reference) in METHODS.items():
        a = assigner(grid, boxes, labels, predictions=predictions if assigner.needs_predictions else None)
        counts[name, "positive"] += int(a.positive.sum())
        for i in range(BATCH):
            gt, label = reference(grid, boxes[i].double(), labels[i], (scores[i], predicted[i]))
            wrong = differs(a, i, gt, label)
            g = torch.Generator().manual_seed(seed)
            tries = 0
            while wrong.any() and tries < TRIES:  # does a step of rounding bring the reference to the same answer?
                moved = step(boxes[i].double(), g, STEP), labels[i]
                near = step(scores[i], g, 1e-6).clamp(1e-9, 1), step(predicted[i], g, STEP)
                resolved = wrong & ~differs(a, i, *reference(grid, *moved, near))
                counts[name, "rounded"] += int(resolved.sum())
                wrong, tries = wrong & ~resolved, tries + 1
            points = wrong.nonzero().flatten().tolist()
            assert not points, f"{name}, seed {seed}, image {i}, points {points[:5]}"


def differs(a, i, gt, label):
    """[P] where the assignment of image i is another one, or its label is off by more than its rounding."""
    wrong = a.gt_index[i] != gt
    return wrong if label is None else wrong | ((a.label[i] - label).abs() > 1e-4 * (gt >= 0) + 1e-12)


def check_losses(seed):
    """By the formulas, elementwise, in NumPy's float64."""
    rng = np.random.default_rng(seed)
    logits, targets = rng.normal(0, 8, 64), rng.random(64) * (rng.random(64) < 0.7)
    p = 1 / (1 + np.exp(-logits))
    entropy = np.logaddexp(0, logits) - targets * logits
    x, y = (torch.tensor(v, dtype=torch.float32) for v in (logits, targets))
    np.testing.assert_allclose(quality_focal_loss(x, y), (targets - p) ** 2 * entropy, rtol=2e-4, atol=1e-6)
    hard = np.round(targets)
    weight = np.where(hard == 1, 0.25 * (1 - p) ** 2, 0.75 * p**2)
    wanted = weight * (np.logaddexp(0, logits) - hard * logits)
    np.testing.assert_allclose(focal_loss(x, torch.tensor(hard).float()), wanted, rtol=2e-4, atol=1e-6)
    corner, extent = rng.uniform(-20, 100, (2, 64, 2)), rng.uniform(0.5, 120, (2, 64, 2))
    a, b = (np.concatenate((c, c + e), 1).astype(np.float32).astype(float) for c, e in zip(corner, extent, strict=True))
    shared = np.clip(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0, None).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - shared
    hull = (np.maximum(a[:, 2:], b[:, 2:]) - np.minimum(a[:, :2], b[:, :2])).prod(1)
    iou, boxes = shared / union, (torch.tensor(a).float(), torch.tensor(b).float())
    for mode, value in {"linear": 1 - iou, "square": 1 - iou**2}.items():
        np.testing.assert_allclose(iou_loss(*boxes, mode=mode), value, atol=1e-5)
    np.testing.assert_allclose(iou_loss(*boxes), -np.log(np.maximum(iou, 1e-6)), rtol=2e-3, atol=1e-5)
    np.testing.assert_allclose(giou_loss(*boxes), 1 - (iou - (hull - union) / hull), atol=1e-5)


def check_suppression(seed, counts):
    """One box after the other, best first: kept unless it overlaps one of its class that is kept."""
    g = torch.Generator().manual_seed(seed)
    centre, side = torch.rand(60, 2, generator=g) * 90 - 10, 4 + 30 * torch.rand(60, 2, generator=g)
    boxes = torch.cat((centre - side / 2, centre + side / 2), 1)
    boxes[30:] = boxes[:30] + 2 * torch.randn(30, 4, generator=g)
    kind = (torch.float32, torch.float16, torch.bfloat16)[seed % 3]
    candidates = {"boxes": boxes.to(kind), "scores": torch.rand(60, generator=g).to(kind)}
    candidates["labels"] = torch.randint(0, CLASSES, (60,), generator=g)
    kept = (
        Postprocess(nms_iou=0.5, max_detections=None).suppress({**candidates, "row": torch.arange(60)})["row"].tolist()
    )
    order = candidates["scores"].double().argsort(descending=True, stable=True).tolist()
    iou = ref.iou_table(candidates["boxes"].double(), candidates["boxes"].double()).tolist()
    classes = candidates["labels"].tolist()
    wanted = {}
    for threshold in (0.5, 0.5 - 1e-7, 0.5 + 1e-7):
        rows = wanted.setdefault(threshold, [])
        for row in order:
            if all(iou[row][other] <= threshold or classes[row] != classes[other] for other in rows):
                rows.append(row)
    counts["NMS", "positive"] += len(kept)
    if kept != wanted[0.5]:
        counts["NMS", "rounded"] += 1
        assert kept in wanted.values(), f"NMS, seed {seed}"


def check(batches):
    counts = Counter()
    for seed in range(batches):
        compare(seed, counts)
        for part in range(BATCH):
            check_losses(BATCH * seed + part)
            check_suppression(BATCH * seed + part, counts)
    for name in [*METHODS, "NMS"]:
        print(f"{name}: {counts[name, 'positive']} positive, {counts[name, 'rounded']} decided by rounding")
        assert counts[name, "positive"] > 5 * batches, name
        assert counts[name, "rounded"] <= ROUNDED * counts[name, "positive"] + 2, name


@pytest.mark.slow
@pytest.mark.robustness("values: 200 random scenes through all assigners, losses and NMS equal float64 references")
def test_random_scenes():
    check(200 // BATCH)


@pytest.mark.slow
@pytest.mark.robustness("values: thousands do, but where a threshold or tie lies within rounding (counted)")
def test_thousands_of_random_scenes():
    """2,000, some minutes; DSLA_SCENES=10000 tries more."""
    check(int(os.environ.get("DSLA_SCENES", "2000")) // BATCH)
