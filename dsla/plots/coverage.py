"""The figure of `dsla.analysis.coverage`."""

import numpy as np
import pandas as pd

from ..analysis.coverage import best_setting
from .style import LOST, SOFT, Picture, drawing

FEW = "#f0a202"


def coverage_figure(table: pd.DataFrame) -> Picture:
    """Shares of objects without a point and with one or two, a row a setting, for all and by size."""
    keys = ["method", "strides", "input_size"]
    settings = table[keys].drop_duplicates()
    kept = table[table["by"].isin(["all", "size"])]
    groups = list(dict.fromkeys(kept["group"]))
    best = best_setting(table)
    with drawing(0.24 * len(settings) + 1.3) as figure:
        axes = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
        for ax, group in zip(axes, groups, strict=True):
            rows = settings.merge(kept[kept["group"] == group], on=keys, how="left")
            y, none, few = np.arange(len(rows)), 100 * rows["none"].fillna(0), 100 * rows["few"].fillna(0)
            ax.barh(y, none, 0.75, color=LOST, label="no point")
            ax.barh(y, few, 0.75, left=none, color=FEW, label="1 or 2 points")
            for at, value in zip(y, none, strict=True):
                ax.annotate(f"{value:.1f}", (0, at), (2, 0), textcoords="offset points", fontsize=6, va="center")
            count = int(rows["objects"].max()) if len(rows) else 0
            ax.set(title=f"{group} ({count:,})", xlabel="% of the objects", ylim=(len(rows) - 0.4, -0.6))
            ax.set_xlim(0, max(1.0, ax.get_xlim()[1]))
            ax.set_yticks(y, [" · ".join(row) for row in settings.to_numpy()], fontsize=6.5)
            ax.grid(axis="y", visible=False)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
        figure.caption = (
            "Objects that no point learns can be found by no training; those with one or two hang on these. Fewest are "
            f"left without a point by {best['method']}, strides {best['strides']}, input {best['input_size']}: "
            f"{best['none']:.1%}. Points count for the object that wins them; sizes are COCO's."
        )
        figure.supxlabel(figure.caption, fontsize=6.5, color=SOFT, wrap=True)
    return figure
