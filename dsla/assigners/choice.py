"""An assigner by name, by class or as it is; and where its points lie."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from itertools import pairwise
from typing import Any

from .base import Assigner
from .dsla import DSLA


def as_assigner(value: Any, strides: Sequence[int] | None = None) -> Assigner:
    """An assigner, its class, or its name in `dsla.assigners.METHODS` (or that of its class).

    Given strides, the ranges of its levels end at 8 strides each: FCOS's own for P3…P7, and FoveaBox's, which begin
    at half the end of the level below.

    Raises:
        ValueError: none of these.
    """
    if isinstance(value, Assigner):
        return value
    from . import METHODS

    kinds = METHODS | {kind.__name__.lower(): kind for kind in METHODS.values()}
    kind = kinds.get(value.lower()) if isinstance(value, str) else value
    if not (isinstance(kind, type) and issubclass(kind, Assigner)):
        names = ", ".join(kind.__name__ for kind in METHODS.values())
        raise ValueError(f"{value!r} is no assigner; dsla.assigners has {names}")
    if strides is None:
        return kind()
    ranges = tuple(pairwise([0.0, *(8.0 * s for s in strides[:-1]), 1e8]))
    wanted = signature(kind).parameters
    if "regress_ranges" in wanted:
        return kind(regress_ranges=ranges)  # type: ignore[call-arg]
    if "scale_ranges" in wanted:
        return kind(scale_ranges=tuple((low / 2, high) for low, high in ranges))  # type: ignore[call-arg]
    return kind()


def point_offset(assigner: Assigner) -> float:
    """Where the method's own code places points, in strides from the cell's corner."""
    return 0.0 if isinstance(assigner, DSLA) else 0.5


def ranges_of(assigner: Assigner) -> tuple[tuple[float, float], ...]:
    """Its range for each level, in whatever it measures; empty where the method has none."""
    return getattr(assigner, "regress_ranges", None) or getattr(assigner, "scale_ranges", None) or ()
