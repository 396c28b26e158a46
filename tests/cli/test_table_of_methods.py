"""``dsla methods``: the registry in words and as the table of the README."""

from pathlib import Path

import pytest

from dsla.assigners import METHODS
from dsla.cli.main import main
from dsla.cli.methods import table_of

ROOT = Path(__file__).parents[2]


def test_words_hold_every_option(capsys):
    assert main(["methods"]) == 0
    text = capsys.readouterr().out
    for entry in METHODS.values():
        assert f"{entry.name}: {entry.title}" in text
        for option in entry.options:
            typed = option.name if option.name in entry.fields else f"options={option.name}:"
            assert f"  {typed}" in text
            assert f"{option.meaning} ({option.range})" in text
    assert main(["methods", "atss", "DSLA"]) == 0
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines() if line[:1].strip()] == [
        "atss",
        "dsla",
    ]
    assert main(["methods", "dlsa"]) == 2
    assert "did you mean 'dsla'?" in capsys.readouterr().err


def test_the_table_of_the_readme_is_the_registry():
    assert table_of(METHODS.values()) in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("entry", METHODS.values(), ids=METHODS)
def test_the_table_links_files_that_exist(entry):
    for part in table_of([entry]).split("](")[1:]:
        assert (ROOT / part.split(")")[0]).is_file()
