"""The figures of the report: tidy tables in, one figure out, nothing computed but what is drawn.

Tables have a column `method`; where there are several seeds, a column `seed`. Methods keep colour, marker, line
and order everywhere. Figures on images take the image, too.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm, Normalize
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from . import draw, style
from .style import ERRORS, FAINT, INK, LABELS, ORACLES, SOFT, UNIT, VERDICTS, WIDTH, Picture

CELLS = 40  # of the score–IoU plane, a side
CLIFF = 0.5  # labels of neighbours that differ by more
SCORE_INK = "#c2410c"
BAR: Any = {"width": 0.86, "color": "#d9dde5", "edgecolor": "#aab1bd", "linewidth": 0.6}


def labels_and_scores(image: Any, box: Sequence[float], points: pd.DataFrame) -> Picture:
    """Inconsistency 1 on one object: what its points are taught, and what the model scores there.

    Args:
        points: of `examples.object_points` with a column method: level, row, column, x, y, stride, label, score,
            best (bool: the row of the grid that the lower panels follow is the one of this point).
    First the object itself. Above, every point around it, filled by its label, with its score in it; below, label and
    score along the row of points through the object's best one.
    """
    pixels = draw.as_image(image)
    methods = style.by_method(points)
    with style.drawing(4.7, style.caption("labels-and-scores", cliff=CLIFF)) as figure:
        grid = figure.add_gridspec(2, len(methods) + 1, height_ratios=(1.4, 1))
        upper = [figure.add_subplot(grid[0, i]) for i in range(len(methods) + 1)]
        for i, ax in enumerate(upper):
            half = draw.show_near(ax, pixels, box, 1.5 * points["stride"].max(), dim=i > 0)
            draw.show_boxes(ax, [box], "#ffffff", 1.2)
        upper[0].set_title("the object")
        for i, (look, rows) in enumerate(methods):
            best, ax = rows[rows["best"]].iloc[0], upper[i + 1]
            rows = rows[rows["level"] == best["level"]]
            inches = min(0.9 * WIDTH / (len(methods) + 1), 2.3)  # the panel's side
            spacing = best["stride"] / (2 * half) * 72 * inches  # of circles, points
            edge = ["white" if label > 0 else "#9aa3b2" for label in rows["label"]]
            fill: Any = {"cmap": LABELS, "norm": Normalize(0, 1), "edgecolors": edge, "linewidths": 0.7, "zorder": 5}
            dots = ax.scatter(rows["x"], rows["y"], s=min(0.86 * spacing, 24) ** 2, c=rows["label"], **fill)
            font = min(0.36 * spacing, 7)
            for x, y, label, score in rows[["x", "y", "label", "score"]].itertuples(index=False):
                dark = INK if label > 0.55 else "white"
                place: Any = {"ha": "center", "va": "center_baseline", "zorder": 6, "clip_on": True}
                ax.text(x, y, f"{score:.2f}".removeprefix("0"), fontsize=font, color=dark, **place)
            cliffs = _cliffs(rows)
            many = draw.many(len(cliffs), "label step") + f" over {CLIFF:g}"
            ax.set_title(look.name)
            ax.set_xlabel(many + (f"\nscores: {cliffs.mean():+.2f} on average" if len(cliffs) else ""), fontsize=7.5)
            row = rows[rows["row"] == best["row"]].sort_values("x")
            below = figure.add_subplot(grid[1, i + 1])
            offset = ((row["x"] - best["x"]) / best["stride"]).round(3)
            below.bar(offset, row["label"], label="label", **BAR)
            below.plot(offset, row["score"], color=SCORE_INK, marker="o", label="score", zorder=4)
            below.set(ylim=(0, 1.05), xlabel="strides from best point")
            style.label_first(below, i, "label, score")
        corner = figure.add_subplot(grid[1, 0])
        corner.axis("off")
        corner.legend(*below.get_legend_handles_labels(), loc="upper left")
        scale = corner.inset_axes((0.05, 0.35, 0.75, 0.06))
        bar = figure.colorbar(dots, cax=scale, orientation="horizontal", ticks=[0, 0.5, 1], label="label")
        bar.outline.set_visible(False)
    return figure


def score_iou(cells: pd.DataFrame, numbers: pd.DataFrame, after_nms: bool = True) -> Picture:
    """Inconsistency 2: score against IoU of all detections, with the margins.

    Args:
        cells: `binned`: method, score, iou (centres of cells), count.
        numbers: method, spearman, pearson, boxes, iou_threshold (of the boxes that the correlations are of).
        after_nms: whether it is known that the detections come from NMS; the caption says so.
    """
    methods = style.by_method(cells)
    top = max(cells["count"].max(), 2)
    with style.drawing(3.1) as figure:
        grid = figure.add_gridspec(
            2, 2 * len(methods), height_ratios=(1, 4.4), width_ratios=(4.4, 1) * len(methods), hspace=0.02, wspace=0.02
        )
        for i, (look, rows) in enumerate(methods):
            number = numbers[numbers["method"] == rows["method"].iloc[0]].iloc[0]
            density = np.zeros((CELLS, CELLS))
            column, row = ((rows[axis] * CELLS).astype(int) for axis in ("score", "iou"))
            density[row, column] = rows["count"]
            ax = figure.add_subplot(grid[1, 2 * i])
            edges = np.linspace(0, 1, CELLS + 1)
            masked = np.ma.masked_equal(density, 0)
            mesh = ax.pcolormesh(edges, edges, masked, cmap="Greys", norm=LogNorm(0.5, top), rasterized=True)
            ax.set(xlim=UNIT, ylim=UNIT, xlabel="score")
            ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
            above, right = figure.add_subplot(grid[0, 2 * i]), figure.add_subplot(grid[1, 2 * i + 1])
            counted = density * (edges[:-1, None] + 0.5 / CELLS > number["iou_threshold"])
            above.stairs(counted.sum(0), edges, fill=True, color=look.colour)
            right.stairs(counted.sum(1), edges, fill=True, color=look.colour, orientation="horizontal")
            above.set(xlim=UNIT)
            right.set(ylim=UNIT)
            for margin in (above, right):
                margin.axis("off")
            above.set_title(look.name)
            ax.axhline(number["iou_threshold"], color=SOFT, lw=0.7, ls=(0, (2, 2)))
            text = f"Spearman {style.number_text(number['spearman'])}\nPearson {style.number_text(number['pearson'])}"
            text += f"\n{number['boxes']:,.0f} boxes"
            ax.text(0.97, 0.03, text, transform=ax.transAxes, ha="right", va="bottom", fontsize=7,
                    bbox={"facecolor": "white", "alpha": 0.85, "edgecolor": FAINT, "pad": 2.5})  # fmt: skip
            style.label_first(ax, i, "IoU with the object")
        bar = figure.colorbar(mesh, ax=figure.axes, shrink=0.6, pad=0.01, aspect=30)
        bar.set_label("detections")
        bar.outline.set_visible(False)
    least, after = numbers["iou_threshold"].iloc[0], ", after NMS" if after_nms else ""
    figure.caption = style.caption("score-and-iou", least=least, after=after)
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
    with style.drawing(WIDTH / max(len(examples), 2) + 0.95, style.caption("suppressed")) as figure:
        axes = np.atleast_1d(figure.subplots(1, len(examples)))
        for ax, (title, image, boxes) in zip(axes, examples, strict=True):
            rows = boxes.set_index("kind")
            corners = rows[["x1", "y1", "x2", "y2"]].astype(float)
            outer = [*corners[["x1", "y1"]].min(), *corners[["x2", "y2"]].max()]
            draw.show_near(ax, draw.as_image(image), outer, 10)
            for kind, (colour, line, _) in looks.items():
                draw.show_boxes(ax, [corners.loc[kind]], "#10151d", 3.4, alpha=0.6)
                draw.show_boxes(ax, [corners.loc[kind]], colour, 1.8, line)
            numbers = rows.loc[["best", "suppressor"], ["score", "iou"]].to_numpy(dtype=float)
            texts = [f"score {score:.2f}, IoU {iou:.2f}" for score, iou in numbers]
            ax.set_title(title)
            ax.set_xlabel("removed: {}\nkept: {}".format(*texts), fontsize=7.5, labelpad=4)
        handles = [
            Line2D([], [], color=c, ls=line, lw=1.8, label=t, path_effects=[withStroke(linewidth=3.2, foreground=INK)])
            for c, line, t in looks.values()
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def adjacency_profiles(profiles: pd.DataFrame, steps: pd.DataFrame, threshold: float) -> Picture:
    """Labels and scores across single objects; and how far scores of opposite neighbours differ.

    Args:
        profiles: method, image, gt, place (0 and 1: the sides of the object's box), label, score.
        steps: method, difference, share: of the pairs whose |Δ score| is at most this.
        threshold: differences below it count as not told apart.
    """
    methods = style.by_method(profiles)
    objects = len(profiles[["image", "gt"]].drop_duplicates())
    with style.drawing(5.6, style.caption("neighbours", objects=objects)) as figure:
        grid = figure.add_gridspec(3, len(methods))
        for i, (look, table) in enumerate(methods):
            upper, lower = (figure.add_subplot(grid[row, i]) for row in range(2))
            for first, (_, rows) in enumerate(table.sort_values("place").groupby(["image", "gt"])):
                line: Any = {"lw": 0.8, "alpha": 0.4} if first else {"lw": 2, "zorder": 5}
                upper.plot(rows["place"], rows["label"], color=INK, drawstyle="steps-mid", **line)
                lower.plot(rows["place"], rows["score"], color=SCORE_INK, **line)
            for ax, name in ((upper, "label"), (lower, "score")):
                for side in (0, 1):
                    ax.axvline(side, color=SOFT, lw=0.7, ls=(0, (2, 2)))
                ax.set(xlim=(-0.25, 1.25), ylim=(-0.03, 1.05), xticks=[0, 0.5, 1])
                style.label_first(ax, i, name)
            upper.set(title=look.name)
            lower.set(xlabel="across the box, from side to side")
        ax = figure.add_subplot(grid[2, :])
        for look, rows in style.by_method(steps):
            ax.plot(rows["difference"], rows["share"], markevery=10, **look.marked)
        ax.axvline(threshold, color=SOFT, lw=0.8, ls=(0, (2, 2)))
        ax.text(threshold + 0.008, 0.04, f"{threshold:g}: not told apart below", fontsize=7, color=SOFT)
        ax.set_title("neighbouring points, one positive and one negative under FCOS's rule")
        ax.set(
            xlim=(0, 1), ylim=UNIT, xlabel="|score of the positive − score of the negative|", ylabel="share of pairs"
        )
        ax.legend(loc="lower right")
    return figure


def reliability_curves(curves: pd.DataFrame) -> Picture:
    """Score as a predictor of IoU: method, score, iou, count (and low, high) of bins of score."""
    with style.drawing(3.7, style.caption("reliability")) as figure:
        ax, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        ax.plot([0, 1], [0, 1], color=SOFT, lw=0.8, ls=(0, (2, 2)))
        methods = style.by_method(curves[curves["count"] > 0])
        for i, (look, rows) in enumerate(methods):
            ax.plot(rows["score"], rows["iou"], **look.marked)
            width = 0.09 / len(methods)
            middle = (rows["low"] + rows["high"]) / 2 + style.beside(len(methods), i, width)
            below.bar(middle, rows["count"], width=width, color=look.colour)
        ax.set(xlim=UNIT, ylim=UNIT, ylabel="mean IoU")
        ax.legend(loc="upper left")
        below.set(xlabel="score, bins of 0.1", ylabel="detections", yscale="log")
    return figure


def lost_to_nms(losses: pd.DataFrame) -> Picture:
    """Share of objects that lose more than so much IoU to NMS: method, loss, share."""
    with style.drawing(2.8, style.caption("lost-to-nms")) as figure:
        ax = figure.subplots()
        for look, rows in style.by_method(losses):
            ax.plot(rows["loss"], rows["share"], markevery=5, **look.marked)
        for mark in (0.05, 0.1):
            ax.axvline(mark, color=SOFT, lw=0.7, ls=(0, (2, 2)))
        ax.set(xlim=(0, losses["loss"].max()), ylim=(0, None), xlabel="IoU lost to NMS: best before − best after",
               ylabel="share of objects that lose more")  # fmt: skip
        ax.legend(loc="upper right")
    return figure


def oracle_scores(table: pd.DataFrame) -> Picture:
    """AP with scores or boxes replaced: method, variant, AP, low, high (interval, NaN with a single seed)."""
    variants = [v for v in ORACLES if v in set(table["variant"])]
    with style.drawing(0.4 * len(variants) + 0.85, style.caption("oracles")) as figure:
        ax = figure.subplots()
        for look, rows, y in style.grouped(table, "variant", variants, 0.2):
            rows = 100 * rows[["AP", "low", "high"]].astype(float)
            style.intervals(ax, rows, y, marker=look.marker, color=look.colour, label=look.name)
            for at, (ap, _, high) in zip(y[np.isfinite(rows["AP"])], rows.dropna(subset="AP").to_numpy(), strict=True):
                ax.text(np.fmax(ap, high) + 1, at, f"{ap:.1f}", fontsize=6.5, va="center_baseline", color=INK)
        style.rows_of(ax, (ORACLES[v] for v in variants))
        ax.set(xlim=(0, 100), xlabel="AP, points of 100")
        ax.legend(loc="lower right", fontsize=7)
    return figure


def error_costs(table: pd.DataFrame) -> Picture:
    """What each kind of error costs, and how many there are: method, error, gain (AP, NaN if undefined), count."""
    count = table["method"].nunique()
    thick = 0.8 / count
    with style.drawing(max(0.16 * len(ERRORS) * count + 1.4, 2.4), style.caption("errors")) as figure:
        gains, counts = figure.subplots(1, 2, sharey=True, width_ratios=(1.25, 1))
        for look, rows, y in style.grouped(table, "error", list(ERRORS), thick):
            bars: Any = {"height": 0.88 * thick, "color": look.colour, "label": look.name}
            gain, text = 100 * rows["gain"], {"fontsize": 6.5, "padding": 3}
            labels = ["n/a" if np.isnan(v) else f"{v:.1f}" for v in gain]
            gains.bar_label(gains.barh(y, gain.fillna(0), **bars), labels, **text)
            counts.bar_label(counts.barh(y, rows["count"], **bars), fmt="{:,.0f}", **text)
        gains.axvline(0, color=SOFT, lw=0.8)
        style.rows_of(gains, ERRORS.values())
        counts.grid(axis="y", visible=False)
        gains.set(xlabel="AP50 gained if put right, points of 100", title="cost")
        gains.margins(x=0.14)
        counts.set(xlabel="errors (logarithmic)", title="number")
        counts.set_xscale("symlog", linthresh=1)
        counts.set_xlim(0, 8 * max(table["count"].max(), 1))
        figure.legend(*gains.get_legend_handles_labels(), loc="outside upper right", ncols=3)
    return figure


def binned(score: Any, iou: Any, name: str) -> pd.DataFrame:
    """Counts on the score–IoU plane: method, score, iou (centres of `CELLS` × `CELLS` cells), count > 0."""
    count, _, _ = np.histogram2d(np.asarray(score), np.asarray(iou), bins=CELLS, range=((0, 1), (0, 1)))
    column, row = count.nonzero()
    centre = (np.arange(CELLS) + 0.5) / CELLS
    values = count[column, row].astype(int)
    return pd.DataFrame({"method": name, "score": centre[column], "iou": centre[row], "count": values})


def _cliffs(points: pd.DataFrame) -> pd.Series:
    """How far the scores rise where the labels of two neighbours of one level rise by more than `CLIFF`."""
    pairs = points.merge(points, how="cross", suffixes=("_b", ""))
    away = (pairs["row"] - pairs["row_b"]).abs() + (pairs["column"] - pairs["column_b"]).abs()
    return (pairs["score"] - pairs["score_b"])[(away == 1) & (pairs["label"] - pairs["label_b"] > CLIFF)]


def method_rows(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Tables by method → one table with a column method, in the order of all figures."""
    return pd.concat(
        [tables[n].assign(method=style.method(n).name) for n in style.ordered(list(tables))], ignore_index=True
    )
