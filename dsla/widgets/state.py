"""The state of an explorer as plain values, and the assigners that it names; `state.js` reads the same in browsers."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isfinite
from typing import Any

from ..assigners import ATSS, DEFAULT_RANGES, DSLA, FCOS, GFL, METHODS, Assigner, FoveaBox, MaxIoU, method
from ..errors import DataError
from ..geometry import InputSize

COUPLINGS = ("off", "jittered boxes", "trained model")
SCRIPTS = {FCOS: "fcos", DSLA: "dsla", FoveaBox: "fovea", MaxIoU: "max-iou", ATSS: "atss", GFL: "atss"}
"""Classes whose labels `labels.js` computes, by the name that it has for them."""


def initial(
    rows: Sequence[dict[str, Any]], strides: Sequence[int], offset: float | None, input_size: InputSize
) -> dict[str, Any]:
    """The state of an explorer: all but image and boxes that decides what is drawn, as plain values.

    rows: {"method", "options"}: those that differ from the method's own.  strides: of the levels.  bounds: ends of
    their ranges, pixels, one more.  offset: of the points, None: each method's own.  input: the input size, as text.
    coupling: one of `COUPLINGS`.  jitter, seed: of `jittered_predictions`.  level: [row, level] seen large, or None.
    """
    several = isinstance(input_size, Sequence) and not isinstance(input_size, str)
    return {
        "rows": list(rows),
        "strides": list(strides),
        "bounds": [*bounds_for(strides)],
        "offset": offset,
        "input": "/".join(map(str, input_size)) if several else str(input_size),  # type: ignore[arg-type]
        "coupling": "off",
        "jitter": 0.1,
        "seed": 0,
        "level": None,
    }


def catalogue(given: Mapping[str, Assigner]) -> dict[str, dict[str, Any]]:
    """All methods of the registry, and assigners that stay as they are given, as the browser reads them."""
    entries: dict[str, dict[str, Any]] = {}
    for name, entry in METHODS.items():
        controls = [
            {k: getattr(o, k) for k in ("name", "default", "meaning", "optional")}
            | {"kind": o.kind.__name__}
            | {end: value if isfinite(value) else None for end, value in (("low", o.low), ("high", o.high))}
            for o in entry.options
            if o.kind is not str
        ]
        plain = {"summary": entry.summary, "ranges": entry.ranges, "controls": controls}
        entries[name] = _entry(entry.title, entry.assigner()) | plain
    return entries | {title: _entry(title, assigner) for title, assigner in given.items()}


def _entry(title: str, assigner: Assigner) -> dict[str, Any]:
    script = SCRIPTS.get(type(assigner))
    return {
        "title": title,
        "summary": repr(assigner),
        "script": script,
        "options": assigner.options() if script else {},
        "ranges": None,
        "offset": assigner.point_offset,
        "coupling": assigner.default_coupling,
        "needs": assigner.needs_predictions,
        "controls": [],
    }


def title_of(title: str, options: Mapping[str, Any]) -> str:
    """A row's title: the method's, and the options that differ from its own."""

    def short(value: Any) -> str:
        return "none" if value is None else ("off", "on")[value] if isinstance(value, bool) else f"{value:.10g}"

    return ", ".join([title, *(f"{name.replace('_', ' ')} {short(v)}" for name, v in options.items())])


def assigners_of(
    state: Mapping[str, Any], bounds: Sequence[float], levels: int, given: Mapping[str, Assigner]
) -> dict[str, tuple[str, Assigner]]:
    """Title → (method, assigner) of the rows of a state.

    Raises:
        DataError: bounds that are not one more than levels and growing; a method or an option that there is not.
    """
    if len(bounds) != levels + 1 or any(not low < high for low, high in pairwise(bounds)):
        text = f"{levels} levels have {levels + 1} ends, each larger than the one before"
        raise DataError(f"ranges {[f'{b:g}' for b in bounds]}: {text}")
    ranges = tuple(pairwise(bounds))
    levels_of = None if ranges == DEFAULT_RANGES else ranges  # by default the method's own: FoveaBox's ends differ
    rows: dict[str, tuple[str, Assigner]] = {}
    for row in state["rows"]:
        name, options = row["method"], row.get("options", {})
        if name in given:
            title, assigner = name, given[name]
        else:
            entry = method(name)
            title, assigner = title_of(entry.title, options), entry.assigner(levels_of, **options)
        while title in rows:
            title += "′"
        rows[title] = name, assigner
    return rows


def bounds_for(strides: Sequence[int]) -> tuple[float, ...]:
    """0, then eight strides of each level but the last, then no end: P3…P7's own for their strides."""
    return (0.0, *(8.0 * s for s in strides[:-1]), 1e8)


def bounds_of_model(model: Any, strides: Sequence[int]) -> tuple[float, ...]:
    """Ends of the ranges that the model was trained with; those of the strides if it does not say."""
    ranges = getattr(getattr(model, "recipe", None), "ranges", None)
    if not ranges:
        return bounds_for(strides)
    return float(ranges[0][0]), *(float(high) for _, high in ranges)
