"""Rules that several assigners share: the checked options and the first lines of an explanation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import torch

from ..geometry import HeadOutputs, PointGrid
from .explanation import Explanation, Rule

if TYPE_CHECKING:
    from .base import Assigner, Pairs, Truth


def checked_ranges(ranges: Sequence[Sequence[float]], center_sampling: float | None) -> tuple[tuple[float, float], ...]:
    """Regression ranges as tuples; infinity becomes 1e8, which float32 sums survive."""
    checked = tuple((float(lo), min(float(hi), 1e8)) for lo, hi in ranges)
    if not checked or any(not lo < hi or hi <= 0 for lo, hi in checked):
        raise ValueError(f"each regression range must be (low, high) with low < high, got {ranges}")
    if center_sampling is not None and not center_sampling > 0:
        raise ValueError(f"center_sampling is a radius in strides, above 0, or None; got {center_sampling}")
    return checked


def pair_of(grid: PointGrid, point: int, box: Iterable[float]) -> Pairs:
    """One (point, box) as `Pairs` of scalars, computed just as windows are."""
    from .base import Pairs

    if not 0 <= point < len(grid):
        raise ValueError(f"point {point} is not in a grid of {len(grid)} points")
    values = torch.as_tensor(list(box), dtype=torch.float32)
    if values.shape != (4,):
        raise ValueError(f"expected one box x1, y1, x2, y2, got {values.tolist()}")
    x, y = grid.xy[point].cpu()
    x1, y1, x2, y2 = values.unbind()
    return Pairs(x, y, (x1, y1, x2, y2), grid.stride[point].cpu(), grid.level[point].cpu())


def explain_pair(
    assigner: Assigner,
    grid: PointGrid,
    point: int,
    box: Iterable[float],
    rules: Callable[[Pairs], list[Rule]],
) -> Explanation:
    """The frame of an explanation around the rules of one assigner; the last is the label."""
    pairs = pair_of(grid, point, box)
    found = tuple(rules(pairs))
    excluded = any(r.passed is False for r in found)
    x1, y1, x2, y2 = (float(v) for v in pairs.boxes)
    return Explanation(
        assigner=assigner.name,
        point=int(point),
        xy=(float(pairs.x), float(pairs.y)),
        level=int(pairs.level),
        stride=int(pairs.stride),
        box=(x1, y1, x2, y2),
        rules=found,
        label=0.0 if excluded else float(found[-1].value),
    )


def region_rules(pairs: Pairs, center_sampling: float | None) -> list[Rule]:
    """Inside the box; inside the centre region."""
    left, top, right, bottom = (float(d) for d in pairs.distances)
    nearest = min(left, top, right, bottom)
    text = f"l, t, r, b = {left:g}, {top:g}, {right:g}, {bottom:g}; smallest {nearest:g} > 0"
    rules = [Rule("inside the box", text, nearest, bool(pairs.inside()))]
    if center_sampling is not None:
        dx, dy = (float(d) for d in pairs.from_centre)
        reach = center_sampling * float(pairs.stride)
        text = f"|dx| = {dx:g}, |dy| = {dy:g} < {center_sampling:g} strides = {reach:g}, and inside the box"
        rules.append(Rule("centre sampling", text, max(dx, dy), bool(pairs.inside(center_sampling))))
    return rules


def range_text(low: float, high: float) -> str:
    return f"[{low:g}, {'∞' if high >= 1e8 else f'{high:g}'}]"


def one_image(
    assigner: Assigner, grid: PointGrid, pairs: Pairs, predictions: HeadOutputs | None, image: int, category: int
) -> tuple[Truth, HeadOutputs]:
    """The box of an explanation as the only one of its image, and the predictions of that image."""
    from .base import Truth

    if predictions is None:
        raise ValueError(f"{assigner.name} explains from predictions: pass predictions=HeadOutputs")
    if not 0 <= image < len(predictions.logits):
        raise ValueError(f"image {image} is not in predictions of {len(predictions.logits)} images")
    box = torch.stack(pairs.boxes)[None].to(grid.device)
    truth = Truth.of([box], [torch.tensor([category])], grid.device)
    each = predictions.detach()
    logits, distances = each.logits[image, None], each.distances[image, None]
    return truth, HeadOutputs(logits, distances, grid)
