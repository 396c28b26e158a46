"""What the explorer says of a point: its row of the table and the rules that decided."""

import html
from typing import Any

import numpy as np
import torch

from ..geometry import boxes_to_distances
from .view import Shown


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
    table = row.table
    of_point = table[table["point"] == point]
    text = "<i>background: no object won this point</i>"
    if len(of_point):
        cells = [
            f"<td>{html.escape(str(k))}</td><td>{html.escape(_short(v))}</td>"
            for k, v in of_point.iloc[0].items()
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
