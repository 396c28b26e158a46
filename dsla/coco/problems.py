"""What is wrong with a file, collected while it is read and said once, in the shell as in a notebook."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import DataError, DataWarning

DROPPED, MENDED, NOTED, REFUSED = "dropped", "mended", "noted", "refused"
SHOWN = 20  # ids that a text lists; all are in `Problem.ids`


@dataclass(frozen=True)
class Problem:
    """One kind of problem of a file.

    Attributes:
        kind: what is wrong, in a few words.
        action: what is done about it.
        ids: of the rows that have it, as they stand in the file; "at n" for row n where it has no id.
        of: what these rows are: "annotation", "image", "detection".
        level: DROPPED (left out, or not taught), MENDED (used otherwise than written), NOTED (used as it is), REFUSED
            (an error once it is used).
        example: the first of them in the file's words.
    """

    kind: str
    action: str
    ids: tuple[Any, ...]
    of: str = "annotation"
    level: str = NOTED
    example: str = ""

    @property
    def count(self) -> int:
        return len(self.ids)

    def __str__(self) -> str:
        example = f"; for one: {self.example}" if self.example else ""
        ids = ", ".join(map(str, self.ids[:SHOWN])) + ", …" * (self.count > SHOWN)
        return f"{self.kind}: {many(self.count, self.of)} ({ids}), {self.action}{example}"


class Problems(list[Problem]):
    """The problems of the file of this name, in the order in which they were met."""

    def __init__(self, name: str, problems: Iterable[Problem] = ()) -> None:
        super().__init__(problems)
        self.name = name

    def add(self, kind: str, action: str, ids: Iterable[Any], of: str, level: str, example: str = "") -> None:
        """One more, if any row has it."""
        if rows := tuple(ids):
            self.append(Problem(kind, action, rows, of, level, example))

    @property
    def serious(self) -> list[Problem]:
        """Those that change what is used."""
        return [problem for problem in self if problem.level != NOTED]

    def text(self) -> str:
        """All of them, a line each, under the name of the file; empty without any."""
        return "\n".join([f"{self.name}:", *(f"  {problem}" for problem in self)]) if self else ""

    def warn(self) -> None:
        """One `DataWarning` with the text, without a line of source, which says nothing about a file."""
        if self:
            warnings.warn_explicit(self.text(), DataWarning, "<dsla>", 1)


def refuse(name: str, what: str, lines: Sequence[object]) -> None:
    """One error for everything of a kind, if there is anything."""
    if lines:
        rest = [f"… and {len(lines) - 50} more"] * (len(lines) > 50)
        raise DataError("\n  ".join([f"{name}: {what}", *map(str, lines[:50]), *rest]))


def some(values: Sequence[Any], most: int = SHOWN) -> str:
    """The first values in one line, and how many there are if that is more."""
    text = ", ".join(str(value) for value in values[:most])
    return text + (f", … ({len(values)} in all)" if len(values) > most else "")


def many(count: int, noun: str) -> str:
    """A number and its noun."""
    return f"{count} {noun}{('es' if noun[-1] in 'sx' else 's') * (count != 1)}"
