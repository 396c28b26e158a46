"""The figures of `dsla analyze`: where detectors err, how sure their numbers are, what they miss.

As in `figures`, tables have a column `method`, and nothing is computed but what is drawn.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm

from ..analysis.assignments import best_setting
from ..coco.columns import CORNERS
from . import draw, style
from .style import LOST, SOFT, UNIT, VERDICTS, WIDTH, Picture

FATES = {"correct": ("matched", "hit"), "covered": ("nearly", "duplicate"), "missed": ("missed", "missed")}
CURVES = {"0.5": "IoU 0.5, area: AP50", "0.75": "IoU 0.75, area: AP75", "mean": "IoU 0.5 … 0.95, area: AP"}


def fates_by_size(table: pd.DataFrame) -> Picture:
    """What becomes of the objects of each size: method, name (of the size), objects, correct, covered, missed."""
    methods, sizes = style.by_method(table), list(dict.fromkeys(table["name"]))
    with style.drawing(0.26 * len(methods) + 1.5, style.caption("fates")) as figure:
        for i, (ax, size) in enumerate(zip(figure.subplots(1, len(sizes)), sizes, strict=True)):
            rows = table[table["name"] == size].set_index("method").loc[[look.name for look, _ in methods]]
            left, objects = np.zeros(len(rows)), rows["objects"].clip(lower=1)
            for kind, (word, verdict) in FATES.items():
                share, colour = (100 * rows[kind] / objects).to_numpy(), VERDICTS[verdict].colour
                bars = ax.barh(range(len(rows)), share, 0.8, left=left, color=colour, label=word)
                texts = [f"{v:.0f}" if v >= 8 else "" for v in share]
                ax.bar_label(bars, texts, label_type="center", fontsize=6.5, color=draw.contrast(colour))
                left += share
            style.rows_of(ax, rows.index)
            style.label_first(ax, i, "")
            ax.set(xlim=(0, 100), xlabel="% of the objects", title=f"{size} ({rows['objects'].max():,.0f})")
        figure.legend(*ax.get_legend_handles_labels(), loc="outside upper right", ncols=3)
    return figure


def coverage_figure(table: pd.DataFrame) -> Picture:
    """Shares of objects without a point and with one or two, a row a setting, for all and by size; `coverage`."""
    keys = ["method", "strides", "input_size"]
    settings, kept = table[keys].drop_duplicates(), table[table["by"].isin(["all", "size"])]
    groups, best = list(dict.fromkeys(kept["group"])), best_setting(table)
    with style.drawing(0.24 * len(settings) + 1.3, style.caption("coverage", **best)) as figure:
        axes = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
        for ax, group in zip(axes, groups, strict=True):
            rows = settings.merge(kept[kept["group"] == group], on=keys, how="left")
            none, few = (100 * rows[share].fillna(0) for share in ("none", "few"))
            ax.barh(rows.index, none, 0.75, color=LOST, label="no point, its % as a number")
            ax.barh(rows.index, few, 0.75, left=none, color="#f0a202", label="1 or 2 points")
            for at, value in none.items():
                ax.annotate(f"{value:.1f}", (0, at), (2, 0), textcoords="offset points", fontsize=6, va="center")
            ax.set(title=f"{group} ({rows['objects'].max():,.0f})", xlabel="% of the objects")
            ax.set_xlim(0, max(1.0, ax.get_xlim()[1]))
            style.rows_of(ax, map(" · ".join, settings.to_numpy()))
            ax.tick_params(axis="y", labelsize=6.5)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
        figure.supxlabel(figure.caption, fontsize=6.5, color=SOFT, wrap=True)
    return figure


def missed_by_points(table: pd.DataFrame, setting: str, score: float) -> Picture:
    """Share of the objects not found, by the points that learn them: method, points, objects, unfound, share."""
    bins, wide = list(dict.fromkeys(table["points"])), 0.8 / table["method"].nunique()
    with style.drawing(2.7, style.caption("points", setting=setting, score=score)) as figure:
        ax = figure.subplots()
        for look, rows, x in style.grouped(table, "points", bins, wide):
            share = 100 * rows["share"]
            bars = ax.bar(x, share.fillna(0), 0.9 * wide, color=look.colour, label=look.name)
            ax.bar_label(bars, ["–" if np.isnan(v) else f"{v:.0f}" for v in share], fontsize=6.5, padding=2)
        ax.set_xticks(range(len(bins)), [f"{b}\n{n:,} objects" for b, n in rows["objects"].items()])
        ax.grid(axis="x", visible=False)
        ax.set(ylim=(0, 109), ylabel="% not found", xlabel="points that learn the object")
        ax.legend(loc="upper right")
    return figure


def number_intervals(table: pd.DataFrame, pairs: pd.DataFrame, level: float, resamples: int) -> Picture:
    """Numbers with their intervals: method, name, value, low, high; and of pairs: first, second, … differences."""
    names = [n for n in dict.fromkeys(table["name"]) if n.startswith("AP")]
    every = {m.name: (rows, m.colour, m.marker) for m, rows in style.by_method(table)}
    between = {
        f"{first} − {second}": (rows, style.method(first).colour, style.method(second).marker)
        for (first, second), rows in (pairs.groupby(["first", "second"], sort=False) if len(pairs) else ())
    }
    text = style.caption("intervals-of-numbers", level=100 * level, resamples=resamples)
    with style.drawing(0.3 * len(names) + 0.09 * len(names) * len(every) + 1.1, text) as figure:
        axes = figure.subplots(1, 2 if len(pairs) else 1, squeeze=False)[0]
        titles = ("each detector", "difference on the same images")
        for place, (ax, title, group) in enumerate(zip(axes, titles, (every, between), strict=False)):
            for i, (label, (rows, colour, marker)) in enumerate(group.items()):
                values = 100 * rows.set_index("name").loc[names, ["value", "low", "high"]]
                y = np.arange(len(names)) + style.beside(len(group), i, 0.64 / len(group))
                style.intervals(ax, values, y, marker=marker, color=colour, label=label)
            style.rows_of(ax, [n.replace("_", ", ") for n in names])
            style.label_first(ax, place, "")
            ax.set(title=title, xlabel="points of 100")
        if between:
            axes[1].axvline(0, color=SOFT, lw=0.8)
        handles = [h for ax in axes for h in zip(*ax.get_legend_handles_labels(), strict=True)]
        figure.legend(*zip(*handles, strict=True), loc="outside upper center", ncols=2, fontsize=6.5)
    return figure


def precision_recall(table: pd.DataFrame) -> Picture:
    """Precision over recall, means over classes: method, iou (a name in CURVES), recall, precision."""
    with style.drawing(2.9, style.caption("precision-recall")) as figure:
        axes = figure.subplots(1, len(CURVES), sharey=True)
        for i, (ax, (iou, title)) in enumerate(zip(axes, CURVES.items(), strict=True)):
            for look, rows in style.by_method(table[table["iou"] == iou]):
                text = f"{look.name}: {100 * rows['precision'].mean():.1f}"
                ax.plot(rows["recall"], rows["precision"], **look.drawn | {"label": text})
            ax.set(xlim=UNIT, ylim=UNIT, xlabel="recall", title=title)
            ax.legend(loc="upper right", fontsize=6.5)
            style.label_first(ax, i, "precision")
    return figure


def confusions(table: pd.DataFrame, name: str, score: float, most: int = 16) -> Picture:
    """Which class is called which, of the classes that are confused most: truth, detected, count."""
    import seaborn as sns

    extra = ["background", "no match"]
    off = table[(table["truth"] != table["detected"]) & ~table["truth"].isin(extra) & ~table["detected"].isin(extra)]
    weight = pd.concat([off.groupby(side)["count"].sum() for side in ("truth", "detected")], axis=1).sum(axis=1)
    diagonal = table[table["truth"] == table["detected"]].set_index("truth")["count"]
    weight = weight.add(1e-6 * diagonal, fill_value=0).sort_values(ascending=False, kind="stable")
    kept = sorted(weight.index[:most])
    cells = table.pivot(index="truth", columns="detected", values="count").reindex(
        index=[*kept, "background"], columns=[*kept, "no match"]
    )
    with style.drawing(0.26 * len(cells) + 1.4, style.caption("confusions", score=score, count=len(kept))) as figure:
        scale = LogNorm(0.7, max(cells.max(axis=None), 2))
        look: Any = {"cmap": "Blues", "norm": scale, "cbar": False, "annot": True, "annot_kws": {"fontsize": 6}}
        ax = sns.heatmap(cells, mask=~(cells > 0), fmt=",.0f", ax=figure.subplots(), **look)
        ax.grid(visible=False)
        ax.set_xticklabels(cells.columns, rotation=40, ha="right", fontsize=6.5, parse_math=False)
        ax.set_yticklabels(cells.index, rotation=0, fontsize=6.5, parse_math=False)
        ax.set(xlabel="what the detection is called", ylabel="what is there", title=name)
    return figure


def worst(rows: Sequence[tuple[Any, pd.Series, str]], name: str, kind: str) -> Picture:
    """Crops around the worst cases: image; a row with x1 … y2, and of missed objects bx1 … by2; words for below.

    Args:
        rows: at most eight or so.
        name: of the detector.
        kind: "missed" or "false".
    """
    columns = 4
    lines = -(-len(rows) // columns)
    with style.drawing(lines * (WIDTH / columns + 0.4) + 0.25, style.caption(f"worst-{kind}")) as figure:
        axes = figure.subplots(lines, columns, squeeze=False).ravel()
        for ax, (image, row, text) in zip(axes, rows, strict=False):
            boxes = row.reindex([*CORNERS, *(f"b{c}" for c in CORNERS)]).to_numpy(dtype=float).reshape(2, 4)
            draw.show_near(ax, draw.as_image(image), boxes[0], max((boxes[0, 2:] - boxes[0, :2]).max() / 2, 10))
            drawn = boxes[np.isfinite(boxes).all(axis=1)]
            draw.show_verdicts(ax, drawn, [kind, "false"][: len(drawn)])
            ax.set_xlabel(text, fontsize=6.5, labelpad=3, parse_math=False)
        for ax in axes[len(rows) :]:
            ax.axis("off")
        axes[0].set_title(name, parse_math=False)
    return figure
