"""The paper's claims, held against numbers: seen, not seen here, or contradicted.

A claim compares a number of one method with that of another, run by run: the same seed gives a pair. With several
seeds the mean difference and its 95 % interval decide (Student's t). One seed cannot tell what the label does from
what chance did, so it never contradicts, and sees only differences larger than `Claim.least`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ..coco.results import read_lines
from . import published

SEEN, NOT_SEEN, CONTRADICTED, UNDEFINED = "seen", "not seen here", "contradicted", "n/a"
PLAIN, CENTERNESS, DSLA = "FCOS", "FCOS + centerness", "DSLA"
ONE_SEED = "One seed cannot support a claim about training: it says how these weights behave, not what labels cause."


@dataclass(frozen=True)
class Claim:
    """`better` has a higher (sign 1) or lower (−1) number than `other`.

    least: the smallest difference that a single seed counts as one.  published: what the paper reports, if anything.
    """

    text: str
    analysis: str
    name: str
    better: str = DSLA
    other: str = PLAIN
    sign: int = 1
    least: float = 0.02
    published: str = ""


# What one seed may do: AP moves by 1 to 2 points; a share of a thousand objects has a standard error of 0.016.
_RANK, _LOSS = 0.03, 0.04
CLAIMS = (
    Claim("DSLA finds objects better than FCOS without a quality branch", "evaluation", "AP"),
    Claim(
        "DSLA finds objects better than FCOS with its centerness branch",
        "evaluation",
        "AP",
        other=CENTERNESS,
        published="+1.5 AP (36.6 → 38.1; COCO, ResNet-50, 12 epochs)",
    ),
    Claim("The scores of neighbouring points step as their labels do", "adjacency", "mismatch", sign=-1, least=0.05),
    Claim(
        "Of two neighbouring points, the one with the better box scores higher more often", "adjacency", "follows_iou"
    ),
    Claim(
        "Scores are ranked more like IoU than those of FCOS without a quality branch",
        "ranking",
        "spearman",
        least=_RANK,
    ),
    Claim(
        "Scores are ranked more like IoU than those of FCOS with centerness",
        "ranking",
        "spearman",
        least=_RANK,
        other=CENTERNESS,
    ),
    Claim(
        "Fewer objects lose over 0.05 IoU to NMS than with FCOS without a quality branch",
        "suppression",
        "lost_over_0.05",
        least=_LOSS,
        sign=-1,
    ),
    Claim(
        "Fewer objects lose over 0.05 IoU to NMS than with FCOS with centerness",
        "suppression",
        "lost_over_0.05",
        least=_LOSS,
        other=CENTERNESS,
        sign=-1,
    ),
)


@dataclass(frozen=True)
class Finding:
    """A claim with what was measured: means of both methods, difference (better − other) and its interval."""

    claim: Claim
    verdict: str
    seeds: int = 0
    better: float = np.nan
    other: float = np.nan
    difference: float = np.nan
    low: float = np.nan
    high: float = np.nan

    @property
    def sentence(self) -> str:
        """What was measured, in one sentence."""
        c = self.claim
        if self.verdict == UNDEFINED:
            return f"{c.better} or {c.other} was not run, or the number is undefined for it."
        text = f"{MEASURES.get(c.name, c.name)}: {c.better} {shown(c.name, self.better)}, "
        text += f"{c.other} {shown(c.name, self.other)}, difference {shown(c.name, self.difference, signed=True)}"
        if self.seeds > 1:
            low, high = (shown(c.name, v, signed=True) for v in (self.low, self.high))
            return text + f", 95 % interval {low} to {high}, {self.seeds} seeds."
        return text + f" in one seed (below {shown(c.name, c.least)} it does not count)."

    def to_dict(self) -> dict[str, Any]:
        values = asdict(self)
        return values | {"sentence": self.sentence}


def judge(claim: Claim, numbers: pd.DataFrame) -> Finding:
    """One claim against numbers: method, seed, analysis, name, value."""
    rows = numbers[(numbers["analysis"] == claim.analysis) & (numbers["name"] == claim.name)]
    table = rows.pivot_table(index="seed", columns="method", values="value", dropna=False)
    if not {claim.better, claim.other} <= set(table.columns):
        return Finding(claim, UNDEFINED)
    pairs = table[[claim.better, claim.other]].dropna()
    if not len(pairs):
        return Finding(claim, UNDEFINED)
    mean, low, high = interval(pairs[claim.better] - pairs[claim.other])
    if len(pairs) == 1:
        verdict = SEEN if claim.sign * mean >= claim.least else NOT_SEEN
    else:
        near, far = sorted((claim.sign * low, claim.sign * high))
        verdict = SEEN if near > 0 else CONTRADICTED if far < 0 else NOT_SEEN
    better, other = (float(pairs[m].mean()) for m in (claim.better, claim.other))
    return Finding(claim, verdict, len(pairs), better, other, mean, low, high)


def interval(values: Any) -> tuple[float, float, float]:
    """Mean and its 95 % interval by Student's t; the interval is NaN for fewer than two values."""
    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return float(values.mean()) if len(values) else np.nan, np.nan, np.nan
    mean, half = values.mean(), stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(mean), float(mean - half), float(mean + half)


def shown(name: str, value: float, signed: bool = False) -> str:
    """A number as a person reads it: AP and AR in points of 100, counts whole, n/a where undefined."""
    if not np.isfinite(value):
        return "n/a"
    sign = "+" if signed and value >= 0 else ""
    if name.startswith(("AP", "AR")) or name.endswith("_cost"):
        return f"{sign}{100 * value:.1f}".replace("-", "−")
    if name in COUNTS:
        return f"{sign}{value:,.0f}"
    return f"{sign}{value:.3f}".replace("-", "−")


MEASURES = {
    "mismatch": "Mean |difference of the labels − difference of the scores|",
    "follows_iou": "Share of the pairs",
    "spearman": "Spearman correlation of score and IoU",
    "lost_over_0.05": "Share of objects",
    "ranking_cost": "AP that scores equal to the IoU would add",
    "spearman_object": "Mean Spearman correlation within one object",
}
COUNTS = ("pairs", "detections", "boxes", "images", "objects", "found")


def read_numbers(runs: str | Path) -> pd.DataFrame:
    """method, seed, analysis, name, value of the runs in a runs.jsonl of `dsla reproduce`."""
    rows = read_lines(runs)
    return pd.DataFrame([{"method": r["method"], "seed": r["seed"], **n} for r in rows for n in r["numbers"]])


def read_runs(experiments: str | Path) -> pd.DataFrame:
    """recipe, method, seed, steps, images, analysis, name, value of the runs in an experiments.jsonl."""
    keys = ("recipe", "method", "seed", "steps", "images")
    rows = [{**{k: r[k] for k in keys}, **n} for r in read_lines(experiments) for n in r["numbers"]]
    return pd.DataFrame(rows, columns=[*keys, "analysis", "name", "value"]).astype({"value": float})


def read_curves(experiments: str | Path) -> pd.DataFrame:
    """recipe, method, seed, steps (of the run), step, name (loss, loss_cls, …, AP), value of an experiments.jsonl."""
    keys = ("recipe", "method", "seed", "steps")
    rows = [
        {**{k: r[k] for k in keys}, "step": point["step"], "name": name, "value": value}
        for r in read_lines(experiments)
        for point in (*r["curve"], *r["evaluations"])
        for name, value in point.items()
        if name != "step"
    ]
    return pd.DataFrame(rows, columns=[*keys, "step", "name", "value"]).astype({"value": float})


def same_budget(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of the number of training steps that most of them have: others cannot be compared with them."""
    if not len(runs):
        return runs
    counts = runs[["recipe", "seed", "steps"]].drop_duplicates()["steps"].value_counts()
    return runs[runs["steps"] == counts[counts == counts.max()].index.max()]


# How the settings of `dsla.paper.published.ablation` and `.gamma_sweep` are called in sentences.
MERGED, IOU_ONLY = "centerness as the class label", "the IoU alone"
_NAMES = {
    "scenes-fcos": CENTERNESS,
    "scenes-dsla-merged": MERGED,
    "scenes-dsla": DSLA,
    "scenes-dsla-iou-only": IOU_ONLY,
}


def ablation_claims() -> tuple[Claim, ...]:
    """What the paper's ablation and its sweep of γ say, each with the published numbers."""
    rows, sweep = published.ablation().set_index("recipe")["AP"], published.gamma_sweep().set_index("gamma")

    def said(better: float, other: float) -> str:
        return f"{shown('AP', better - other, signed=True)} AP ({shown('AP', other)} → {shown('AP', better)})"

    def claim(text: str, better: str, other: str, sign: int = 1) -> Claim:
        names, numbers = (_NAMES[better], _NAMES[other]), said(rows[better], rows[other])
        return Claim(text, "evaluation", "AP", *names, sign, published=numbers)

    merged, whole, base, alone = "scenes-dsla-merged", "scenes-dsla", "scenes-fcos", "scenes-dsla-iou-only"
    own = sweep[sweep["recipe"] == whole].iloc[0]
    others = sweep[sweep["AP"].notna() & (sweep["recipe"] != whole)]
    return (
        claim("Centerness merged into the class label does better than a branch of its own", merged, base),
        claim("All of DSLA does better than the merged label alone", whole, merged),
        claim("The IoU alone as the label does worse than FCOS with centerness", alone, base, sign=-1),
        *(
            Claim(f"γ = {own.name:g} does better than γ = {gamma:g}", "evaluation", "AP", DSLA, f"γ = {gamma:g}",
                  published=said(own["AP"], row["AP"]))
            for gamma, row in others.iterrows()
        ),
    )  # fmt: skip


def judge_ablation(runs: pd.DataFrame) -> tuple[Finding, ...]:
    """`ablation_claims` against runs as `read_runs` has them, those of one budget."""
    sweep = published.gamma_sweep().set_index("recipe")["gamma"]
    names = {name: f"γ = {gamma:g}" for name, gamma in sweep.items()} | _NAMES
    runs = same_budget(runs)
    numbers = runs.assign(method=runs["recipe"].map(names)).dropna(subset="method")
    return tuple(judge(claim, numbers) for claim in ablation_claims())


def markdown(findings: Iterable[Finding]) -> str:
    """The findings as a table for a README: claim, published, measured, verdict."""
    lines = ["| claim | published (COCO) | measured on the embedded set | verdict |", "|---|---|---|---|"]
    for f in findings:
        cells = (f.claim.text, f.claim.published or "–", f.sentence, f.verdict)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)
