"""What ends a run from outside, after a checkpoint: Ctrl-C, SIGTERM, and SIGHUP of a terminal that is closed."""

import signal
import threading
from typing import Any, NoReturn

from ..errors import STOPS, Stopped


class Signals:
    """Within its block the first signal of STOPS is noted, for the loop to end after its step; the next one ends all.

    Only the main thread is told of signals. One that is ignored, as under ``nohup``, stays so.

    Attributes:
        noted: the signal's number, 0 before.
        at_once: raise where the signal comes, since a checkpoint of this step is there, or nothing makes any.
        message: what is then said.
    """

    def __init__(self, at_once: bool = False) -> None:
        self.noted, self.at_once, self.message = 0, at_once, ""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            for number in STOPS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number: int, frame: object) -> None:
        self.noted = number
        self.__exit__()
        if self.at_once:
            self.stop()

    def stop(self) -> NoReturn:
        """Raises the `Stopped`."""
        raise Stopped(self.message, self.noted or signal.SIGINT)
