"""What several commands share: numbers within limits, options as `options.toml` has them, and what these need."""

import argparse
from collections.abc import Callable
from contextlib import suppress

from ..errors import DataError, strides_of
from ..files import read_toml

_OPTIONS = read_toml(__file__, "options")


def number(low: float, high: float) -> Callable[[str], float]:
    """Reads a number from `low` to `high`, a whole one where these are; others are refused with the limits."""
    kind = "a whole number" if isinstance(low, int) else "a number"

    def read(text: str) -> float:
        with suppress(ValueError):
            if low <= (value := type(low)(text)) <= high:
                return value
        raise argparse.ArgumentTypeError(f"{text!r}: {kind} from {low:,.10g} to {high:,.10g} is needed")

    return read


def refuse_ignored(parser: argparse.ArgumentParser, args: argparse.Namespace, command: str) -> None:
    """Refuses an option that the command would accept and ignore: rows of [needs] in `options.toml`.

    Raises:
        DataError: names the option and the reason.
    """

    def holds(word: str) -> bool:
        name, _, value = word.removeprefix("not ").partition("=")
        given = getattr(args, name, None)
        return bool(given == value if value else given) != word.startswith("not ")

    for options, needed, reason in (*_OPTIONS["needs"]["shared"], *_OPTIONS["needs"].get(command, ())):
        met = any(all(map(holds, part.split(" and "))) for part in needed.split(" or "))
        for name in options.split():
            if getattr(args, name, None) != parser.get_default(name) and not met:
                option = next(a.option_strings[0] for a in parser._actions if a.dest == name)
                raise DataError(f"{option} {reason}")


def strides(text: str) -> tuple[int, ...]:
    """Reads the strides of levels: 8,16,32."""
    words = text.replace(",", " ").split()
    if not words or not all(w.isdecimal() and 0 < int(w) <= 4096 for w in words):
        raise argparse.ArgumentTypeError(f"{text!r}: write whole pixels with commas, as 8,16,32")
    try:
        return strides_of(map(int, words))
    except DataError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def add_options(parser: argparse.ArgumentParser, command: str) -> None:
    """Arguments of a command, as `options.toml` lists them."""
    either = None
    for name, option in _OPTIONS.get(command, {}).items():
        given = dict(_OPTIONS["shared"][name] if isinstance(option, str) else option)
        if isinstance(option, str):
            given["help"] = given["help"].format(option)
        if "type" in given:
            limits = _OPTIONS["types"].get(str(given["type"]), given["type"])
            given["type"] = strides if limits == "strides" else number(*limits)
        if isinstance(given.get("metavar"), list):
            given["metavar"] = tuple(given["metavar"])
        if given.pop("exclusive", False):
            either = either or parser.add_mutually_exclusive_group()
            either.add_argument(name, **given)
        else:
            parser.add_argument(name, **given)
