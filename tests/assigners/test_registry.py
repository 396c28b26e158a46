"""The registry: plain data that agrees with the classes it names."""

import inspect
import subprocess
import sys

import pytest

import dsla
from dsla.assigners import METHODS, Option, as_assigner, method
from dsla.assigners.entry import CRITERIA
from dsla.recipes import Recipe

RANGES = ("regress_ranges", "scale_ranges")
every = pytest.mark.parametrize("entry", METHODS.values(), ids=METHODS)


@every
def test_options_are_the_constructors(entry):
    arguments = inspect.signature(entry.kind).parameters
    options = {o.name: o.default for o in entry.options}
    assert options == {k: p.default for k, p in arguments.items() if k in options}
    left = set(arguments) - set(options) - set(entry.fixed)
    assert left == ({entry.ranges} if entry.ranges else set()) | (
        {"smooth", "relaxation"} if entry.name == "fovea" else set()
    )
    for option in entry.options:
        assert option.meaning
        if option.default is None:
            assert option.optional
        else:
            assert type(option.default) is option.kind
            assert option.read(option.default) == option.read(str(option.default)) == option.default
    for option in entry.options:  # the ends of each range are values that the constructor takes, one at a time
        for end in (option.low, option.high) if option.kind in (int, float) else ():
            if (entry.name, option.name, end) not in ENDS_THAT_NEED_ANOTHER:
                entry.assigner(**{option.name: end})


ENDS_THAT_NEED_ANOTHER = {("max-iou", "positive", 0.05), ("max-iou", "negative", 1)}  # negative ≤ positive


@every
def test_entries_say_what_the_classes_do(entry):
    made = entry.assigner()
    assert made.needs_predictions == entry.needs_predictions
    assert entry.criterion in CRITERIA
    assert all((entry.summary, entry.label, entry.reference))
    fields = set(Recipe.__dataclass_fields__)
    assert set(entry.uses) <= fields
    assert set(entry.fields) <= {o.name for o in entry.options}
    assert ("ranges" in entry.uses) == any(r in inspect.signature(entry.kind).parameters for r in RANGES)


def test_names_titles_and_colours_are_of_one_method_each():
    for key in ("name", "title", "colour"):
        assert len({getattr(m, key) for m in METHODS.values()}) == len(METHODS)


@pytest.mark.parametrize("name", ["dsla", "DSLA", "FoveaBox + DSLA", "MaxIoU", "tal", "TaskAligned"])
def test_names_titles_and_classes_name_a_method(name):
    assert method(name).name in METHODS


def test_one_message_for_a_name_that_is_nearly_right():
    messages = set()
    image, boxes = [[[0.0] * 32] * 32] * 3, [[4, 4, 20, 20]]
    for attempt in (
        lambda: method("dlsa"),
        lambda: as_assigner("dlsa"),
        lambda: dsla.build(dsla.recipe("scenes-dsla", method="dlsa"), num_classes=2),
        lambda: dsla.compare(image, boxes, assigners=["dlsa"]),
        lambda: dsla.analysis.assignment_statistics("dlsa", dsla.Scenes("val", size=1)),
    ):
        with pytest.raises(dsla.DataError) as caught:
            attempt()
        messages.add(str(caught.value))
    assert messages == {"no method 'dlsa': did you mean 'dsla'?"}
    with pytest.raises(dsla.DataError, match=r"no method 'ellipse': there are fcos, .*--plugin"):
        method("ellipse")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("atss", {"top_k": 9}, "no option of atss 'top_k': did you mean 'topk'"),
        ("atss", {"topk": 0}, "topk=0: a whole number from 1 to 100 is needed"),
        ("atss", {"topk": 9.5}, "topk=9.5: a whole number"),
        ("atss", {"anchor_scale": "wide"}, "anchor_scale=wide: a number from"),
        ("dsla", {"core_zone": 2}, "core_zone=2: true or false"),
        ("dsla", {"relaxation": "nan"}, "relaxation=nan: a number from 0 to 0.95"),
        ("fcos", {"center_sampling": -1}, "a number from 0.25 to 8, or none is needed"),
        ("fovea", {"smooth": True}, "no option of fovea 'smooth'"),
    ],
)
def test_options_that_cannot_be_are_refused(name, options, message):
    with pytest.raises(dsla.DataError, match=message):
        method(name).assigner(**options)


def test_options_are_read_by_their_type():
    assert method("atss").read({"topk": 9.0, "anchor_scale": 4}) == {"topk": 9, "anchor_scale": 4.0}
    assert method("dsla").read({"core_zone": "no", "center_sampling": "none"}) == {
        "core_zone": False,
        "center_sampling": None,
    }
    assert Option("share", float, 1.0).read("0.5") == 0.5


def test_the_registry_is_read_without_torch():
    code = (
        "import sys; from dsla.assigners.registry import METHODS, method; "
        "print(method('dsla').uses, [m for m in ('torch', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = "('ranges', 'relaxation', 'truncate', 'core_zone', 'center_sampling', 'coupling')"
    assert done.stdout.strip() == f"{names} []"
