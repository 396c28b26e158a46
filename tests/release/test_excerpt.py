"""What stands in for the recorded outputs is a part of them."""

import json

import numpy as np
from excerpt import OUT, RUNS, WHOLE


def test_it_is_small_and_whole():
    names = {k.partition("/")[0] for k in np.load(OUT).files}
    assert names == {*WHOLE, *RUNS}
    assert OUT.stat().st_size < 1_000_000


def test_its_numbers_are_the_recorded_ones(shared):
    excerpt = np.load(OUT)
    for key in excerpt.files:
        name, _, inner = key.partition("/")
        if inner == "runs_json" and name in RUNS:
            whole = json.loads(str(np.load(shared / "parity" / f"{name}.npz")[inner]))
            assert json.loads(str(excerpt[key])) == whole[: RUNS[name]]
        else:
            np.testing.assert_array_equal(excerpt[key], np.load(shared / "parity" / f"{name}.npz")[inner])
