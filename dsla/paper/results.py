"""The results over seeds as one page, ``docs/results.md``: text in `templates/results.md`, numbers from the runs.

``dsla figures --results docs/results.md`` makes it anew from the runs in ``figures/``.
"""

from pathlib import Path

import pandas as pd
from markupsafe import Markup

from ..errors import DataError
from ..recipes import GROUPS, RECIPES, SHIPPED
from .claims import CLAIMS, judge, judge_ablation
from .pages import page
from .runs import read_runs, stores
from .tables import claims_markdown, condition_table, conditions_markdown, method_table, methods_markdown

STEPS = 1000  # of the trainings in which every method is compared


def full_trainings(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of the models that ship, at all steps of their recipes."""
    return runs[runs["recipe"].map({name: RECIPES[name].steps for name in SHIPPED}) == runs["steps"]]


def one_budget(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of every method, of the ablation and of the sweep of γ, at `STEPS` steps."""
    recipes = {name for group in ("methods", "ablation", "gamma") for name in GROUPS[group]}
    return runs[runs["recipe"].isin(recipes) & (runs["steps"] == STEPS)]


def results_page(folder: str | Path = "figures") -> str:
    """The page as Markdown, of the runs in a folder.

    Raises:
        DataError: there are no runs.
    """
    paths = stores(folder)
    if not paths:
        raise DataError(f"no runs in {Path(folder).absolute()}: `dsla reproduce --train --seeds 3` makes some")
    runs = read_runs(*paths)
    main = [judge(claim, full_trainings(runs)) for claim in CLAIMS]
    ablation, conditions = judge_ablation(runs), condition_table(runs)
    means = runs.groupby(["recipe", "steps", "name"])["value"].mean().unstack()
    return page(
        "results.md",
        main=main,
        claims=Markup(claims_markdown(main)),
        methods=Markup(methods_markdown(method_table(one_budget(runs)))),
        ablation=Markup(claims_markdown(ablation)),
        conditions=Markup(conditions_markdown(conditions)),
        first=conditions.iloc[0],
        intervals=len(main) + len(ablation) + len(conditions),
        settings=len(means),
        alike_and_steps=means["alike"].corr(means["d_score"], method="spearman"),
        without_point=means.xs(STEPS, level="steps")["unlearned"],
    )
