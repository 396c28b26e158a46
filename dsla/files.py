"""Files that are complete or as they were before, whatever stops the program."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def put_in_place(path: str | Path) -> Iterator[Path]:
    """Gives a path beside `path` to write to; at the end the file there takes its place, its bytes safely on the disk.

    Where the block fails, `path` is as it was and nothing is left beside it. Folders are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield partial
        umask = os.umask(0)
        os.umask(umask)
        partial.chmod(0o666 & ~umask)  # safetensors makes files that only their owner may read
        _sync(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    with suppress(OSError):  # a folder cannot be opened on Windows
        _sync(path.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
