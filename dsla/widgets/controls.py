"""The controls of the explorer and the texts that it reads and writes."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import ipywidgets as w
import numpy as np
import torch

from ..errors import DataError
from ..geometry import boxes_to_distances
from .view import COUPLINGS, Shown, bounds_for

PRESETS = {
    "P3…P7 (8 to 128)": (8, 16, 32, 64, 128),
    "P3…P5 (8 to 32)": (8, 16, 32),
    "P2…P6 (4 to 64)": (4, 8, 16, 32, 64),
    "one level (16)": (16,),
}
OWN = -1.0  # point offset: each method's own (None would leave the control blank)
ACTIONS = ("png", "csv", "python")


def build(
    keep: Callable[[Any], Any], choices: Sequence[str], names: Sequence[str], strides: tuple[int, ...],
    offset: float | None, scenes: tuple[int, int],
) -> dict[str, Any]:  # fmt: skip
    """All controls by name."""
    wide = w.Layout(width="270px")
    look: dict[str, Any] = {"layout": wide, "style": {"description_width": "92px"}}
    presets = dict(PRESETS)
    if strides not in presets.values():
        presets[", ".join(map(str, strides))] = strides
    offset = OWN if offset is None else float(offset)
    offsets = [("each method's own", OWN), ("0 (corner)", 0.0), ("0.5 (centre)", 0.5)]
    if offset not in (OWN, 0.0, 0.5):
        offsets.append((f"{offset:g}", offset))
    rows = {}
    for i in (1, 2, 3):
        options = [*choices] if i == 1 else [("none", ""), *((c, c) for c in choices)]
        value = names[i - 1] if i <= len(names) else ""
        rows[f"row {i}"] = w.Dropdown(options=options, value=value, description=f"assigner {i}", **look)
    made = {
        "scene": w.Dropdown(
            options=[(f"scene {i}", i) for i in range(scenes[0])], value=scenes[1], description="built-in", **look
        ),
        "upload": w.FileUpload(accept="image/*", description="your own image", layout=wide),
        **rows,
        "relaxation": slider(0.2, 0, 0.95, 0.05, "relaxation γ", look),
        "core_zone": w.Checkbox(value=True, description="core zone", indent=False, layout=w.Layout(width="110px")),
        "truncate": w.Checkbox(
            value=True, description="whole-pixel ends", indent=False, layout=w.Layout(width="150px")
        ),
        "radius": slider(0.0, 0, 4, 0.25, "centre radius", look),
        "strides": w.Dropdown(options=presets, value=strides, description="levels", **look),
        "bounds": w.Text(value=bounds_text(strides), description="range bounds", continuous_update=False, **look),
        "offset": w.Dropdown(options=offsets, value=offset, description="point offset", **look),
        "coupling": w.Dropdown(options=COUPLINGS, description="IoU coupling", **look),
        "jitter": slider(0.1, 0, 0.5, 0.01, "jitter", look),
        "png": w.Button(description="PNG", layout=w.Layout(width="60px")),
        "csv": w.Button(description="CSV", layout=w.Layout(width="60px")),
        "python": w.Button(description="copy as Python", layout=w.Layout(width="135px")),
    }
    tips = {
        "relaxation": "share by which each end of a level's range is relaxed (DSLA)",
        "radius": "of centre sampling, in strides; 0: off",
        "bounds": "ends of the ranges of max(l, t, r, b), pixels: one more than levels",
        "truncate": "relaxed ends pass through int(), as in the release",
        "jitter": "noise of the predicted boxes, a share of their size",
    }
    for name, tip in tips.items():
        made[name].tooltip = tip
    return {name: keep(control) for name, control in made.items()}


def slider(value: float, low: float, high: float, step: float, text: str, look: dict[str, Any]) -> w.FloatSlider:
    return w.FloatSlider(value=value, min=low, max=high, step=step, description=text, readout_format=".2f", **look)


def arrange(keep: Callable[[Any], Any], made: dict[str, Any]) -> Any:
    """The column of controls."""
    groups = (
        ("Image", ["scene", "upload"]),
        ("Rows", ["row 1", "row 2", "row 3"]),
        ("Rules", ["relaxation", ("core_zone", "truncate"), "radius"]),
        ("Points and levels", ["strides", "bounds", "offset"]),
        ("Predictions", ["coupling", "jitter"]),
        ("Take along", [ACTIONS]),
    )
    parts: list[Any] = []
    for title, names in groups:
        parts.append(keep(w.HTML(f"<b style='font-size:11px;color:#6b7280'>{title.upper()}</b>")))
        for name in names:
            parts.append(made[name] if isinstance(name, str) else keep(w.HBox([made[n] for n in name])))
    return keep(w.VBox(parts, layout=w.Layout(width="290px", flex="0 0 290px")))


def bounds_text(strides: Sequence[int]) -> str:
    return "  ".join("∞" if b >= 1e8 else f"{b:g}" for b in bounds_for(strides))


def bounds(text: str) -> tuple[float, ...]:
    """Numbers from a text such as 0 64 128 ∞, pixels.

    Raises:
        DataError: not numbers, fewer than two, or not growing.
    """
    words = text.replace(",", " ").replace(";", " ").split()
    try:
        found = tuple(1e8 if word in ("∞", "inf") else float(word) for word in words)
    except ValueError:
        raise DataError(f"range bounds {text!r}: write numbers with spaces between them, ∞ for no end") from None
    if len(found) < 2 or any(not a < b for a, b in pairwise(found)):
        raise DataError(f"range bounds {text!r}: two numbers at least, each larger than the one before")
    return found


def bounds_of_model(model: Any, strides: Sequence[int]) -> tuple[float, ...]:
    """Ends of the ranges that the model was trained with; those of the strides if it does not say."""
    ranges = getattr(getattr(model, "recipe", None), "ranges", None)
    return (float(ranges[0][0]), *(float(high) for _, high in ranges)) if ranges else bounds_for(strides)


def counts_html(rows: Sequence[Shown], names: Sequence[str]) -> str:
    """How many points each object has in each row; none is said in red. Of many objects the first sixty."""
    if not names:
        return "No object yet: drag on the picture to draw one."
    head = "".join(f"<th>{html.escape(row.title)}</th>" for row in rows)
    lines = []
    for i, name in enumerate(names[:60]):
        counts = (int(row.counts[i]) for row in rows)
        cells = "".join(f"<td>{n}</td>" if n else "<td class='none'>no point</td>" for n in counts)
        lines.append(f"<tr><td>{i}</td><td>{html.escape(name)}</td>{cells}</tr>")
    return f"<b>Points of each object</b><table><tr><td></td><td></td>{head}</tr>{''.join(lines)}</table>"


def point_html(row: Shown, point: int, chosen: int) -> str:
    """A point's row of `to_frame()`, and the rules for the chosen box, else for the one that won it or is nearest."""
    a = row.assignment
    won, boxes = int(a.gt_index[0, point]), a.boxes
    if not len(boxes):
        return "<i>no object, nothing to learn</i>"
    if chosen >= len(boxes) or chosen < 0:
        chosen = won
    if chosen < 0:
        outside = (-boxes_to_distances(a.grid.xy[point], boxes)).clamp(min=0).amax(-1)
        area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
        chosen = int(torch.argmin(outside * 1e6 + area / area.max()))
    frame = row.frame
    found = frame[frame["point"] == point]
    text = "<i>background: no object won this point</i>"
    if len(found):
        cells = [
            f"<td>{html.escape(str(k))}</td><td>{html.escape(_short(v))}</td>"
            for k, v in found.iloc[0].items()
            if k not in ("image", "point")
        ]
        lines = "".join(f"<tr>{''.join(cells[i : i + 3])}</tr>" for i in range(0, len(cells), 3))
        text = f"<i>its row of to_frame()</i><table class='dsla-frame'>{lines}</table>"
    won_text = f"won by object {won}" if won >= 0 else "background"
    return (
        f"<div class='dsla-point' data-point='{point}'>"
        f"<b>{html.escape(row.title)}</b>: {won_text}, value {float(row.values[point]):.4g}"
        f"{row.explain(point, chosen)._repr_html_()}{text}</div>"
    )


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (float, np.floating)) else str(value)
