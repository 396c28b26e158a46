"""What the browser makes of a view without a kernel is what Python makes of it: options, frames, titles, colours."""

import json

import numpy as np
import pytest
import torch
from test_labels import needs_node, node

from dsla.assigners import DSLA, METHODS
from dsla.geometry import Frame
from dsla.widgets import AssignmentExplorer
from dsla.widgets.state import COUPLINGS, catalogue, initial
from dsla.widgets.surface import script
from dsla.widgets.view import drawn

SIZE = (256, 384)
OBJECTS = [[40.0, 32.0, 200.0, 180.0, 0], [210.25, 90.5, 330.0, 250.0, 1], [1.0, 1.0, 3.0, 3.0, 0]]
HERE = [name for name in METHODS if catalogue({})[name]["script"]]
CHANGES = {
    "dsla": {"relaxation": 0.35, "core_zone": False},
    "fcos": {"center_sampling": 1.5},
    "atss": {"topk": 4},
    "fovea": {"sigma": 0.7},
    "max-iou": {"positive": 0.3, "negative": 0.2},
}


def made(state):
    explorer = AssignmentExplorer(np.zeros((*SIZE, 3), np.float32), [o[:4] for o in OBJECTS], [o[4] for o in OBJECTS])
    explorer.surface.state = state
    assert explorer.error == ""
    return explorer


@pytest.mark.slow
@needs_node
def test_rows_of_a_state():
    views = []
    for name in HERE:
        for options in ({}, CHANGES.get(name, {})):
            for size, coupling in (("native", "off"), ((800, 1333), "jittered boxes"), (300, "jittered boxes")):
                state = initial([{"method": name, "options": options}], (8, 16, 32), None, size)
                views.append({**state, "coupling": coupling, "jitter": 0.2, "seed": 3})
        views.append(initial([{"method": name}], (8, 16, 32, 64, 128), None, "native"))
    views.append({**initial([{"method": "dsla"}], (4, 8), 0.25, "native"), "bounds": [10, 40, 1e8]})
    entries = catalogue({})
    questions = [{"state": s, "objects": OBJECTS, "size": SIZE, "catalogue": entries} for s in views]
    for state, answer in zip(views, node("state.mjs", questions), strict=True):
        explorer = made(state)
        frame = Frame.of(SIZE, state["input"])
        assert answer["frame"] == {"size": list(frame.size), "padded": list(frame.padded)}
        for here, row in zip(answer["rows"], explorer.shown, strict=True):
            there = drawn(row)
            for key in ("title", "follows", "shapes", "strides", "offset"):
                assert here[key] == there[key], (key, state)
            assert here["scale"] == pytest.approx(there["scale"])
            assert np.array_equal(here["gt"], np.frombuffer(there["gt"], np.int32)), state
            values = np.frombuffer(there["values"], np.float32)
            assert np.abs(np.float32(here["values"]) - values).max() <= 1e-6, state
            assert here["counts"] == row.counts.tolist()
            levels = row.assignment.gt_index[0].split(row.assignment.grid.num_points)
            assert here["totals"] == [int((level >= 0).sum()) for level in levels]
            assert [sorted(at) for at in here["at"]] == [level[level >= 0].unique().tolist() for level in levels]
            bytes_ = np.concatenate([np.uint8(m) for m in here["maps"]])
            assert ((bytes_ > 0) == (np.array(here["gt"]) >= 0)).all()
            seen = bytes_ > 0
            assert np.abs((bytes_[seen] - 1.0) / 254 - values[seen]).max(initial=0) <= 0.5 / 254 + 1e-6
            lost = int((row.counts == 0).sum())
            assert (f"{lost} object" in here["note"]) == (lost > 0)
        explorer.close()


@needs_node
def test_methods_of_python_alone_and_given_assigners():
    given = {"mine": DSLA(relaxation=0.5)}
    entries = catalogue(given)
    state = initial([{"method": "mine"}, {"method": "simota"}], (8, 16, 32, 64, 128), None, "native")
    (answer,) = node("state.mjs", [{"state": state, "objects": OBJECTS, "size": SIZE, "catalogue": entries}])
    mine, simota = answer["rows"]
    assert simota is None
    boxes = torch.tensor(OBJECTS)[:, :4]
    a = DSLA(relaxation=0.5)(Frame.of(SIZE).grid((8, 16, 32, 64, 128)), [boxes], [torch.zeros(3).long()])
    assert np.array_equal(mine["gt"], a.gt_index[0])


@needs_node
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": []}, "one to three methods"),
        ({"rows": [{"method": "yolo"}]}, "no method yolo"),
        ({"rows": [{"method": "dsla", "options": {"relaxation": 7}}]}, "dsla has no option relaxation of 7"),
        ({"rows": [{"method": "dsla", "options": {"topk": 7}}]}, "dsla has no option topk of 7"),
        ({"strides": [8, -1]}, "strides"),
        ({"strides": [8, 32, 16, 64, 128]}, "strides, which are whole numbers and ascend"),
        ({"bounds": [0, 64]}, "5 levels have 6 ends, not 2"),
        ({"bounds": [0, 64, 32, 256, 512, 1e8]}, "each end is larger"),
        ({"input": "1333/800"}, "input size"),
        ({"coupling": "love"}, "the coupling"),
    ],
)
def test_states_that_are_none_are_refused_with_a_word(change, message):
    state = initial([{"method": "dsla"}], (8, 16, 32, 64, 128), None, "native") | change
    (answer,) = node("state.mjs", [{"state": state, "objects": [], "size": SIZE, "catalogue": catalogue({})}])
    assert message in answer["error"]


@needs_node
def test_addresses():
    hashes = ["", "#elsewhere", "#v=2&view=%7B%7D", "#v=1&view=%7B%22a%22", "#view=%7B%7D", '#v=1&view={"a":1}']
    empty, other, newer, cut, none, good = node("state.mjs", [{"hash": h} for h in hashes])
    assert (empty, other) == (None, None)
    assert newer["error"] == "this address holds a view of version 2; this page reads version 1"
    assert "damaged" in cut["error"]
    assert "version ?" in none["error"]
    assert good == {"a": 1}


def test_the_couplings_and_names_are_those_of_python():
    assert f"COUPLINGS = {json.dumps(COUPLINGS)};" in script("state.js")
