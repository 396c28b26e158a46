"""What DSLA's lead over FCOS with centerness depends on: training length, box loss, resolution, object size, crowding.

``dsla reproduce --train --recipes conditions --seeds 3`` makes the runs that differ from those of the other tables.
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from ..recipes.scenes import CONDITION_STEPS
from .claims import CENTERNESS, DSLA, Claim, judge, shown

CLAIMS = {
    "AP": Claim("", "evaluation", "AP", other=CENTERNESS),
    "Spearman": Claim("", "ranking", "spearman", other=CENTERNESS),
    "lost > 0.05": Claim("", "suppression", "lost_over_0.05", other=CENTERNESS, sign=-1),
}
LONGER = 2000  # steps of `dsla reproduce --train`
_PARTS = {  # of the same runs: name of the number
    "small objects (under 32² pixels)": ("evaluation", "AP_small"),
    "medium objects": ("evaluation", "AP_medium"),
    "large objects (from 96² pixels)": ("evaluation", "AP_large"),
    "scenes whose objects overlap": ("crowding", "AP_crowded"),
    "scenes whose objects do not": ("crowding", "AP_apart"),
}
_RECIPES = {  # ending of the recipes' names, steps
    "500 steps": ("-short", 500),
    "box loss −log IoU": ("-iou-loss", CONDITION_STEPS),
    "images of 96 pixels": ("-96px", CONDITION_STEPS),
}


def condition_table(runs: pd.DataFrame, longer: pd.DataFrame | None = None) -> pd.DataFrame:
    """DSLA against FCOS with centerness under each condition, runs of the same seed compared.

    Args:
        runs: `claims.read_runs`.  longer: `claims.read_numbers` of the runs of `LONGER` steps.
    Returns:
        condition, number (of `CLAIMS`), better (DSLA), other, difference, low, high (95 % over seeds), seeds, verdict.
        The first condition is what the others change. What was not run is left out.
    """
    base = _named(runs, "", CONDITION_STEPS)
    found = [(f"{CONDITION_STEPS:,} steps, GIoU loss, 128 pixels", base, CLAIMS)]
    found += [(title, _named(runs, *of), CLAIMS) for title, of in _RECIPES.items()]
    if longer is not None:
        found.insert(2, (f"{LONGER:,} steps", longer, CLAIMS))
    for title, (analysis, name) in _PARTS.items():
        found.append((title, base, {"AP": replace(CLAIMS["AP"], analysis=analysis, name=name)}))
    rows = []
    for title, numbers, claims in found:
        for number, claim in claims.items():
            f = judge(claim, numbers)
            means = {"better": f.better, "other": f.other, "difference": f.difference, "low": f.low, "high": f.high}
            rows.append({"condition": title, "number": number, **means, "seeds": f.seeds, "verdict": f.verdict})
    table = pd.DataFrame(rows)
    return table[table["seeds"] > 0].reset_index(drop=True)


def markdown(table: pd.DataFrame) -> str:
    """`condition_table` for a README: differences with their intervals and verdicts."""
    lines = ["| condition | " + " | ".join(CLAIMS) + " |", "|---" * (len(CLAIMS) + 1) + "|"]
    for title, part in table.groupby("condition", sort=False):
        by = part.set_index("number")
        cells = [str(title)]
        for number, claim in CLAIMS.items():
            if number not in by.index:
                cells.append("")
                continue
            values = [shown(claim.name, by.loc[number, c], signed=True) for c in ("difference", "low", "high")]
            cells.append(f"{values[0]} ({values[1]} to {values[2]}), {by.loc[number, 'verdict']}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _named(runs: pd.DataFrame, ending: str, steps: int) -> pd.DataFrame:
    """The runs of the two recipes with this ending, by method; those of other lengths are of another condition."""
    names = {f"scenes-fcos{ending}": CENTERNESS, f"scenes-dsla{ending}": DSLA}
    runs = runs[runs["steps"] == steps]
    return runs.assign(method=runs["recipe"].map(names)).dropna(subset="method")
