"""Errors of the package that name the culprit and say what to do."""

from __future__ import annotations

import difflib
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
