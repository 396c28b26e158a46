"""Figures over many runs, with what was published beside what was measured here."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from ..coco.problems import many
from . import style
from .style import HOLLOW, PUBLISHED, SOFT, Picture

AP = "AP, points of 100"
_OURS: Any = {"color": style.method("DSLA").colour, "marker": "D"}


def ablation(table: pd.DataFrame) -> Picture:
    """Settings of the ablation: AP here, and AP against the first setting here and in the paper.

    table: setting, source, seed, AP, low, high, gain, gain_low, gain_high, as `dsla.paper.tables.study_table` has them.
    """
    return _study("ablation", table, "AP against the first row")


def gamma_sweep(table: pd.DataFrame) -> Picture:
    """AP over the relaxation γ, here and in the paper; table as in `ablation`, setting is γ."""
    return _study("gamma", table.assign(setting=table["setting"].map("γ = {:g}".format)), "AP against γ = 0.2")


def _study(name: str, table: pd.DataFrame, gained: str) -> Picture:
    """A row a setting: left AP with the seeds' dots, right what is gained, with the paper's beside it and its AP."""
    settings = list(dict.fromkeys(table["setting"]))
    numbers = ["AP", "low", "high", "gain", "gain_low", "gain_high"]
    table = table.assign(at=table["setting"].map(settings.index), **100 * table[numbers].astype(float))
    ours, paper = (table[(table["source"] == "embedded set") == here] for here in (True, False))
    mean, seeds = ours[ours["seed"].isna()], ours[ours["seed"].notna()]
    label, note = "embedded set, mean and 95 %", {"textcoords": "offset points", "fontsize": 7}
    with style.drawing(0.36 * len(settings) + 1.15, style.caption(name)) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        for ax, columns, side in ((left, numbers[:3], 0.0), (right, numbers[3:], 0.14)):
            _dots(ax, seeds[columns[0]], seeds["at"] - side)
            style.intervals(ax, mean[columns], mean["at"] - side, label=label, **_OURS)
        for ap, at in mean[["AP", "at"]].itertuples(index=False):
            left.annotate(f"{ap:.1f}", (ap, at), xytext=(6, 5), **note)
        if len(paper):
            look = HOLLOW | {"mew": 1.2, "label": "paper, COCO (AP beside it)"}
            style.intervals(right, paper[numbers[3:]], paper["at"] + side, **look)
        for ap, gain, at in paper[["AP", "gain", "at"]].itertuples(index=False):
            right.annotate(f"{ap:.1f}", (gain, at + side), xytext=(7, -3), color=SOFT, **note)
        right.axvline(0, color=SOFT, lw=0.8)
        left.set(xlabel="AP on the embedded set, points of 100")
        right.set(xlabel=gained)
        right.grid(axis="y", visible=False)
        style.rows_of(left, settings)
        figure.legend(*right.get_legend_handles_labels(), loc="outside upper right", ncols=3)
    if len(runs := table[table["seeds"].notna()]):
        about = {"steps": runs["steps"].iloc[0], "images": runs["images"].iloc[0], "seeds": _seeds(runs["seeds"])}
        figure.caption += style.caption("here", **about)
    figure.caption += style.caption("published")
    return figure


def _dots(ax: Axes, x: pd.Series, y: pd.Series) -> None:
    """A faint dot for every seed."""
    ax.scatter(x, y, s=9, color=_OURS["color"], alpha=0.4, lw=0, label="each seed")
    ax.margins(x=0.12)


def _seeds(counts: pd.Series) -> str:
    low, high = counts.min(), counts.max()
    return f"{low}" if low == high else f"{low} to {high}"


def conditions(table: pd.DataFrame) -> Picture:
    """What DSLA's lead over FCOS with centerness depends on, one row a condition; `condition_table`."""
    titles = list(dict.fromkeys(table["condition"]))
    with style.drawing(0.3 * len(titles) + 1.1, style.caption("conditions", seeds=_seeds(table["seeds"]))) as figure:
        axes = figure.subplots(1, 3, sharey=True)
        for ax, (number, scale) in zip(axes, {"AP": 100, "Spearman": 1, "lost > 0.05": 1}.items(), strict=True):
            rows = table[table["number"] == number]
            measured = scale * rows[["difference", "low", "high"]].astype(float)
            at = rows["condition"].map(titles.index)
            seeds = rows.assign(at=at).explode("each")
            _dots(ax, scale * seeds["each"].astype(float), seeds["at"] + 0.2)
            style.intervals(ax, measured, at, **_OURS)
            ax.axvline(0, color=SOFT, lw=0.8)
            ax.locator_params(axis="x", nbins=4)
            ax.set_xlabel(AP if number == "AP" else number)
            ax.grid(axis="y", visible=False)
        style.rows_of(axes[0], titles)
    return figure


def protocol(table: pd.DataFrame) -> Picture:
    """AP along the runs of the protocol, every run a point, a panel a start; `dsla.paper.tables.protocol_table`."""
    with style.drawing(3.4) as figure:
        starts = list(dict.fromkeys(table["start"]))
        axes = figure.subplots(1, len(starts), sharey=True, squeeze=False)[0]
        for place, (ax, start) in enumerate(zip(axes, starts, strict=True)):
            mine = table[table["start"] == start].assign(AP=lambda t: 100 * t["AP"].astype(float))
            looks = style.by_method(mine)
            for i, (look, rows) in enumerate(looks):
                curve, end = (rows[rows["scenes"] == scenes] for scenes in ("validation", "test"))
                ax.plot(curve.groupby("step")["AP"].mean(), **look.drawn, lw=1.2)
                ax.scatter(curve["step"], curve["AP"], s=7, color=look.colour, alpha=0.5, lw=0)
                x = (1.06 + style.beside(len(looks), i, 0.015)) * end["step"]
                ax.scatter(x, end["AP"], s=16, color=look.colour, marker=look.marker)
            ax.set(title=f"{start} start", xlabel="steps; right, test images")
            style.label_first(ax, place, AP)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.caption = style.caption("protocol", seeds=_seeds(table.groupby(["start", "method"])["seed"].nunique()))
    return figure


def training_curves(table: pd.DataFrame) -> Picture:
    """Loss and AP in training: of our runs by step, of the release's by epoch; `dsla.paper.tables.curve_table`."""
    ours, release = (table[(table["source"] == "embedded set") == here] for here in (True, False))
    with style.drawing(4.6, style.caption("training-curves", seeds=many(ours["seed"].nunique(), "seed"))) as figure:
        axes = figure.subplots(2, 2, sharex="col")
        for (left, right), (name, scale, top) in zip(axes, (("loss", 1, 2.0), ("AP", 100, None)), strict=True):
            for look, runs in style.by_method(ours[ours["name"] == name]):
                left.scatter(runs["x"], runs["value"] * scale, s=9, color=look.colour, alpha=0.5, lw=0)
                left.plot(runs.groupby("x")["value"].mean() * scale, **look.drawn, lw=1.2)
            for run, rows in release[release["name"] == name].groupby("method", sort=False):
                rows = rows.sort_values("x")
                drawn = PUBLISHED[str(run)].drawn | {"label": f"{run} (published)"}
                right.plot(rows["x"], rows["value"] * scale, **drawn, lw=1.2)
            left.set(ylabel=AP if name == "AP" else name, ylim=(0, top))
            right.set(ylim=(0, top))
        axes[0, 0].set(title="runs on the embedded set")
        axes[0, 1].set(title="the release's runs on COCO")
        axes[1, 0].set(xlabel="steps")
        axes[1, 1].set(xlabel="epochs")
        axes[0, 0].legend(loc="upper right")
        axes[1, 1].legend(loc="lower right")
    return figure
