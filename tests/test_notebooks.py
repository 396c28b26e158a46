"""Committed notebooks read well where no kernel runs. That they run is for nbmake: `pytest --nbmake notebooks`.

With DSLA_RUN_NOTEBOOKS=1 each is also run here as people start notebooks: from the repository's root, from its own
folder, and copied to a folder whose path has a space.
"""

import ast
import builtins
import getpass
import os
import re
from pathlib import Path

import pytest

from dsla.paper import claims_by_start, main_numbers

nbformat = pytest.importorskip("nbformat")

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
# Folders of a home, a temporary file or a system; /dev and the like are no one's own.
MACHINE = re.compile(
    r"(?<![\w.:/<])/(?:home|Users|root|tmp|var|opt|mnt|work|content|usr)/\w|[A-Z]:\\\\?Users|site-packages"
)
WIDGETS = "application/vnd.jupyter.widget"
IMPORTS = (ast.Import, ast.ImportFrom)
INTERACTIVE = re.compile(r"\b\w*(?:Explorer|Browser|Replay)\(")
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"


def outputs(notebook):
    return [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]


def words(notebook):
    """Sources, and all text of outputs: everything but pictures."""
    for cell in notebook.cells:
        yield cell.source
    for output in outputs(notebook):
        yield output.get("text", "")
        yield from (str(v) for kind, v in output.get("data", {}).items() if not kind.startswith("image/"))


def solutions(cell):
    """Code of the folded solutions of a cell."""
    folded = re.findall(r"<details>.*?</details>", cell.source, re.S) if cell.cell_type == "markdown" else []
    return [code for fold in folded for code in re.findall(r"```python\n(.*?)```", fold, re.S)]


def with_solutions(notebook):
    """The notebook, with the code of its solutions run where they stand."""
    cells = []
    for cell in notebook.cells:
        cells += [cell, *map(nbformat.v4.new_code_cell, solutions(cell))]
    return nbformat.from_dict({**notebook, "cells": cells})


@pytest.fixture(params=NOTEBOOKS, ids=lambda p: p.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def test_there_are_notebooks():
    assert [p.name[:3] for p in NOTEBOOKS][:5] == ["01_", "02_", "03_", "04_", "05_"]


def test_it_is_a_valid_notebook_of_moderate_size(path, notebook):
    nbformat.validate(notebook)
    assert path.stat().st_size < 1_000_000
    assert notebook.metadata.kernelspec.name == "python3"


def test_no_widget_state_and_a_picture_or_table_for_each_widget(path, notebook):
    assert "widgets" not in notebook.metadata
    assert WIDGETS not in path.read_text(encoding="utf-8")  # a reader without a kernel would show an error instead
    for cell in notebook.cells:
        if cell.cell_type == "code" and INTERACTIVE.search(cell.source):
            assert any({"image/png", "text/html"} & set(o.get("data", {})) for o in cell.outputs), cell.source


def test_no_output_is_one_of_many_pictures(notebook):
    """A view that is drawn anew replaces its picture."""
    for cell in notebook.cells:
        if cell.cell_type == "code" and "LiveTraining(" in cell.source and ".run(" in cell.source:
            assert [o.output_type for o in cell.outputs] == ["display_data"]
            assert "image/png" in cell.outputs[0].data


def test_every_cell_was_run_in_order_and_none_failed_or_warned(notebook):
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert {o.output_type for o in outputs(notebook)} <= {"stream", "execute_result", "display_data"}
    assert not [o.text for o in outputs(notebook) if o.output_type == "stream" and o.name == "stderr"]


def test_no_path_or_name_of_one_machine(notebook):
    for text in words(notebook):
        match = MACHINE.search(text)
        assert not match, text[max(0, match.start() - 60) : match.end() + 60]
        assert not re.search(r" at 0x[0-9a-f]{6,}", text), text
        assert getpass.getuser() in ("root", "user") or getpass.getuser() not in text


def test_it_begins_with_a_check_of_the_environment(notebook):
    assert notebook.cells[0].cell_type == "markdown"
    assert notebook.cells[0].source.startswith("# ")
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    lines = "".join(o.text for o in first.outputs).splitlines()
    assert len(lines) > 5
    assert all(line.startswith("OK ") for line in lines)


def test_it_opens_in_colab_and_installs_the_package_there(notebook):
    assert BADGE in notebook.cells[0].source
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    opening = nbformat.read(NOTEBOOKS[0], as_version=4)
    assert first.source == next(cell for cell in opening.cells if cell.cell_type == "code").source
    assert "DSLA_SOURCE" in first.source
    assert "%pip install -q {SOURCE}" in first.source


def test_links_between_notebooks_lead_somewhere(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\(([^)#]+\.ipynb)\)", cell.source):
                assert (FOLDER / target).is_file(), target


def test_no_file_is_read_by_a_path_that_holds_in_one_folder_only(notebook):
    """What a notebook reads comes from the package, from a variable, or from `repository_file`."""
    readers = {"open", "read_csv", "read_json", "load_image", "read_log", "read_numbers", "CocoDataset"}
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        for node in ast.walk(ast.parse(re.sub(r"(?m)^(\s*)[%!].*$", r"\1pass", cell.source))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                if name in readers:
                    assert not any(isinstance(a, ast.Constant) and isinstance(a.value, str) for a in node.args), name


def test_what_it_imports_lies_at_most_one_level_deep(notebook):
    """`from dsla.plots import style`, not `from dsla.plots.style import picture`: a small surface, which stays."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            for node in ast.walk(ast.parse(re.sub(r"(?m)^(\s*)[%!].*$", r"\1pass", cell.source))):
                modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert not [m for m in modules if m.startswith("dsla.") and m.count(".") > 1], cell.source


@pytest.mark.skipif(not os.environ.get("DSLA_RUN_NOTEBOOKS"), reason="minutes each: set DSLA_RUN_NOTEBOOKS=1")
@pytest.mark.parametrize("place", ["root", "own folder", "a folder with spaces"])
def test_it_runs_from_anywhere(path, place, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("DSLA_FAST", "1")
    elsewhere = tmp_path / "a folder with spaces"
    elsewhere.mkdir()
    start = {"root": FOLDER.parent, "own folder": FOLDER}.get(place, elsewhere)
    notebook = nbformat.read(path, as_version=4)
    notebook = with_solutions(notebook) if place == "root" else notebook
    nbclient.NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(start)}}
    ).execute()
    assert not list(elsewhere.iterdir())  # it leaves nothing behind where it was started


def test_it_teaches_and_asserts_and_defines_almost_nothing(path, notebook):
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    nodes = [n for c in code for n in ast.walk(ast.parse(re.sub(r"(?m)^(\s*)[%!].*$", r"\1pass", c)))]
    most = 6 if path.stem.endswith("your_own_assigner") else 2  # its two assigners are what that page is about
    assert sum(isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) for n in nodes) <= most
    assert sum(isinstance(n, ast.Assert) for n in nodes) >= 5
    assert text.count("**Try.**") >= 3
    assert sum("image/png" in o.get("data", {}) for o in outputs(notebook)) >= 3
    assert max(len(c.splitlines()) for c in code) <= 45


def test_every_task_has_a_folded_solution_whose_code_knows_its_names(notebook):
    """That it runs, and asserts what it says, is tested from the root; here, that it can."""
    names = set(dir(builtins)) | {"__name__"}
    for cell in with_solutions(notebook).cells:
        if cell.cell_type == "markdown":
            assert cell.source.count("**Try.**") == cell.source.count("<summary>Solution</summary>"), cell.source
            continue
        tree = ast.parse(re.sub(r"(?m)^(\s*)[%!].*$", r"\1pass", cell.source))
        nodes = list(ast.walk(tree))
        imported = [(a.asname or a.name).split(".")[0] for n in nodes if isinstance(n, IMPORTS) for a in n.names]
        named = [n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
        defined = [n.name for n in nodes if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
        names |= {*imported, *named, *defined, *(n.arg for n in nodes if isinstance(n, ast.arg))}
        assert {n.id for n in nodes if isinstance(n, ast.Name)} <= names, cell.source


def test_what_notebooks_print_about_a_claim_is_what_the_runs_say_from_each_start():
    texts = [o.get("text", "") for path in NOTEBOOKS for o in outputs(nbformat.read(path, as_version=4))]
    parts = re.split(r"FROM THE (WARM|COLD) START", re.sub(r"\s+", " ", " ".join(texts)))
    text = dict.fromkeys(parts[1::2], "")
    for start, part in zip(parts[1::2], parts[2::2], strict=True):
        text[start] += part
    findings = claims_by_start(main_numbers(FOLDER.parent / "figures" / "runs.jsonl"))
    assert [start.upper() for start in findings] == list(text)
    for start, judged in findings.items():
        for finding in judged:
            words, claim = re.sub(r"\s+", " ", str(finding)), f". {finding.claim.text}. "
            assert text[start.upper()].count(claim) == text[start.upper()].count(words), (start, words)
            assert (claim in text[start.upper()]) == (finding.seeds > 0)


@pytest.mark.parametrize("bad", ["see |home|ann|x.py", "File |tmp|kernel|2.py", "C:|Users|ann", "(|opt|a|bin)"])
def test_the_pattern_finds_paths(bad):
    assert MACHINE.search(bad.replace("|", "\\" if "C:" in bad else "/"))  # none of them stands here as such


@pytest.mark.parametrize("good", ["https://arxiv.org/abs/2208.00817", "98/118 · 100/118", "images/val", "</td>"])
def test_the_pattern_leaves_other_slashes_alone(good):
    assert not MACHINE.search(good)
