"""The project's own files agree with one another."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
CONDA_NAMES = {"torch": "pytorch"}


def requirement(text):
    name, bounds = re.match(r"([\w-]+)(.*)", text).groups()
    return CONDA_NAMES.get(name, name), bounds


def test_environment_yml_equals_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = dict(map(requirement, [*project["dependencies"], *project["optional-dependencies"]["test"]]))
    wanted["python"] = project["requires-python"]
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())
    requirements = dict(requirement(d) for d in listed["dependencies"] if isinstance(d, str) and d != "pip")
    assert requirements == wanted
    assert listed["channels"] == ["conda-forge"]
    assert listed["dependencies"][-1] == {"pip": ["--no-deps -e ."]}


def test_readme_has_the_two_commands_on_its_first_screen():
    first = (ROOT / "README.md").read_text().splitlines()[:80]
    commands = [line.split("  #")[0].strip() for line in first if line.startswith("python -m pip install")]
    assert commands == [
        "python -m pip install -e . && dsla reproduce",
        'python -m pip install -e ".[test]" && python -m pytest -n auto',
    ]


def test_version_is_the_same_everywhere():
    import dsla

    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert dsla.__version__ == version
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("page", PAGES)
def test_links_and_pictures_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert targets or page != "README.md"
    for target in targets:
        if target.startswith("http"):
            continue
        path, _, heading = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.M)
            assert heading in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}, target


def test_the_readme_is_read_in_one_sitting():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_readme_names_every_method_and_recipe():
    import dsla
    from dsla.assigners import METHODS

    text = (ROOT / "README.md").read_text()
    for name in METHODS:
        assert f"`{name}`" in text, name
    text += (ROOT / "docs" / "recipes.md").read_text()
    for name in dsla.RECIPES:
        assert name in text, name


@pytest.mark.slow
def test_importing_the_assigners_loads_no_plotting_or_tables():
    code = "import sys, dsla; dsla.assigners.DSLA(); print([m for m in ('matplotlib', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
