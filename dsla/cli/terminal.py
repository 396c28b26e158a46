"""What leaves the shell's commands: in any code page, without control characters, without a source line."""

import contextlib
import os
import re
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from ..errors import visible
from ..training.stopping import Signals

_BAR = re.compile(r"(?:[\r\n]|\x1b\[A)*")  # how a progress bar moves before it writes


class Shown:
    """A text stream that shows what its code page lacks as "?" and control characters as escapes.

    Args:
        bars: leave the moves of a progress bar at a text's beginning.
    """

    def __init__(self, stream: Any, bars: bool) -> None:
        self.stream, self.bars = stream, bars

    def write(self, text: str) -> int:
        moves = _BAR.match(text)[0] if self.bars else ""  # type: ignore[index]
        code = getattr(self.stream, "encoding", None) or "utf-8"
        self.stream.write(moves + visible(text[len(moves) :]).encode(code, "replace").decode(code))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _note(message: Warning | str, category: type[Warning], *_: Any) -> None:
    print(f"note: {message}", file=sys.stderr)


@contextlib.contextmanager
def terminal() -> Iterator[None]:
    """Standard output and error as `Shown`; a warning is a plain line; a signal ends the command as Ctrl-C does."""
    with (
        Signals(at_once=True),
        contextlib.redirect_stdout(Shown(sys.stdout, False)),
        contextlib.redirect_stderr(Shown(sys.stderr, True)),
        warnings.catch_warnings(),
    ):
        warnings.showwarning = _note  # type: ignore[assignment]
        warnings.filterwarnings("ignore", "Image size .* decompression bomb")  # an error of ours says it, too
        yield


def close_quietly() -> None:
    """After ``| head``: what is still to be written goes nowhere, and Python says nothing about it when it ends."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
