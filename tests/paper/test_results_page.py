"""docs/results.md and the README's findings are what the runs say."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
import torch

import dsla
from dsla.cli.main import main
from dsla.errors import DataError
from dsla.paper import (
    CLAIMS,
    claims_markdown,
    condition_table,
    full_trainings,
    judge,
    judge_ablation,
    method_table,
    methods_markdown,
    one_budget,
    read_runs,
    results_page,
    stores,
)
from dsla.paper.definitions import as_text
from dsla.paper.tables import conditions_markdown
from dsla.recipes import GROUPS, SHIPPED

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
README = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())  # one line, to look for sentences


@pytest.fixture(scope="module")
def runs():
    return read_runs(*stores(ROOT / "figures"))


@pytest.fixture(scope="module")
def findings(runs):
    return [judge(claim, full_trainings(runs)) for claim in CLAIMS]


def test_the_page_is_the_one_that_the_runs_give():
    same = results_page(ROOT / "figures") == PAGE
    assert same, "rebuild it: dsla figures --results docs/results.md --overwrite"


def test_its_claims_are_those_of_the_full_trainings():
    numbers = read_runs(ROOT / "figures" / "runs.jsonl")
    assert numbers.groupby("method")["seed"].nunique().min() >= 3
    assert claims_markdown(judge(claim, numbers) for claim in CLAIMS) in PAGE


def test_full_trainings_are_those_of_the_models_that_ship(runs):
    full = full_trainings(runs)
    assert set(full["recipe"]) == set(SHIPPED)
    assert set(full["steps"]) == {2000}


def test_its_claims_of_the_ablation_are_those_of_the_runs(runs):
    ablation = judge_ablation(runs)
    assert min(f.seeds for f in ablation) >= 3
    assert claims_markdown(ablation) in PAGE


def test_what_the_lead_depends_on_is_what_the_runs_say(runs):
    conditions = condition_table(runs)
    assert conditions["condition"].nunique() == 10
    assert set(conditions["seeds"]) == {3}
    assert conditions_markdown(conditions) in PAGE


@pytest.mark.parametrize("group", ["methods", "ablation", "gamma"])
def test_its_methods_are_those_of_the_runs(runs, group):
    mine = one_budget(runs)
    mine = mine[mine["recipe"].isin(GROUPS[group])]
    assert set(mine["recipe"]) == set(GROUPS[group])
    assert set(mine["seed"]) == {0, 1, 2}
    assert set(zip(mine["steps"], mine["images"], strict=True)) == {(1000, 400)}
    lines = methods_markdown(method_table(mine)).splitlines()
    assert [line for line in lines if line not in PAGE.splitlines()] == []


def test_sentences_between_its_tables_hold(runs, findings):
    verdicts = {(f.claim.name, f.claim.other): f.verdict for f in findings}
    assert {v for (name, _), v in verdicts.items() if name in ("AP", "spearman")} == {"seen"}
    assert verdicts["mismatch", "FCOS"] == "seen"
    assert verdicts["follows_iou", "FCOS"] == "not seen here"
    assert verdicts["lost_over_0.05", "FCOS"] == "not seen here"
    assert verdicts["lost_over_0.05", "FCOS + centerness"] == "contradicted"

    table = method_table(one_budget(runs)).set_index("recipe")
    base = table.loc["scenes-fcos"]
    assert base["AP low"] < table.loc["scenes-dsla-static", "AP"] < base["AP high"]
    gammas = [name for name in table.index if "gamma" in name or name == "scenes-dsla"]
    assert len(gammas) == 5
    assert table.loc[gammas, "AP"].min() > base["AP high"]
    assert table.loc[gammas, "AP"].idxmax() != "scenes-dsla"

    conditions = condition_table(runs).set_index(["condition", "number"])
    trainings = conditions.index.get_level_values(0).unique()[:5]
    assert set(conditions.loc[[(t, "AP") for t in trainings], "verdict"]) == {"seen"}
    better = conditions.loc[[(t, "Spearman") for t in trainings], "verdict"]
    assert better[better == "seen"].index.tolist() == [("2,000 steps", "Spearman")]
    lost = conditions.loc[[(t, "lost > 0.05") for t in trainings], "verdict"]
    assert (lost == "contradicted").sum() == 3
    ap = conditions.xs("AP", level="number")
    assert ap.loc["medium objects", "verdict"] == "seen"
    assert ap["verdict"].filter(regex="^(small|large)").tolist() == ["not seen here"] * 2
    assert ap.loc["scenes whose objects overlap", "difference"] < ap.loc["scenes whose objects do not", "difference"]


def test_the_numbers_of_the_readme_are_those_of_the_runs(runs, findings):
    plain, centerness = findings[:2]
    short = condition_table(runs).iloc[0]
    ablation = {f.claim.text: f for f in judge_ablation(runs)}
    alone = next(f for text, f in ablation.items() if text.startswith("The IoU alone"))
    for finding in (plain, centerness, short, alone):
        assert f"{as_text('AP', finding.difference, signed=True)} AP" in README
    low, high = (as_text("AP", v, signed=True) for v in (centerness.low, centerness.high))
    assert f"{as_text('AP', centerness.difference, signed=True)} AP ({low} to {high}) after 2,000 steps" in README


def test_a_folder_without_runs_is_refused(tmp_path, capsys):
    with pytest.raises(DataError, match=r"no runs in .*dsla reproduce --train --seeds 3"):
        results_page(tmp_path)
    target = tmp_path / "results.md"
    target.write_text("mine")
    assert main(["figures", "--out", str(ROOT / "figures"), "--results", str(target)]) == 2
    assert target.read_text() == "mine"
    assert "--overwrite" in capsys.readouterr().err


def measured(pattern):
    numbers = re.search(pattern, " ".join(PAGE.split()))
    assert numbers, pattern
    return [float(n) for n in numbers.groups()]


@pytest.fixture(scope="module")
def scenes():
    return dsla.Scenes("val", size=100).prepare()


def test_first_boxes_are_as_good_as_the_page_says(scenes):
    says = measured(r"mean IoU of ([\d.]+) with their objects, against ([\d.]+) with a bias of 0 and ([\d.]+) with −2")
    for bias, iou in zip((0.7, 0.0, -2.0), says, strict=True):
        torch.manual_seed(0)
        model = dsla.build(dsla.recipe("scenes-dsla", box_bias=bias), class_names=scenes.class_names).eval()
        frames = []
        with torch.inference_mode():
            for start in range(0, len(scenes), 20):
                images, targets = zip(*(scenes[i] for i in range(start, start + 20)), strict=True)
                raw = model.forward_raw(list(images), list(targets))
                frames.append(model.assign(raw).to_frame(raw.outputs))
        assert pd.concat(frames)["iou"].mean() == pytest.approx(iou, abs=0.5 * 10 ** -len(str(iou).split(".")[1]))


@pytest.mark.slow
def test_a_constant_rule_follows_the_iou_as_the_page_says(scenes):
    least, most, plain, smooth, centerness = measured(
        r"right in (\d+) to (\d+) % of them.*FCOS is right in (\d+) %, DSLA in (\d+) %, FCOS with centerness in (\d+) %"
    )
    rule, worse = [], {}
    for name in ("scenes-fcos-plain", "scenes-dsla", "scenes-fcos"):
        pairs = dsla.analysis.adjacency(dsla.load(name), scenes)
        pairs = pairs[pairs["d_iou"] != 0]  # d = of the point that FCOS calls positive − of its neighbour
        assert (pairs["d_iou"] > 0).mean() > ((pairs["d_score"] > 0) == (pairs["d_iou"] > 0)).mean()
        rule.append(round(100 * (pairs["d_iou"] > 0).mean()))
        worse[name] = round(100 * (pairs.loc[pairs["d_iou"] < 0, "d_score"] < 0).mean())
    assert (min(rule), max(rule)) == (least, most)
    assert list(worse.values()) == [plain, smooth, centerness]


def test_few_objects_are_large():
    val = dsla.Scenes("val")
    sides = torch.cat([val[i][1]["boxes"] for i in range(len(val))])
    large = ((sides[:, 2:] - sides[:, :2]).prod(1) >= 96**2).sum()
    assert f"rests on {int(large)} of {len(sides):,} objects" in " ".join(PAGE.split())
