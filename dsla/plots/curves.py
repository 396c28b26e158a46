"""Curves of training runs, from the rows of their log.jsonl: progress, losses, and AP over epochs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ..recipes.recipe import Recipe
from ..training.schedule import total_steps
from .style import FAINT, SOFT, WIDTH, Picture, caption, drawing, method, rows_of

Rows = Sequence[Mapping[str, Any]]
LOSSES = {"loss_cls": "classification loss", "loss_box": "box loss"}


def steps_of(log: Rows) -> int:
    """Steps of the whole run: a log's first row holds its recipe and the number of images; 0 before it is there."""
    if not log:
        return 0
    return total_steps(Recipe.from_dict(log[0]["recipe"]), log[0]["images"])


def losses_of(log: Rows) -> pd.DataFrame:
    """One row a logged step: step, epoch, the losses, images_per_s."""
    return pd.DataFrame([row for row in log if "loss" in row])


def evaluations_of(log: Rows) -> pd.DataFrame:
    """One row an evaluation: step, epoch, and the COCO numbers (0…1)."""
    rows = [row for row in log if row.get("event") == "evaluate"]
    if not rows:
        return pd.DataFrame(columns=["step", "epoch", "AP"])
    a_step = log[0]["recipe"]["batch_size"] / max(log[0]["images"], 1)
    return pd.DataFrame([{"epoch": row["step"] * a_step, **row} for row in rows]).drop(columns="event")


def _done(log: Rows, step: int | None) -> int:
    """Steps that are done: as far as the log says, or `step` if that is further."""
    return max([step or 0, *(row["step"] for row in log if "loss" in row)])


def progress_of(log: Rows, step: int | None = None) -> str:
    """ "120 of 200 steps, 96 images/s, 14 s left": as far as a log says, or `step` if that is further."""
    total, done, losses = steps_of(log), _done(log, step), losses_of(log)
    if not total:
        return "waiting"
    text = f"{done:,} of {total:,} steps"
    if len(losses):
        speed = float(losses["images_per_s"].iloc[-1])
        left = (total - done) * log[0]["recipe"]["batch_size"] / max(speed, 1e-9)
        text += f", {speed:.0f} images/s"
        text += f", {_span(left)} left" if done < total else ""
    return text


def _span(seconds: float) -> str:
    for length, unit, digits in ((3600, "h", 1), (60, "min", 0)):
        if seconds >= 1.7 * length:
            return f"{seconds / length:.{digits}f} {unit}"
    return f"{seconds:.0f} s"


def training(logs: Mapping[str, Rows], steps: Mapping[str, int] | None = None) -> Picture:
    """A bar for the progress of each run; below, its losses and its AP over epochs.

    Args:
        logs: rows of log.jsonl by the run's name (a method's name or a recipe's gives its colour).
        steps: how far a run is, where that is more than its log says.
    """
    steps = steps or {}
    high = 0.21 * max(len(logs), 1)  # of the bars, inches
    # Places in inches instead of a computed layout: quicker, and nothing moves from one picture to the next.
    height = high + 2.55
    with drawing(height, caption("training"), layout=None) as figure:
        bars = figure.add_axes((1.3 / WIDTH, 2.47 / height, 2.9 / WIDTH, high / height))
        for i, (name, log) in enumerate(logs.items()):
            bars.barh(i, 1, color=FAINT, height=0.62)
            share = _done(log, steps.get(name)) / (steps_of(log) or np.inf)
            bars.barh(i, share, color=method(name).colour, height=0.62)
            bars.text(1.02, i, progress_of(log, steps.get(name)), va="center_baseline", fontsize=7.5)
        rows_of(bars, logs)
        bars.set(xlim=(0, 1), xticks=[])
        bars.spines[:].set_visible(False)
        bars.tick_params(length=0)
        places = {"left": 0.35 / WIDTH, "right": 1 - 0.42 / WIDTH, "bottom": 0.42 / height, "top": 2.12 / height}
        panels = figure.subplots(1, 3, gridspec_kw=places | {"wspace": 0.2254})
        for ax, (column, title) in zip(panels, LOSSES.items(), strict=False):
            for name, log in logs.items():
                losses = losses_of(log)
                if column in losses:
                    look = method(name).drawn | {"label": name}
                    ax.plot(losses["epoch"], losses[column], **look, clip_on=False)
            ax.set(title=title, xlabel="epoch", ylim=(0, None), xlim=(0, None))
        _ap_lines(panels[2], logs)
        ends = [float(frame["epoch"].max()) for frame in map(losses_of, logs.values()) if len(frame)]
        panels[2].set(title="AP, points of 100", xlabel="epoch", ylim=(0, None), xlim=(0, max([1.0, *ends])))
    return figure


def beside_published(
    logs: Mapping[str, Rows], published: Mapping[str, pd.DataFrame], *, together: bool, note: str = ""
) -> Picture:
    """AP over epochs: runs, and published curves, on the same axes where that is a comparison, else on their own.

    Args:
        logs: rows of log.jsonl by name.
        published: by name, a table with columns epoch and AP (0…1).
        together: whether data and recipe are the same.
        note: title of the published curves' panel.
    """
    with drawing(2.7, caption("epochs")) as figure:
        axes = [figure.subplots()] * 2 if together else list(figure.subplots(1, 2))
        _ap_lines(axes[0], logs)
        for i, (name, table) in enumerate(published.items()):
            dashes: Any = ((0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1, 1, 1)))[i % 3]
            label = f"{name}, published"
            axes[1].plot(table["epoch"], 100 * table["AP"], label=label, marker=".", color=SOFT, ls=dashes, lw=1.4)
        axes[0].set_ylabel("AP, points of 100")
        axes[0].set_title("this run and the published one" if together else "this run")
        if not together:
            axes[1].set_title(note or "published")
        for ax in dict.fromkeys(axes):
            ax.set(xlabel="epoch", ylim=(0, None), xlim=(0, None))
            if ax.get_legend_handles_labels()[0]:
                ax.legend(loc="lower right")
    return figure


def _ap_lines(ax: Axes, logs: Mapping[str, Rows]) -> None:
    for name, log in logs.items():
        rows = evaluations_of(log).dropna(subset="AP")
        ax.plot(rows["epoch"], 100 * rows["AP"], **method(name).marked | {"label": name}, clip_on=False)
