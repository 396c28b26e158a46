"""Coverage: shares by hand and by counting one by one; the shell's table, file and figure."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import dsla
from dsla import DataError
from dsla.analysis.assignments import assignment_statistics, best_setting, coverage
from dsla.cli.main import main
from dsla.plots.detectors import coverage_figure


@pytest.fixture
def data():
    """An object between the points of stride 8, one with 1 point, one with many; a crowd; an image without objects."""
    boxes = [(1, [29, 29, 6, 6]), (2, [32, 32, 8, 8]), (2, [100, 100, 100, 100]), (1, [0, 0, 300, 300])]
    return {
        "images": [{"id": 1, "width": 320, "height": 320}, {"id": 2, "width": 64, "height": 64}],
        "categories": [{"id": 1, "name": "bolt"}, {"id": 2, "name": "nut"}],
        "annotations": [{"id": n, "image_id": 1, "category_id": c, "bbox": b, "iscrowd": int(n == 3)}
                        for n, (c, b) in enumerate(boxes)],
    }  # fmt: skip


def test_by_hand(data):
    table = coverage("fcos", data)
    rows = table.set_index(["by", "group"])[["objects", "none", "few"]]
    expected = {
        ("all", "all"): (3, 1 / 3, 1 / 3), ("size", "small"): (2, 0.5, 0.5), ("size", "large"): (1, 0, 0),
        ("class", "bolt"): (1, 1, 0), ("class", "nut"): (2, 0, 0.5),
        ("level", "8"): (3, 1 / 3, 1 / 3),
    }  # fmt: skip
    assert rows.index.to_list() == list(expected)
    np.testing.assert_allclose(rows, list(expected.values()))
    assert (table[["method", "strides", "input_size"]].drop_duplicates().to_numpy() ==
            [["fcos", "8, 16, 32, 64, 128", "native"]]).all()  # fmt: skip
    finer = coverage(["fcos", "dsla"], data, strides=[(8, 16), (4, 8, 16)], input_sizes=["native", 640])
    assert finer.summary()["settings"] == 8
    assert finer.summary()[["objects", "least"]].tolist() == [3, 0]
    finer = coverage("fcos", data, strides=[(8, 16), (4, 8, 16)])
    assert best_setting(finer)["strides"] == "4, 8, 16"
    assert best_setting(finer)[["none", "few"]].tolist() == [0, 0]
    figure = coverage_figure(finer)
    assert "strides 4, 8, 16" in figure.caption
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["all (3)", "small (2)", "large (1)"]


@pytest.mark.parametrize("method", ["fcos", "dsla", "atss", "tal"])
def test_equal_to_the_statistics(method):
    scenes = dsla.Scenes("val", 20)
    table = coverage(method, scenes, strides=(8, 16, 32))
    points = assignment_statistics(method, scenes, strides=(8, 16, 32))
    whole = table[table["by"] == "all"].iloc[0]
    assert whole["objects"] == len(points)
    assert whole["none"] == pytest.approx((points["points"] == 0).mean())
    assert whole["few"] == pytest.approx(points["points"].isin([1, 2]).mean())
    for by in ("size", "class", "level"):
        part = table[table["by"] == by]
        assert part["objects"].sum() == len(points)
        assert np.average(part["few"], weights=part["objects"]) == pytest.approx(whole["few"])


def test_strides_in_any_form(data):
    once = coverage("fcos", data, strides=(8, 16))
    for form in (np.array([8, 16]), [8, 16], [(8, 16)], [np.array([8, 16])]):
        pd.testing.assert_frame_equal(coverage("fcos", data, strides=form), once)
    for none, message in (((), "got none"), (8, "got 8"), ((8.5, 16), r"got 8\.5, 16"), (("a",), "got 'a'")):
        with pytest.raises(DataError, match=f"strides must .*{message}"):
            coverage("fcos", data, strides=none)


def test_no_object():
    empty = {"images": [{"id": 1, "width": 9, "height": 9}], "annotations": [], "categories": []}
    table = coverage("fcos", empty)
    assert len(table) == 0
    assert table.summary().attrs["reasons"]["least"] == "no object"


def test_a_setting_that_is_given_twice_is_one(data, tmp_path, capsys):
    once = coverage("fcos", data, strides=(8, 16))
    twice = coverage(["fcos", "fcos"], data, strides=[(8, 16), (8, 16)], input_sizes=["native", "native"])
    pd.testing.assert_frame_equal(once, twice)
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(data))
    assert main(["data", "check", str(file), "--assign", "fcos", "fcos", "--strides", "8,16"]) <= 1
    assert capsys.readouterr().out.count("33.3 (33.3)") == 1


def test_two_classes_of_one_name_stay_two():
    boxes = [[10, 10, 50, 50], [10, 10, 20, 20]]
    rows = [{"id": n, "image_id": 1, "category_id": n, "bbox": box} for n, box in enumerate(boxes, 1)]
    categories = [{"id": n, "name": "same"} for n in (1, 2)]
    images = [{"id": 1, "width": 99, "height": 99}]
    table = coverage("fcos", {"images": images, "annotations": rows, "categories": categories})
    part = table[table["by"] == "class"]
    assert part["group"].tolist() == ["same (1)", "same (2)"]
    assert part["objects"].tolist() == [1, 1]


@pytest.mark.slow
def test_the_command(data, tmp_path, capsys):
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(data))
    words = ["data", "check", str(file), "--assign", "fcos", "dsla", "--strides", "8,16,32", "4,8,16"]
    assert main([*words, "--input-size", "640", "native", "--to", str(tmp_path / "out")]) <= 1
    text = capsys.readouterr().out
    assert "33.3 (33.3)" in text
    assert "fewest objects without a point: " in text
    written = pd.read_csv(tmp_path / "out" / "coverage.csv", dtype=str)
    assert len(written[written["by"] == "all"]) == 8
    assert (tmp_path / "out" / "figures" / "coverage.svg").is_file()
    empty = tmp_path / "empty.json"
    empty.write_text(json.dumps(data | {"annotations": []}))
    for wrong, message in (
        (["data", "check", str(empty), "--assign", "fcos"], "no object that a network would be taught"),
        (["data", "check", str(file), "--strides", "8,16"], "--strides needs --assign"),
        (["data", "check", str(file), "--assign", "fcso"], "did you mean 'fcos'"),
        (["data", "check", str(file), "--to", "x"], "--to is a folder to write"),
    ):
        assert main(wrong) == 2
        assert message in capsys.readouterr().err


@pytest.mark.robustness("unclear: strides that do not ascend are a message in the shell, before any file is read")
@pytest.mark.parametrize("words", ["analyze d.json --annotations g.json", "data check g.json --assign fcos",
                                   "why d.json --annotations g.json"])  # fmt: skip
def test_strides_of_the_shell_ascend(words, capsys):
    with pytest.raises(SystemExit):
        main([*words.split(), "--strides", "64,32,16"])
    assert "--strides: '64,32,16': strides must ascend, the finest level first" in capsys.readouterr().err
