"""The house holds: imports go down only, no circles, few flat modules. Imports inside functions count, too."""

from __future__ import annotations

import ast
import builtins
import re
from pathlib import Path

ROOT = Path(__file__).parents[1] / "dsla"
FLOORS = (  # from the ground up; modules of one floor may not import each other's folders
    {"errors", "lazy"},
    {"settings", "files"},
    {"geometry"},
    {"losses"},
    {"assigners"},
    {"coco"},
    {"recipes", "data"},
    {"models"},
    {"training"},
    {"analysis"},
    {"plots"},
    {"widgets"},
    {"paper"},
    {"cli"},
)
HEIGHT = {name: n for n, floor in enumerate(FLOORS) for name in floor}
FACES = {"__init__", "__main__"}  # the package's face hands names on


def modules() -> dict[str, Path]:
    """Dotted name below `dsla` → file, faces of folders under the folder's name."""
    paths = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return paths


def imports(name: str, path: Path, there: dict[str, Path]) -> set[str]:
    """Modules of the package that a file imports, wherever in the file the import stands."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    targets = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets.update(a.name.removeprefix("dsla.") for a in node.names if a.name.startswith("dsla."))
        elif isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] == "dsla"):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module or "").split(".")] if node.level else (node.module or "").split(".")[1:]
            whole = ".".join(part for part in base if part)
            for alias in node.names:
                inner = f"{whole}.{alias.name}" if whole else alias.name
                targets.add(inner if inner in there else whole)
    return {t for t in targets if t in there and t}


def graph() -> dict[str, set[str]]:
    """Arrows between files; a folder's face counts as the files that it hands on, so it is no room of its own."""
    paths = modules()
    return {
        name: imports(name, path, paths) - {name}
        for name, path in paths.items()
        if name and name.split(".")[-1] not in FACES
    }


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Sets of files that reach each other (Tarjan), faces of folders left out."""
    index, low, stack, on, rings = {}, {}, [], set(), []
    rooms = {n for n in arrows if modules()[n].name != "__init__.py"}

    def visit(v: str) -> None:
        index[v] = low[v] = len(index)
        stack.append(v)
        on.add(v)
        for w in arrows[v] & rooms:
            if w not in index:
                visit(w)
                low[v] = min(low[v], low[w])
            elif w in on:
                low[v] = min(low[v], index[w])
        if low[v] == index[v]:
            ring = []
            while True:
                w = stack.pop()
                on.discard(w)
                ring.append(w)
                if w == v:
                    break
            if len(ring) > 1:
                rings.append(sorted(ring))

    for v in sorted(rooms):
        if v not in index:
            visit(v)
    return rings


def test_every_folder_and_flat_module_has_its_floor():
    top = {name.split(".")[0] for name in modules() if name} - FACES
    assert top <= set(HEIGHT), f"give a floor to {sorted(top - set(HEIGHT))}"
    flat = [p for p in ROOT.glob("*.py") if p.stem not in FACES]
    assert len(flat) <= 8, flat


def test_imports_go_down_only():
    wrong = []
    for name, targets in graph().items():
        here = name.split(".")[0]
        for target in targets:
            there = target.split(".")[0]
            if there != here and HEIGHT[there] >= HEIGHT[here]:
                wrong.append(f"{name} imports {target}")
    assert not wrong, "\n".join(sorted(wrong))


def test_there_are_no_circles():
    assert circles(graph()) == []


def test_a_circle_would_be_seen():
    names = list(graph())
    a, b = (n for n in names if n in ("assigners.dsla", "geometry"))
    assert circles({**graph(), "geometry": {"assigners.dsla"}}), (a, b)
    nested = "def f():\n    from ..models import build\n"
    path = ROOT / "coco" / "results.py"
    assert "models.build" in imports("coco.matching", _Text(path, nested), modules())


class _Text:
    """A file with another text."""

    def __init__(self, path: Path, text: str) -> None:
        self.name, self.text = path.name, text

    def read_text(self, encoding: str) -> str:
        return self.text


def test_files_are_short():
    long = {p.name: n for p in ROOT.rglob("*.py") if (n := p.read_text(encoding="utf-8").count("\n")) > 350}
    assert not long


VAGUE = {"found", "said", "asked", "shown", "known", "own"}  # of what? a name says what the thing is
KEPT = {("analysis/adjacent.py", "own"), ("training/recorder.py", "own"), ("widgets/pictures.py", "known")}  # public


def vague_names(text: str) -> set[str]:
    """Vague names that variables, fields and arguments of a file are given."""
    nodes = list(ast.walk(ast.parse(text)))
    stored = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return (stored | {node.arg for node in nodes if isinstance(node, ast.arg)}) & VAGUE


def test_names_say_what_the_thing_is():
    places = [*ROOT.rglob("*.py"), *(p for part in ("tests", "benchmarks") for p in (ROOT.parent / part).rglob("*.py"))]
    vague = {
        (place.relative_to(ROOT if ROOT in place.parents else ROOT.parent).as_posix(), name)
        for place in places
        for name in vague_names(place.read_text(encoding="utf-8"))
    }
    assert vague == KEPT
    assert vague_names("found = 1\ndef f(own): ...\nfor said, x in y: known: int = 2") == VAGUE - {"asked", "shown"}


def untrue(text: str, errors: set[str]) -> set[str]:
    """Errors and arguments of which docstrings speak and that there are not: "function: name"."""
    wrong = set()
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            continue
        words, init = ast.get_docstring(node) or "", node
        wrong |= {f"{node.name}: {name}" for name in re.findall(r"\b[A-Z]\w*Error\b", words) if name not in errors}
        if isinstance(node, ast.ClassDef):
            init = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
        if init is not None:
            arguments = {n.arg for n in ast.walk(init.args) if isinstance(n, ast.arg)}
            section = re.search(r"Args:\n((?: {4,}.*\n|\n)*)", words + "\n")
            named = re.findall(r"^ {4}([\w*][\w, *]*):", section[1] if section else "", re.MULTILINE)
            of = {name.strip(" *") for names in named for name in names.split(",")}
            of |= set(re.findall(r"`(\w+)` \[", words)) if isinstance(node, ast.FunctionDef) else set()
            wrong |= {f"{node.name}: {name}" for name in of - arguments}
    return wrong


def test_docstrings_speak_of_errors_and_arguments_that_there_are():
    texts = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in ROOT.rglob("*.py")}
    nodes = (node for text in texts.values() for node in ast.walk(ast.parse(text)))
    errors = {node.name for node in nodes if isinstance(node, ast.ClassDef)} | {*dir(builtins)}
    wrong = {path: names for path, text in texts.items() if (names := untrue(text, errors))}
    assert not wrong
    lies = '"""`c` [h, w].\n\n    Args:\n        a, d: x.\n    Raises:\n        OddError: y.\n    """'
    assert untrue(f"def f(a, b):\n    {lies}", errors) == {"f: c", "f: d", "f: OddError"}
