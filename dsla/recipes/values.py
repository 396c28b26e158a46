"""Values of fields: from text that a person types, and checked against the field's type."""

import types
from numbers import Integral, Real
from typing import Any, Literal, Union, get_args, get_origin

from ..assigners.options import WORDS
from ..errors import DataError


def read(key: str, text: str, kind: Any) -> Any:
    """Text from the shell → a field's value: numbers, true/false, none, commas between items.

    Raises:
        DataError: text that the type cannot read.
    """
    try:
        return _read(text, kind)
    except (KeyError, ValueError):
        raise DataError(f"{key}={text}: give {_needed(kind)}") from None


def _needed(kind: Any) -> str:
    """What a person can type, in words."""
    kinds = get_args(kind)
    if get_origin(kind) is not tuple:
        return next(_NAMES[k] for k in (kind, *kinds) if k in _NAMES) + (", or none" if kinds else "")
    if get_origin(kinds[0]) is not tuple:
        return f"{_NAMES[kinds[0]]}, or several with commas between them"
    return "pairs such as " + ("topk:9,sigma:0.5" if get_args(kinds[0])[0] is str else "0-64,64-128")


def _read(text: str, kind: Any) -> Any:
    kinds, none = get_args(kind), text.lower() == "none"
    if get_origin(kind) in (Union, types.UnionType):
        return None if none else _read(text, next(k for k in kinds if k is not type(None)))
    if get_origin(kind) is tuple:
        words, parts = text.split(",") if text and not none else [], get_args(kinds[0])
        if get_origin(kinds[0]) is not tuple:
            return tuple(_read(word, kinds[0]) for word in words)
        pairs = (word.split(":" if parts[0] is str else "-", 1) for word in words)
        return tuple(tuple(_read(*word) for word in zip(pair, parts, strict=True)) for pair in pairs)
    if get_origin(kind) is Literal or kind is Any:  # `Method.read` reads what options have
        return text
    return WORDS[text.lower()] if kind is bool else kind(text)


def typed(value: Any, kind: Any) -> Any:
    """The value, lists as tuples.

    Raises:
        ValueError: it is not of the type, or not finite; says what is needed.
    """
    if get_origin(kind) in (Union, types.UnionType):
        return None if value is None else typed(value, next(k for k in get_args(kind) if k is not type(None)))
    if kind is Any and (value is None or isinstance(value, str | bool | Real)):
        return value
    if get_origin(kind) is Literal:
        if value in get_args(kind):
            return value
        raise ValueError(f"choose one of {get_args(kind)}")
    if get_origin(kind) is tuple:
        items = get_args(kind)
        if not isinstance(value, list | tuple):
            raise ValueError("a list is needed")
        if items[-1] is Ellipsis:
            items = items[:1] * len(value)
        if len(items) != len(value):
            raise ValueError(f"{len(items)} values are needed")
        return tuple(typed(v, k) for v, k in zip(value, items, strict=True))
    if isinstance(value, bool) == (kind is bool):
        if kind in (bool, str) and isinstance(value, kind):
            return value
        if kind in (int, float) and isinstance(value, Integral) and -(2**63) < int(value) < 2**63:
            return int(value)
        if kind is float and isinstance(value, Real) and -1e308 < value < 1e308:  # type: ignore[operator]
            return float(value)
    raise ValueError(f"{_NAMES.get(kind, 'a number, text, true, false or none')} is needed")


_NAMES = {float: "a finite number", int: "a whole number", bool: "true or false", str: "text"}
