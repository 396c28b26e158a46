"""The static label written to be read: float64, every point against every box, one pair after the other."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass
class Options:
    ranges: tuple[tuple[float, float], ...]
    relaxation: float = 0.2
    truncate: bool = True
    core_zone: bool = True
    center_sampling: float | None = None


def points(shapes, strides, offset):
    """[(x, y, stride, level)] in the order of the grid."""
    return [
        ((j + offset) * s, (i + offset) * s, s, level)
        for level, ((h, w), s) in enumerate(zip(shapes, strides, strict=True))
        for i in range(h)
        for j in range(w)
    ]


def is_inside(x, y, box, stride, radius):
    x1, y1, x2, y2 = box
    if radius is not None:
        cx, cy, reach = (x1 + x2) / 2, (y1 + y2) / 2, radius * stride
        x1, y1 = max(x1, cx - reach), max(y1, cy - reach)
        x2, y2 = min(x2, cx + reach), min(y2, cy + reach)
    return x1 < x < x2 and y1 < y < y2


def dsla_label(x, y, stride, level, box, o: Options):
    """y_s = c · h of one point and one box."""
    x1, y1, x2, y2 = box
    if not is_inside(x, y, box, stride, None) or not is_inside(x, y, box, stride, o.center_sampling):
        return 0.0
    left, top, right, bottom = x - x1, y - y1, x2 - x, y2 - y
    c = math.sqrt(min(left, right) / max(left, right, 0.01) * min(top, bottom) / max(top, bottom, 0.01))
    if o.core_zone and abs(x - (x1 + x2) / 2) <= stride / 2 and abs(y - (y1 + y2) / 2) <= stride / 2:
        c = 1.0
    m = max(left, top, right, bottom)
    low, high = o.ranges[level]
    wide_low, wide_high = low, high
    if o.relaxation:
        wide_low, wide_high = low * (1 - o.relaxation), high * (1 + o.relaxation)
        if o.truncate:
            wide_low, wide_high = int(wide_low), int(wide_high)
    if low <= m <= high:
        h = 1.0
    elif wide_low <= m < low:
        h = (m - wide_low) / max(low - wide_low, 0.01)
    elif high < m <= wide_high:
        h = (wide_high - m) / max(wide_high - high, 0.01)
    else:
        h = 0.0
    return c * h


def fcos_label(x, y, stride, level, box, o: Options):
    x1, y1, x2, y2 = box
    low, high = o.ranges[level]
    m = max(x - x1, y - y1, x2 - x, y2 - y)
    inside = is_inside(x, y, box, stride, None) and is_inside(x, y, box, stride, o.center_sampling)
    return float(inside and low <= m <= high)


def assign(shapes, strides, offset, boxes, label_of, options: Options):
    """(label [P], gt [P]) of one image: highest label, then smaller box, then lower index."""
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4).tolist()
    labels, winners = [], []
    for x, y, stride, level in points(shapes, strides, offset):
        best = (0.0, 0.0, 0)
        winner = -1
        for i, box in enumerate(boxes):
            value = label_of(x, y, stride, level, box, options)
            # areas as float32, which is what a tie is decided on
            area = float(np.float32(np.float32(box[2]) - np.float32(box[0])) * np.float32(box[3] - box[1]))
            if value > 0 and (winner < 0 or (value, -area, -i) > best):
                best, winner = (value, -area, -i), i
        labels.append(best[0])
        winners.append(winner)
    return np.array(labels), np.array(winners)
