"""JSON lines: what an interruption leaves of the last one costs that one only; a broken one is named."""

import json

import pytest

from dsla.errors import DataError
from dsla.files import add_line, read_lines, write_lines
from dsla.paper.runs import read_runs


def test_what_was_added_is_read(tmp_path):
    path = tmp_path / "runs.jsonl"
    assert read_lines(path) == []
    for value in ({"γ": 0.2}, {"b": None}):
        add_line(path, value)
    assert read_lines(path) == [{"γ": 0.2}, {"b": None}]
    assert path.read_text(encoding="utf-8") == '{"γ": 0.2}\n{"b": null}\n'
    write_lines(path, [1, 2])
    assert read_lines(path) == [1, 2]
    assert [p.name for p in tmp_path.iterdir()] == ["runs.jsonl"]


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_cut_last_line_is_left_out_and_does_not_spoil_the_next(tmp_path, cut):
    path = tmp_path / "runs.jsonl"
    last = json.dumps({"γé": "é"}, ensure_ascii=False).encode()[:cut]
    path.write_bytes(b'{"a": 1}\n' + last)
    assert read_lines(path) == [{"a": 1}]
    add_line(path, {"c": 3})
    assert read_lines(path) == [{"a": 1}, {"c": 3}]


def test_a_last_line_without_its_end_counts_if_it_is_whole(tmp_path):
    path = tmp_path / "runs.jsonl"
    path.write_text('{"a": 1}\n{"b": 2}', encoding="utf-8")
    add_line(path, {"c": 3})
    assert read_lines(path) == [{"a": 1}, {"b": 2}, {"c": 3}]


def test_a_broken_line_is_named(tmp_path):
    path = tmp_path / "runs.jsonl"
    path.write_text('{"a": 1}\n{"b":\n{"c": 3}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"runs\.jsonl, line 2: not JSON"):
        read_lines(path)
    with pytest.raises(DataError, match="line 2"):
        read_runs(path)


@pytest.mark.robustness("strangers: rows of a log or of a store of runs that are something else are named")
@pytest.mark.parametrize("row", ["[1]", "5", "null", '"step recipe"', "{}"])
def test_rows_that_are_something_else_are_named(tmp_path, row):
    path = tmp_path / "runs.jsonl"
    path.write_text(f'{{"step": 1, "recipe": "a", "method": "a", "seed": 0, "images": 1, "numbers": []}}\n{row}\n')
    assert len(read_lines(path)) == 2
    with pytest.raises(DataError, match=r"runs\.jsonl, row 2: needs step, and is .*; remove or mend it"):
        read_lines(path, "step")
    with pytest.raises(DataError, match=r"runs\.jsonl, row 2: needs recipe, method, seed, images, numbers"):
        read_runs(path)
