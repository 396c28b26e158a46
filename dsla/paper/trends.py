"""Tables over many runs, with the published ones beside them: the ablation, the sweep of γ, training curves."""

from __future__ import annotations

import numpy as np
import pandas as pd

from . import published
from .claims import interval, same_budget

OURS, PAPER = "embedded set", "paper, COCO"
CURVES = ("scenes-fcos-plain", "scenes-fcos", "scenes-dsla")  # recipes whose training is drawn
_BASE = {"ablation": "scenes-fcos", "gamma": "scenes-dsla"}  # what the others are compared with


def study_table(runs: pd.DataFrame, study: str) -> pd.DataFrame:
    """AP of every setting of a study on the embedded set, and as published.

    Args:
        runs: `claims.read_runs`.  study: "ablation" or "gamma".

    Returns:
        setting (text, or γ), recipe, source (`OURS`, `PAPER`), seed (<NA> for the mean over seeds and for the paper),
        AP, low, high (95 % interval over seeds), gain, gain_low, gain_high (AP against the first setting of the
        ablation, or against γ = 0.2; of runs with the same seed), seeds, steps, images. Settings that have neither runs
        nor published numbers are left out.
    """
    known = published.ablation() if study == "ablation" else published.gamma_sweep()
    known = known.rename(columns={"gamma": "setting"})
    runs = same_budget(runs)
    own = runs[(runs["analysis"] == "evaluation") & (runs["name"] == "AP")].drop_duplicates(["recipe", "seed"])
    base = own[own["recipe"] == _BASE[study]].set_index("seed")["value"]
    base_published = known.set_index("recipe")["AP"][_BASE[study]]
    rows = []
    for setting, recipe, ap in known[["setting", "recipe", "AP"]].itertuples(index=False):
        mine = own[own["recipe"] == recipe].sort_values("seed").set_index("seed")
        gains = mine["value"] - base.reindex(mine.index)
        here = {"setting": setting, "recipe": recipe}
        if len(mine):
            budget = {"seeds": len(mine), "steps": mine["steps"].iloc[0], "images": mine["images"].iloc[0]}
            mean, low, high = interval(mine["value"])
            gain, gain_low, gain_high = interval(gains)
            values = {"AP": mean, "low": low, "high": high}
            values |= {"gain": gain, "gain_low": gain_low, "gain_high": gain_high}
            rows.append({**here, "source": OURS, "seed": pd.NA, **values, **budget})
            rows += [
                {**here, "source": OURS, "seed": seed, "AP": mine["value"][seed], "gain": gains[seed], **budget}
                for seed in mine.index
            ]
        if np.isfinite(ap):
            rows.append({**here, "source": PAPER, "seed": pd.NA, "AP": ap, "gain": ap - base_published})
    columns = ["setting", "recipe", "source", "seed", "AP", "low", "high", "gain", "gain_low", "gain_high"]
    table = pd.DataFrame(rows, columns=[*columns, "seeds", "steps", "images"])
    return table.astype(dict.fromkeys(("seed", "seeds", "steps", "images"), "Int64"))


def curve_table(curves: pd.DataFrame) -> pd.DataFrame:
    """Loss and AP in training, of runs on the embedded set and of the release on COCO.

    Args:
        curves: `claims.read_curves`.

    Returns:
        source (`OURS`, "release, COCO"), method (of ours; the release's recipe), seed (<NA>: the release's), x (steps
        of ours, epochs of the release), name (loss, AP), value.
    """
    mine = same_budget(curves[curves["recipe"].isin(CURVES) & curves["name"].isin(["loss", "AP"])])
    mine = mine.rename(columns={"step": "x"}).assign(source=OURS)
    release = []
    for name, rows, x in (("loss", published.release_losses(), "epochs"), ("AP", published.release_ap(), "epoch")):
        part = rows.rename(columns={"recipe": "method", x: "x", name: "value"})
        release.append(part[["method", "x", "value"]].assign(name=name, source="release, COCO", seed=pd.NA))
    table = pd.concat([mine, *release], ignore_index=True)
    return table[["source", "method", "seed", "x", "name", "value"]].astype({"seed": "Int64", "x": float})
