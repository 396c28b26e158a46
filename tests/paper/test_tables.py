"""What DSLA's lead depends on: each condition compares its own runs, seed by seed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dsla.paper.tables import condition_table, conditions_markdown, protocol_table
from dsla.plots import trends
from dsla.recipes import GROUPS, recipe

NUMBERS = (
    ("evaluation", "AP"), ("evaluation", "AP_small"), ("evaluation", "AP_large"), ("crowding", "AP_crowded"),
    ("ranking", "spearman"), ("suppression", "lost_over_0.05"),
)  # fmt: skip


def runs(gains, steps=1000):
    """DSLA above FCOS by each seed's gain, in every number; ending → gains."""
    rows = []
    for ending, each in gains.items():
        for seed, gain in enumerate(each):
            for analysis, name in NUMBERS:
                about = {"seed": seed, "steps": steps, "images": 4, "analysis": analysis, "name": name}
                rows.append({**about, "recipe": f"scenes-fcos{ending}", "value": 0.1 * (seed + 1)})
                rows.append({**about, "recipe": f"scenes-dsla{ending}", "value": 0.1 * (seed + 1) + gain})
    return pd.DataFrame(rows)


def test_each_condition_has_its_own_runs_paired_by_seed():
    short = runs({"-short": [0.01, -0.01, 0.0]}, steps=500)
    table = condition_table(pd.concat([runs({"": [0.04, 0.05, 0.06], "-96px": [-0.02, -0.03, -0.02]}), short]))
    ap = table[table["number"] == "AP"].set_index("condition")
    first = tuple(ap.iloc[0][["difference", "low", "high"]])
    # four recipes of 1,000 steps: least squares leave 0.0002 to seed and method, 6 degrees of freedom
    half = 2.446912 * np.sqrt(2 * 0.0002 / 6 / 3)
    assert first == pytest.approx((0.05, 0.05 - half, 0.05 + half), abs=1e-6)
    assert ap.iloc[0]["each"] == (0.04, 0.05, 0.06)
    figure = trends.conditions(table)
    dots = [tuple(p) for p in figure.axes[0].collections[0].get_offsets().data.round(6)]
    assert dots[:3] == [(4.0, 0.2), (5.0, 0.2), (6.0, 0.2)]
    alone = ap.loc["500 steps"]  # of two recipes: Student's t, two degrees of freedom
    half = 4.302653 * 0.01 / np.sqrt(3)
    assert (alone["difference"], alone["low"], alone["high"]) == pytest.approx((0.0, -half, half), abs=1e-6)
    assert ap["verdict"].to_dict() == {
        ap.index[0]: "seen",
        "500 steps": "undecided",
        "images of 96 pixels": "contradicted",
        "small objects (under 32² pixels)": "seen",
        "large objects (from 96² pixels)": "seen",
        "scenes whose objects overlap": "seen",
    }
    lost = table[table["number"] == "lost > 0.05"].set_index("condition")["verdict"]
    assert lost.iloc[0] == "contradicted"  # more objects lose than under FCOS
    assert lost["images of 96 pixels"] == "seen"


def test_the_longer_runs_are_a_condition_of_their_own():
    longer = runs({"": [0.05, 0.05, 0.05]}, steps=2000)
    longer = longer[longer["name"] == "AP"]
    table = condition_table(pd.concat([runs({"": [0.04, 0.05, 0.06]}), longer]))
    row = table[table["condition"] == "2,000 steps"]
    assert row["number"].tolist() == ["AP"]
    assert row["difference"].item() == pytest.approx(0.05)
    assert row["low"].item() == pytest.approx(0.05)  # the shorter runs are not among them


def test_runs_of_another_length_are_not_of_the_condition():
    """`--steps` trains the recipe of a condition for longer than it says."""
    table = condition_table(pd.concat([runs({"": [0.04, 0.05, 0.06]}), runs({"-short": [0.1, 0.2, 0.3]}, steps=1000)]))
    assert "500 steps" not in set(table["condition"])
    short = {r.steps for r in map(recipe, GROUPS["conditions"]) if r.name.endswith("-short")}
    assert short == {500}


def test_the_table_of_a_readme_has_a_row_a_condition():
    text = conditions_markdown(condition_table(runs({"": [0.04, 0.05, 0.06]}))).splitlines()
    assert text[0] == "| condition | AP | Spearman | lost > 0.05 |"
    assert text[2].startswith("| 1,000 steps, GIoU loss, 128 pixels | +5.0 (+2.5 to +7.5), undecided | +0.050 (")
    assert text[3] == "| small objects (under 32² pixels) | +5.0 (+2.5 to +7.5), undecided |  |  |"


@pytest.mark.parametrize("name", GROUPS["conditions"])
def test_a_condition_changes_one_thing_of_the_base(name):
    mine = recipe(name)
    base = recipe("-".join(name.split("-")[:2]), steps=1000)
    changed = {k for k, v in mine.to_dict().items() if v != base.to_dict()[k]} - {"name"}
    assert len(changed) == 1


def test_runs_from_starts_of_another_part_are_left_out():
    run = {"recipe": "scenes-dsla", "seed": 0, "steps": 2, "evaluations": [{"step": 1, "AP": 0.1}]}
    run["numbers"] = [{"analysis": "evaluation", "name": "AP", "value": 0.2}]
    starts = (("head-tuning", "published"), ("main", "cold"), ("main", "warm"))
    table = protocol_table([run | {"stage": stage, "start": start} for stage, start in starts])
    assert table["start"].tolist() == ["warm", "warm", "cold", "cold"]
    assert table["AP"].tolist() == [0.1, 0.2, 0.1, 0.2]
