"""The peer of the benchmarks: assignment of every point against every box, in whole-tensor float32 operations.

As released detectors do it: all [P, M] quantities at once, one image after the other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dsla import PointGrid
from dsla.assigners import DSLA, FCOS


def assign(assigner: DSLA | FCOS, grid: PointGrid, boxes: list[Tensor], labels: list[Tensor]) -> list[Tensor]:
    """label, gt_index, category, each [B, P]."""
    found = [_image(assigner, grid, b, c) for b, c in zip(boxes, labels, strict=True)]
    return [torch.stack(column) for column in zip(*found, strict=True)]


def _image(assigner: DSLA | FCOS, grid: PointGrid, boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x, y = (v[:, None] for v in grid.xy.unbind(-1))
    x1, y1, x2, y2 = (v[None] for v in boxes.unbind(-1))
    left, top, right, bottom = x - x1, y - y1, x2 - x, y2 - y
    distances = torch.stack((left, top, right, bottom), -1)  # [P, M, 4]
    inside = distances.amin(-1) > 0
    m = distances.amax(-1)
    cx, cy, stride = (x1 + x2) / 2, (y1 + y2) / 2, grid.stride[:, None]
    if assigner.center_sampling is not None:
        reach = assigner.center_sampling * stride
        inside &= (x > cx - reach) & (x < cx + reach) & (y > cy - reach) & (y < cy + reach)
    low, high = _of_level(assigner.regress_ranges, grid)
    in_range = (m >= low) & (m <= high)
    area = (x2 - x1) * (y2 - y1)
    if isinstance(assigner, FCOS):
        smallest, gt = area.expand_as(m).masked_fill(~(inside & in_range), float("inf")).min(1)
        label = smallest.isfinite().float()
    else:
        horizontal, vertical = distances[..., 0::2], distances[..., 1::2]
        across = horizontal.amin(-1).clamp(min=0) / horizontal.amax(-1).clamp(min=0.01)
        along = vertical.amin(-1).clamp(min=0) / vertical.amax(-1).clamp(min=0.01)
        score = (across * along).sqrt()
        if assigner.core_zone:
            score = score.masked_fill(((x - cx).abs() <= stride / 2) & ((y - cy).abs() <= stride / 2), 1.0)
        wide_low, wide_high = _of_level(assigner.relaxed_ranges, grid)
        rising = (m - wide_low) / (low - wide_low).clamp(min=0.01)
        falling = (wide_high - m) / (wide_high - high).clamp(min=0.01)
        h = torch.minimum(rising, falling).clamp(0, 1).masked_fill(in_range, 1.0)
        score = torch.where(inside, score * h, torch.zeros_like(score))
        label = score.amax(1)
        # of the boxes that share the highest label the smallest wins
        gt = area.expand_as(m).masked_fill(score < label[:, None], float("inf")).argmin(1)
    positive = label > 0
    return label, gt.where(positive, -1), labels[gt].where(positive, -1)


def _of_level(ranges: tuple[tuple[float, float], ...], grid: PointGrid) -> list[Tensor]:
    """The lower and the upper ends of the ranges at each point, [P, 1] both."""
    return [torch.tensor(ends, device=grid.device)[grid.level, None] for ends in zip(*ranges, strict=True)]
