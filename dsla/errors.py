"""Errors of the package that name the culprit and say what to do."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable


class DataError(ValueError):
    """A data set, annotation file or image that cannot be used as it is.

    The message names the file and, where there is one, the image id and the annotation id.
    """


class DataWarning(UserWarning):
    """What is wrong with a file that is used all the same, and what is done about it."""


class NotFinite(RuntimeError):
    """A loss became NaN or infinite. Says at which step and which part; the last good checkpoint stays."""


def unknown(what: str, name: object, names: Iterable[str], more: str = "") -> DataError:
    """The error for a name that there is not: with the one that was probably meant, else with all."""
    names = list(names)
    near = difflib.get_close_matches(str(name).lower(), names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names) or 'none'}{more}"
    return DataError(f"no {what} {name!r}: {hint}")


def visible(text: str) -> str:
    """Text of a stranger, such as a file's or a class's name, with control characters as signs: "a\\nb" → "a␊b"."""
    if text.isprintable():
        return text
    return "".join(_sign(c) if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c for c in text)


def _sign(character: str) -> str:
    code = ord(character)
    return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else f"<U+{code:04X}>"
