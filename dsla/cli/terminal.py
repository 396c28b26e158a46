"""What leaves the shell's commands: in any code page, without control characters, without a source line."""

import contextlib
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any, NoReturn

from ..errors import STOPS, Stopped, visible

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
def _stops() -> Iterator[None]:
    """The signals that would end the program at once end the command as Ctrl-C does, which keeps what is done."""
    main = threading.current_thread() is threading.main_thread()
    numbers = [n for n in STOPS if main and signal.getsignal(n) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _stop(number: int, frame: object) -> NoReturn:
    raise Stopped("", number)


@contextlib.contextmanager
def terminal() -> Iterator[None]:
    """Standard output and error as `Shown`; a warning is a plain line."""
    with (
        _stops(),
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
