"""FCOS: hard labels, the assignment that DSLA argues against.

Tian et al., "FCOS: Fully convolutional one-stage object detection", ICCV 2019; centre sampling as in its
journal version and mmdetection's ``FCOSHead``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from ..geometry import HeadOutputs, PointGrid
from .base import DEFAULT_RANGES, Assigner, Pairs, Truth
from .dsla import centerness
from .explanation import Explanation, Rule
from .rules import checked_ranges, explain_pair, range_text, region_rules
from .sparse.windows import Windows


class FCOS(Assigner):
    """Label 1 inside the box (or its centre region) and its level's range; the smallest box wins a point.

    Args:
        regress_ranges: (low, high) of max(l, t, r, b) for each level, pixels, both ends included.
        center_sampling: only points within this many strides of the centre (1.5 in "FCOSv2"), or None.
    Raises:
        ValueError: ranges that are not (low < high), radius ≤ 0.
    """

    name = "FCOS"

    def __init__(
        self,
        regress_ranges: Sequence[Sequence[float]] = DEFAULT_RANGES,
        center_sampling: float | None = None,
    ) -> None:
        self.regress_ranges = checked_ranges(regress_ranges, center_sampling)
        self.center_sampling = center_sampling

    def options(self) -> dict[str, Any]:
        return {"regress_ranges": self.regress_ranges, "center_sampling": self.center_sampling}

    def _assign(self, grid: PointGrid, truth: Truth, predictions: HeadOutputs | None) -> Tensor:
        low, high = zip(*self.regress_ranges, strict=True)
        candidates = Windows.of(grid, truth, low, high, self.center_sampling).candidates()
        return candidates.reduce(self.factors(candidates.pairs)["label"])

    def factors(self, pairs: Pairs) -> dict[str, Tensor]:
        """centerness (of the quality branch, not of the label), relaxation 0 or 1, label 0 or 1."""
        inside = pairs.inside(self.center_sampling)
        low, high = pairs.of_level(*zip(*self.regress_ranges, strict=True))
        measure = pairs.measure
        in_range = (measure >= low) & (measure <= high)
        return {
            "centerness": centerness(*pairs.distances),
            "core_zone": inside & False,
            "relaxation": in_range.float(),
            "label": (inside & in_range).float(),
        }

    def explain(self, grid: PointGrid, point: int, box: Iterable[float]) -> Explanation:
        """Inside, centre sampling, regression range; then the label."""

        def rules(pairs: Pairs) -> list[Rule]:
            low, high = self.regress_ranges[int(pairs.level)]
            factor = {k: float(v) for k, v in self.factors(pairs).items()}
            m = float(pairs.measure)
            return [
                *region_rules(pairs, self.center_sampling),
                Rule("regression range", f"m = {m:g} in {range_text(low, high)}", m, low <= m <= high),
                Rule(
                    "centerness",
                    f"{factor['centerness']:.4g}, taught to a branch of its own",
                    factor["centerness"],
                ),
                Rule("label", f"{factor['label']:g}", factor["label"], factor["label"] > 0),
            ]

        return explain_pair(self, grid, point, box, rules)
