"""docs/robustness.md: what the tests marked ``@pytest.mark.robustness("kind: what holds")`` hold, in their words.

``python tests/robustness.py`` writes it anew.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "robustness.md"
KINDS = {
    "lost": "Nothing is lost",
    "wrong": "Nothing is silently wrong",
    "unclear": "What goes wrong is said, once and clearly",
    "strangers": "Files of strangers, and machines that fail",
    "values": "Values against slow references",
}
HEAD = """# What holds, and which test holds it

Made by `python tests/robustness.py` from the tests; do not edit. `pytest -m "not slow"` leaves out those marked *slow*.
"""


def marked() -> Iterator[tuple[str, str, str, bool]]:
    """(kind, what holds, file::test, whether it is slow) of every marked test, in the order of files and lines."""
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                decorators = {ast.unparse(d.func if isinstance(d, ast.Call) else d): d for d in node.decorator_list}
                if isinstance(mark := decorators.get("pytest.mark.robustness"), ast.Call):
                    kind, _, words = str(ast.literal_eval(mark.args[0])).partition(": ")
                    test = f"{path.relative_to(TESTS.parent)}::{node.name}"
                    yield kind, words, test, "pytest.mark.slow" in decorators


def page() -> str:
    """The text of docs/robustness.md."""
    rows = sorted(marked(), key=lambda row: list(KINDS).index(row[0]))
    parts = [HEAD]
    for kind, title in KINDS.items():
        parts.append(f"\n## {title}\n")
        for _, words, test, slow in (row for row in rows if row[0] == kind):
            parts.append(f"- {words[0].upper()}{words[1:]}. `{test}`{' (slow)' if slow else ''}")
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
