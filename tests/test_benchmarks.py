"""Benchmarks are run by hand, so that what they need could go without notice: each finds all that it imports."""

import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize("script", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_a_benchmark_finds_what_it_imports(script, monkeypatch):
    if script.stem == "widget_latency":
        pytest.importorskip("playwright")
    monkeypatch.syspath_prepend(str(FOLDER))
    modules = set(sys.modules)
    try:
        assert runpy.run_path(str(script), run_name="imported")
    finally:
        for name in set(sys.modules) - modules:  # files of the folder have names that others may have
            if str(FOLDER) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]
