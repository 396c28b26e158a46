"""What notebooks read from their surroundings."""

from pathlib import Path

import pytest

import dsla
from dsla.errors import DataError
from dsla.settings import folder_from, repository_file, shortened


@pytest.mark.parametrize(("value", "expected"), [(None, 200), ("", 200), ("0", 200), ("1", 40), ("yes", 40)])
def test_fast(monkeypatch, value, expected):
    monkeypatch.delenv("DSLA_FAST", raising=False)
    if value is not None:
        monkeypatch.setenv("DSLA_FAST", value)
    assert shortened(200, 40) == expected


def test_a_folder_is_given_or_named_by_the_variable_or_none(monkeypatch, tmp_path):
    monkeypatch.delenv("DSLA_COCO", raising=False)
    assert folder_from("DSLA_COCO") is None
    (tmp_path / "a b").mkdir()
    monkeypatch.setenv("DSLA_COCO", str(tmp_path / "a b"))
    assert folder_from("DSLA_COCO") == tmp_path / "a b"
    assert folder_from("DSLA_COCO", tmp_path) == tmp_path
    monkeypatch.setenv("DSLA_COCO", "")
    assert folder_from("DSLA_COCO") is None


def test_a_missing_folder_is_named_in_full_with_the_variable(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DSLA_COCO", "coco")
    with pytest.raises(DataError) as error:
        folder_from("DSLA_COCO")
    assert str(tmp_path / "coco") in str(error.value)
    assert "DSLA_COCO" in str(error.value)


def test_files_of_the_repository_are_found_from_anywhere(monkeypatch, tmp_path):
    root = Path(dsla.__file__).resolve().parents[1]
    monkeypatch.chdir(tmp_path)
    assert repository_file("figures/no-such-file") is None
    if not (root / "figures" / "runs.jsonl").is_file():
        pytest.skip("the package is installed without its repository")
    assert repository_file("figures/runs.jsonl") == root / "figures" / "runs.jsonl"


def test_where_only_the_package_is_a_clone_around_the_notebook_is_found(monkeypatch, tmp_path):
    monkeypatch.setattr("dsla.settings.__file__", str(tmp_path / "site" / "dsla" / "settings.py"))
    clone = tmp_path / "clone"
    (clone / "figures").mkdir(parents=True)
    (clone / "notebooks").mkdir()
    (clone / "figures" / "runs.jsonl").write_text("", encoding="utf-8")
    monkeypatch.chdir(clone / "notebooks")
    assert repository_file("figures/runs.jsonl") is None  # a folder of that name alone is no clone
    (clone / "pyproject.toml").write_text("", encoding="utf-8")
    assert repository_file("figures/runs.jsonl") == clone / "figures" / "runs.jsonl"
