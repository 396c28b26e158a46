"""What several commands share: numbers within limits, options of data and output, options that need others."""

import argparse
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..errors import DataError
from ..files import read_toml

Number = Callable[[str], float]


def _number(kind: type[int] | type[float], low: float, high: float, wanted: str) -> Number:
    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r}: {wanted} is needed")
        return value

    return read


def whole(low: int, high: int) -> Number:
    """Reads a whole number from `low` to `high`; others are refused with the limits."""
    return _number(int, low, high, f"a whole number from {low} to {high:,}")


count = whole(1, 1_000_000_000)
natural = whole(0, 2**63 - 1)
positive = _number(float, 1e-9, 1e9, "a number above 0")
fraction = _number(float, 0.0, 1.0, "a number from 0 to 1")


class Needs(NamedTuple):
    """Options that have an effect only beside others; `met` says whether these are there."""

    options: str  # their names in `argparse.Namespace`, separated by spaces
    met: Callable[[argparse.Namespace], object]
    reason: str  # goes on from the option's name


def refuse_ignored(parser: argparse.ArgumentParser, args: argparse.Namespace, needs: Sequence[Needs]) -> None:
    """Refuses an option that the command would accept and ignore.

    Raises:
        DataError: names the option and the reason.
    """
    for need in needs:
        for name in need.options.split():
            if getattr(args, name) != parser.get_default(name) and not need.met(args):
                option = next(a.option_strings[0] for a in parser._actions if a.dest == name)
                raise DataError(f"{option} {need.reason}")


EMBEDDED = Needs(
    "size",
    lambda args: not (args.data or args.annotations),
    "is a number of embedded scenes, not of the images of --data: leave it out",
)
ONE_FILE = Needs(
    "split", lambda args: not args.annotations, "is of a COCO folder, and --annotations names one file: leave it out"
)


def strides(text: str) -> tuple[int, ...]:
    """Reads the strides of levels: 8,16,32."""
    words = text.replace(",", " ").split()
    if not words or not all(w.isdecimal() and 0 < int(w) <= 4096 for w in words):
        raise argparse.ArgumentTypeError(f"{text!r}: write whole pixels with commas, as 8,16,32")
    return tuple(map(int, words))


TYPES = {"count": count, "natural": natural, "positive": positive, "fraction": fraction, "strides": strides}
_OPTIONS = read_toml(__file__, "options")


def add_options(parser: argparse.ArgumentParser, command: str) -> None:
    """Arguments of a command, as `options.toml` lists them."""
    either = None
    for name, option in _OPTIONS.get(command, {}).items():
        given = dict(_OPTIONS["shared"][name] if isinstance(option, str) else option)
        if isinstance(option, str):
            given["help"] = given["help"].format(option)
        if "type" in given:
            given["type"] = whole(*given["type"]) if isinstance(given["type"], list) else TYPES[given["type"]]
        if isinstance(given.get("metavar"), list):
            given["metavar"] = tuple(given["metavar"])
        if given.pop("exclusive", False):
            either = either or parser.add_mutually_exclusive_group()
            either.add_argument(name, **given)
        else:
            parser.add_argument(name, **given)
