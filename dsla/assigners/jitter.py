"""Predictions without a model: true boxes, jittered, for methods that assign from what a head says."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..geometry import HeadOutputs, PointGrid, aligned_iou, boxes_to_distances


def jittered_predictions(
    grid: PointGrid, boxes: Sequence[Tensor], labels: Sequence[Tensor], amount: float, num_classes: int, seed: int = 0
) -> HeadOutputs:
    """What a half-trained head might say, for methods that assign from predictions, without a model.

    Every point predicts the smallest box that it lies in (outside all: the nearest) with each side moved by a
    normal step of `amount` × the box's width or height; the box never excludes the point. The score of that
    class is the IoU of the jittered box, damped by the distance from the object's centre; others are 0.01.

    Args:
        boxes, labels: [M, 4] and [M] of each of B images.  amount: 0 for perfect boxes, about 0.1 for good ones.
    Returns:
        HeadOutputs with logits [B, P, C] and distances [B, P, 4].
    """
    if not amount >= 0:
        raise ValueError(f"amount of jitter must be 0 or more, got {amount}")
    generator = torch.Generator().manual_seed(seed)
    count = len(grid)
    logits = torch.full((len(boxes), count, num_classes), 0.01).logit()
    distances = torch.empty(len(boxes), count, 4)
    for image, (truth, classes) in enumerate(zip(boxes, labels, strict=True)):
        noise = torch.randn(count, 4, generator=generator) * amount
        if not len(truth):
            distances[image] = grid.stride[:, None] * noise.exp()
            continue
        outside = (-boxes_to_distances(grid.xy[:, None], truth)).clamp(min=0).amax(-1)  # [P, M] pixels
        area = (truth[:, 2:] - truth[:, :2]).prod(-1)
        which = (outside * 1e6 + area / area.max()).argmin(1)
        box = truth[which]
        side = (box[:, 2:] - box[:, :2]).repeat(1, 2)
        moved = boxes_to_distances(grid.xy, box + noise * side).clamp(min=0)
        distances[image] = moved
        off = ((grid.xy - (box[:, :2] + box[:, 2:]) / 2) / side[:, :2]).square().sum(-1)
        quality = aligned_iou(torch.cat((grid.xy - moved[:, :2], grid.xy + moved[:, 2:]), -1), box)
        score = (quality * torch.exp(-2 * off)).clamp(0.01, 0.99)
        logits[image].scatter_(1, classes[which][:, None], score.logit()[:, None])
    return HeadOutputs(logits, distances, grid)
