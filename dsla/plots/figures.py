"""The figures of the report: tidy tables in, one figure out, nothing computed but what is drawn.

Tables have a column `method`; where there are several seeds, a column `seed`. Methods keep colour, marker, line
and order everywhere. Figures on images take the image, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from . import draw
from .style import (
    FAINT,
    INK,
    LABELS,
    SOFT,
    UNIT,
    VERDICTS,
    WIDTH,
    Picture,
    beside,
    by_method,
    label_first,
    method,
    ordered,
    picture,
    style,
)

CELLS = 40  # of the score–IoU plane, a side
SCORE_INK, IOU_INK = "#c2410c", "#2f6f4f"
BAR: Any = {"width": 0.86, "color": "#d9dde5", "edgecolor": "#aab1bd", "linewidth": 0.6}
ORACLES = {
    "score": "as it is",
    "centerness": "score := centerness",
    "label": "score := static label",
    "dynamic": "score := label · IoU",
    "iou": "score := IoU",
    "box": "box := best candidate",
}


def labels_and_scores(image: Any, box: Sequence[float], points: pd.DataFrame) -> Picture:
    """Inconsistency 1 on one object: what its points are taught, and what the model scores there.

    Args:
        points: of `examples.object_points` with a column method: level, row, column, x, y, stride, label, score,
            best (bool: the row of the grid that the lower panels follow is the one of this point).
    Above, every point around the object, filled by its label, with its score beside it; below, label and score along
    the row of points through the object's best one.
    """
    pixels = draw.as_image(image)
    methods = by_method(points)
    with style():
        figure = picture(WIDTH, 4.7)
        grid = figure.add_gridspec(2, len(methods), height_ratios=(1.25, 1))
        upper = []
        for i, (look, own) in enumerate(methods):
            best = own[own["best"]].iloc[0]
            own = own[own["level"] == best["level"]]
            ax = figure.add_subplot(grid[0, i])
            half = _crop(ax, pixels, box, 1.5 * best["stride"], dim=True)
            draw.show_boxes(ax, [box], "#ffffff", 1.2)
            spacing = best["stride"] / (2 * half) * 72 * min(0.82 * WIDTH / len(methods), 2.3)  # of circles, points
            edge = ["white" if label > 0 else "#9aa3b2" for label in own["label"]]
            fill: Any = {"cmap": LABELS, "norm": Normalize(0, 1), "edgecolors": edge, "linewidths": 0.7, "zorder": 5}
            dots = ax.scatter(own["x"], own["y"], s=min(0.86 * spacing, 24) ** 2, c=own["label"], **fill)
            font = min(0.3 * spacing, 7)
            for x, y, label, score in own[["x", "y", "label", "score"]].itertuples(index=False):
                dark = INK if label > 0.55 else "white"
                place: Any = {"ha": "center", "va": "center_baseline", "zorder": 6, "clip_on": True}
                ax.text(x, y, f"{score:.2f}".removeprefix("0"), fontsize=font, color=dark, **place)
            ax.set_title(look.name)
            upper.append(ax)
            row = own[own["row"] == best["row"]].sort_values("x")
            below = figure.add_subplot(grid[1, i])
            offset = ((row["x"] - best["x"]) / best["stride"]).round(3)
            below.bar(offset, row["label"], label="label", **BAR)
            below.plot(offset, row["score"], color=SCORE_INK, marker="o", label="score", zorder=4)
            below.set(ylim=(0, 1.05), xlabel="strides from the best point")
            label_first(below, i, "label, score")
        bar = figure.colorbar(dots, ax=upper, ticks=[0, 0.5, 1], aspect=24, pad=0.01)
        bar.set_label("label")
        bar.outline.set_visible(False)
        figure.legend(*below.get_legend_handles_labels(), loc="outside lower right", ncols=2)
    figure.caption = (
        "One object of one image. Above: each circle is a point, on the level of the object's best one, filled by the "
        "label it is taught for this object (dark: background; yellow: 1); the number is the model's score. "
        "Below: label and score along the row through the point of highest label."
    )
    return figure


def score_iou(cells: pd.DataFrame, numbers: pd.DataFrame, after_nms: bool = True) -> Picture:
    """Inconsistency 2: score against IoU of all detections, with the margins.

    Args:
        cells: `binned`: method, score, iou (centres of cells), count.
        numbers: method, spearman, pearson, boxes, iou_threshold (of the boxes that the correlations are of).
        after_nms: whether it is known that the detections come from NMS; the caption says so.
    """
    methods = by_method(cells)
    top = max(cells["count"].max(), 2)
    with style():
        figure = picture(WIDTH, 3.1)
        grid = figure.add_gridspec(
            2, 2 * len(methods), height_ratios=(1, 4.4), width_ratios=(4.4, 1) * len(methods), hspace=0.02, wspace=0.02
        )
        for i, (look, own) in enumerate(methods):
            number = numbers[numbers["method"] == own["method"].iloc[0]].iloc[0]
            density = np.zeros((CELLS, CELLS))
            column, row = ((own[axis] * CELLS).astype(int) for axis in ("score", "iou"))
            density[row, column] = own["count"]
            ax = figure.add_subplot(grid[1, 2 * i])
            edges = np.linspace(0, 1, CELLS + 1)
            masked = np.ma.masked_equal(density, 0)
            mesh = ax.pcolormesh(edges, edges, masked, cmap="Greys", norm=LogNorm(0.5, top), rasterized=True)
            ax.set(xlim=UNIT, ylim=UNIT, xlabel="score")
            ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
            above, right = figure.add_subplot(grid[0, 2 * i]), figure.add_subplot(grid[1, 2 * i + 1])
            counted = density * (edges[1:, None] > number["iou_threshold"])
            above.stairs(counted.sum(0), edges, fill=True, color=look.colour)
            right.stairs(counted.sum(1), edges, fill=True, color=look.colour, orientation="horizontal")
            above.set(xlim=UNIT)
            right.set(ylim=UNIT)
            for margin in (above, right):
                margin.axis("off")
            above.set_title(look.name)
            ax.axhline(number["iou_threshold"], color=SOFT, lw=0.7, ls=(0, (2, 2)))
            said = f"Spearman {_value(number['spearman'])}\nPearson {_value(number['pearson'])}"
            said += f"\n{number['boxes']:,.0f} boxes"
            ax.text(0.97, 0.03, said, transform=ax.transAxes, ha="right", va="bottom", fontsize=7,
                    bbox={"facecolor": "white", "alpha": 0.85, "edgecolor": FAINT, "pad": 2.5})  # fmt: skip
            label_first(ax, i, "IoU with the object")
        bar = figure.colorbar(mesh, ax=figure.axes, shrink=0.6, pad=0.01, aspect=30)
        bar.set_label("detections")
        bar.outline.set_visible(False)
    least = numbers["iou_threshold"].iloc[0]
    figure.caption = (
        "Each detection's score against its IoU with the best object of its class (0: none overlaps)"
        f"{', after NMS' if after_nms else ''}; counts on a logarithmic scale. Correlations and margins are those of "
        f"the boxes above the dashed line, IoU ≥ {least:g}."
    )
    return figure


def suppressed(examples: Sequence[tuple[str, Any, pd.DataFrame]]) -> Picture:
    """The better box loses: per example (title, image, boxes), boxes with rows object, best and suppressor.

    Boxes: kind, x1, y1, x2, y2, score, iou (with the object).
    """
    looks = {
        "object": ("#ffffff", "-", "object"),
        "best": (VERDICTS["hit"].colour, (0, (4, 1.5)), "best box, removed by NMS"),
        "suppressor": (VERDICTS["duplicate"].colour, "-", "box that removed it"),
    }
    with style():
        figure = picture(WIDTH, WIDTH / max(len(examples), 2) + 0.95)
        axes = np.atleast_1d(figure.subplots(1, len(examples)))
        for ax, (title, image, boxes) in zip(axes, examples, strict=True):
            rows = boxes.set_index("kind")
            corners = rows[["x1", "y1", "x2", "y2"]].astype(float)
            outer = [*corners[["x1", "y1"]].min(), *corners[["x2", "y2"]].max()]
            _crop(ax, draw.as_image(image), outer, 10)
            said = []
            for kind, (colour, line, _) in looks.items():
                draw.show_boxes(ax, [corners.loc[kind]], "#10151d", 3.4, alpha=0.6)
                draw.show_boxes(ax, [corners.loc[kind]], colour, 1.8, line)
            for kind, text in (("best", "removed"), ("suppressor", "kept")):
                row = rows.loc[kind]
                said.append(f"{text}: score {row['score']:.2f}, IoU {row['iou']:.2f}")
            ax.set_title(title)
            ax.set_xlabel("\n".join(said), fontsize=7.5, labelpad=4)
        handles = [
            Line2D([], [], color=c, ls=line, lw=1.8, label=t, path_effects=[withStroke(linewidth=3.2, foreground=INK)])
            for c, line, t in looks.values()
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
    figure.caption = (
        "For each method the object that loses most IoU to NMS: its best box before NMS has the lower score and is "
        "removed by a worse one. Chosen as the worst case, not as a typical one."
    )
    return figure


def adjacency_profiles(profiles: pd.DataFrame, steps: pd.DataFrame, threshold: float) -> Picture:
    """Label, score and IoU around objects' best points; and how far scores of opposite neighbours differ.

    Args:
        profiles: method, offset (strides), label, score, iou: means over objects.
        steps: method, difference, share: of the pairs whose |Δ score| is at most this.
        threshold: differences below it count as not told apart.
    """
    methods = by_method(profiles)
    with style():
        figure = picture(WIDTH, 4.4)
        grid = figure.add_gridspec(2, len(methods))
        for i, (look, own) in enumerate(methods):
            ax = figure.add_subplot(grid[0, i])
            ax.bar(own["offset"], own["label"], label="label", **BAR)
            ax.plot(own["offset"], own["score"], color=SCORE_INK, marker="o", label="score")
            ax.plot(own["offset"], own["iou"], color=IOU_INK, marker="^", ls=(0, (3, 1.2)), label="IoU of the box")
            ax.set(ylim=(0, 1.05), title=look.name, xlabel="strides from the best point")
            label_first(ax, i, "mean over objects")
        figure.legend(*ax.get_legend_handles_labels(), loc="outside upper right", ncols=3)
        ax = figure.add_subplot(grid[1, :])
        for look, own in by_method(steps):
            ax.plot(own["difference"], own["share"], markevery=10, **look.marked)
        ax.axvline(threshold, color=SOFT, lw=0.8, ls=(0, (2, 2)))
        ax.text(threshold + 0.008, 0.04, f"{threshold:g}: not told apart below", fontsize=7, color=SOFT)
        ax.set_title("neighbouring points, one positive and one negative under FCOS's rule")
        ax.set(
            xlim=(0, 1), ylim=UNIT, xlabel="|score of the positive − score of the negative|", ylabel="share of pairs"
        )
        ax.legend(loc="lower right")
    figure.caption = (
        "Above: what points are taught, what they score and how good their box is, along the row and column through "
        "each object's best point. Below: share of the neighbouring pairs, opposite under FCOS's hard rule for every "
        "method, whose scores differ by at most so much."
    )
    return figure


def reliability_curves(curves: pd.DataFrame) -> Picture:
    """Score as a predictor of IoU: method, score, iou, count (and low, high) of bins of score."""
    with style():
        figure = picture(WIDTH, 3.7)
        ax, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        ax.plot([0, 1], [0, 1], color=SOFT, lw=0.8, ls=(0, (2, 2)))
        methods = by_method(curves[curves["count"] > 0])
        for i, (look, own) in enumerate(methods):
            ax.plot(own["score"], own["iou"], **look.marked)
            width = 0.09 / len(methods)
            middle = (own["low"] + own["high"]) / 2 + beside(len(methods), i, width)
            below.bar(middle, own["count"], width=width, color=look.colour)
        ax.set(xlim=UNIT, ylim=UNIT, ylabel="mean IoU")
        ax.legend(loc="upper left")
        below.set(xlabel="score, bins of 0.1", ylabel="detections", yscale="log")
    figure.caption = (
        "Mean IoU of the detections in each bin of score, background detections included as IoU 0. On the dashed line "
        "the score would be the IoU that can be expected. Below, how many detections a bin holds (logarithmic)."
    )
    return figure


def lost_to_nms(losses: pd.DataFrame) -> Picture:
    """Share of objects that lose more than so much IoU to NMS: method, loss, share."""
    with style():
        figure = picture(WIDTH, 2.8)
        ax = figure.subplots()
        for look, own in by_method(losses):
            ax.plot(own["loss"], own["share"], markevery=5, **look.marked)
        for mark in (0.05, 0.1):
            ax.axvline(mark, color=SOFT, lw=0.7, ls=(0, (2, 2)))
        ax.set(xlim=(0, losses["loss"].max()), ylim=(0, None), xlabel="IoU lost to NMS: best before − best after",
               ylabel="share of objects that lose more")  # fmt: skip
        ax.legend(loc="upper right")
    figure.caption = (
        "Share of the objects with a candidate of IoU ≥ 0.5 whose best box is worse by more than x after NMS."
    )
    return figure


def oracle_scores(table: pd.DataFrame) -> Picture:
    """AP with scores or boxes replaced: method, variant, AP, low, high (interval, NaN with a single seed)."""
    methods = by_method(table)
    variants = [v for v in ORACLES if v in set(table["variant"])]
    with style():
        figure = picture(WIDTH, 0.4 * len(variants) + 0.85)
        ax = figure.subplots()
        for i, (look, own) in enumerate(methods):
            own = own.set_index("variant").reindex(variants)
            middle, low, high = (100 * own[c].to_numpy(dtype=float) for c in ("AP", "low", "high"))
            y = np.arange(len(variants)) + beside(len(methods), i, 0.2)
            error = np.nan_to_num([middle - low, high - middle])
            drawn: Any = {"fmt": look.marker, "color": look.colour, "ms": 5.5, "elinewidth": 1.2, "label": look.name}
            ax.errorbar(middle, y, xerr=error, **drawn)
            for x, end, at in zip(middle, np.fmax(middle, high), y, strict=True):
                if np.isfinite(x):
                    ax.text(end + 1, at, f"{x:.1f}", fontsize=6.5, va="center_baseline", color=INK)
        ax.set_yticks(range(len(variants)), [ORACLES[v] for v in variants])
        ax.set(ylim=(len(variants) - 0.5, -0.5), xlim=(0, 100), xlabel="AP, points of 100")
        ax.grid(axis="y", visible=False)
        ax.legend(loc="lower right", fontsize=7)
    figure.caption = (
        "AP of the same candidates when their scores, or their boxes, are replaced by what an oracle knows."
    )
    return figure


def binned(score: Any, iou: Any, name: str) -> pd.DataFrame:
    """Counts on the score–IoU plane: method, score, iou (centres of `CELLS` × `CELLS` cells), count > 0."""
    count, _, _ = np.histogram2d(np.asarray(score), np.asarray(iou), bins=CELLS, range=((0, 1), (0, 1)))
    column, row = count.nonzero()
    centre = (np.arange(CELLS) + 0.5) / CELLS
    values = count[column, row].astype(int)
    return pd.DataFrame({"method": name, "score": centre[column], "iou": centre[row], "count": values})


def _crop(ax: Axes, pixels: np.ndarray, box: Sequence[float], margin: float, dim: bool = False) -> float:
    """A square part of an image around a box, with a margin in pixels; returns half its side."""
    size = (int(pixels.shape[0]), int(pixels.shape[1]))
    draw.show_image(ax, draw.backdrop(pixels, 1200)[1 if dim else 0], size)
    x1, y1, x2, y2 = box
    half, x, y = max(x2 - x1, y2 - y1) / 2 + margin, (x1 + x2) / 2, (y1 + y2) / 2
    ax.set(xlim=(x - half, x + half), ylim=(y + half, y - half), facecolor="#11151c")
    return float(half)


def _value(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "n/a"


def method_rows(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Tables by method → one table with a column method, in the order of all figures."""
    return pd.concat([tables[n].assign(method=method(n).name) for n in ordered(list(tables))], ignore_index=True)

