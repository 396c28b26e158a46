"""The results over seeds as one page, ``docs/results.md``: text in `templates/results.md`, numbers from the runs.

``dsla figures --results docs/results.md`` makes it anew from the runs in ``figures/``.
"""

from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from ..analysis.study import BEST
from ..analysis.tables import definition
from ..coco.problems import many
from ..errors import DataError
from ..files import markdown
from ..recipes import GROUPS, RECIPES, SHIPPED
from . import claims, tables
from .claims import Claim, Finding, name_of
from .definitions import ROWS, as_text, title_of
from .pages import page
from .protocol import FIRST, PLAN, VERSION, missing, plan, settings, stage_of, tuned
from .runs import ABOUT, Run, read, read_runs, stores, table_of

STEPS = 1000  # of the trainings in which every method is compared


def full_trainings(runs: pd.DataFrame) -> pd.DataFrame:
    """The early runs of the recipes whose weights ship, at all steps that the recipes name."""
    return runs[runs["recipe"].map({name: RECIPES[name].steps for name in SHIPPED}) == runs["steps"]]


def one_budget(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of every method, of the ablation and of the sweep of γ, at `STEPS` steps."""
    recipes = {name for group in ("methods", "ablation", "gamma") for name in GROUPS[group]}
    return runs[runs["recipe"].isin(recipes) & (runs["steps"] == STEPS)]


def protocol_numbers(runs: Sequence[Run], part: str = FIRST) -> pd.DataFrame:
    """`read_runs` of the main stage of a part, with method; and analysis curve: AP_early, and AP_area, its mean.

    With those of the first part that the plan puts beside them, of the same seeds.
    """
    about, stage = plan(part), stage_of(part, "main")
    beside = [r for r in runs if r["stage"] == "main" and r["recipe"] in about["beside"] and r["seed"] < about["seeds"]]
    runs = [*beside, *(run for run in runs if run["stage"] == stage)]
    curves = []
    for run in runs:
        ap = {point["step"]: point["AP"] for point in run["evaluations"]}
        numbers = {"AP_early": ap.get(about["early"]), "AP_area": sum(ap.values()) / len(ap) if ap else None}
        line = {k: run[k] for k in ABOUT} | {"analysis": "curve"}
        curves += [line | {"name": name, "value": value} for name, value in numbers.items()]
    table = table_of(runs)
    table = pd.concat([table, pd.DataFrame(curves, columns=table.columns)]) if curves else table
    return table.assign(method=table["recipe"].map(name_of))


def protocol_findings(numbers: pd.DataFrame, part: str = FIRST) -> dict[str, dict[str, tuple[Finding, ...]]]:
    """Question → start → its claims, judged together.

    "faster", "higher", and "measures" beside them; of a part with others beside it "others", its methods against these.
    """
    questions = {
        "faster": (*claims.step_claims("curve", "AP_early"), *claims.step_claims("curve", "AP_area")),
        "higher": claims.step_claims(),
        "measures": claims.measure_claims(claims.CENTERNESS),
    }
    if plan(part)["beside"]:
        pairs = product(map(name_of, plan(part)["beside"]), map(name_of, plan(part)["methods"]))
        questions = {"others": tuple(Claim(f"{m} does better than {o}", better=m, other=o) for o, m in pairs)}
    return {question: claims_by_start(numbers, judged) for question, judged in questions.items()}


def _protocol(runs: Sequence[Run], part: str = FIRST) -> dict[str, Any]:
    """What the page says of a part of the protocol."""
    numbers, about = protocol_numbers(runs, part), plan(part)
    counts = numbers.groupby(["start", "recipe"])["seed"].nunique()
    stages = {stage: [run for run in runs if run["stage"] == stage_of(part, stage)] for stage in ("tuning", "main")}
    rates, rows = dict[tuple[str, str], float](), []
    if stage_of(part, "tuning") not in {p.stage for p in missing(runs, part)}:
        rates = {s: rate for s, rate in tuned(runs).items() if s[1] in about["beside"]} | tuned(runs, part)
    for (start, recipe), rate in rates.items():
        if not stages["main"] or (start, recipe) not in counts:
            continue
        mine = numbers[(numbers["recipe"] == recipe) & (numbers["start"] == start)]
        means = [
            as_text(name, mine.loc[(mine["analysis"] == analysis) & (mine["name"] == name), "value"].mean())
            for analysis, name in ROWS["protocol"].values()
        ]
        rows.append([name_of(recipe), start, f"{rate:g}", str(counts[start, recipe]), *means])
    findings = protocol_findings(numbers, part)
    answers = {question: tables.starts_markdown(by_start) for question, by_start in findings.items()}
    methods = markdown(["method", "start", "rate", "seeds", *ROWS["protocol"]], rows) if rows else ""
    aps = {(r["start"], r["recipe"], r["lr"]): tables.ap_of(r) for r in stages["tuning"]}
    tried = about["tuning"]["rates"]
    grid = [
        [name_of(base), start, *(as_text("AP", aps.get((start, base, rate), np.nan)) for rate in tried)]
        for start, base in settings(part)
    ]
    tuning_grid = Markup(markdown(["method", "start", *(f"rate {rate:g}" for rate in tried)], grid))
    done = {stage: len(there) for stage, there in stages.items()}
    at_edge = sum(rate == max(tried) for (_, recipe), rate in rates.items() if recipe not in about["beside"])
    seeds = {(start, base): int(counts.get((start, base), 0)) for start, base in settings(part)}
    there = ", ".join(f"{name_of(base)} ({start}, {many(n, 'seed')})" for (start, base), n in seeds.items() if n)
    return {
        "plan": about,
        "seeds": min(seeds.values()),
        "most": max(seeds.values()),
        "done": done,
        "there": there,
        "tuning": tuning_grid,
        "at_edge": at_edge,
        "methods": Markup(methods),
        "findings": findings,
        **{question: Markup(table) for question, table in answers.items()},
    }


def main_numbers(*paths: str | Path) -> pd.DataFrame:
    """`read_runs` of the protocol's four methods and of FCOS without a quality branch, one of its further part.

    Only runs of the main stages: a row a number, with start ("warm", "cold") and, for AP, its resamples. Methods are
    named as the protocol's tables do.
    """
    return _main_numbers(read(*paths, protocol=VERSION))


def _main_numbers(runs: Sequence[Run]) -> pd.DataFrame:
    first, further = protocol_numbers(runs), protocol_numbers(runs, "methods")
    others = set(SHIPPED) - set(PLAN["methods"])
    return pd.concat([first, further[further["recipe"].isin(others)]], ignore_index=True)


def claims_by_start(numbers: pd.DataFrame, judged: Sequence[Claim] = claims.CLAIMS) -> dict[str, tuple[Finding, ...]]:
    """Start → claims, by default `claims.CLAIMS`, judged together.

    Args:
        numbers: with start, as `main_numbers` or `protocol_numbers` has them.
        judged: the claims of one table.
    """
    return {start: claims.judge_all(judged, numbers[numbers["start"] == start]) for start in PLAN["starts"]}


def _each_shipped(numbers: pd.DataFrame, analysis: str, name: str) -> str:
    """ "FCOS 0.9, DSLA 0.8": the number of each model that ships: of the warm start, seed 0."""
    mine = numbers[(numbers["start"] == "warm") & (numbers["seed"] == 0) & numbers["recipe"].isin(SHIPPED)]
    values = mine[(mine["analysis"] == analysis) & (mine["name"] == name)].set_index("recipe")["value"]
    return ", ".join(f"{title_of(recipe)} {as_text(name, values.get(recipe, np.nan))}" for recipe in SHIPPED)


def results_page(folder: str | Path = "figures") -> str:
    """The page as Markdown, of the runs in a folder.

    Raises:
        DataError: there are no runs.
    """
    paths = stores(folder)
    if not paths:
        raise DataError(f"no runs in {Path(folder).absolute()}: `dsla reproduce --train --seeds 3` makes some")
    runs = read_runs(*paths)
    protocol = read(*paths, protocol=VERSION)
    numbers = _main_numbers(protocol)
    early = claims.judge_all(claims.CLAIMS, full_trainings(runs))
    ablation, conditions = claims.judge_ablation(runs), tables.condition_table(runs)
    again = claims_by_start(numbers)
    means = runs.groupby(["recipe", "steps", "name"])["value"].mean().unstack()
    return page(
        "results.md",
        parts=(parts := {part: _protocol(protocol, part) for part in PLAN["parts"]}),
        ends=parts[FIRST]["findings"]["higher"],
        defined=definition,
        best=BEST,
        figures={path.stem for path in Path(folder).glob("*.svg")},
        early=early,
        claims=Markup(tables.claims_markdown(early)),
        methods=Markup(tables.methods_markdown(tables.method_table(one_budget(runs)))),
        ablation=Markup(tables.claims_markdown(ablation)),
        conditions=Markup(tables.conditions_markdown(conditions)),
        first=conditions.iloc[0],
        now={f.claim.text: f.verdict for f in ablation},
        ablation_power=ablation[0].power,
        pooled=claims.same_budget(runs)["recipe"].nunique(),
        conditions_now=conditions.set_index(["condition", "number"])["verdict"].to_dict(),
        conditions_count=len(conditions),
        lost_more=int(((conditions["number"] == "lost > 0.05") & (conditions["verdict"] == claims.CONTRADICTED)).sum()),
        asked_again=Markup(tables.starts_markdown(again)),
        judged_again={start: sum(f.seeds > 0 for f in findings) for start, findings in again.items()},
        plain_measures=Markup(tables.starts_markdown(claims_by_start(numbers, claims.measure_claims(claims.PLAIN)))),
        each=partial(_each_shipped, numbers),
        settings=len(means),
        alike_and_steps=means["alike"].corr(means["d_score"], method="spearman"),
        without_point=means.xs(STEPS, level="steps")["unlearned"],
    )
