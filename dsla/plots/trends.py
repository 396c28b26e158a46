"""Figures over many runs, with what was published beside what was measured here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from .style import INK, SOFT, WIDTH, Picture, by_method, method, picture, style

PUBLISHED = {  # runs of the release; grey and dash tell them apart without colour
    "r50-1x": (INK, "-"),
    "r101-dcn-2x": ("#7a5195", (0, (4, 1.5))),
    "swin-s-dcn-3x": ("#2a7f62", (0, (1, 1.2))),
}
_OURS: Any = {"color": method("DSLA").colour, "marker": "D", "ls": "none", "ms": 5.5}
_PAPER: Any = {"color": INK, "marker": "o", "ls": "none", "ms": 5.5, "mfc": "white", "mew": 1.2}


def ablation(table: pd.DataFrame) -> Picture:
    """Settings of the ablation: AP here, and AP against the first setting here and in the paper.

    table: setting, source, seed, AP, low, high, gain, gain_low, gain_high, as `dsla.paper.tables.study_table` has them.
    """
    settings = list(dict.fromkeys(table["setting"]))
    table = table.assign(at=table["setting"].map(settings.index))
    with style():
        figure = picture(WIDTH, 0.36 * len(settings) + 1.15)
        left, right = figure.subplots(1, 2, sharey=True)
        _gains(figure, left, right, table, "AP against the first row")
        _rows(left, settings)
    figure.caption = "The paper's way from FCOS to DSLA, one step at a time. " + _how(table)
    return figure


def gamma_sweep(table: pd.DataFrame) -> Picture:
    """AP over the relaxation γ, here and in the paper; table as in `ablation`, setting is γ."""
    table = table.assign(at=table["setting"].astype(float))
    with style():
        figure = picture(WIDTH, 2.9)
        left, right = figure.subplots(1, 2, sharex=True)
        _gains(figure, left, right, table, "AP against γ = 0.2", upright=True)
        left.set(xlabel="relaxation γ")
        right.set(xlabel="relaxation γ", xticks=sorted(set(table["at"])))
    figure.caption = "How wide the regression ranges are relaxed, with everything else of DSLA on. " + _how(table)
    return figure


def _gains(figure: Picture, left: Axes, right: Axes, table: pd.DataFrame, gain: str, upright: bool = False) -> None:
    """AP on the left, what is gained on the right; values upwards or to the right."""
    _points(left, table, "AP", "low", "high", upright=upright)
    _points(right, table, "gain", "gain_low", "gain_high", table, upright=upright)
    label, zero = ("ylabel", right.axhline) if upright else ("xlabel", right.axvline)
    zero(0, color=SOFT, lw=0.8)
    for ax, text in ((left, "AP on the embedded set, points of 100"), (right, gain)):
        ax.set(**{label: text})
        if upright:
            ax.margins(0.08)
        else:
            ax.margins(x=0.12)
            ax.grid(axis="y", visible=False)
    figure.legend(*right.get_legend_handles_labels(), loc="outside upper right", ncols=3)


def _rows(ax: Axes, titles: list[str]) -> None:
    ax.set_yticks(range(len(titles)), titles)
    ax.set_ylim(len(titles) - 0.5, -0.5)


def _seeds(counts: pd.Series) -> str:
    seeds = sorted(set(counts))
    return f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"


def conditions(table: pd.DataFrame) -> Picture:
    """What DSLA's lead over FCOS with centerness depends on, one row a condition; `condition_table`."""
    titles = list(dict.fromkeys(table["condition"]))
    numbers = {"AP": 100, "Spearman": 1, "lost > 0.05": 1}
    with style():
        figure = picture(WIDTH, 0.3 * len(titles) + 1.1)
        axes = figure.subplots(1, len(numbers), sharey=True)
        for ax, (number, scale) in zip(axes, numbers.items(), strict=True):
            rows = table[table["number"] == number]
            mean = scale * rows["difference"]
            error = np.stack([mean - scale * rows["low"], scale * rows["high"] - mean])
            ax.errorbar(mean, [titles.index(t) for t in rows["condition"]], xerr=error, elinewidth=1.2, **_OURS)
            ax.axvline(0, color=SOFT, lw=0.8)
            ax.set_xlabel("AP, points of 100" if number == "AP" else number)
            ax.grid(axis="y", visible=False)
            ax.margins(x=0.12)
        _rows(axes[0], titles)
    figure.caption = (
        "DSLA minus FCOS with centerness on the embedded set: AP, Spearman correlation of score and IoU, share of the "
        "objects whose best box NMS replaces by one that is worse by more than 0.05 IoU (here less is better). Each "
        "row changes one thing of the first, for both. Differences between runs of the same seed: mean and 95 % "
        f"interval (Student's t), {_seeds(table['seeds'])} seeds."
    )
    return figure


def _points(
    ax: Axes, table: pd.DataFrame, value: str, low: str, high: str, beside: pd.DataFrame | None = None,
    upright: bool = False,
) -> None:  # fmt: skip
    """Means with intervals, the seeds as dots, and, beside them, what the paper has, with its AP."""
    ours, paper = table[table["source"] == "embedded set"], table[table["source"] != "embedded set"]
    mean, seeds = ours[ours["seed"].isna()], ours[ours["seed"].notna()]
    step = 0.0 if beside is None else (0.008 if upright else 0.14)

    def put(rows: pd.DataFrame, side: float, **look: Any) -> None:
        x, y = 100 * rows[value].astype(float), rows["at"] + side * step
        error = 100 * np.stack([rows[value] - rows[low], rows[high] - rows[value]]).astype(float)
        if upright:
            ax.errorbar(y, x, yerr=error, elinewidth=1.2, **look)
        else:
            ax.errorbar(x, y, xerr=error, elinewidth=1.2, **look)

    dots = (100 * seeds[value].astype(float), seeds["at"] - step)
    ax.scatter(*(dots[::-1] if upright else dots), s=9, color=_OURS["color"], alpha=0.4, lw=0, label="each seed")
    put(mean, -1, label="embedded set, mean and 95 %", **_OURS)
    if beside is None:
        for x, y in zip(100 * mean["AP"], mean["at"], strict=True):
            at = (y, x) if upright else (x, y)
            ax.annotate(f"{x:.1f}", at, xytext=(6, 5), textcoords="offset points", fontsize=7)
    elif len(paper):
        put(paper, 1, label="paper, COCO (AP beside it)", **_PAPER)
        for ap, gain, y in zip(100 * paper["AP"], 100 * paper["gain"], paper["at"] + step, strict=True):
            place: Any = {"xytext": (7, -3), "textcoords": "offset points", "fontsize": 7, "color": SOFT}
            ax.annotate(f"{ap:.1f}", (y, gain) if upright else (gain, y), **place)


def _how(table: pd.DataFrame) -> str:
    ours = table[table["seeds"].notna()]
    text = "Published: COCO val2017, ResNet-50, 12 epochs, one run each; where no number is known, none is drawn."
    if not len(ours):
        return text
    return (
        f"Embedded set: {ours['steps'].iloc[0]:,} steps of training, {ours['images'].iloc[0]} scenes, "
        f"{_seeds(ours['seeds'])} seeds a setting; mean and 95 % interval over seeds (Student's t), "
        f"differences between runs of the same seed. {text}"
    )


def training_curves(table: pd.DataFrame) -> Picture:
    """Loss and AP in training: of our runs by step, of the release's by epoch; `dsla.paper.tables.curve_table`."""
    ours, release = (table[(table["source"] == "embedded set") == here] for here in (True, False))
    with style():
        figure = picture(WIDTH, 4.6)
        axes = figure.subplots(2, 2, sharex="col")
        for line, name in zip(axes, ("loss", "AP"), strict=True):
            scale = 100 if name == "AP" else 1
            mine = ours[ours["name"] == name]
            for look, runs in by_method(mine):
                spread = runs.groupby("x")["value"].agg(["mean", "min", "max"]) * scale
                line[0].fill_between(spread.index, spread["min"], spread["max"], color=look.colour, alpha=0.18, lw=0)
                line[0].plot(spread.index, spread["mean"], **look.drawn)
            for run, rows in release[release["name"] == name].groupby("method", sort=False):
                colour, dash = PUBLISHED[str(run)]
                rows = rows.sort_values("x")
                label = f"{run} (published)"
                line[1].plot(rows["x"], rows["value"] * scale, color=colour, ls=dash, lw=1.2, label=label)
            line[0].set_ylabel("loss" if name == "loss" else "AP, points of 100")
            for ax in line:
                ax.set_ylim(0, 2.0 if name == "loss" else None)
        axes[0, 0].set(title="runs on the embedded set")
        axes[0, 1].set(title="the release's runs on COCO")
        axes[1, 0].set(xlabel="steps")
        axes[1, 1].set(xlabel="epochs")
        axes[0, 0].legend(loc="upper right")
        axes[1, 1].legend(loc="lower right")
    seeds = ours["seed"].nunique()
    figure.caption = (
        f"Left, small detectors on the embedded set: mean over {seeds} seed{'s' * (seeds != 1)}, the band from the "
        "least to the greatest; AP on its validation scenes. Right, the training logs of the authors' release "
        "(published, not run here): loss, mean of 50 iterations, and AP on COCO val2017 after each epoch. Losses of "
        "FCOS and DSLA are different functions: their shapes can be compared, their heights cannot. Cut at 2."
    )
    return figure
