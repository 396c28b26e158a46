"""What the numbers mean, how they are written, and the words of the field: `definitions.toml` as Python sees it."""

from fnmatch import fnmatchcase
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd

from ..files import read_toml
from ..plots.style import method


@cache
def read(name: str) -> dict[str, Any]:
    """The tables of a TOML file of this folder."""
    return read_toml(__file__, name)


_ALL = read("definitions")
ONE_SEED: str = _ALL["one_seed"]
VERDICTS: dict[str, list[str]] = _ALL["verdicts"]
WORDS: dict[str, str] = _ALL["words"]
PHRASES: dict[str, str] = _ALL["phrases"]
RECIPES: dict[str, str] = _ALL["recipes"]
ROWS: dict[str, dict[str, list[str]]] = _ALL["rows"]


def is_in(unit: str, name: str) -> bool:
    """Whether a number is read in this unit: points, count, or as a gain."""
    return any(fnmatchcase(name, pattern) for pattern in _ALL["units"][unit])


def as_text(name: str, value: float, signed: bool = False) -> str:
    """A number as a person reads it: AP and AR in points of 100, counts whole, n/a where undefined.

    Args:
        name: decides the unit, as `definitions.toml` says.
        value: 0…1 for what is read in points.
        signed: with a plus, too; what is a gain always is.
    """
    if not np.isfinite(value):
        return "n/a"
    sign = "+" if (signed or is_in("gain", name)) and value >= 0 else ""
    points = is_in("points", name)
    text = f"{value:,.0f}" if is_in("count", name) else f"{100 * value:.1f}" if points else f"{value:.3f}"
    return (sign + text).replace("-", "−")


def with_half(name: str, value: float, low: float) -> str:
    """A number, with half its interval, which reaches down to `low`, where it has one."""
    return as_text(name, value) + (f" ± {as_text(name, value - low)}" if np.isfinite(low) else "")


def as_texts(table: pd.DataFrame) -> pd.DataFrame:
    """A table of numbers as a person reads it: each column by its name."""
    return table.apply(lambda column: column.map(partial(as_text, column.name)))


def title_of(recipe: str) -> str:
    """What a recipe is called in tables: a method's name, or one of its own."""
    return RECIPES.get(recipe) or method(recipe).name


def label(name: str) -> str:
    """What a row of a table is called on a page."""
    return str(_ALL["labels"].get(name, name.replace("_", " ")))
