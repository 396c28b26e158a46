"""Lines of code by folder, without docstrings, comments and blank lines: `python benchmarks/lines.py [FOLDER]`."""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections import Counter
from pathlib import Path

SKIPPED = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def code_lines(source: str) -> int:
    """How many lines of a module hold code: a token that is no comment and no part of a docstring."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in SKIPPED:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node, clean=False
        ):
            lines.difference_update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return len(lines)


def main(root: Path) -> None:
    """Prints a row a folder: files, lines of code, all lines."""
    files, code, everything = Counter[str](), Counter[str](), Counter[str]()
    for path in sorted(root.rglob("*.py")):
        folder = path.relative_to(root).parts[0] if len(path.relative_to(root).parts) > 1 else "(flat)"
        source = path.read_text(encoding="utf-8")
        files[folder] += 1
        code[folder] += code_lines(source)
        everything[folder] += source.count("\n")
    print(f"{'folder':14}{'files':>7}{'code':>8}{'all':>8}")
    for folder in [*sorted(files), "total"]:
        row = [sum(c.values()) if folder == "total" else c[folder] for c in (files, code, everything)]
        print(f"{folder:14}{row[0]:7}{row[1]:8}{row[2]:8}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1] / "dsla")
