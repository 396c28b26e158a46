"""What is wrong with a file, collected while it is read and said once, in the shell as in a notebook."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import DataError, DataWarning
from ..files import read_toml

SMALLEST = 0.01  # pixels; a side shorter than this is a mistake in the file, not an object
SLACK = 1.0  # pixels that a box may reach out of its image without a word: exporters round
LISTED = 20  # ids that a text lists; all are in `Problem.ids`
KINDS = read_toml(__file__, "problems")


@dataclass(frozen=True)
class Problem:
    """One kind of problem of a file.

    Attributes:
        kind: what is wrong, in a few words.
        action: what is done about it.
        ids: of the rows that have it, as they stand in the file; "at n" for row n where it has no id.
        of: what these rows are: "annotation", "image", "detection".
        level: "dropped" (left out, or not taught), "mended" (used otherwise than written), "noted" (used as it is),
            "refused" (an error once it is used).
        example: the first of them in the file's words.
        positions: of annotations and detections, in the file's list; ids may be missing, or repeated.
    """

    kind: str
    action: str
    ids: tuple[Any, ...]
    level: str
    of: str = "annotation"
    example: str = ""
    positions: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        return len(self.ids)

    def __str__(self) -> str:
        example = f"; for one: {self.example}" if self.example else ""
        ids = ", ".join(map(str, self.ids[:LISTED])) + ", …" * (self.count > LISTED)
        return f"{self.kind}: {many(self.count, self.of)} ({ids}), {self.action}{example}"


class Problems(list[Problem]):
    """The problems of a file, in the order in which they were met.

    Attributes:
        name: the file.
        summary: what it holds, in a line, once it has been checked.
        error: why it is refused, if it is.
    """

    def __init__(self, name: str, error: str = "") -> None:
        super().__init__()
        self.name, self.summary, self.error = name, "", error

    @property
    def code(self) -> int:
        """0: nothing odd; 1: problems that are mended or noted; 2: the file, or an image of it, is refused."""
        return 2 if self.error or any(problem.level == "refused" for problem in self) else int(bool(self))

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.summary}".strip(), *(map(str, self) if self else ["nothing odd"])]
        return f"refused: {self.error}" if self.error else "\n  ".join(lines)

    def add(self, kind: str, ids: Iterable[Any], example: str = "", positions: Sequence[int] = ()) -> None:
        """One more, of a kind in problems.toml, if any row has it; the rest as `Problem` has it."""
        if rows := tuple(ids):
            words = {key: text.format(smallest=SMALLEST, slack=SLACK) for key, text in KINDS[kind].items()}
            self.append(Problem(ids=rows, example=example, positions=tuple(positions), **words))

    def warn(self) -> None:
        """One `DataWarning` with all, if there are any; without a line of source, which says nothing about a file."""
        if self:
            warnings.warn_explicit(str(self), DataWarning, "<dsla>", 1)


def refuse(name: str, what: str, lines: Sequence[object]) -> None:
    """One error for everything of a kind, if there is anything."""
    if lines:
        rest = [f"… and {len(lines) - 50} more"] * (len(lines) > 50)
        raise DataError("\n  ".join([f"{name}: {what}", *map(str, lines[:50]), *rest]))


def some(values: Sequence[Any], most: int = LISTED) -> str:
    """The first values in one line, and how many there are if that is more."""
    text = ", ".join(str(value) for value in values[:most])
    return text + (f", … ({len(values)} in all)" if len(values) > most else "")


def many(count: int, noun: str) -> str:
    """A number and its noun."""
    return f"{count} {noun}{('es' if noun[-1] in 'sx' else 's') * (count != 1)}"
