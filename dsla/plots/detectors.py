"""The figures of `dsla analyze`: where detectors err, how sure their numbers are, what they miss.

As in `figures`, tables have a column `method`, and nothing is computed but what is drawn.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm

from ..coco.columns import CORNERS
from . import draw
from .style import (
    INK,
    SOFT,
    UNIT,
    VERDICTS,
    WIDTH,
    Picture,
    beside,
    by_method,
    caption,
    drawing,
    intervals,
    label_first,
    method,
    rows_of,
)

FATES = {"correct": ("matched", VERDICTS["hit"]), "covered": ("nearly", VERDICTS["duplicate"]),
         "missed": ("missed", VERDICTS["missed"])}  # fmt: skip
CURVES = {"0.5": "-", "0.75": (0, (4, 1.5)), "mean": (0, (1, 1.2))}
BARS: Any = {"fontsize": 6.5, "padding": 2}


def fates_by_size(table: pd.DataFrame) -> Picture:
    """What becomes of the objects of each size: method, name (of the size), objects, correct, covered, missed."""
    methods, sizes = by_method(table), list(dict.fromkeys(table["name"]))
    with drawing(0.26 * len(methods) + 1.5, caption("fates")) as figure:
        for i, (ax, size) in enumerate(zip(figure.subplots(1, len(sizes)), sizes, strict=True)):
            rows = table[table["name"] == size].set_index("method").loc[[look.name for look, _ in methods]]
            left, objects = np.zeros(len(rows)), rows["objects"].clip(lower=1)
            for kind, (word, look) in FATES.items():
                share = (100 * rows[kind] / objects).to_numpy()
                bars = ax.barh(range(len(rows)), share, 0.8, left=left, color=look.colour, label=word)
                texts = [f"{v:.0f}" if v >= 8 else "" for v in share]
                ax.bar_label(bars, texts, label_type="center", fontsize=6.5, color=draw.contrast(look.colour))
                left += share
            rows_of(ax, rows.index)
            label_first(ax, i, "")
            ax.set(xlim=(0, 100), xlabel="% of the objects", title=f"{size} ({rows['objects'].max():,.0f})")
        figure.legend(*ax.get_legend_handles_labels(), loc="outside upper right", ncols=3)
    return figure


def missed_by_points(table: pd.DataFrame, setting: str, score: float) -> Picture:
    """Share of the objects not found, by the points that learn them: method, points, objects, unfound, share."""
    methods, bins = by_method(table), list(dict.fromkeys(table["points"]))
    wide = 0.8 / len(methods)
    with drawing(2.7, caption("points", setting=setting, score=score)) as figure:
        ax = figure.subplots()
        for i, (look, rows) in enumerate(methods):
            x = np.arange(len(bins)) + beside(len(methods), i, wide)
            share = 100 * rows["share"].to_numpy()
            bars = ax.bar(x, np.nan_to_num(share), 0.9 * wide, color=look.colour, label=look.name)
            ax.bar_label(bars, ["–" if np.isnan(v) else f"{v:.0f}" for v in share], **BARS)
        objects = methods[0][1]["objects"]
        ax.set_xticks(range(len(bins)), [f"{b}\n{n:,} objects" for b, n in zip(bins, objects, strict=True)])
        ax.grid(axis="x", visible=False)
        ax.set(ylim=(0, 109), ylabel="% not found", xlabel="points that learn the object")
        ax.legend(loc="upper right")
    return figure


def number_intervals(table: pd.DataFrame, pairs: pd.DataFrame, level: float, resamples: int) -> Picture:
    """Numbers with their intervals: method, name, value, low, high; and of pairs: first, second, … differences."""
    methods, names = by_method(table), [n for n in dict.fromkeys(table["name"]) if n.startswith("AP")]
    text = caption("intervals-of-numbers", level=100 * level, resamples=resamples)
    with drawing(0.3 * len(names) + 0.09 * len(names) * len(methods) + 1.1, text) as figure:
        axes = figure.subplots(1, 2 if len(pairs) else 1, squeeze=False)[0]
        for i, (look, rows) in enumerate(methods):
            rows = 100 * rows.set_index("name").loc[names, ["value", "low", "high"]]
            y = np.arange(len(names)) + beside(len(methods), i, 0.8 / len(methods) * 0.8)
            intervals(axes[0], rows, y, marker=look.marker, color=look.colour, label=look.name)
        every = list(pairs.groupby(["first", "second"], sort=False)) if len(pairs) else []
        for i, ((first, second), rows) in enumerate(every):
            rows, look = 100 * rows.set_index("name").loc[names, ["value", "low", "high"]], method(second)
            y = np.arange(len(names)) + beside(len(every), i, 0.8 / len(every) * 0.8)
            intervals(axes[1], rows, y, marker=look.marker, color=method(first).colour, label=f"{first} − {second}")
        for ax, title in zip(axes, ("each detector", "difference on the same images"), strict=False):
            rows_of(ax, [n.replace("_", ", ") for n in names])
            ax.set(title=title, xlabel="points of 100")
        if every:
            axes[1].axvline(0, color=SOFT, lw=0.8)
            axes[1].tick_params(labelleft=False)
        handles = [h for ax in axes for h in zip(*ax.get_legend_handles_labels(), strict=True)]
        figure.legend(*zip(*handles, strict=True), loc="outside upper center", ncols=2, fontsize=6.5)
    return figure


def precision_recall(table: pd.DataFrame) -> Picture:
    """Precision over recall, means over classes: method, iou (a name in CURVES), recall, precision."""
    methods = by_method(table)
    with drawing(2.9, caption("precision-recall")) as figure:
        for i, (ax, iou) in enumerate(zip(figure.subplots(1, len(CURVES), sharey=True), CURVES, strict=True)):
            for look, rows in methods:
                rows = rows[rows["iou"] == iou]
                text = f"{look.name}: {100 * rows['precision'].mean():.1f}"
                ax.plot(rows["recall"], rows["precision"], **look.drawn | {"label": text})
            names = {"0.5": "IoU 0.5, area: AP50", "0.75": "IoU 0.75, area: AP75"}
            ax.set(xlim=UNIT, ylim=UNIT, xlabel="recall", title=names.get(iou, "IoU 0.5 … 0.95, area: AP"))
            ax.legend(loc="upper right", fontsize=6.5)
            label_first(ax, i, "precision")
    return figure


def confusions(table: pd.DataFrame, name: str, score: float, most: int = 16) -> Picture:
    """Which class is called which, of the classes that are confused most: truth, detected, count."""
    extra = ["background", "no match"]
    off = table[(table["truth"] != table["detected"]) & ~table["truth"].isin(extra) & ~table["detected"].isin(extra)]
    weight = pd.concat([off.groupby(side)["count"].sum() for side in ("truth", "detected")], axis=1).sum(axis=1)
    diagonal = table[table["truth"] == table["detected"]].set_index("truth")["count"]
    weight = weight.add(1e-6 * diagonal, fill_value=0).sort_values(ascending=False, kind="stable")
    kept = sorted(weight.index[:most])
    cells = table.pivot(index="truth", columns="detected", values="count").reindex(
        index=[*kept, "background"], columns=[*kept, "no match"]
    )
    values = cells.fillna(0).to_numpy()
    with drawing(0.26 * len(cells) + 1.4, caption("confusions", score=score, count=len(kept))) as figure:
        ax = figure.subplots()
        drawn: Any = {"cmap": "Blues", "norm": LogNorm(0.7, max(values.max(), 2)), "aspect": "auto"}
        ax.imshow(np.ma.masked_equal(values, 0), **drawn)
        for (row, column), count in np.ndenumerate(values):
            if count:
                dark = np.log(count + 1) > 0.6 * np.log(values.max() + 1)
                ax.text(column, row, f"{count:,.0f}", fontsize=6, ha="center", va="center_baseline",
                        color="white" if dark else INK)  # fmt: skip
        ax.set_xticks(range(len(kept) + 1), cells.columns, rotation=40, ha="right", fontsize=6.5, parse_math=False)
        ax.set_yticks(range(len(kept) + 1), cells.index, fontsize=6.5, parse_math=False)
        ax.grid(visible=False)
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
    with drawing(lines * (WIDTH / columns + 0.4) + 0.25, caption(f"worst-{kind}")) as figure:
        axes = figure.subplots(lines, columns, squeeze=False).ravel()
        for ax, (image, row, text) in zip(axes, rows, strict=False):
            pixels = draw.as_image(image)
            height, width = pixels.shape[:2]
            draw.show_image(ax, draw.backdrop(pixels, 1200)[0], (height, width))
            boxes = row.reindex([*CORNERS, *(f"b{c}" for c in CORNERS)]).to_numpy(dtype=float).reshape(2, 4)
            x1, y1, x2, y2 = boxes[0]
            half = min(max(x2 - x1, y2 - y1, 20), max(height, width) / 2)
            middle = [np.clip((low + high) / 2, min(half, side / 2), max(side - half, side / 2))
                      for low, high, side in ((x1, x2, width), (y1, y2, height))]  # fmt: skip
            ax.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] + half, middle[1] - half),
                   facecolor="#11151c")  # fmt: skip
            for corners, look in zip(boxes, (kind, "false"), strict=True):
                if np.isfinite(corners).all():
                    draw.show_boxes(ax, [corners], "#10151d", 3.2, alpha=0.5)
                    draw.show_boxes(ax, [corners], VERDICTS[look].colour, 1.7, VERDICTS[look].line)
            ax.set_xlabel(text, fontsize=6.5, labelpad=3, parse_math=False)
        for ax in axes[len(rows) :]:
            ax.axis("off")
        axes[0].set_title(name, parse_math=False)
    return figure
