"""Recipes: what the table in the docs says, what the release's logs say."""

from __future__ import annotations

import dataclasses
import re
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
import torch

from dsla import DataError
from dsla.models.build import assigner, build
from dsla.recipes.recipe import Recipe
from dsla.recipes.scenes import RECIPES, recipe
from dsla.training.schedule import learning_rate, optimizer_of

DOCS = Path(__file__).parents[2] / "docs" / "recipes.md"
PUBLISHED = ("r50-1x", "r101-dcn-2x", "x101-64x4d-dcn-2x", "swin-s-dcn-3x")
LOGGED = [("r50-1x", "r50_1x"), ("r101-dcn-2x", "r101_dcn_2x"), ("swin-s-dcn-3x", "swin_s_dcn_3x")]


def ours(name):
    """field → text of the last column of a recipe's table."""
    section = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", DOCS.read_text(encoding="utf-8"), re.M | re.S)[1]
    columns = [line.strip("| \n").split(" | ")[-1] for line in section.splitlines() if line.startswith("|")]
    return dict(re.findall(r"`(\w+)=([^`]*)`", "\n".join(columns)))


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_table_in_the_docs_is_the_recipe(name):
    said, found = ours(name), recipe(name)
    assert found.replace(**said) == found
    usual = Recipe(name=name)
    decided = {f.name for f in dataclasses.fields(Recipe) if getattr(found, f.name) != getattr(usual, f.name)}
    assert decided <= set(said)  # nothing that the recipe changes is left out


@pytest.mark.parametrize(("name", "model"), LOGGED)
def test_learning_rates_are_those_of_the_logs(shared, name, model):
    """The whole schedule, from 7330 steps an epoch; logged with four digits, for the step before."""
    log = pd.read_csv(shared / "reference/official_training_log.csv").query("model == @model")
    assert len(log) > 100
    chosen, images = recipe(name), 7330 * 16
    for row in log.itertuples():
        step = (row.epoch - 1) * 7330 + row.iteration - 1
        rate = learning_rate(chosen, step, int(chosen.epochs) * 7330, images)
        assert rate == pytest.approx(row.lr, rel=6e-4), (row.epoch, row.iteration)
    assert log["grad_norm"].notna().all() == (chosen.clip is not None)  # mmdetection logs it where it clips
    assert log["epoch"].max() == chosen.epochs


def test_ablation_takes_one_step_at_a_time():
    rows = [recipe(f"r50-1x-{n}") for n in ("merged", "core", "static")] + [recipe("r50-1x")]
    changes = []
    for before, after in pairwise(rows):
        names = (f.name for f in dataclasses.fields(Recipe))
        changes.append({n for n in names if getattr(before, n) != getattr(after, n)} - {"name"})
    assert changes == [{"core_zone"}, {"relaxation"}, {"coupling"}]
    assert [recipe(f"r50-1x-gamma-{g}").relaxation for g in ("0.1", "0.3", "0.4")] == [0.1, 0.3, 0.4]


def test_all_are_named_alike_and_buildable_in_part():
    assert all(name == r.name for name, r in RECIPES.items())
    for r in RECIPES.values():
        assigner(r)
        assert Recipe.from_dict(r.to_dict()) == r


def test_changes_from_the_shell():
    assert recipe("r101-dcn-2x", dcn_stages="4,5", clip="3").dcn_stages == (4, 5)
    assert recipe("r101-dcn-2x", dcn_stages="none").dcn_stages == ()
    assert recipe("r50-1x", clip="none", ranges="0-64,64-128,128-256,256-512,512-1e8") == recipe("r50-1x", clip=None)
    with pytest.raises(DataError, match="did you mean 'dcn_stages'"):
        recipe("r50-1x", dcn_stage="3")
    with pytest.raises(DataError, match="dcn_stages=C3: not a value"):
        recipe("r50-1x", dcn_stages="C3")


def test_swin_is_not_decayed_on_norms_and_position_tables():
    """METHOD's table: AdamW, weight decay 0.05, none on norms and position tables."""
    swin = recipe("swin-s-dcn-3x")
    with torch.device("meta"):
        model = build(swin, 80)
    names = {id(p): name for name, p in model.named_parameters()}
    decay = {names[id(p)]: g["weight_decay"] for g in optimizer_of(model, swin).param_groups for p in g["params"]}
    tables = [name for name in decay if name.endswith("relative_position_bias_table")]
    assert len(tables) == 24
    assert {decay[name] for name in tables} == {0.0}
    assert {v for n, v in decay.items() if ".norm" in n} == {0.0}
    assert {v for n, v in decay.items() if n.endswith(("qkv.weight", "proj.bias"))} == {0.05}


def test_the_bias_rule_passes_offsets_of_deformable_convolutions_over():
    """mmcv's optimiser: the rule is of all biases but those of norms and of what predicts the offsets."""
    r101 = recipe("r101-dcn-2x")
    with torch.device("meta"):
        model = build(r101, 80)
    names = {id(p): name for name, p in model.named_parameters()}
    groups = optimizer_of(model, r101).param_groups
    rule = {names[id(p)]: (g["factor"], g["weight_decay"]) for g in groups for p in g["params"]}
    offsets = [n for n in rule if n.endswith("conv_offset.bias")]
    assert len(offsets) == 4 + 23 + 3 + 2
    assert {rule[n] for n in offsets} == {(1.0, 1e-4)}
    assert rule["head.class_tower.9.bias"] == rule["head.box.bias"] == (2.0, 0.0)
    assert rule["head.class_tower.10.bias"] == rule["backbone.layer2.0.bn1.bias"] == (1.0, 1e-4)
    assert {v for n, v in rule.items() if n.endswith("weight")} == {(1.0, 1e-4)}
