"""The figure of `dsla.analysis.errors`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from .style import SOFT, WIDTH, Picture, beside, by_method, picture, style

NAMES = {
    "classification": "classification",
    "localisation": "localisation",
    "both": "class and place",
    "duplicate": "duplicate",
    "background": "background",
    "missed": "missed objects",
}


def error_costs(table: pd.DataFrame) -> Picture:
    """What each kind of error costs, and how many there are: method, error, gain (AP, NaN if undefined), count."""
    methods, kinds = by_method(table), list(NAMES)
    with style():
        figure = picture(WIDTH, max(0.16 * len(kinds) * len(methods) + 1.4, 2.4))
        gains, counts = figure.subplots(1, 2, sharey=True, width_ratios=(1.25, 1))
        thick = 0.8 / len(methods)
        for i, (look, own) in enumerate(methods):
            own = own.set_index("error").reindex(kinds)
            y = np.arange(len(kinds)) + beside(len(methods), i, thick)
            drawn: Any = {"height": 0.88 * thick, "color": look.colour, "label": look.name}
            gain, count = 100 * own["gain"].to_numpy(dtype=float), own["count"].to_numpy(dtype=float)
            gains.barh(y, np.nan_to_num(gain), **drawn)
            counts.barh(y, count, **drawn)
            text: Any = {"fontsize": 6.5, "va": "center_baseline", "textcoords": "offset points", "xytext": (3, 0)}
            for at, value, number in zip(y, gain, count, strict=True):
                known = np.isfinite(value)
                gains.annotate(f"{value:.1f}" if known else "n/a", (max(value, 0) if known else 0, at), **text)
                counts.annotate(f"{number:,.0f}", (number, at), **text)
        gains.axvline(0, color=SOFT, lw=0.8)
        gains.set_yticks(range(len(kinds)), list(NAMES.values()))
        gains.set(ylim=(len(kinds) - 0.5, -0.5), xlabel="AP50 gained if put right, points of 100", title="cost")
        gains.margins(x=0.14)
        counts.set(xlabel="errors (logarithmic)", title="number")
        counts.set_xscale("symlog", linthresh=1)
        counts.set_xlim(0, 8 * max(table["count"].max(), 1))
        for ax in (gains, counts):
            ax.grid(axis="y", visible=False)
        figure.legend(*gains.get_legend_handles_labels(), loc="outside upper right", ncols=3)
    figure.caption = (
        "Left, the AP at IoU 0.5 that each kind of error costs: what would be gained if that kind alone were put "
        "right. The costs do not add up. Right, how many errors of a kind there are; those of low score cost little."
    )
    return figure
