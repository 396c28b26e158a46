"""FCOS: hard labels, the assignment that DSLA argues against.

Tian et al., "FCOS: Fully convolutional one-stage object detection", ICCV 2019; centre sampling as in its
journal version and mmdetection's ``FCOSHead``.
"""

from collections.abc import Sequence

from torch import Tensor

from .base import DEFAULT_RANGES
from .dsla import centerness
from .entry import checked_ranges
from .pairs import Pairs
from .pairwise import PairAssigner
from .rules import Case, Rule, check_radius, label_rule, range_rule, region_rules


class FCOS(PairAssigner):
    """Label 1 inside the box (or its centre region) and its level's range; the smallest box wins a point.

    Args:
        regress_ranges: (low, high) of max(l, t, r, b) for each level, pixels, both ends included.
        center_sampling: only points within this many strides of the centre (1.5 in "FCOSv2"), or None.
    Raises:
        ValueError: ranges that are not (low < high), radius ≤ 0.
    """

    name = "FCOS"
    regress_ranges: tuple[tuple[float, float], ...]

    def __init__(
        self, regress_ranges: Sequence[Sequence[float]] = DEFAULT_RANGES, center_sampling: float | None = None
    ) -> None:
        self.regress_ranges = checked_ranges(regress_ranges)
        check_radius(center_sampling)
        self.center_sampling = center_sampling

    def label(self, pairs: Pairs) -> Tensor:
        """1 or 0: the factors exclude all that is excluded."""
        return self.factors(pairs)["label"]

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

    def rules(self, case: Case) -> list[Rule]:
        """Inside, centre sampling, regression range; then the label."""
        pairs = case.pairs
        c, label = (case.values(self.factors)[k] for k in ("centerness", "label"))
        return [
            *region_rules(pairs, self.center_sampling),
            range_rule("regression range", "m", float(pairs.measure), self.regress_ranges[int(pairs.level)]),
            Rule("centerness", f"{c:.4g}, taught to a branch of its own", c),
            label_rule(f"{label:g}", label),
        ]
