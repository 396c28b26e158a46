"""The paper's claims, held against numbers: seen, not seen here, or contradicted.

A claim compares a number of one method with that of another, run by run: the same seed gives a pair. With several
seeds the mean difference and its 95 % interval decide (Student's t). One seed cannot tell what the label does from
what chance did, so it never contradicts, and sees only differences larger than `Claim.least`. The claims themselves
lie in `claims.toml`.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from . import published
from .definitions import PHRASES, VERDICTS, as_text, is_in, read

SEEN, NOT_SEEN, CONTRADICTED, UNDEFINED = VERDICTS
PLAIN, CENTERNESS, DSLA = "FCOS", "FCOS + centerness", "DSLA"
WIDTH = 92  # characters of a line


@dataclass(frozen=True)
class Claim:
    """`better` has a higher (sign 1) or lower (−1) number than `other`.

    Attributes:
        least: the smallest difference that a single seed counts as one.
        published: what the paper reports, if anything.
    """

    text: str
    analysis: str = "evaluation"
    name: str = "AP"
    better: str = DSLA
    other: str = PLAIN
    sign: int = 1
    least: float = 0.02
    published: str = ""


CLAIMS = tuple(Claim(**row) for row in read("claims")["main"])
FURTHER = tuple(Claim(**row) for row in read("claims")["further"])


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
        text = f"{PHRASES.get(c.name, c.name)}: {c.better} {as_text(c.name, self.better)}, "
        text += f"{c.other} {as_text(c.name, self.other)}, difference {as_text(c.name, self.difference, signed=True)}"
        if self.seeds > 1:
            low, high = (as_text(c.name, v, signed=True) for v in (self.low, self.high))
            return text + f", 95 % interval {low} to {high}, {self.seeds} seeds."
        return text + f" in one seed (below {as_text(c.name, c.least)} it does not count)."

    def __str__(self) -> str:
        """Whether the claim holds, and below it what was measured, in lines no longer than notebooks show."""
        words = VERDICTS[self.verdict][1]
        if self.verdict == NOT_SEEN and not np.isfinite(self.low):
            words = "NOT SEEN HERE, in one seed"
        indent = " " * 4
        measured = wrap(self.sentence, WIDTH, initial_indent=indent, subsequent_indent=indent)
        return "\n".join((*wrap(f"{words}. {self.claim.text}.", WIDTH, subsequent_indent=indent), *measured))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"sentence": self.sentence}


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


def intervals(numbers: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """mean, low, high (`interval`) of the column value, over what is equal in the columns `by`, its index."""
    values = numbers.groupby(by, sort=False)["value"].agg(list)
    return pd.DataFrame(map(interval, values), index=values.index, columns=["mean", "low", "high"])


def effects(findings: Iterable[Finding]) -> pd.DataFrame:
    """One row a finding: claim, means (of both methods), difference, its 95 % interval, seeds, verdict.

    The difference is `better` − `other` in the number's own unit, AP in points of 100; NaN where undefined.
    """
    rows = []
    for f in findings:
        scale = 100 if is_in("points", f.claim.name) else 1
        means = ((f.claim.better, f.better), (f.claim.other, f.other))
        measured = {k: scale * v for k, v in (("difference", f.difference), ("low", f.low), ("high", f.high))}
        text = ", ".join(f"{method} {as_text(f.claim.name, mean)}" for method, mean in means)
        rows.append({"claim": f.claim.text, "means": text, **measured, "seeds": f.seeds, "verdict": f.verdict})
    return pd.DataFrame(rows).set_index("claim")


def same_budget(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of the number of training steps that most of them have: others cannot be compared with them."""
    if not len(runs):
        return runs
    counts = runs[["recipe", "seed", "steps"]].drop_duplicates()["steps"].value_counts()
    return runs[runs["steps"] == counts[counts == counts.max()].index.max()]


def ablation_claims() -> tuple[Claim, ...]:
    """What the paper's ablation and its sweep of γ say, each with the published numbers."""
    ap, names = published.ablation().set_index("recipe")["AP"], _ablation_names()
    sweep = published.gamma_sweep().dropna(subset="AP").set_index("recipe")["AP"]
    pairs = [dict(row) for row in read("claims")["steps"]]
    best = "scenes-dsla"
    gamma = published.gamma_sweep().set_index("recipe")["gamma"]
    for recipe in sweep.index.drop(best):
        text = f"γ = {gamma[best]:g} does better than {names[recipe]}"
        pairs.append({"text": text, "better": best, "other": recipe})
    claims = []
    for row in pairs:
        high, low = (sweep.get(r, ap.get(r)) for r in (row["better"], row["other"]))
        gain = f"{as_text('AP', high - low, signed=True)} AP ({as_text('AP', low)} → {as_text('AP', high)})"
        claims.append(Claim(**row | {k: names[row[k]] for k in ("better", "other")}, published=gain))
    return tuple(claims)


def judge_ablation(runs: pd.DataFrame) -> tuple[Finding, ...]:
    """`ablation_claims` against runs as `runs.read_runs` has them, those of one budget."""
    runs = same_budget(runs)
    numbers = runs.assign(method=runs["recipe"].map(_ablation_names())).dropna(subset="method")
    return tuple(judge(claim, numbers) for claim in ablation_claims())


def _ablation_names() -> dict[str, str]:
    """Recipe → what sentences call it."""
    sweep = published.gamma_sweep().set_index("recipe")["gamma"]
    return {str(recipe): f"γ = {gamma:g}" for recipe, gamma in sweep.items()} | read("claims")["ablation"]
