"""The results over seeds as one page, ``docs/results.md``: text in `templates/results.md`, numbers from the runs.

``dsla figures --results docs/results.md`` makes it anew from the runs in ``figures/``.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain, product
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
from .definitions import PHRASES, ROWS, as_text, title_of
from .pages import page
from .protocol import FIRST, PLAN, VERSION, plan, settings, stage_of, tuned, tuning
from .runs import ABOUT, Run, read, read_runs, stores, table_of

STEPS = 1000  # of the trainings in which every method is compared
ASKED = {"AP_early": "learns faster: a quarter", "AP_area": "learns faster: mean of the curve", "AP": "ends higher"}


def full_trainings(runs: pd.DataFrame) -> pd.DataFrame:
    """The early runs of the recipes whose weights ship, at all steps that the recipes name."""
    return runs[runs["recipe"].map({name: RECIPES[name].steps for name in SHIPPED}) == runs["steps"]]


def one_budget(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of every method, of the ablation and of the sweep of γ, at `STEPS` steps."""
    recipes = {name for group in ("methods", "ablation", "gamma") for name in GROUPS[group]}
    return runs[runs["recipe"].isin(recipes) & (runs["steps"] == STEPS)]


def protocol_numbers(runs: Sequence[Run], part: str = FIRST) -> pd.DataFrame:
    """`read_runs` of the main stage of a part, with method; and analysis curve: AP_early, and AP_area, its mean.

    Those that the plan has, no other seeds or recipes, and those of the first part that it puts beside them, of the
    same seeds and starts. Where the plan names a rate, it is part of the name of the method. A curve without one of its
    points has no mean.
    """
    about, stage = plan(part), stage_of(part, "main")
    each = (stage, about["methods"]), ("main", about["beside"])
    wanted = {w for name, of in each for w in product([name], about["starts"], of, range(about["seeds"]))}
    runs = [r for r in runs if (r["stage"], r["start"], r["recipe"], r["seed"]) in wanted]
    curves, steps = [], range(about["curve_every"], about["steps"] + 1, about["curve_every"])
    for run in runs:
        ap = pd.Series({point["step"]: point["AP"] for point in run["evaluations"]}, steps, dtype=float)
        numbers = {"AP_early": ap.get(about["early"]), "AP_area": ap.mean(skipna=False)}
        line = {k: run[k] for k in ABOUT} | {"analysis": "curve"}
        curves += [line | {"name": name, "value": value} for name, value in numbers.items()]
    table = table_of(runs)
    table = pd.concat([table, pd.DataFrame(curves, columns=table.columns)]) if curves else table
    methods = table["recipe"].map(name_of)
    if "rate" in about:
        rated = methods.map(partial(claims.at_rate, rate=about["rate"]))
        methods = methods.mask(table["stage"] == stage, rated)
    return table.assign(method=methods)


def protocol_findings(numbers: pd.DataFrame, part: str = FIRST) -> dict[str, dict[str, tuple[Finding, ...]]]:
    """Question → start → its claims, judged together.

    "faster", "higher", and "measures" beside them; of a part with others beside it "others", its methods against these,
    unless it names a rate: its own claims, faster and higher.
    """
    about = plan(part)
    of = partial(claims.rate_claims, about["rate"]) if "rate" in about else claims.step_claims
    questions = {"faster": (*of("curve", "AP_early"), *of("curve", "AP_area")), "higher": of()}
    if not about["beside"]:
        questions["measures"] = claims.measure_claims(claims.CENTERNESS)
    elif "rate" not in about:
        pairs = product(map(name_of, about["beside"]), map(name_of, about["methods"]))
        questions = {"others": tuple(Claim(f"{m} does better than {o}", better=m, other=o) for o, m in pairs)}
    return {question: claims_by_start(numbers, judged, about["starts"]) for question, judged in questions.items()}


def one_rate(runs: Sequence[Run]) -> dict[str, tuple[Finding, ...]]:
    """ "tuned rate, 0.004", "rate 0.008" → the first part's claims about FCOS with centerness, where it has that rate.

    Of the start in which the part "rate" has runs of it: at the rate of the tuning, and at that part's. Each claim is
    judged in its own table ("faster", "higher", "measures", and the questions of the early runs), as on the page; what
    stands in two of them is here once, as the first has it.
    """
    about, numbers = plan("rate"), _main_numbers(runs)
    (start,), (recipe,) = about["starts"], about["methods"]
    mine, numbers = name_of(recipe), numbers[numbers["start"] == start]
    rated = protocol_numbers(runs, "rate")
    rated = rated[rated["stage"] == stage_of("rate", "main")].assign(method=mine)
    others = numbers[numbers["method"] != mine]
    at = ", ".join(f"{rate:g}" for rate in numbers.loc[numbers["method"] == mine, "lr"].unique())
    sides = {f"tuned rate, {at}": numbers, f"rate {about['rate']:g}": pd.concat([others, rated])}
    answers = {}
    for side, each in sides.items():
        first = [by_start[start] for by_start in protocol_findings(each).values()]
        judged = dict[tuple[str, ...], Finding]()
        for f in chain(*first, claims.judge_all(claims.CLAIMS, each)):
            key = f.claim.analysis, f.claim.name, f.claim.better, f.claim.other
            if mine in key:
                judged.setdefault(key, f)
        answers[side] = tuple(judged.values())
    return answers


def _protocol(runs: Sequence[Run], part: str = FIRST) -> dict[str, Any]:
    """What the page says of a part of the protocol."""
    numbers, about = protocol_numbers(runs, part), plan(part)
    tried, seed = about["tuning"]["rates"], about["tuning"]["seed"]
    there = {(r["start"], r["recipe"], r["seed"]) for r in runs if r["stage"] == stage_of(part, "main")}
    seeds = {s: sum((*s, seed) in there for seed in range(about["seeds"])) for s in settings(part)}
    findings = protocol_findings(numbers, part)
    answers = {question: tables.starts_markdown(by_start) for question, by_start in findings.items()}
    tunings = [r for r in runs if (r["stage"], r["seed"]) == (stage_of(part, "tuning"), seed)]
    aps = {(r["start"], r["recipe"], r["lr"]): tables.ap_of(r) for r in tunings}
    grid = [
        [name_of(base), start, *(as_text("AP", aps.get((start, base, rate), np.nan)) for rate in tried)]
        for start, base in settings(part)
    ]
    wanted = {"tuning": len(tuning(part)), "main": len(seeds) * about["seeds"]}
    done = {"tuning": sum((*s, rate) in aps for s in settings(part) for rate in tried), "main": sum(seeds.values())}
    rates = tuned(runs, part) if done["tuning"] == wanted["tuning"] else {}
    return {
        "plan": about,
        "settings": len(seeds),
        "seeds": min(seeds.values()),
        "most": max(seeds.values()),
        "wanted": wanted,
        "done": done,
        "there": ", ".join(f"{name_of(base)} ({start}, {many(n, 'seed')})" for (start, base), n in seeds.items() if n),
        "best": {s: max(float(np.nan_to_num(aps.get((*s, rate), 0.0))) for rate in tried) for s in settings(part)},
        "tuning": Markup(markdown(["method", "start", *(f"rate {rate:g}" for rate in tried)], grid)),
        "inside": [f"{name_of(base)}, {start}" for (start, base), rate in rates.items() if rate < max(tried)],
        "methods": Markup(_methods(numbers, about) if rates and done["main"] else ""),
        "findings": findings,
        "narrow": _too_narrow(numbers, findings, part),
        **{question: Markup(table) for question, table in answers.items()},
    }


def _overview(parts: dict[str, dict[str, Any]]) -> str:
    """The claims of the ablation, published and measured: on scenes and on photographs, from each start."""
    rows, columns = [], [(part, start) for part in (FIRST, "photographs") for start in PLAN["starts"]]
    for question in ("faster", "higher"):
        for each in zip(*(parts[part]["findings"][question][start] for part, start in columns), strict=True):
            claim = each[0].claim
            rows.append([claim.text, ASKED[claim.name], claim.published, *map(tables.measured, each)])
    return markdown(["claim", "asked", "published (COCO)", *map(", ".join, columns)], rows)


def _turned(rates: dict[str, tuple[Finding, ...]]) -> list[tuple[Finding, Finding]]:
    """Of `one_rate` those whose verdicts differ: at the rate of the tuning, at the other."""
    return [(f, g) for f, g in zip(*rates.values(), strict=True) if f.verdict != g.verdict]


def _heads(parts: dict[str, dict[str, Any]]) -> str:
    """AP at the best rate of the grid of each of the four methods: with the published head's start, from each other."""
    pair = parts["head"], parts[FIRST]
    if any(part["done"]["tuning"] < part["wanted"]["tuning"] for part in pair):
        return ""
    best, starts = pair[0]["best"] | pair[1]["best"], [start for part in pair for start in part["plan"]["starts"]]
    rows = [[name_of(base), *(as_text("AP", best[start, base]) for start in starts)] for base in PLAN["methods"]]
    return markdown(["method", *starts], rows)


def _methods(numbers: pd.DataFrame, about: dict[str, Any]) -> str:
    """A row a method and a start: rate, seeds, and the mean of each of the protocol's numbers."""
    rows, recipes, starts = [], [*about["beside"], *about["methods"]], list(about["starts"])
    each = numbers.groupby(["recipe", "method", "start", "lr"], sort=False)
    order = sorted(each.groups, key=lambda setting: (recipes.index(setting[0]), starts.index(setting[2])))
    for _, name, start, rate in order:
        mine = numbers[(numbers["method"] == name) & (numbers["start"] == start)]
        means = [
            as_text(number, mine.loc[(mine["analysis"] == analysis) & (mine["name"] == number), "value"].mean())
            for analysis, number in ROWS["protocol"].values()
        ]
        rows.append([name, start, f"{rate:g}", str(mine["seed"].nunique()), *means])
    return markdown(["method", "start", "rate", "seeds", *ROWS["protocol"]], rows)


def _too_narrow(numbers: pd.DataFrame, findings: dict[str, dict[str, tuple[Finding, ...]]], part: str) -> list[str]:
    """Claims about the curve that are decided, and would not be if its images vary as so many test images do."""
    if "faster" not in findings or "resampled" not in numbers:
        return []
    about, key = plan(part), ["start", "method", "seed"]
    kept = numbers[numbers["name"].eq("AP") & numbers["analysis"].eq("evaluation")].set_index(key)
    wider = (kept["images"] / about.get("files", about["scenes"])["validation"][-1]) ** 0.5
    drawn = {k: wider[k] * (np.asarray(kept["resampled"][k]) - np.mean(kept["resampled"][k])) for k in kept.index}
    curve = numbers[numbers["analysis"] == "curve"]
    curve = curve.assign(resampled=[list(drawn[k]) for k in curve[key].itertuples(index=False, name=None)])
    judged = [f.claim for f in next(iter(findings["faster"].values()))]
    wide = claims_by_start(curve, judged, about["starts"])
    return [
        f"{f.claim.text} ({PHRASES[f.claim.name]}, {start})"
        for start, each in findings["faster"].items()
        for f, w in zip(each, wide[start], strict=True)
        if f.verdict in (claims.SEEN, claims.CONTRADICTED) and w.verdict != f.verdict
    ]


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


def claims_by_start(
    numbers: pd.DataFrame, judged: Sequence[Claim] = claims.CLAIMS, starts: Iterable[str] = tuple(PLAN["starts"])
) -> dict[str, tuple[Finding, ...]]:
    """Start → claims, by default `claims.CLAIMS`, judged together.

    Args:
        numbers: with start, as `main_numbers` or `protocol_numbers` has them.
        judged: the claims of one table.
        starts: those asked of.
    """
    return {start: claims.judge_all(judged, numbers[numbers["start"] == start]) for start in starts}


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
    again, rates = claims_by_start(numbers), one_rate(protocol)
    means = runs.groupby(["recipe", "steps", "name"])["value"].mean().unstack()
    by_recipe = claims.same_budget(runs).assign(method=lambda table: table["recipe"])
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
        overview=Markup(_overview(parts)),
        one_rate=Markup(tables.starts_markdown(rates)),
        turned=_turned(rates),
        asked_at_rates=len(next(iter(rates.values()))),
        measured=tables.measured,
        heads=Markup(_heads(parts)),
        static=claims.judge(Claim("", better="scenes-dsla-static", other="scenes-fcos"), by_recipe),
        asked_again=Markup(tables.starts_markdown(again)),
        asked_again_count=len(claims.CLAIMS),
        asked=ASKED,
        plain_measures=Markup(tables.starts_markdown(claims_by_start(numbers, claims.measure_claims(claims.PLAIN)))),
        each=partial(_each_shipped, numbers),
        settings=len(means),
        alike_and_steps=means["alike"].corr(means["d_score"], method="spearman"),
        without_point=means.xs(STEPS, level="steps")["unlearned"],
    )
