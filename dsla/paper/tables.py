"""Tables over many runs: methods over seeds, the ablation, the sweep of γ, conditions, training curves.

All take runs as `dsla.paper.runs.read_runs` gives them.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from ..coco.problems import many
from ..files import markdown
from ..recipes import RECIPES, SHIPPED
from . import published
from .claims import CENTERNESS, DSLA, NOT_SEEN, Claim, Finding, holm, interval, intervals, judge, name_of, same_budget
from .definitions import PHRASES, ROWS, as_text, is_in, read

OURS, PAPER = "embedded set", "paper, COCO"
CONDITION_CLAIMS = {
    "AP": Claim("", other=CENTERNESS),
    "Spearman": Claim("", "ranking", "spearman", other=CENTERNESS),
    "lost > 0.05": Claim("", "suppression", "lost_over_0.05", other=CENTERNESS, sign=-1),
}
_BASE = {"ablation": "scenes-fcos", "gamma": "scenes-dsla"}  # what the others are compared with


def method_table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a recipe: recipe, method, seeds, steps, and for each of `ROWS["seeds"]` mean, low, high."""
    about = {"method": ("method", "first"), "seeds": ("seed", "nunique"), "steps": ("steps", "first")}
    table = runs.groupby("recipe", sort=False).agg(**about)
    for column, number in ROWS["seeds"].items():
        rows = runs[(runs["analysis"] == number[0]) & (runs["name"] == number[1])]
        table[[column, f"{column} low", f"{column} high"]] = intervals(rows, ["recipe"])
    order = {name: i for i, name in enumerate(RECIPES)}
    return table.reset_index().sort_values("recipe", key=lambda c: c.map(order), kind="stable", ignore_index=True)


def study_table(runs: pd.DataFrame, study: str) -> pd.DataFrame:
    """AP of every setting of a study on the embedded set, and as published.

    Args:
        runs: those of one number of steps are taken.
        study: "ablation" or "gamma".

    Returns:
        setting (text, or γ), recipe, source (`OURS`, `PAPER`), seed (<NA> for the mean over seeds and for the paper),
        AP, low, high (95 % interval over seeds), gain, gain_low, gain_high (AP against the first setting of the
        ablation, or against γ = 0.2; runs with the same seed, deviation pooled over all runs that are given), seeds,
        steps, images. Settings that have neither runs nor published numbers are left out.
    """
    settings = published.ablation() if study == "ablation" else published.gamma_sweep()
    settings = settings.rename(columns={"gamma": "setting"})
    runs = same_budget(runs).assign(method=lambda table: table["recipe"])
    aps = runs[(runs["analysis"] == "evaluation") & (runs["name"] == "AP")].drop_duplicates(["recipe", "seed"])
    base = aps[aps["recipe"] == _BASE[study]].set_index("seed")["value"]
    base_published = settings.set_index("recipe")["AP"][_BASE[study]]
    rows, columns = [], ["AP", "low", "high", "gain", "gain_low", "gain_high"]
    for setting, recipe, ap in settings[["setting", "recipe", "AP"]].itertuples(index=False):
        mine = aps[aps["recipe"] == recipe].sort_values("seed").set_index("seed")
        gains = mine["value"] - base.reindex(mine.index)
        here = {"setting": setting, "recipe": recipe}
        if len(mine):
            claim, gain = Claim("", better=recipe, other=_BASE[study]), (0.0, 0.0, 0.0)
            if recipe != claim.other:
                finding = judge(claim, runs)
                gain = (finding.difference, finding.low, finding.high)
            ours = here | {"source": OURS, "seeds": len(mine)} | mine.iloc[0][["steps", "images"]].to_dict()
            rows.append(ours | dict(zip(columns, (*interval(mine["value"]), *gain), strict=True)))
            rows += [ours | {"seed": s, "AP": mine["value"][s], "gain": gains[s]} for s in mine.index]
        if np.isfinite(ap):
            rows.append(here | {"source": PAPER, "AP": ap, "gain": ap - base_published})
    table = pd.DataFrame(rows, columns=["setting", "recipe", "source", "seed", *columns, "seeds", "steps", "images"])
    return table.astype(dict.fromkeys(("seed", "seeds", "steps", "images"), "Int64"))


def condition_table(runs: pd.DataFrame) -> pd.DataFrame:
    """DSLA against FCOS with centerness under each condition of `claims.toml`, runs of the same seed compared.

    ``dsla reproduce --train --recipes conditions --seeds 3`` makes the runs that differ from those of the other tables.

    Returns:
        condition, number (of `CONDITION_CLAIMS`), better (DSLA), other, difference, low, high (95 %), seeds, p (Holm's,
        of all rows), power, verdict, each (seed's difference). The deviation is pooled over all runs of as many steps.
        The first condition is what the others change. What was not run is left out.
    """
    findings, about = list[Finding](), list[dict[str, str]]()
    for condition in read("claims")["conditions"]:
        ending = condition.get("ending", "")
        names = {f"scenes-fcos{ending}": CENTERNESS, f"scenes-dsla{ending}": DSLA}
        mine = runs[runs["steps"] == condition["steps"]]
        mine = mine.assign(method=mine["recipe"].replace(names))
        claims = CONDITION_CLAIMS
        if "part" in condition:
            analysis, name = condition["part"]
            claims = {"AP": Claim("", analysis, name, other=CENTERNESS)}
        for number, claim in claims.items():
            findings.append(judge(claim, mine))
            about.append({"condition": condition["title"], "number": number})
    columns = ["better", "other", "difference", "low", "high", "seeds", "p", "power", "verdict", "each"]
    table = pd.concat([pd.DataFrame(about), pd.DataFrame(holm(findings))[columns]], axis=1)
    return table[table["seeds"] > 0].reset_index(drop=True)


def ap_of(run: dict[str, Any]) -> float:
    """AP of a run, NaN where it is undefined."""
    return next(np.nan if n["value"] is None else n["value"] for n in run["numbers"] if n["name"] == "AP")


def protocol_table(runs: Iterable[dict[str, Any]], stage: str = "main") -> pd.DataFrame:
    """AP of every run of a stage of the protocol: start, method, seed, step, scenes (validation, test), AP.

    In the order of its starts, then of the store, in which runs come as they ended.
    """
    rows, starts = [], list(read("protocol")["starts"])
    mine = [run for run in runs if run["stage"] == stage]
    for run in sorted(mine, key=lambda run: starts.index(run["start"])):
        about = {"start": run["start"], "method": name_of(run["recipe"]), "seed": run["seed"]}
        rows += [{**about, **point, "scenes": "validation"} for point in run["evaluations"]]
        rows.append({**about, "step": run["steps"], "scenes": "test", "AP": ap_of(run)})
    return pd.DataFrame(rows, columns=["start", "method", "seed", "step", "scenes", "AP"])


def curve_table(curves: pd.DataFrame) -> pd.DataFrame:
    """Loss and AP in training, of runs on the embedded set and of the release on COCO.

    Args:
        curves: `runs.read_curves`.

    Returns:
        source (`OURS`, "release, COCO"), method (of ours; the release's recipe), seed (<NA>: the release's), x (steps
        of ours, epochs of the release), name (loss, AP), value.
    """
    mine = same_budget(curves[curves["recipe"].isin(SHIPPED) & curves["name"].isin(["loss", "AP"])])
    mine = mine.rename(columns={"step": "x"}).assign(source=OURS)
    release = []
    for name, rows, x in (("loss", published.release_losses(), "epochs"), ("AP", published.release_ap(), "epoch")):
        part = rows.rename(columns={"recipe": "method", x: "x", name: "value"})
        release.append(part[["method", "x", "value"]].assign(name=name, source="release, COCO", seed=pd.NA))
    table = pd.concat([mine, *release], ignore_index=True)
    return table[["source", "method", "seed", "x", "name", "value"]].astype({"seed": "Int64", "x": float})


def claims_markdown(findings: Iterable[Finding]) -> str:
    """Findings: claim, published, measured, power for the effect asked for, verdict."""
    rows = [(f.claim.text, f.claim.published or "–", f.sentence, _power(f), _verdict(f)) for f in findings]
    return markdown(["claim", "published (COCO)", "measured on the embedded set", "power", "verdict"], rows)


def starts_markdown(findings: dict[str, tuple[Finding, ...]]) -> str:
    """The same claims from several starts: what is asked, published, then a column a start; those that a run asks."""
    rows = []
    for each in zip(*findings.values(), strict=True):
        if not any(f.seeds for f in each):
            continue
        claim = each[0].claim
        number = PHRASES.get(claim.name, claim.name)
        least, cells = as_text(claim.name, claim.least), [measured(f, power=True) for f in each]
        rows.append([claim.text, number, least, claim.published or "–", *cells])
    return markdown(["claim", "asked of", "effect asked for", "published (COCO)", *findings], rows) if rows else ""


def measured(f: Finding, power: bool = False) -> str:
    """Difference, interval, power if asked for, seeds, verdict; "–" where no run decides."""
    if not f.seeds:
        return "–"
    difference, low, high = (as_text(f.claim.name, v, signed=True) for v in (f.difference, f.low, f.high))
    within = f" ({low} to {high})" + power * f", power {_power(f)}" if np.isfinite(f.low) else ""
    return f"{difference}{within}, {many(f.seeds, 'seed')}, {_verdict(f)}"


def _verdict(f: Finding) -> str:
    """The verdict; where it is "not seen" although the interval holds what the paper reports, with that."""
    held = f.low <= f.claim.reported <= f.high
    if f.verdict != NOT_SEEN or not held:
        return f.verdict
    return f"{f.verdict} (the published {as_text(f.claim.name, f.claim.reported, signed=True)} is in the interval)"


def _power(f: Finding) -> str:
    return f"{100 * f.power:.0f} %" if np.isfinite(f.power) else "–"


def methods_markdown(table: pd.DataFrame) -> str:
    """`method_table`: mean, and half the width of its 95 % interval."""
    rows = []
    for _, row in table.iterrows():
        cells = [str(row["method"]), f"`{row['recipe']}`"]
        for column, (_, name) in ROWS["seeds"].items():
            scale, digits = (100, 1) if is_in("points", name) else (1, 1 if name == "points" else 2)
            mean, half = scale * row[column], scale * (row[f"{column} high"] - row[column])
            text = f"{mean:.{digits}f}" if np.isfinite(mean) else "n/a"
            cells.append(f"{text} ± {half:.{digits}f}" if np.isfinite(half) else text)
        rows.append(cells)
    return markdown(["method", "recipe", *ROWS["seeds"]], rows)


def conditions_markdown(table: pd.DataFrame) -> str:
    """`condition_table`: differences with their intervals and verdicts."""
    rows = []
    for title, part in table.groupby("condition", sort=False):
        cells = dict.fromkeys(CONDITION_CLAIMS, "")
        for row in part.itertuples(index=False):
            name, measured = CONDITION_CLAIMS[row.number].name, (row.difference, row.low, row.high)
            difference, low, high = (as_text(name, v, signed=True) for v in measured)
            cells[row.number] = f"{difference} ({low} to {high}), {row.verdict}"
        rows.append([str(title), *cells.values()])
    return markdown(["condition", *CONDITION_CLAIMS], rows)
