"""Pictures of the method itself, computed by the functions that assign and train, and of what its measures react to."""

from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle

from ..assigners import DSLA, Pairs
from ..losses import quality_focal_loss
from .style import HOLLOW, LABELS, SOFT, UNIT, Picture, caption, drawing, method, rows_of

BOX = (20.0, 28.0, 140.0, 108.0)  # the example of `centerness_maps`, pixels
TARGETS = (0.0, 0.3, 0.7, 1.0)
KINDS: dict[str, Any] = {
    "old": HOLLOW | {"label": "measure by an absolute threshold, or of all pairs"},
    "new": method("DSLA").marked | {"ms": 5, "ls": "none", "label": "by ranks, of the best, or against the label"},
}


def interval_table() -> pd.DataFrame:
    """kind (hard, relaxed), level, m (pixels), h: the share of the label that the regression range admits."""
    m = torch.linspace(1, 640, 640)
    rows = []
    for kind, relaxation in (("hard", None), ("relaxed", 0.2)):
        assigner = DSLA(relaxation=relaxation)
        for level in range(4):
            # a point in the middle of a box of width 2m and height 2: its largest distance is m
            one = torch.ones_like(m)
            pairs = Pairs(0 * m, 0 * m, (-m, -one, m, one), torch.tensor(1.0), torch.tensor(level))
            h = assigner.factors(pairs)["relaxation"]
            rows.append(pd.DataFrame({"kind": kind, "level": level, "m": m.numpy(), "h": h.numpy()}))
    return pd.concat(rows, ignore_index=True)


def intervals(table: pd.DataFrame) -> Picture:
    """Hard and relaxed regression ranges, from `interval_table`."""
    shades = [method("DSLA").colour, method("FCOS").colour, "#7a5195", "#2a7f62"]
    with drawing(3.4, caption("intervals")) as figure:
        for ax, kind in zip(figure.subplots(2, 1, sharex=True), ("hard", "relaxed"), strict=True):
            for level, part in table[table["kind"] == kind].groupby("level"):
                ax.plot(part["m"], part["h"], color=shades[int(level) % 4], label=f"P{int(level) + 3}")
                ax.fill_between(part["m"], part["h"], color=shades[int(level) % 4], alpha=0.12, lw=0)
            ax.set(ylim=UNIT, ylabel="h", title=f"{kind} ranges", xlim=(0, 640))
        ax.set_xlabel("m = max(l, t, r, b), pixels")
        figure.axes[0].legend(ncols=4, loc="lower right")
    return figure


def centerness_table() -> pd.DataFrame:
    """core_zone (bool), x, y, label of a fine grid of points around BOX on P3, its regression range left open."""
    y, x = torch.meshgrid(torch.arange(0, 137, 2.0), torch.arange(0, 161, 2.0), indexing="ij")
    x1, y1, x2, y2 = map(torch.tensor, BOX)
    pairs = Pairs(x, y, (x1, y1, x2, y2), torch.tensor(8.0), torch.tensor(0))
    rows = []
    for core in (False, True):
        label = DSLA(((0, 1e8),), core_zone=core).factors(pairs)["label"]
        columns = {"x": x.flatten(), "y": y.flatten(), "label": label.flatten()}
        rows.append(pd.DataFrame({k: v.numpy() for k, v in columns.items()}).assign(core_zone=core))
    return pd.concat(rows, ignore_index=True)


def centerness_maps(table: pd.DataFrame) -> Picture:
    """Centerness without and with the core zone, and along the row through the centre."""
    with drawing(2.6, caption("core-zone")) as figure:
        axes = figure.subplots(1, 3, width_ratios=(1, 1, 1.15))
        middle = (BOX[1] + BOX[3]) / 2
        for ax, core in zip(axes, (False, True), strict=False):
            part = table[table["core_zone"] == core]
            grid = part.pivot(index="y", columns="x", values="label")
            extent = (-1, 161, 137, -1)
            image = ax.imshow(grid, cmap=LABELS, norm=Normalize(0, 1), extent=extent, rasterized=True)
            x1, y1, x2, y2 = BOX
            ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec="white", lw=1))
            ax.set(title="with core zone" if core else "centerness", xticks=[], yticks=[])
            row = part[part["y"] == middle]
            name, line = ("with core zone", "-") if core else ("centerness", ":")
            axes[2].plot(row["x"], row["label"], label=name, ls=line)
        figure.colorbar(image, ax=axes[:2], label="label", shrink=0.8)
        axes[2].set(ylim=UNIT, xlabel="x through the centre, pixels")
        axes[2].legend(loc="lower center")
    return figure


def quality_focal_table() -> pd.DataFrame:
    """target, score, loss, gradient (of the loss by the logit), entropy (least value of the BCE at that target)."""
    score = np.round(np.linspace(0.01, 0.99, 99), 2)
    rows = []
    for target in TARGETS:
        logit = torch.logit(torch.tensor(score)).requires_grad_()
        y = torch.full_like(logit, target)
        loss = quality_focal_loss(logit, y)
        loss.sum().backward()
        floor = -sum(p * np.log(p) for p in (target, 1 - target) if p > 0)
        columns = {"score": score, "loss": loss.detach().numpy(), "gradient": logit.grad.numpy()}  # type: ignore[union-attr]
        rows.append(pd.DataFrame(columns).assign(target=target, entropy=floor))
    return pd.concat(rows, ignore_index=True)[["target", "score", "loss", "gradient", "entropy"]]


def quality_focal(table: pd.DataFrame) -> Picture:
    """Value and gradient of the quality focal loss against the score, for some targets."""
    import seaborn as sns

    named = table.assign(target=table["target"].map("{:g}".format))
    look: dict[str, Any] = {"hue": "target", "style": "target", "palette": "colorblind", "errorbar": None}
    with drawing(2.8, caption("quality-focal-loss")) as figure:
        value, gradient = figure.subplots(1, 2)
        sns.lineplot(named, x="score", y="loss", ax=value, **look)
        sns.lineplot(named, x="score", y="gradient", ax=gradient, legend=False, **look)
        gradient.axhline(0, color=SOFT, lw=0.7)
        value.set(xlabel="score σ", ylabel="loss", ylim=(0, 2), xlim=UNIT)
        gradient.set(xlabel="score σ", ylabel="gradient by the logit", xlim=UNIT)
    return figure


def reactions(table: pd.DataFrame) -> Picture:
    """What measures react to, a panel a question, a row a change; `dsla.paper.reactions.reaction_table`."""
    changes = list(dict.fromkeys(table["change"]))
    with drawing(0.3 * len(changes) + 1.3, caption("reactions", change=changes[0])) as figure:
        questions = list(dict.fromkeys(table["asked"]))
        for ax, question in zip(figure.subplots(1, len(questions), sharey=True), questions, strict=True):
            for kind, look in KINDS.items():
                rows = table[(table["asked"] == question) & (table["kind"] == kind)]
                ax.axvline(rows["value"].iloc[0], color=look["color"], lw=0.8, alpha=0.6)
                ax.plot(rows["value"], rows["change"].map(changes.index), clip_on=False, **{"ls": "none"} | look)
            ax.set_title(fill(question, 20), fontsize=8)
            ax.set(xlim=UNIT, xticks=(0, 0.5, 1))
            rows_of(ax, changes)
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure
