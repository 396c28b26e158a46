"""Numbers from the shell, refused where they make no sense: zero is not taken for "not given"."""

from __future__ import annotations

import argparse

from ..errors import DataError


def embedded_only(args: argparse.Namespace) -> None:
    """Refuses --size, a number of embedded scenes, beside data of one's own."""
    if args.size and (args.data or args.annotations):
        raise DataError("--size is a number of embedded scenes, not of the images of --data: leave it out")


def count(text: str) -> int:
    """A whole number from 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number from 1 is needed")
    return value


def natural(text: str) -> int:
    """A whole number from 0."""
    return 0 if text.strip() == "0" else count(text)


def positive(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: a number above 0 is needed")
    return value
