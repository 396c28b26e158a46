"""What measures react to: other scores of the same boxes move those by a threshold, and none of the others."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from dsla.analysis.study import study
from dsla.data import Scenes
from dsla.models import load
from dsla.paper.definitions import read
from dsla.paper.reactions import CHANGES, reaction_table
from dsla.plots import diagrams

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def table():
    return reaction_table(load("scenes-dsla"), Scenes("val", size=100))  # as the figure


@pytest.fixture(scope="module")
def values(table):
    return table.pivot(index=["asked", "kind"], columns="change", values="value")


@pytest.mark.slow
def test_as_it_is_they_are_those_of_the_study(table):
    model = load("scenes-dsla")
    model.postprocess = replace(model.postprocess, nms_iou=0.4)
    data = Scenes("val", size=20)
    numbers = study(model, data).numbers.set_index(["analysis", "name"])["value"]
    table = reaction_table(model, data).query("change == 'as it is'").set_index(["analysis", "name"])["value"]
    shared = table.index.intersection(numbers.index)
    assert len(shared) >= 4
    assert table[shared].to_numpy() == pytest.approx(numbers[shared].to_numpy(), abs=1e-6)


@pytest.mark.slow
def test_new_measures_move_with_no_change_that_keeps_the_order_of_scores_and_their_best(values):
    new = values.xs("new", level="kind")
    for change in CHANGES[:-1]:
        assert new[change].to_numpy() == pytest.approx(new["as it is"].to_numpy(), abs=1e-6)


@pytest.mark.slow
def test_old_ones_do(values):
    old = values.xs("old", level="kind")
    moved = (old.sub(old["as it is"], axis=0).abs() > 0.005).T
    neighbours, follows, ranked, lost = read("definitions")["reactions"]
    assert moved[neighbours].to_dict() == dict(zip(CHANGES, [False, True, True, False, False, True], strict=True))
    assert moved.loc["threshold 0.2", [ranked, lost]].all()
    assert moved.loc["√score", [ranked, lost]].all()
    assert not moved.loc[list(CHANGES[:-1]), follows].any()


@pytest.mark.slow
def test_scores_that_are_fcoss_label_tell_all_apart_and_are_never_right_against_it(values):
    rule = values["FCOS's label as the score"]
    neighbours, follows, *boxes = read("definitions")["reactions"]
    assert (rule[neighbours, "old"], rule[neighbours, "new"]) == (0, 1)
    assert rule[follows, "new"] == 0
    assert rule[boxes].isna().all()
    assert rule[follows, "old"] > values["as it is"][follows, "old"]


@pytest.mark.slow
def test_the_figure_shows_the_table(table):
    figure = diagrams.reactions(table)
    points = [line.get_xdata() for ax in figure.axes for line in ax.lines if line.get_marker() != "None"]
    expected = [rows["value"].tolist() for _, rows in table.groupby(["asked", "kind"], sort=False)]
    assert len(points) == len(expected) == 8
    for x, of_table in zip(points, expected, strict=True):
        assert list(x) == pytest.approx(of_table, nan_ok=True)


def test_the_page_defines_the_measures_beside_the_committed_figure():
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    section = page.split("## How much the measures react to")[1].split("\n## ")[0]
    assert "](../figures/reactions.svg)" in section
    assert "by ranks (0.5 by chance)" in section
    assert (ROOT / "figures" / "reactions.svg").is_file()
    assert set(pd.read_csv(ROOT / "figures" / "reactions.csv")["change"]) == set(CHANGES)
