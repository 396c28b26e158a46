"""The state of an explorer as plain values, and the assigners that it names; `state.js` reads the same in browsers."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from math import inf
from typing import Any

from ..assigners import ATSS, DEFAULT_RANGES, DSLA, FCOS, GFL, METHODS, Assigner, FoveaBox, MaxIoU, method
from ..assigners.entry import Method
from ..errors import DataError
from ..geometry import InputSize, size_text

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
    state = {"rows": list(rows), "strides": list(strides), "bounds": [*bounds_for(strides)], "offset": offset}
    return state | {"input": size_text(input_size), "coupling": "off", "jitter": 0.1, "seed": 0, "level": None}


def catalogue(given: Mapping[str, Assigner]) -> dict[str, dict[str, Any]]:
    """All methods of the registry, and assigners that stay as they are given, as the browser reads them."""
    entries = {name: _entry(entry.title, entry.assigner(), entry) for name, entry in METHODS.items()}
    return entries | {title: _entry(title, assigner) for title, assigner in given.items()}


def _entry(title: str, assigner: Assigner, entry: Method | None = None) -> dict[str, Any]:
    script, controls = SCRIPTS.get(type(assigner)), [o for o in entry.options if o.kind is not str] if entry else []
    return {
        "title": title,
        "summary": entry.summary if entry else repr(assigner),
        "script": script,
        "options": assigner.options() if script else {},
        "ranges": entry.ranges if entry else None,
        "offset": assigner.point_offset,
        "coupling": assigner.default_coupling,
        "needs": assigner.needs_predictions,
        "controls": [
            {k: v if v not in (-inf, inf) else None for k, v in asdict(o).items()} | {"kind": o.kind.__name__}
            for o in controls
        ],
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
        title = name = row["method"]
        if name not in given:
            title = title_of(method(name).title, row.get("options", {}))
        while title in rows:
            title += "′"
        rows[title] = name, given.get(name) or method(name).assigner(levels_of, **row.get("options", {}))
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
