"""What ends a run from outside: Ctrl-C and SIGTERM, after a checkpoint; and the lock of its folder against a second."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from ..errors import DataError, Stopped

try:
    import fcntl
except ImportError:  # Windows: two runs in one folder are not noticed there
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
_held: set[Path] = set()  # the system's locks are a process' own: they do not part its threads


class Signals:
    """Within its block the first SIGINT or SIGTERM is noted, for the loop to end after its step; the next one ends all.

    Only the main thread is told of signals.

    Attributes:
        noted: the signal's number, 0 before.
        at_once: raise where the signal comes, since a checkpoint of this step is there.
        message: what is then said.
    """

    def __init__(self) -> None:
        self.noted, self.at_once, self.message = 0, False, ""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
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


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The folder is this run's alone within the block. A process that dies, however, leaves no lock.

    Raises:
        DataError: another run is at work there; names its process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = (folder / LOCK).resolve()
    if path in _held:
        raise _in_use(folder, str(os.getpid()))
    handle = _lock(folder, path)
    _held.add(path)
    try:
        os.ftruncate(handle, 0)
        os.write(handle, f"{os.getpid()}\n".encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        _held.discard(path)
        os.close(handle)


def _lock(folder: Path, path: Path) -> int:
    """The open and locked file."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if fcntl is not None:
                fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            process = os.read(handle, 20).decode(errors="replace").strip()
            os.close(handle)
            raise _in_use(folder, process) from None
        except OSError:  # a file system that knows no locks
            return handle
        with suppress(FileNotFoundError):
            if os.stat(path).st_ino == os.fstat(handle).st_ino:
                return handle
        os.close(handle)  # the run before removed this very file in between


def _in_use(folder: Path, process: str) -> DataError:
    return DataError(f"{folder} is in use by process {process}: wait for it, end it, or choose another folder")
