"""JSON lines, and values as JSON has them: an undefined number is NaN inside, "n/a" on a page and null there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import DataError
from ..files import write


def read_lines(path: str | Path) -> list[Any]:
    """Values of a JSON-lines file, none where there is no file. A last line that is still being written, or that an
    interruption cut, is left out.

    Raises:
        DataError: another line is not JSON; says which.
    """
    path = Path(path)
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")  # not text: a cut may go through a letter
    values: list[Any] = []
    for number, line in enumerate(lines, 1):
        try:
            values += [json.loads(line)] if line.strip() else []
        except ValueError as error:
            if number < len(lines):
                raise DataError(f"{path}, line {number}: not JSON ({error}); remove or mend it") from error
    return values


def write_lines(path: Path, values: Iterable[Any]) -> None:
    """A JSON-lines file, complete or as it was before."""
    write(path, "".join(json.dumps(v, ensure_ascii=False) + "\n" for v in values))


def add_line(path: Path, value: Any) -> None:
    """One more line, in the file when this returns; what an interruption left of the last one goes."""
    with path.open("ab+") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
        whole = file.read() in (b"", b"\n")
    if not whole:
        write_lines(path, read_lines(path))
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(value, ensure_ascii=False) + "\n")


def plain(value: Any) -> Any:
    """Plain Python values for JSON; NaN, infinity and NA become None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if value is pd.NA or (isinstance(value, float) and not np.isfinite(value)) else value
