"""Every method of the registry, one of one's own among them, from its name to a trained step and every view."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import dsla
from dsla.assigners import METHODS, PairAssigner
from dsla.models.build import assigner, build
from dsla.recipes import RECIPES, recipe
from dsla.widgets import AssignmentExplorer

SCENES = [n for n in RECIPES if n.startswith("scenes-")]


class Ellipse(PairAssigner):
    """1 at the centre, 0 at the ellipse within the box."""

    name = "Ellipse"

    def factors(self, pairs):
        x1, y1, x2, y2 = pairs.boxes
        dx, dy = pairs.from_centre
        return {"label": (1 - (2 * dx / (x2 - x1)) ** 2 - (2 * dy / (y2 - y1)) ** 2).clamp(min=0)}


@pytest.fixture(params=[*METHODS, "ellipse"])
def name(request):
    if request.param == "ellipse":
        dsla.register("ellipse", Ellipse, labels="soft", coupling="on")
    yield request.param
    if request.param == "ellipse":
        del METHODS["ellipse"]


def test_a_name_is_enough_everywhere(name):
    torch.manual_seed(0)
    entry, data = METHODS[name], dsla.Scenes("train", size=4)
    base = "scenes-dsla" if entry.criterion == "dsla" else "scenes-fcos"
    changes = {"coupling": entry.coupling} if "coupling" in entry.uses else {}
    model = dsla.build(recipe(base, method=name, channels=16, head_convs=1, offset=0.5, **changes), num_classes=5)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    images, targets = zip(*(data[i] for i in range(4)), strict=True)
    before = [p.detach().clone() for p in model.parameters()]
    losses = model.train()(list(images), list(targets))
    sum(losses.values()).backward()
    optimiser.step()
    assert all(torch.isfinite(v) and v > 0 for v in losses.values())
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))

    image, target = data[0]
    figure = dsla.compare(image, target["boxes"], target["labels"], [name], strides=(8, 16, 32), offset=0.5)
    (row,) = figure.rows
    assert row.title.split(" · ")[0] == entry.title
    if not entry.needs_predictions:  # where the points lie alike, views and training say the same
        raw = model.eval().forward_raw([image], [target])
        taught = assigner(dataclasses.replace(model.recipe, ranges=((0, 64), (64, 128), (128, 1e8))))
        assert torch.equal(taught(raw.outputs.grid, [target["boxes"]], [target["labels"]]).label, row.assignment.label)

    statistics = dsla.analysis.assignment_statistics(name, data, strides=(8, 16, 32))
    assert statistics.summary()["objects"] == sum(len(t["boxes"]) for t in targets)
    assert statistics.summary()["best_possible_recall"] > 0.5

    explorer = AssignmentExplorer(assigners=[name])
    assert list(explorer.assignments) == [entry.title]
    assert explorer.error == ""
    space = {}
    exec(explorer.python(), space)
    again, assignment = space["assignments"][entry.title], explorer.assignments[entry.title]
    assert torch.equal(again.label, assignment.label)
    assert again.coupling == assignment.coupling == entry.coupling
    explorer.close()


def test_every_method_has_a_recipe_for_the_embedded_set():
    assert {RECIPES[n].method for n in SCENES} == set(METHODS)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENES)
def test_a_step_of_every_method_teaches_every_parameter(name):
    torch.manual_seed(0)
    model = build(recipe(name, channels=16, head_convs=1), num_classes=5).train()
    images, targets = zip(*(dsla.Scenes("train", size=4)[i] for i in range(4)), strict=True)
    losses = model(list(images), list(targets))
    sum(losses.values()).backward()
    assert all(torch.isfinite(v) and v > 0 for v in losses.values())
    raw = model.forward_raw(list(images), list(targets))
    assignment = model.assign(raw)
    assert (assignment.counts() > 0).float().mean() > 0.5  # most objects are taught by some point
    untouched = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert untouched == []


def test_options_reach_the_assigner_and_wrong_ones_name_the_recipe():
    assert assigner(recipe("scenes-atss")).options() == {"topk": 9, "anchor_scale": 4.0}
    assert assigner(recipe("scenes-tal", options="topk:7,beta:2")).options()["topk"] == 7
    with pytest.raises(dsla.DataError, match=r"recipe scenes-atss: .*top_k"):
        assigner(recipe("scenes-atss", options="top_k:7"))
    with pytest.raises(dsla.DataError, match="recipe r50-1x: relaxation"):
        assigner(recipe("r50-1x", relaxation=2.0))
