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
CONDA_NAMES = {"torch": "pytorch"}


def requirement(text):
    name, bounds = re.match(r"([\w-]+)(.*)", text).groups()
    return CONDA_NAMES.get(name, name), bounds


def test_environment_yml_equals_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = dict(map(requirement, [*project["dependencies"], *project["optional-dependencies"]["test"]]))
    wanted["python"] = project["requires-python"]
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())
    found = dict(requirement(d) for d in listed["dependencies"] if isinstance(d, str) and d != "pip")
    assert found == wanted
    assert listed["channels"] == ["conda-forge"]
    assert listed["dependencies"][-1] == {"pip": ["--no-deps -e ."]}


def test_readme_has_the_two_commands_on_its_first_screen():
    first = (ROOT / "README.md").read_text().splitlines()[:80]
    commands = [line.split("  #")[0].strip() for line in first if line.startswith("python -m pip install")]
    assert commands == [
        "python -m pip install -e . && dsla reproduce",
        'python -m pip install -e ".[test]" && python -m pytest',
    ]


def test_version_is_the_same_everywhere():
    import dsla

    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert dsla.__version__ == version
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()


def test_links_and_pictures_of_the_readme_exist():
    text = (ROOT / "README.md").read_text()
    targets = [t for t in re.findall(r"\]\(([^)]+)\)", text) if not t.startswith(("http", "#"))]
    assert targets
    for target in targets:
        assert (ROOT / target.split("#")[0]).exists(), target


def test_readme_names_every_method_and_recipe():
    import dsla
    from dsla.assigners import METHODS

    text = (ROOT / "README.md").read_text()
    for name in METHODS:
        assert f"`{name}`" in text, name
    text += (ROOT / "docs" / "recipes.md").read_text()
    for name in dsla.RECIPES:
        assert name in text, name


def test_importing_the_assigners_loads_no_plotting_or_tables():
    code = "import sys, dsla; dsla.assigners.DSLA(); print([m for m in ('matplotlib', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_claims_of_the_readme_are_those_of_the_runs():
    from dsla.paper import CLAIMS, claims_markdown, judge, read_runs

    numbers = read_runs(ROOT / "figures" / "runs.jsonl")
    assert numbers.groupby("method")["seed"].nunique().min() >= 3
    assert claims_markdown(judge(claim, numbers) for claim in CLAIMS) in (ROOT / "README.md").read_text()


def test_the_claims_of_the_ablation_in_the_readme_are_those_of_the_runs():
    from dsla.paper import claims_markdown, judge_ablation, read_runs, stores

    findings = judge_ablation(read_runs(*stores(ROOT / "figures")))
    assert min(f.seeds for f in findings) >= 3
    assert claims_markdown(findings) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_what_the_lead_depends_on_in_the_readme_is_what_the_runs_say():
    from dsla.paper import condition_table, read_runs, stores
    from dsla.paper.tables import conditions_markdown

    found = condition_table(read_runs(*stores(ROOT / "figures")))
    assert found["condition"].nunique() == 10
    assert set(found["seeds"]) == {3}
    assert conditions_markdown(found) in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("group", ["methods", "ablation", "gamma"])
def test_the_methods_of_the_readme_are_those_of_the_runs(group):
    from dsla.paper import method_table, methods_markdown, read_runs
    from dsla.recipes import GROUPS

    runs = read_runs(ROOT / "figures" / "experiments.jsonl")
    mine = runs[runs["recipe"].isin(GROUPS[group])]
    assert set(mine["recipe"]) == set(GROUPS[group])
    assert set(mine["seed"]) == {0, 1, 2}
    assert set(zip(mine["steps"], mine["images"], strict=True)) == {(1000, 400)}
    lines = methods_markdown(method_table(mine)).splitlines()
    readme = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line not in readme] == []
