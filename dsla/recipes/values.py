"""Values of fields: from text that a person types, and checked against the field's type."""

import types
from numbers import Integral, Real
from typing import Any, Literal, Union, get_args, get_origin

from ..assigners.entry import WORDS
from ..errors import DataError


def read(key: str, text: str, kind: Any) -> Any:
    """Text from the shell → a field's value: numbers, true/false, none, commas between items.

    Raises:
        DataError: text that the type cannot read.
    """
    if get_origin(kind) in (Union, types.UnionType):
        if text.lower() == "none":
            return None
        kind = next(k for k in get_args(kind) if k is not type(None))
    if get_origin(kind) is Literal:
        return text
    try:
        if kind is bool:
            return WORDS[text.lower()]
        if get_origin(kind) is tuple:
            if text.lower() in ("", "none"):
                return ()
            item = get_args(kind)[0]
            if get_origin(item) is tuple:  # ranges=0-64,64-128 and options=topk:9,low_quality:false
                first, second = get_args(item)
                pairs = [part.split(":" if first is str else "-", 1) for part in text.split(",")]
                return tuple((first(a), b if second is Any else second(b)) for a, b in pairs)  # `Method.read` reads b
            return tuple(item(part) for part in text.split(","))
        return kind(text)
    except (KeyError, ValueError):
        raise DataError(f"{key}={text}: not a value of type {getattr(kind, '__name__', kind)}") from None


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
