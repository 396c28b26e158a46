"""Recipes: what the table in the docs says, what the release's logs say."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import re
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
import torch

from dsla import DataError
from dsla.assigners.registry import METHODS
from dsla.cli.main import main
from dsla.models.build import assigner, backbone, build
from dsla.recipes import RECIPES, recipe
from dsla.recipes.recipe import BACKBONES, Recipe, unused
from dsla.training.schedule import learning_rate, optimizer_of, total_steps

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
    table, chosen = ours(name), recipe(name)
    assert chosen.replace(**table) == chosen
    usual = Recipe(name=name)
    decided = {f.name for f in dataclasses.fields(Recipe) if getattr(chosen, f.name) != getattr(usual, f.name)}
    assert decided - unused(chosen).keys() <= set(table)  # nothing that the recipe changes is left out


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
    pairs = "pairs such as 0-64,64-128"
    for field, text, needed in (
        ("dcn_stages", "C3", "a whole number, or several with commas between them"), ("lr", "x", "a finite number"),
        ("steps", "1.5", "a whole number, or none"), ("ranges", "64", pairs), ("ranges", "0-64,a-b", pairs),
        ("options", "topk", "pairs such as topk:9,sigma:0.5"), ("truncate", "2", "true or false"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=f"^{field}={text}: give {needed}$"):
            recipe("r50-1x", **{field: text})


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


REFUSED = [
    ("scenes-dsla", {"options": "topk:5"}, "options=.* method dsla does not use it; of .*atss"),
    ("scenes-fcos", {"coupling": "on"}, "coupling='on' would do nothing: method fcos does not use it; of dsla"),
    ("scenes-fcos", {"relaxation": "0.1"}, "relaxation"),
    ("scenes-dsla", {"box_weighting": "none"}, "box_weighting"),
    ("scenes-dsla", {"quality": "centerness"}, "quality='centerness' would do nothing: method dsla does not use it"),
    ("scenes-atss", {"center_sampling": "1.5"}, "center_sampling"),
    ("scenes-atss", {"options": "topp:5"}, "option of atss 'topp': did you mean 'topk'"),
    ("scenes-atss", {"options": "topk:0"}, "topk=0"),
    ("scenes-fcos-plain", {"quality_on": "regression"}, "quality_on=.* there is no quality branch"),
    ("r101-dcn-2x", {"drop_path": "0.1"}, "drop_path=0.1 would do nothing: backbone resnet101 .* of swin_s"),
    ("scenes-dsla", {"frozen_stages": "2"}, "frozen_stages=2 would do nothing: backbone small does not use it"),
    ("swin-s-dcn-3x", {"norm": "eval"}, "norm='eval' would do nothing: backbone swin_s"),
    ("scenes-dsla", {"milestones": "8"}, "milestones=.* schedule=cosine"),
    ("r50-1x", {"warmup_steps": "0", "warmup": "linear"}, "warmup='linear' would do nothing: there is no warm-up"),
    ("swin-s-dcn-3x", {"momentum": "0.8"}, "momentum=0.8 would do nothing: it is of SGD"),
    ("scenes-dsla", {"sigma": "0.3"}, "no field of recipes 'sigma': .*set by options=sigma:VALUE"),
    ("r50-1x", {"mean": "0.5,0.4"}, "mean=.* 3 values are needed"),
    ("r50-1x", {"std": "0,0,0"}, "std=.* from 1e-06 to 1e\\+06 is possible"),
    ("r50-1x", {"pixel_scale": "nan"}, "pixel_scale=nan: a finite number is needed"),
    ("r50-1x", {"lr": "1e300"}, "lr=1e\\+300; from 1e-30 to 1e\\+30 is possible"),
    ("r50-1x", {"channels": "1000000000"}, "channels=1000000000; from 1 to 4096 is possible"),
    ("r50-1x", {"channels": 1e9}, "channels=1000000000.0: a whole number is needed"),
    ("r50-1x", {"head_convs": "1000000"}, "head_convs=1000000; from 0 to 32"),
    ("r50-1x", {"flip": True}, "flip=True: a finite number is needed"),
    ("r50-1x", {"core_zone": 1}, "core_zone=1: true or false is needed"),
    ("r50-1x", {"name": "mine"}, "name=mine"),
    ("r50-1x", {"method": "dlsa"}, "did you mean 'dsla'"),
    ("r50-1x", {"steps": "none", "epochs": "none"}, "neither epochs nor steps"),
    ("scenes-dsla", {"epochs": "1", "steps": "5"}, "give one"),
]


@pytest.mark.parametrize(("name", "changes", "reason"), REFUSED)
def test_what_a_recipe_would_not_use_is_refused_with_the_reason_in_a_line(name, changes, reason):
    with pytest.raises(DataError, match=reason) as error:
        recipe(name, **changes)
    assert "\n" not in str(error.value)


def test_every_field_is_used_by_some_recipe():
    """Else it would be refused everywhere; and what none of the backbones and methods uses is misspelt in a table."""
    idle = set.intersection(*(set(unused(r)) for r in RECIPES.values()))
    assert idle == set()
    fields = {f.name for f in dataclasses.fields(Recipe)}
    assert {f for uses in BACKBONES.values() for f in uses} <= fields
    assert {f for entry in METHODS.values() for f in entry.uses} <= fields


def test_a_backbone_is_built_from_the_fields_that_its_table_has():
    """The recipe is read through a spy: what the table does not name, `backbone` does not read."""
    for name, uses in BACKBONES.items():
        read = set()

        class Spy:
            def __getattr__(self, field, read=read, name=name):
                read.add(field)
                return name if field == "backbone" else getattr(Recipe(name="usual"), field)

        with torch.device("meta"), contextlib.suppress(DataError):  # a package that is not installed
            backbone(Spy())
        assert read - {"backbone"} == set(uses)


def test_epochs_take_the_place_of_steps_and_the_reverse():
    assert (recipe("scenes-dsla", epochs="1").epochs, recipe("scenes-dsla", epochs="1").steps) == (1, None)
    assert total_steps(recipe("scenes-dsla", epochs=1), 6000) == 375
    assert (recipe("r50-1x", steps=90).epochs, recipe("r50-1x", steps=90).steps) == (None, 90)
    assert recipe("r50-1x", steps=None) == recipe("r50-1x")


def test_another_method_comes_with_its_own_coupling():
    """`train scenes-dsla method=tal` teaches what `scenes-tal` does, and DSLA from `scenes-tal` is coupled again."""
    assert recipe("scenes-dsla", method="tal").coupling == recipe("scenes-tal").coupling == "off"
    assert recipe("scenes-dsla", method="gfl").coupling == "iou-only"
    assert recipe("scenes-tal", method="dsla").coupling == "on"
    assert recipe("scenes-dsla", method="tal", coupling="on").coupling == "on"
    assert recipe("scenes-dsla-static", method="dsla").coupling == "off"  # the same method: what the recipe says


def test_another_method_comes_without_the_branch_and_the_options_that_it_does_not_train():
    assert recipe("scenes-fcos", method="dsla").quality is None
    assert recipe("scenes-fcos", method="simota", options="iou_weight:2").quality == "centerness"
    assert recipe("scenes-atss", method="max-iou").options == (("anchor_scale", 4.0),)
    assert recipe("scenes-atss", method="simota").options == ()
    assert recipe("scenes-max-iou", options="low_quality:false").options == (("low_quality", 0.0),)
    assert not assigner(recipe("scenes-max-iou", options="low_quality:false")).low_quality


@pytest.mark.robustness("wrong: an option or a field that is given several times is refused, not the last one taken")
def test_an_option_is_given_once():
    for options in ("topk:9,topk:3", (("topk", 9), ("topk", 9))):
        with pytest.raises(DataError, match="has topk several times; give each option once"):
            recipe("scenes-atss", options=options)
    with pytest.raises(DataError, match=r"recipe mine: options.*give each option once"):
        Recipe(name="mine", method="atss", options=(("topk", 9), ("topk", 3)))


@pytest.mark.robustness("unclear: ranges that no level can have are refused with the recipe, before data are read")
@pytest.mark.parametrize("ranges", ["0-32,32-64,64-10", "0--32,32-64,64-1e8", "0-32,64-64,64-1e8", "0-0,0-9,9-18"])
def test_ranges_that_no_level_can_have(ranges, capsys):
    message = r"recipe scenes-dsla: ranges: each range must be \(low, high\) with low < high and 0 < high, got"
    with pytest.raises(DataError, match=message):
        recipe("scenes-dsla", ranges=ranges)
    with pytest.raises(DataError, match=r"recipe scenes-fovea: ranges: .*; scales begin at 0 or above"):
        recipe("scenes-fovea", ranges=((-9, 32), (32, 64), (64, 1e8)))
    assert recipe("scenes-dsla", ranges=((-1, 32), (32, 64), (64, 1e8))).ranges[0] == (-1, 32)  # as mmdetection's
    assert main(["train", "scenes-dsla", f"ranges={ranges}", "--print"]) == 2
    assert "each range must be (low, high)" in capsys.readouterr().err


def test_stored_recipes_load_with_fields_that_they_do_not_use_but_by_type():
    stored = json.loads(json.dumps(recipe("scenes-dsla").to_dict()))
    lenient = Recipe.from_dict({**stored, "quality": "centerness", "drop_path": 0.2, "frozen_stages": 2, "epochs": 3})
    assert (lenient.quality, lenient.drop_path, lenient.frozen_stages) == ("centerness", 0.2, 2)
    assert (lenient.epochs, lenient.steps) == (None, 2000)  # as it was trained
    old = {k: v for k, v in stored.items() if k != "padding"}
    assert Recipe.from_dict({**old, "keep_padding": True}).padding == "detect"
    assert Recipe.from_dict({**old, "keep_padding": False}) == recipe("scenes-dsla")
    for wrong in (
        {"pixel_scale": math.nan}, {"mean": [0.5]}, {"strides": "8,16,32"}, {"lr": "0.1"}, {"flip": None},
        {"name": 3}, {"options": [["topk"]]}, {"ranges": [[0, 64, 1]] * 3}, {"head_convs": 1e6}, {"bgr": 0},
        {"nothing": 1}, {"channels": 2**40},
    ):  # fmt: skip
        with pytest.raises(DataError, match=next(iter(wrong))):
            Recipe.from_dict({**stored, **wrong})
    for nothing in ({}, [], "scenes-dsla", None):
        with pytest.raises(DataError, match="not a recipe"):
            Recipe.from_dict(nothing)


def test_published_runs_teach_the_padding_as_background_and_detect_there():
    following = {n for n, r in RECIPES.items() if r.padding == "background"}
    assert set(PUBLISHED) | {"fcos-r50-1x", "r50-1x-merged"} <= following
    assert not any(n.startswith(("scenes", "efficientnet")) for n in following)


def test_nms_of_mmdetections_fcos():
    """Plain FCOS has 0.5, its configuration with centre sampling, normed boxes and GIoU 0.6, as DSLA's release."""
    plain = ("fcos-r50-1x", "fcos-iou-r50-1x", "fcos-r101-2x", "fcos-x101-64x4d-2x")
    assert {RECIPES[n].nms_iou for n in plain} == {0.5}
    assert {RECIPES[n].nms_iou for n in (*PUBLISHED, "fcosv2-r50-1x", "torchvision-fcos-r50")} == {0.6}


@pytest.mark.parametrize(
    ("change", "message"),
    [({"relaxation": 5}, "from 0 to 0.95"), ({"center_sampling": "-1"}, "from 0.25 to 8, or none"),
     ({"select_by": "class"}, "there is no quality branch")],
)  # fmt: skip
def test_values_of_fields_are_checked_where_they_are_typed(change, message):
    with pytest.raises(DataError, match=message):
        recipe("scenes-dsla", **change)
    assert recipe("scenes-dsla", method="FCOS").method == "fcos"  # a class and its name are one method


def test_wherever_a_recipe_is_made_it_follows_its_method_and_its_steps():
    """Made by name, from a table or by hand: the coupling is the method's own, and steps take the place of epochs."""
    made = Recipe(name="mine", method="tal", steps=90)
    assert (made.coupling, made.epochs, made.steps) == ("off", None, 90)
    assert Recipe(name="mine").coupling == "on"
    assert Recipe(name="mine", method="gfl").coupling == RECIPES["scenes-gfl"].coupling == "iou-only"
    assert Recipe(name="mine", method="fcos", coupling="on").coupling == "off"  # it has none
    stored = {**recipe("scenes-fcos").to_dict(), "coupling": "on"}
    assert Recipe.from_dict(stored) == recipe("scenes-fcos")


def test_options_that_are_no_numbers_can_be_typed():
    fovea = recipe("scenes-fovea", options="sigma:0.5")
    assert fovea.options == (("sigma", 0.5),)
    best = recipe("scenes-max-iou", options="low_quality:no,positive:0.6")
    assert best.options == (("low_quality", False), ("positive", 0.6))
    with pytest.raises(DataError, match="low_quality=none: true or false is needed"):
        recipe("scenes-max-iou", options="low_quality:none")
    with pytest.raises(DataError, match="a number, text, true, false or none is needed"):
        Recipe(name="mine", method="max-iou", options=(("low_quality", [1]),))
