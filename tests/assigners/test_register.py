"""`register`: a method of one's own in recipes, views and experiments."""

from typing import Optional, Union

import pytest
import torch

import dsla
from dsla.assigners import METHODS, PairAssigner
from dsla.assigners.entry import entry_of


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


class Needy(Middle):
    def __init__(self, share):
        super().__init__(share=share)


class Many(Middle):
    """A line.

    And more.

    Args:
        count: of something.
    """

    name = "Many"

    def __init__(self, regress_ranges=None, count: int = 3, share: float | None = None, both=True, word="a", *, of=()):
        super().__init__(regress_ranges, share or 1.0)
        self.count, self.both, self.word, self.of = count, both, word, of


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
        (("FCOS", Middle), "there is a method 'fcos' already"),
        (("mine", Middle, "firm"), "'soft' or 'hard'"),
        (("mine", Needy), "Needy: argument 'share' needs a default value"),
    ],
)
def test_what_is_refused(args, message):
    with pytest.raises(dsla.DataError, match=message):
        dsla.register(*args)
    assert "mine" not in METHODS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colour": "red"}, "write it as #rrggbb"),
        ({"coupling": "half"}, "coupling is 'on', 'off' or 'iou-only'"),
        ({"options": {"width": (0, 1)}}, "Middle has no argument 'width'.*share"),
    ],
)
def test_what_is_refused_of_what_is_said_of_it(options, message):
    with pytest.raises(dsla.DataError, match=message):
        dsla.register("mine", Middle, **options)
    assert "mine" not in METHODS


def test_what_is_not_said_is_read_off_the_class():
    dsla.register("many", Many, coupling="on", colour="#010203", options={"count": (1, 5)}, reference="nobody, 1999")
    try:
        entry = METHODS["many"]
        assert (entry.title, entry.summary, entry.colour) == ("Many", "A line.", "#010203")
        assert (entry.coupling, entry.assigner().default_coupling, entry.ranges) == ("on", "on", "regress_ranges")
        assert entry.needs_predictions is False
        options = {o.name: (o.kind, o.default, o.meaning, o.range) for o in entry.options}
        assert options == {
            "count": (int, 3, "of something", "a whole number from 1 to 5"),
            "share": (float, None, "", "a number, or none"),
            "both": (bool, True, "", "true or false"),
            "word": (str, "a", "", "text"),
        }
        assert entry.read({"count": 2.0, "share": "none", "both": "no", "word": "b"}) == {
            "count": 2, "share": None, "both": False, "word": "b",
        }  # fmt: skip
        assert "tests" in entry.where
    finally:
        del METHODS["many"]


@pytest.mark.parametrize("kind", [int | None, Optional[int], Union[int, None], "Optional[int]", "int|None"])  # noqa: UP007, UP045
def test_an_option_that_may_be_none_by_its_annotation(kind):
    class Some(Middle):
        def __init__(self, count=3):
            super().__init__()

    Some.__init__.__annotations__["count"] = kind
    (option,) = entry_of("some", Some).options
    assert (option.read("none"), option.read("4"), option.range.endswith("or none")) == (None, 4, True)


@pytest.mark.parametrize(
    ("kind", "default", "read"),
    [(int | str, "auto", str), ("int | float", 3, float), (bool | float, 0.5, float), ("Literal[1, 2]", 2, int)],
)
def test_an_option_of_several_types_is_of_its_defaults(kind, default, read):
    class Some(Middle):
        def __init__(self, chosen=default):
            super().__init__()

    Some.__init__.__annotations__["chosen"] = kind
    (option,) = entry_of("some", Some).options
    assert (option.kind, option.default) == (read, default)


def test_hard_labels_have_no_coupling_and_a_class_is_its_method(registered):
    with pytest.raises(dsla.DataError, match="hard labels are taught as they are"):
        dsla.register("middle-hard", Middle, labels="hard", coupling="on")
    assert "middle-hard" not in METHODS
    assert dsla.assigners.as_assigner(Middle).default_coupling == METHODS["middle"].coupling
    for name, entry in METHODS.items():
        if not entry.fixed:
            by_class, by_name = (dsla.assigners.as_assigner(v, (8, 16, 32)) for v in (entry.kind, name))
            assert by_class.options() == by_name.options()
            assert by_class.default_coupling == by_name.default_coupling
