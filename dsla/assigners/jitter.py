"""Predictions without a model: true boxes, jittered, for methods that assign from what a head says."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..geometry import HeadOutputs, PointGrid, aligned_iou, boxes_to_distances, distances_to_boxes
from .assignment import Assignment
from .base import Assigner


def jittered_predictions(
    grid: PointGrid, boxes: Sequence[Tensor], labels: Sequence[Tensor], amount: float, num_classes: int, seed: int = 0
) -> HeadOutputs:
    """What a half-trained head might say, for methods that assign from predictions, without a model.

    Every point predicts the smallest box that it lies in (outside all: the nearest) with each side moved by a
    step of `amount` × the box's width or height; the box never excludes the point. The score of that
    class is the IoU of the jittered box, damped by the distance from the object's centre; others are 0.01.

    Args:
        grid: the points.
        boxes: [M, 4] of each of B images, pixels.
        labels: [M] of each image.
        amount: 0 for perfect boxes, about 0.1 for good ones.
        num_classes: C.
        seed: of the steps of the first image; image i of the batch is drawn with seed + i, as it would be alone.
    Returns:
        HeadOutputs with logits [B, P, C] and distances [B, P, 4].
    Raises:
        ValueError: a negative amount.
    """
    if not amount >= 0:
        raise ValueError(f"amount of jitter must be 0 or more, got {amount}")
    logits = torch.full((len(boxes), len(grid), num_classes), 0.01, dtype=torch.float32).logit()
    distances = torch.empty((len(boxes), len(grid), 4), dtype=torch.float32)
    for image, (truth, classes) in enumerate(zip(boxes, labels, strict=True)):
        noise = steps(len(grid), seed + image) * amount
        if not len(truth):
            distances[image] = grid.stride[:, None] * noise.exp()
            continue
        outside = (-boxes_to_distances(grid.xy[:, None], truth)).clamp(min=0).amax(-1)  # [P, M] pixels
        area = (truth[:, 2:] - truth[:, :2]).prod(-1)
        which = (outside * 1e6 + area / area.max()).argmin(1)
        box = truth[which]
        side = (box[:, 2:] - box[:, :2]).repeat(1, 2)
        distances[image] = boxes_to_distances(grid.xy, box + noise * side).clamp(min=0)
        off = ((grid.xy - (box[:, :2] + box[:, 2:]) / 2) / side[:, :2]).square().sum(-1)
        quality = aligned_iou(distances_to_boxes(grid.xy, distances[image]), box)
        score = (quality * torch.exp(-2 * off)).clamp(0.01, 0.99)
        logits[image].scatter_(1, classes[which][:, None], score.logit()[:, None])
    return HeadOutputs(logits, distances, grid)


def jittered_assignment(
    assigner: Assigner, grid: PointGrid, boxes: Tensor, labels: Tensor, amount: float, seed: int = 0, **options: Any
) -> tuple[Assignment, HeadOutputs]:
    """An image assigned from `jittered_predictions` of its own boxes.

    Predicted are the classes that the image has, in ascending order: labels may be of any size, and memory grows with
    their number alone.

    Args:
        assigner: who assigns.
        grid: the points.
        boxes: [M, 4] pixels.
        labels: [M] int64, 0 or above.
        amount: of the jitter.
        seed: of the jitter.
        options: of the assigner's call: coupling, image_sizes, …
    Returns:
        The assignment, a batch of one, whose categories are the labels as given; the predictions of C classes.
    """
    classes, places = labels.unique(return_inverse=True)
    predictions = jittered_predictions(grid, [boxes], [places], amount, max(len(classes), 1), seed)
    assignment = assigner(grid, [boxes], [places], predictions, **options)
    named = torch.cat((classes, classes.new_tensor([-1])))  # background, −1, is last
    return replace(assignment, category=named[assignment.category]), predictions


def steps(points: int, seed: int) -> Tensor:
    """[P, 4] steps of mean 0 and deviation 1, near normal ones, each a hash of (seed, point, side).

    A counter hash instead of a generator: a point's steps do not depend on how many points there are, and
    `widgets/jitter.js` draws the same ones. Each is the sum of four numbers of 16 bits, so at most 3.5 deviations.
    """
    point, side = torch.arange(points)[:, None], torch.arange(4)
    key = _mixed(_mixed(torch.tensor((seed ^ 0x9E3779B9) & _WORD)) ^ point)
    first, second = (_mixed(key ^ (2 * side + start)) for start in (1, 17))
    total = (first & 0xFFFF) + (first >> 16) + (second & 0xFFFF) + (second >> 16)
    return (total - 131070).float() * (1 / 37837.227)


_WORD = 2**32 - 1


def _mixed(h: Tensor) -> Tensor:
    """Mixes 32 bits, held in int64: the end of MurmurHash3."""
    h = ((h ^ (h >> 16)) * 0x85EBCA6B) & _WORD
    h = ((h ^ (h >> 13)) * 0xC2B2AE35) & _WORD
    return h ^ (h >> 16)
