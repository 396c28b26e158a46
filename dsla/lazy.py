"""Names of a package that are looked up when first used, so that importing it loads nothing heavy."""

import ast
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def lazily(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package (PEP 562), read off its block ``if TYPE_CHECKING:``.

    What type checkers and people see there is the only list of its names. Its other modules are found by their own.

    Args:
        package: its ``__name__``.
        file: its ``__file__``.
    """
    blocks = [node for node in ast.parse(Path(file).read_text(encoding="utf-8")).body if isinstance(node, ast.If)]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    places = {
        alias.asname or alias.name: (f"{package}.{node.module}" if node.module else package, alias.name)
        for node in imports
        for alias in node.names
    }
    namespace = vars(sys.modules[package])

    def find(name: str) -> Any:
        module, attribute = places.get(name, (package, name))
        if module != package and hasattr(home := importlib.import_module(module), attribute):
            return namespace.setdefault(name, getattr(home, attribute))
        if importlib.util.find_spec(f"{module}.{attribute}"):
            return namespace.setdefault(name, importlib.import_module(f"{module}.{attribute}"))
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return find, lambda: sorted({*namespace, *places}), list(places)
