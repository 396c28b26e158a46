"""Errors of the package that name the culprit and say what to do."""

import difflib
import math
import signal
import sys
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from itertools import pairwise
from typing import Any

STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class DataError(ValueError):
    """A data set, annotation file or image that cannot be used as it is.

    The message names the file and, where there is one, the image id and the annotation id.
    """


class DataWarning(UserWarning):
    """What is wrong with a file that is used all the same, and what is done about it."""


class NotFinite(RuntimeError):
    """A loss became NaN or infinite. Says at which step and which part; the last good checkpoint stays."""


class Stopped(KeyboardInterrupt):
    """A signal of STOPS ended a command, or a run after its step; says where it goes on. `signal` is the number."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


def unknown(what: str, name: object, names: Iterable[str], more: str = "") -> DataError:
    """The error for a name that there is not: with the one that was probably meant, else with all."""
    names = list(names)
    near = difflib.get_close_matches(str(name).lower(), names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names) or 'none'}{more}"
    return DataError(f"no {what} {name!r}: {hint}")


def require_corners(boxes: object, where: str) -> None:
    """Raises a DataError where torchvision's `BoundingBoxes` say that they are not x1, y1, x2, y2."""
    form = getattr(getattr(boxes, "format", None), "name", "XYXY")
    if form != "XYXY":
        way = 'torchvision.transforms.v2.ConvertBoundingBoxFormat("XYXY")'
        raise DataError(f"{where}: x1, y1, x2, y2 are needed, but torchvision says {form}; convert them by {way}")


def whole_numbers(what: str, values: Any, count: int | None = None) -> tuple[int, ...]:
    """Positive whole numbers, `count` of them, as ints.

    Raises:
        DataError: others; the message begins with `what`.
    """
    with suppress(TypeError, ValueError):  # text, or nothing that has an order
        values = values if isinstance(values, str) else tuple(values)
        if all(v > 0 and float(v).is_integer() for v in values) and len(values) == (count or len(values)):
            return tuple(int(v) for v in values)
    got = ", ".join(map(str, values)) if isinstance(values, tuple) else repr(values)
    raise DataError(f"{what} must be {f'{count} ' if count else ''}positive whole numbers, got {got}")


def strides_of(values: Any) -> tuple[int, ...]:
    """Strides of levels, pixels, as ints.

    Raises:
        DataError: none, not positive whole numbers, or not each larger than the one before.
    """
    strides = whole_numbers("strides", values)
    if not strides or any(coarse <= fine for fine, coarse in pairwise(strides)):
        got = ", ".join(map(str, strides)) or "none"
        raise DataError(f"strides must ascend, the finest level first, as 8, 16, 32; got {got}")
    return strides


def within(**options: Any) -> None:
    """Raises a DataError where an option that is a number, of those in `_LIMITS`, is none or means nothing."""
    for name, value in options.items():
        least, most, words = _LIMITS.get(name, (None, 0, ""))
        if least is None or (value is None and name not in _NEEDED):
            continue
        try:
            number = value.item() if hasattr(value, "item") else value  # float32 overflows beside the limits
            fits = least <= number <= most and not isinstance(number, bool)
            fits = fits and (type(least) is float or number == most or number == int(number))
        except (TypeError, ValueError, RuntimeError):
            fits = False
        if not fits:
            raise DataError(f"{name} is {words}, got {value!r}")


_NEEDED = ("iou_threshold", "log_every", "foreground", "background", "seed", "workers", "accumulate")  # never None
_SHARE, _COUNT = (0.0, 1.0, "a number from 0 to 1"), "1 or more, a whole number"
_LIMITS: dict[str, tuple[float, float, str]] = {
    **dict.fromkeys(("iou_threshold", "laece_iou", "nms_threshold", "foreground", "background"), _SHARE),
    **dict.fromkeys(("max_detections", "max_images"), (1, math.inf, _COUNT)),
    **dict.fromkeys(("log_every", "batch_size", "accumulate", "stop_after"), (1, sys.maxsize, _COUNT)),
    **dict.fromkeys(("eval_every", "checkpoint_every"), (sys.float_info.min, math.inf, "a number of epochs above 0")),
    "seed": (-(2**63), 2**63 - 1, "a whole number of 64 bits"),
    "score_threshold": (-sys.float_info.max, sys.float_info.max, "a finite number"),
    **dict.fromkeys(("resamples", "workers"), (0, sys.maxsize, "0 or more, a whole number")),
    "level": (sys.float_info.min, 1 - sys.float_info.epsilon, "above 0 and below 1"),
    "num_classes": (1, 65_536, "a whole number from 1 to 65536"),
}


def visible(text: str, kept: str = "\n\t") -> str:
    r"""Text of a stranger, such as a file's or a class's name, with its control characters written out, as ``\x1b``.

    Args:
        text: that is shown in a terminal, on a page, in a figure.
        kept: control characters that may stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c if c in kept or (unicodedata.category(c) not in _ESCAPED and c not in _TURNING)
        else c.encode("unicode_escape", "surrogatepass").decode("ascii")
        for c in text
    )  # fmt: skip


_ESCAPED = ("Cc", "Cs", "Zl", "Zp")  # control characters, halves of pairs (names that are no text), line separators
_TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # they make text run the other way
