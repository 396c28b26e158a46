"""The paper's claims, held against numbers: seen, contradicted, not seen, or undecided.

A claim compares a number of one method with that of another, run by run: the same seed gives a pair. The mean
difference is judged by a deviation that all methods of the table share (`pooled`) and, where runs keep them, by
resamples of the images; `holm` corrects for the number of claims of a table. The claims lie in `claims.toml`, their
protocol in `docs/protocol.md`.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import cache
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ..coco.problems import some
from ..errors import DataError
from . import published
from .definitions import PHRASES, VERDICTS, as_text, is_in, read, title_of

SEEN, NOT_SEEN, CONTRADICTED, UNDECIDED, UNDEFINED = VERDICTS
PLAIN, CENTERNESS, DSLA = "FCOS", "FCOS + centerness", "DSLA"
WIDTH = 92  # characters of a line
LEVEL = 0.05  # of a test, and of all tests of a table together
LEAST, EFFECT = read("claims")["least"], read("protocol")["effect"]


@dataclass(frozen=True)
class Claim:
    """`better` has a higher (sign 1) or lower (−1) number than `other`.

    Attributes:
        published: what the paper reports, if anything.
        reported: that difference as a number, NaN if it is none of this number.
    """

    text: str
    analysis: str = "evaluation"
    name: str = "AP"
    better: str = DSLA
    other: str = PLAIN
    sign: int = 1
    published: str = ""
    reported: float = np.nan

    @property
    def least(self) -> float:
        """The effect asked for, which an interval must exclude for "not seen": each number has one."""
        return float(LEAST.get(self.analysis, {}).get(self.name, EFFECT))


CLAIMS = tuple(Claim(**row) for row in read("claims")["main"])


@dataclass(frozen=True)
class Finding:
    """A claim with what was measured: means of both methods, difference (better − other) and its 95 % interval.

    Attributes:
        p: that chance alone gives such a difference, of two sides; corrected by `holm` where it has been.
        each: the difference of each seed.
        power: the probability that a difference of `Claim.least` would have p below `LEVEL`, before that correction.
    """

    claim: Claim
    verdict: str
    seeds: int = 0
    better: float = np.nan
    other: float = np.nan
    difference: float = np.nan
    low: float = np.nan
    high: float = np.nan
    p: float = np.nan
    power: float = np.nan
    each: tuple[float, ...] = ()

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
        return text + " in one seed, without an interval."

    def __str__(self) -> str:
        """Whether the claim holds, and below it what was measured, in lines no longer than notebooks show."""
        words = VERDICTS[self.verdict][1]
        indent = " " * 4
        measured = wrap(self.sentence, WIDTH, initial_indent=indent, subsequent_indent=indent)
        return "\n".join((*wrap(f"{words}. {self.claim.text}.", WIDTH, subsequent_indent=indent), *measured))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"claim": asdict(self.claim) | {"least": self.claim.least}, "sentence": self.sentence}


def judge(claim: Claim, numbers: pd.DataFrame) -> Finding:
    """One claim against numbers: method, seed, analysis, name, value; `resampled`, values on resampled images, if kept.

    The deviation is pooled over those methods of the numbers that have all seeds of the pair.

    Raises:
        DataError: the numbers hold two runs of a method and a seed; names them.
    """
    rows = numbers[(numbers["analysis"] == claim.analysis) & (numbers["name"] == claim.name)]
    if len(twice := rows[rows.duplicated(["method", "seed"])]):
        runs = [f"{method}, seed {seed}" for method, seed in twice[["method", "seed"]].drop_duplicates().to_numpy()]
        raise DataError(f"more than one run of {some(runs)}: keep one of each, say those of one number of steps")
    table = rows.pivot(index="seed", columns="method", values="value")
    names = [claim.better, claim.other]
    pairs = table[names].dropna() if {*names} <= set(table.columns) else table.iloc[:0]
    if not len(pairs):
        return Finding(claim, UNDEFINED)
    better, other = (float(pairs[m].mean()) for m in names)
    each = tuple((pairs[claim.better] - pairs[claim.other]).round(6).tolist())
    finding = Finding(claim, UNDECIDED, len(pairs), better, other, better - other, each=each)
    square, freedom = pooled(table.loc[pairs.index].dropna(axis=1))
    if not freedom:
        return finding
    error = max(np.sqrt(2 * square / len(pairs) + _of_images(rows[rows["seed"].isin(pairs.index)], names)), 1e-12)
    half = stats.t.ppf(1 - LEVEL / 2, freedom) * error
    low, high = better - other - half, better - other + half
    p = 2 * float(stats.t.sf(abs(better - other) / error, freedom))
    return _decided(replace(finding, low=low, high=high, p=p, power=power(claim.least, error, freedom)))


def judge_all(claims: Iterable[Claim], numbers: pd.DataFrame) -> tuple[Finding, ...]:
    """The claims of one table: each by `judge`, all together by `holm`."""
    return holm(judge(claim, numbers) for claim in claims)


def holm(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Holm's correction, and the verdicts that follow.

    It is for the number of all findings, also those that no run decides yet: what is seen is not to fall because a run
    comes.
    """
    findings = list(findings)
    order = sorted((i for i, f in enumerate(findings) if np.isfinite(f.p)), key=lambda i: findings[i].p)
    highest = 0.0
    for place, i in enumerate(order):
        highest = max(highest, min(1.0, (len(findings) - place) * findings[i].p))
        findings[i] = _decided(replace(findings[i], p=highest))
    return tuple(findings)


def _decided(f: Finding) -> Finding:
    """With the verdict of its p and its interval."""
    sign, excluded = f.claim.sign, max(f.claim.sign * f.low, f.claim.sign * f.high) < f.claim.least
    if f.p < LEVEL:
        return replace(f, verdict=SEEN if sign * f.difference > 0 else CONTRADICTED)
    return replace(f, verdict=NOT_SEEN if excluded else UNDECIDED)


def pooled(table: pd.DataFrame) -> tuple[float, int]:
    """Mean square of what seed and method leave of a table seeds × methods, and its degrees of freedom.

    Twice that over the number of seeds is the variance of a mean difference of two methods, if all vary alike. With two
    methods that is Student's paired t.
    """
    rest = table.sub(table.mean(axis=1), axis=0) - table.mean() + table.to_numpy().mean()
    freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
    return (float((rest**2).to_numpy().sum() / freedom) if freedom else np.nan), freedom


def _of_images(rows: pd.DataFrame, names: list[str]) -> float:
    """Variance of the mean difference over resamples of the images, seeds as they are; 0 where no run keeps any.

    Raises:
        DataError: some of the runs keep them, some do not; names one that does not.
    """
    kept = rows[rows["method"].isin(names)]
    if "resampled" not in kept or kept["resampled"].isna().all():
        return 0.0
    if len(without := kept[kept["resampled"].isna()]):
        method, seed = without[["method", "seed"]].iloc[0]
        raise DataError(
            f"the run of {method}, seed {seed}, keeps no AP on resampled images, which other runs here do: leave it "
            "out, or make it anew"
        )
    better, other = (np.mean(kept.loc[kept["method"] == m, "resampled"].tolist(), axis=0) for m in names)
    return float(np.var(better - other, ddof=1))


def power(effect: float, error: float, freedom: int) -> float:
    """Probability that a difference of this size has p below `LEVEL`: Student's t, two sides, standard error given."""
    limit, shift = stats.t.ppf(1 - LEVEL / 2, freedom), min(effect / error, 30.0)
    beyond = stats.nct.sf(limit, freedom, shift), stats.nct.cdf(-limit, freedom, shift)
    return float(np.nan_to_num(beyond).sum())  # scipy has no number for the far side of a great shift


def interval(values: Any) -> tuple[float, float, float]:
    """Mean and its 95 % interval by Student's t; the interval is NaN for fewer than two values."""
    values = pd.Series(values, dtype=float).dropna()
    mean, half = values.mean(), stats.t.ppf(0.975, len(values) - 1) * values.sem()
    return float(mean), float(mean - half), float(mean + half)


def intervals(numbers: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """mean, low, high (`interval`) of the column value, over what is equal in the columns `by`, its index."""
    values = numbers.groupby(by, sort=False)["value"].agg(list)
    return pd.DataFrame(map(interval, values), index=values.index, columns=["mean", "low", "high"])


def effects(findings: Iterable[Finding]) -> pd.DataFrame:
    """One row a finding: claim, means (of both methods), difference, its 95 % interval, seeds, p, power, verdict.

    The difference is `better` − `other` in the number's own unit, AP in points of 100; NaN where undefined.
    """
    rows = []
    for f in findings:
        c, row = f.claim, asdict(f)
        row["means"] = f"{c.better} {as_text(c.name, f.better)}, {c.other} {as_text(c.name, f.other)}"
        measured = {k: (100 if is_in("points", c.name) else 1) * row[k] for k in ("difference", "low", "high")}
        rows.append(row | measured | {"claim": c.text})
    columns = ["means", "difference", "low", "high", "seeds", "p", "power", "verdict"]
    return pd.DataFrame(rows).set_index("claim")[columns]


def same_budget(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of the number of training steps that most of them have: others cannot be compared with them."""
    if not len(runs):
        return runs
    counts = runs[["recipe", "seed", "steps"]].drop_duplicates()["steps"].value_counts()
    return runs[runs["steps"] == counts[counts == counts.max()].index.max()]


def step_claims(analysis: str = "evaluation", name: str = "AP") -> tuple[Claim, ...]:
    """What the paper's ablation says, asked of a number, each with the published ones."""
    return _claims(read("claims")["steps"], analysis=analysis, name=name)


def rate_claims(rate: float, analysis: str = "evaluation", name: str = "AP") -> tuple[Claim, ...]:
    """What is asked of runs at one rate for both methods."""
    rows = [dict(row) for row in read("claims")["rate"]]
    return tuple(
        Claim(**row | {rated: at_rate(row[rated], rate)}, analysis=analysis, name=name)
        for row in rows
        for rated in [row.pop("rated")]
    )


def at_rate(method: str, rate: float) -> str:
    """What a method is called where it is trained at a rate that the protocol names."""
    return f"{method} at {rate:g}"


def measure_claims(other: str) -> tuple[Claim, ...]:
    """What is looked at beside AP in the runs of the protocol: DSLA against another method."""
    return tuple(Claim(**row, other=other) for row in read("claims")["measures"])


def ablation_claims() -> tuple[Claim, ...]:
    """What the paper's ablation and its sweep of γ say, each with the published numbers."""
    names, gamma = ablation_names(), published.gamma_sweep().dropna(subset="AP").set_index("recipe")["gamma"]
    best = {"better": "scenes-dsla"}
    sweep = [
        {"text": f"γ = {gamma['scenes-dsla']:g} does better than {names[recipe]}", "other": recipe} | best
        for recipe in gamma.index.drop("scenes-dsla")
    ]
    return _claims([*read("claims")["steps"], *sweep])


def _claims(pairs: Iterable[dict[str, Any]], **about: str) -> tuple[Claim, ...]:
    """Claims about two recipes, with the AP that is published for them."""
    table = pd.concat([published.ablation(), published.gamma_sweep()]).dropna(subset="AP").drop_duplicates("recipe")
    ap, names, claims = table.set_index("recipe")["AP"], ablation_names(), []
    for row in pairs:
        high, low = (ap[row[k]] for k in ("better", "other"))
        gain = f"{as_text('AP', high - low, signed=True)} AP ({as_text('AP', low)} → {as_text('AP', high)})"
        pair = {k: names[row[k]] for k in ("better", "other")}
        claims.append(Claim(**row | about | pair, published=gain, reported=high - low))
    return tuple(claims)


def judge_ablation(runs: pd.DataFrame) -> tuple[Finding, ...]:
    """`ablation_claims` against runs as `runs.read_runs` has them, those of one budget; all of them are pooled over."""
    runs = same_budget(runs)
    return judge_all(ablation_claims(), runs.assign(method=runs["recipe"].replace(ablation_names())))


def name_of(recipe: str) -> str:
    """What sentences and tables of the protocol call a recipe."""
    return ablation_names().get(recipe) or title_of(recipe)


@cache  # asked for every row of a table of runs
def ablation_names() -> dict[str, str]:
    """Recipe → what sentences call it; one dictionary for all, to be read."""
    sweep = published.gamma_sweep().set_index("recipe")["gamma"]
    return {str(recipe): f"γ = {gamma:g}" for recipe, gamma in sweep.items()} | read("claims")["ablation"]
