"""Where an assigner's points lie, and the ranges of its levels."""

from __future__ import annotations

from .base import Assigner
from .dsla import DSLA


def point_offset(assigner: Assigner) -> float:
    """Where the method's own code places points, in strides from the cell's corner."""
    return 0.0 if isinstance(assigner, DSLA) else 0.5


def ranges_of(assigner: Assigner) -> tuple[tuple[float, float], ...]:
    """Its range for each level, in whatever it measures; empty where the method has none."""
    return getattr(assigner, "regress_ranges", None) or getattr(assigner, "scale_ranges", None) or ()
