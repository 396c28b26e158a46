"""The results over seeds as one page, ``docs/results.md``: text in `templates/results.md`, numbers from the runs.

``dsla figures --results docs/results.md`` makes it anew from the runs in ``figures/``.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from ..errors import DataError
from ..files import markdown
from ..recipes import GROUPS, RECIPES, SHIPPED
from .claims import (
    CLAIMS,
    CONTRADICTED,
    Finding,
    ablation_names,
    judge_ablation,
    judge_all,
    measure_claims,
    same_budget,
    step_claims,
)
from .definitions import ROWS, as_text
from .pages import page
from .protocol import PLAN, VERSION, missing, tuned
from .runs import ABOUT, Run, read, read_runs, stores, table_of
from .tables import (
    claims_markdown,
    condition_table,
    conditions_markdown,
    method_table,
    methods_markdown,
    starts_markdown,
)

STEPS = 1000  # of the trainings in which every method is compared


def full_trainings(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of the models that ship, at all steps of their recipes."""
    return runs[runs["recipe"].map({name: RECIPES[name].steps for name in SHIPPED}) == runs["steps"]]


def one_budget(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of every method, of the ablation and of the sweep of γ, at `STEPS` steps."""
    recipes = {name for group in ("methods", "ablation", "gamma") for name in GROUPS[group]}
    return runs[runs["recipe"].isin(recipes) & (runs["steps"] == STEPS)]


def protocol_numbers(runs: Sequence[Run]) -> pd.DataFrame:
    """`read_runs` of the protocol's main stage, with method; and analysis curve: AP_early, and AP_area, its mean."""
    runs = [run for run in runs if run["stage"] == "main"]
    curves = []
    for run in runs:
        ap = {point["step"]: point["AP"] for point in run["evaluations"]}
        numbers = {"AP_early": ap.get(PLAN["early"]), "AP_area": sum(ap.values()) / len(ap) if ap else None}
        about = {k: run[k] for k in ABOUT} | {"analysis": "curve"}
        curves += [about | {"name": name, "value": value} for name, value in numbers.items()]
    table = table_of(runs)
    table = pd.concat([table, pd.DataFrame(curves, columns=table.columns)]) if curves else table
    return table.assign(method=table["recipe"].map(ablation_names()))


def protocol_findings(numbers: pd.DataFrame) -> dict[str, dict[str, tuple[Finding, ...]]]:
    """Question → start → its claims, judged together: "faster", "higher", and "measures" beside them."""
    questions = {
        "faster": (*step_claims("curve", "AP_early"), *step_claims("curve", "AP_area")),
        "higher": step_claims(),
        "measures": measure_claims(),
    }
    by_start = {start: numbers[numbers["start"] == start] for start in PLAN["starts"]}
    return {q: {start: judge_all(claims, rows) for start, rows in by_start.items()} for q, claims in questions.items()}


def _protocol(runs: Sequence[Run]) -> dict[str, Any]:
    """What the page says of the protocol's runs."""
    numbers = protocol_numbers(runs)
    left = missing(runs)
    counts = numbers.groupby(["recipe", "start"])["seed"].nunique()
    rows = []
    for (start, recipe), rate in tuned(runs).items() if not [p for p in left if p.stage == "tuning"] else ():
        mine = numbers[(numbers["recipe"] == recipe) & (numbers["start"] == start)]
        means = [
            as_text(name, mine.loc[(mine["analysis"] == analysis) & (mine["name"] == name), "value"].mean())
            for analysis, name in ROWS["protocol"].values()
        ]
        rows.append([ablation_names()[recipe], start, f"{rate:g}", str(counts.get((recipe, start), 0)), *means])
    tables = {question: starts_markdown(findings) for question, findings in protocol_findings(numbers).items()}
    methods = markdown(["method", "start", "rate", "seeds", *ROWS["protocol"]], rows) if rows else ""
    least = int(counts.min()) if len(counts) == len(PLAN["methods"]) * len(PLAN["starts"]) else 0
    aps = {(r["start"], r["recipe"], r["lr"]): r["numbers"][0]["value"] for r in runs if r["stage"] == "tuning"}
    rates = PLAN["tuning"]["rates"]
    grid = [
        [ablation_names()[base], start, *(as_text("AP", aps.get((start, base, rate), np.nan)) for rate in rates)]
        for base in PLAN["methods"]
        for start in PLAN["starts"]
    ]
    tuning_grid = Markup(markdown(["method", "start", *(f"rate {rate:g}" for rate in rates)], grid))
    done = {stage: sum(run["stage"] == stage for run in runs) for stage in ("tuning", "main")}
    about = {"plan": PLAN, "seeds": least, "done": done, "methods": Markup(methods), "tuning": tuning_grid}
    return about | {question: Markup(table) for question, table in tables.items()}


def _each_shipped(runs: Sequence[Run], analysis: str, name: str) -> str:
    """ "FCOS 0.9, DSLA 0.8": the number of each model that ships, whose run is that of seed 0."""
    values = {
        run["method"]: number["value"]
        for run in runs
        for number in run["numbers"]
        if (run["recipe"], run["seed"], run["steps"]) in {(r, 0, RECIPES[r].steps) for r in SHIPPED}
        and (number["analysis"], number["name"]) == (analysis, name)
    }
    return ", ".join(f"{method} {as_text(name, value)}" for method, value in values.items())


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
    main = judge_all(CLAIMS, full_trainings(runs))
    ablation, conditions = judge_ablation(runs), condition_table(runs)
    means = runs.groupby(["recipe", "steps", "name"])["value"].mean().unstack()
    return page(
        "results.md",
        protocol=_protocol(protocol),
        figure=(Path(folder) / "protocol.svg").is_file(),
        main=main,
        claims=Markup(claims_markdown(main)),
        methods=Markup(methods_markdown(method_table(one_budget(runs)))),
        ablation=Markup(claims_markdown(ablation)),
        conditions=Markup(conditions_markdown(conditions)),
        first=conditions.iloc[0],
        now={f.claim.text: f.verdict for f in ablation},
        ablation_power=ablation[0].power,
        pooled=same_budget(runs)["recipe"].nunique(),
        conditions_now=conditions.set_index(["condition", "number"])["verdict"].to_dict(),
        conditions_count=len(conditions),
        lost_more=int(((conditions["number"] == "lost > 0.05") & (conditions["verdict"] == CONTRADICTED)).sum()),
        each=partial(_each_shipped, read(*paths)),
        settings=len(means),
        alike_and_steps=means["alike"].corr(means["d_score"], method="spearman"),
        without_point=means.xs(STEPS, level="steps")["unlearned"],
    )
