"""Options: the arguments of assigners that are numbers, flags or text, and what they may be."""

import functools
import inspect
import math
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ..errors import DataError


@dataclass(frozen=True)
class Option:
    """An argument of an assigner that people may set.

    Attributes:
        name: of the constructor's argument.
        kind: float, int, bool or str.
        default: the constructor's.
        meaning: a line for tables and tooltips.
        low, high: what a number may be, both included; also the ends of a slider.
        optional: whether None, which switches it off, is a value.
    """

    name: str
    kind: type
    default: Any
    meaning: str = ""
    low: float = -math.inf
    high: float = math.inf
    optional: bool = False

    @classmethod
    def of(cls, name: str, default: Any = None, **rest: Any) -> "Option":
        """An option of the type of its default; without one it is a number or none."""
        return cls(name, float if default is None else type(default), default, optional=default is None, **rest)

    def read(self, value: Any) -> Any:
        """The value, a number or text from the shell, as the constructor takes it.

        Raises:
            DataError: of another type, or out of range; says what is possible.
        """
        text = str(value).strip().lower()
        if self.optional and text == "none":
            return None
        if self.kind is str:
            return str(value)
        with suppress(KeyError, ValueError):
            if self.kind is bool:
                return WORDS[text]
            number = float(text)
            if self.low <= number <= self.high and (self.kind is float or number.is_integer()):
                return self.kind(number)
        raise DataError(f"{self.name}={value}: {self.range} is needed")

    @property
    def range(self) -> str:
        """What it may be, in words: a whole number from 1 to 100."""
        text = KINDS[self.kind]
        text += f" from {self.low:g}" if self.low > -math.inf else ""
        text += f" to {self.high:g}" if self.high < math.inf else ""
        return text + (", or none" if self.optional else "")


KINDS = {float: "a number", bool: "true or false", int: "a whole number", str: "text"}
WORDS = dict.fromkeys(("true", "1", "1.0", "yes"), True) | dict.fromkeys(("false", "0", "0.0", "no"), False)


def of_its_types(constructor: Callable[..., None]) -> Callable[..., None]:
    """The constructor, which first reads arguments that are annotated as a number, a flag or text.

    Raises:
        DataError: one that is something else; text is no number here, as it is where people type.
    """
    arguments = inspect.signature(constructor)
    options = list[Option]()
    for name, argument in arguments.parameters.items():
        kind, optional = kind_of(argument)
        if kind and argument.kind not in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD):
            options.append(Option(name, kind, argument.default, optional=optional))

    @functools.wraps(constructor)
    def checked(self: Any, *args: Any, **kwargs: Any) -> None:
        given: dict[str, Any] = {}
        with suppress(TypeError):  # the constructor says it itself
            given = arguments.bind(self, *args, **kwargs).arguments
        for option in (o for o in options if o.name in given):
            value = given[option.name]
            with suppress(AttributeError, ValueError, RuntimeError):  # no array or tensor of one number
                value = value.item()
            option.read(repr(value) if isinstance(value, str) and option.kind is not str else value)
        constructor(self, *args, **kwargs)

    return checked


def kind_of(argument: inspect.Parameter) -> tuple[type | None, bool]:
    """The one kind of `KINDS` that its annotation names, None of several (``int | str``); whether None is a value."""
    words = set(re.findall(r"\w+", inspect.formatannotation(argument.annotation)))
    names = words - {"None", "NoneType", "Optional"}
    optional = argument.default is None or names != words
    names = {"float"} if names == {"int", "float"} else names  # a number that may be whole
    return next((kind for kind in KINDS if names == {kind.__name__}), None), optional
