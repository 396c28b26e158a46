"""Every method of the table trains the same detector."""

from __future__ import annotations

import pytest
import torch

import dsla
from dsla.assigners import METHODS
from dsla.models.build import assigner, build
from dsla.recipes.scenes import RECIPES, recipe

SCENES = [n for n in RECIPES if n.startswith("scenes-")]


def test_every_method_has_a_recipe_for_the_embedded_set():
    assert {RECIPES[n].method for n in SCENES} == set(METHODS)


@pytest.mark.parametrize("name", SCENES)
def test_a_step_of_every_method_teaches_every_parameter(name):
    torch.manual_seed(0)
    model = build(recipe(name, channels=16, head_convs=1), num_classes=5).train()
    images, targets = zip(*(dsla.Scenes("train", size=4)[i] for i in range(4)), strict=True)
    losses = model(list(images), list(targets))
    sum(losses.values()).backward()
    assert all(torch.isfinite(v) and v > 0 for v in losses.values())
    raw = model.forward_raw(list(images), list(targets))
    found = model.assign(raw)
    assert (found.counts() > 0).float().mean() > 0.5  # most objects are taught by some point
    untouched = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert untouched == []


def test_options_reach_the_assigner_and_wrong_ones_name_the_recipe():
    assert assigner(recipe("scenes-atss")).options() == {"topk": 9, "anchor_scale": 4.0}
    assert assigner(recipe("scenes-tal", options="topk:7,beta:2")).options()["topk"] == 7
    with pytest.raises(dsla.DataError, match=r"recipe scenes-atss: .*top_k"):
        assigner(recipe("scenes-atss", options="top_k:7"))
    with pytest.raises(dsla.DataError, match="recipe r50-1x: relaxation"):
        assigner(recipe("r50-1x", relaxation=2.0))
