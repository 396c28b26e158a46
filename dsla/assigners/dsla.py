"""DSLA: smooth labels from centerness with a core zone and interval relaxation.

The *dynamic* part, the IoU of the box that the model predicts right now, multiplies this static label
in the loss (`dsla.losses.dynamic_target`), since it changes with every step.

Su et al., "DSLA: Dynamic smooth label assignment for efficient anchor-free object detection", Pattern
Recognition 131 (2022), arXiv 2208.00817; where the paper and the authors' release differ, the release.
How labels become an assignment is defined in `dsla.assigners.dense`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import DEFAULT_RANGES
from .entry import checked_ranges
from .pairs import Pairs
from .pairwise import PairAssigner
from .rules import Case, Rule, check_radius, label_rule, range_text, region_rules


def centerness(left: Tensor, top: Tensor, right: Tensor, bottom: Tensor) -> Tensor:
    """sqrt(min(l, r) / max(l, r) · min(t, b) / max(t, b)), in [0, 1]; 0 outside the box.

    Numerators are clamped at 0 and denominators at 0.01 (release), so that no distance gives NaN and two
    negative ones do not make a positive score. Tensors broadcast. A GPU's root is correctly rounded, the one of
    PyTorch on a CPU (Intel's MKL) is off by one unit in the last place, 6e-8, in some 0.7 % of values: so labels
    agree to 1e-6 between the two, and the box of a point where no two labels are closer than that.
    """
    across = torch.minimum(left, right).clamp(min=0) / torch.maximum(left, right).clamp(min=0.01)
    along = torch.minimum(top, bottom).clamp(min=0) / torch.maximum(top, bottom).clamp(min=0.01)
    return (across * along).sqrt()


def interval_relaxation(m: Tensor, low: Tensor, high: Tensor, relaxed_low: Tensor, relaxed_high: Tensor) -> Tensor:
    """1 within [low, high], falling linearly to 0 at the relaxed ends, 0 beyond; pixels, broadcasting.

    Each ramp is divided by its length, at least 0.01 (release).
    """
    rising = (m - relaxed_low) / (low - relaxed_low).clamp(min=0.01)
    falling = (relaxed_high - m) / (relaxed_high - high).clamp(min=0.01)
    ramp = torch.minimum(rising, falling).clamp(0, 1)
    return ramp.masked_fill((m >= low) & (m <= high), 1.0)


def smooth_label(
    pairs: Pairs,
    measure: Tensor,
    ranges: Sequence[tuple[float, float]],
    relaxed: Sequence[tuple[float, float]],
    core_zone: bool = True,
) -> dict[str, Tensor]:
    """centerness (without core zone), core_zone (bool), relaxation, and the label c · h that they make.

    Args:
        pairs: of points and boxes.
        measure: what the ranges are of, pixels; in DSLA m = max(l, t, r, b).
        ranges: (low, high) of each level.
        relaxed: the same, relaxed.
        core_zone: c = 1 within half a stride of the box's centre.
    """
    score, core = centerness(*pairs.distances), pairs.core() & core_zone
    ends = pairs.of_level(*zip(*ranges, strict=True), *zip(*relaxed, strict=True))
    relaxation = interval_relaxation(measure, *ends)
    label = score.masked_fill(core, 1.0) * relaxation
    return {"centerness": score, "core_zone": core, "relaxation": relaxation, "label": label}


class DSLA(PairAssigner):
    """Smooth labels: centerness, 1 in the core zone, times the relaxed regression range.

    A point goes to the box that gives it the highest label, then to the smaller box, then to the lower index.

    Args:
        regress_ranges: (low, high) of max(l, t, r, b) for each level, pixels.
        relaxation: γ, by which share each end of a range is relaxed; 0 or None for hard ranges.
        truncate: pass the relaxed ends through int(), as the release does. Small strides want False.
        core_zone: label 1 within half a stride of the box's centre.
        center_sampling: only points within this many strides of the centre (1.5 in "FCOSv2"), or None.
    Raises:
        ValueError: ranges that are not (low < high), γ outside [0, 1), radius ≤ 0.
    """

    name = "DSLA"
    default_coupling = "on"
    point_offset = 0.0
    regress_ranges: tuple[tuple[float, float], ...]

    def __init__(
        self,
        regress_ranges: Sequence[Sequence[float]] = DEFAULT_RANGES,
        relaxation: float | None = 0.2,
        truncate: bool = True,
        core_zone: bool = True,
        center_sampling: float | None = None,
    ) -> None:
        self.regress_ranges = checked_ranges(regress_ranges)
        check_radius(center_sampling)
        if relaxation is not None and not 0 <= relaxation < 1:
            raise ValueError(f"relaxation must be in [0, 1), got {relaxation}")
        self.relaxation, self.truncate = relaxation or 0.0, truncate
        self.core_zone, self.center_sampling = core_zone, center_sampling

    @property
    def relaxed_ranges(self) -> tuple[tuple[float, float], ...]:
        """(low·(1−γ), high·(1+γ)) of each level, pixels; the ranges themselves where γ is 0."""
        if not self.relaxation:
            return self.regress_ranges
        relaxed = [(lo * (1 - self.relaxation), hi * (1 + self.relaxation)) for lo, hi in self.regress_ranges]
        if self.truncate:
            relaxed = [(float(int(lo)), float(int(hi))) for lo, hi in relaxed]
        return tuple(relaxed)

    @property
    def reach(self) -> tuple[tuple[float, float], ...]:
        """Both ranges of a level together: int() can cut a relaxed end below the range's own."""
        both = zip(self.regress_ranges, self.relaxed_ranges, strict=True)
        return tuple((min(lo, wide_lo), max(hi, wide_hi)) for (lo, hi), (wide_lo, wide_hi) in both)

    def label(self, pairs: Pairs) -> Tensor:
        """c · h inside the box (or its centre region), 0 elsewhere: the factors exclude all that is excluded."""
        return self.factors(pairs)["label"]

    def factors(self, pairs: Pairs) -> dict[str, Tensor]:
        """centerness (without core zone), core_zone (bool), relaxation, and the label they make."""
        factors = smooth_label(pairs, pairs.measure, self.regress_ranges, self.relaxed_ranges, self.core_zone)
        return factors | {"label": factors["label"] * pairs.inside(self.center_sampling)}

    def rules(self, case: Case) -> list[Rule]:
        """Inside, centre sampling, interval relaxation, centerness, core zone; then the label."""
        pairs, level = case.pairs, int(case.pairs.level)
        values = case.values(self.factors)
        c, core, h, label = (values[k] for k in ("centerness", "core_zone", "relaxation", "label"))
        full, fading = range_text(*self.regress_ranges[level]), range_text(*self.relaxed_ranges[level])
        (dx, dy), half = (float(d) for d in pairs.from_centre), float(pairs.stride) / 2
        zone = "in the core zone, c = 1" if core else "outside the core zone"
        ramps = f"h is 1 in {full} and falls to 0 at the ends of {fading}"
        core_zone = Rule("core zone", f"|dx| = {dx:g}, |dy| = {dy:g}, half a stride = {half:g}: {zone}", core)
        return [
            *region_rules(pairs, self.center_sampling),
            Rule("interval relaxation", f"m = {float(pairs.measure):g}; {ramps}: h = {h:.4g}", h, h > 0),
            Rule("centerness", f"c = {c:.4g}", c),
            *([core_zone] if self.core_zone else []),
            label_rule(f"c · h = {label:.4g}", label),
        ]
