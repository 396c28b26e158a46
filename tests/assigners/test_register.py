"""`register`: a method of one's own in recipes, views and experiments."""

import pytest
import torch

import dsla
from dsla.assigners import METHODS, PairAssigner


class Middle(PairAssigner):
    name = "Middle"

    def __init__(self, regress_ranges=None, share=1.0):
        super().__init__(regress_ranges)
        self.share = share

    def factors(self, pairs):
        dx, dy = pairs.from_centre
        x1, y1, x2, y2 = pairs.boxes
        off = torch.maximum(dx / (x2 - x1), dy / (y2 - y1)) * 2
        return {"label": (1 - off / self.share).clamp(min=0, max=1)}


@pytest.fixture
def registered():
    dsla.register("middle", Middle)
    yield
    del METHODS["middle"]


def test_in_recipes_and_views(registered):
    recipe = dsla.recipe("scenes-dsla", method="middle", options="share:0.5")
    model = dsla.build(recipe, num_classes=2).train()
    assert isinstance(model.assigner, Middle)
    assert model.assigner.options() == {"regress_ranges": recipe.ranges, "share": 0.5}
    target = {"boxes": torch.tensor([[20.0, 20.0, 90.0, 80.0]]), "labels": torch.tensor([1])}
    losses = model([torch.rand(3, 128, 128)], [target])
    assert all(torch.isfinite(v) for v in losses.values())
    figure = dsla.compare(torch.rand(3, 128, 128), target["boxes"], assigners=["middle", "fcos"])
    assert [row.title for row in figure.rows] == ["Middle", "FCOS"]
    assert dsla.analysis.assignment_statistics("middle", dsla.Scenes("val", size=3)).summary().loc["objects"] > 0
    dsla.register("middle", Middle)  # a notebook's cell, run again


def test_hard_labels_bring_the_focal_loss():
    dsla.register("middle hard", Middle, labels="hard")
    try:
        model = dsla.build(dsla.recipe("scenes-fcos", method="middle hard"), num_classes=2)
        assert type(model.criterion).__name__ == "FCOSCriterion"
    finally:
        del METHODS["middle hard"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("dsla", Middle), "already"),
        (("fovea-dsla", Middle), "already"),
        (("mine", Middle()), "no class of assigners"),
        (("mine", int), "no class of assigners"),
        (("mine", Middle, "firm"), "'soft' or 'hard'"),
    ],
)
def test_what_is_refused(args, message):
    with pytest.raises(ValueError, match=message):
        dsla.register(*args)
    assert "mine" not in METHODS
