"""Files that are complete or as they were before, and never in place of what a person made."""

import hashlib
import json
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import DataError

try:
    import fcntl
except ImportError:  # Windows: two programs in one folder are not noticed there
    fcntl = None  # type: ignore[assignment]

LOCK = ".dsla-lock"
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
LISTING = ".dsla-files.json"  # of an `OwnFolder`: what dsla wrote there, with the contents' hashes


@contextmanager
def put_in_place(path: str | Path) -> Iterator[Path]:
    """Gives a path beside `path` to write to; at the end the file there takes its place, its bytes safely on the disk.

    Where the block fails, `path` is as it was, nothing is left beside it, and an OSError names it. Folders are made.
    """
    path = reached(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name[:40]}.{hash(path.name)}.{os.getpid()}.part")  # a name has 255 bytes at most
    try:
        with _naming(path):
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


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """An error of the system's names this file, not one beside it or none."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class InUse(DataError):
    """Another process, or another thread of this one, is at work in the folder."""


@contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """The folder is this block's alone, among threads and processes of dsla. Who dies leaves no lock.

    Raises:
        InUse: another is at work there; names its process.
        DataError: nothing can be written there.
    """
    path, handle = Path(folder) / LOCK, -1
    check_folder(path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    while handle < 0:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            process = os.read(handle, 20).decode(errors="replace").strip()
            os.close(handle)
            what = "wait for it, end it, or choose another folder"
            raise InUse(f"{path.parent}: in use by process {process}; {what}") from None
        except OSError:  # a file system that knows no locks
            pass
        if not (path.exists() and os.path.samestat(os.fstat(handle), path.stat())):  # its last holder removed it
            os.close(handle)
            handle = -1
    _locks.add(handle)
    try:
        os.ftruncate(handle, 0)
        os.write(handle, f"{os.getpid()}\n".encode())
        yield
    finally:
        if handle in _locks:  # else this is a child of the holder
            with suppress(OSError):  # Windows removes no open file
                path.unlink()
            _let_go(handle)


_locks: set[int] = set()


def _let_go(*handles: int) -> None:
    for handle in handles or tuple(_locks):
        _locks.discard(handle)
        os.close(handle)


if hasattr(os, "register_at_fork"):  # a child that outlives the holder, such as a loader of images, does not hold on
    os.register_at_fork(after_in_child=_let_go)


def write(path: str | Path, content: bytes | str) -> Path:
    """A file with this content (text as UTF-8), complete or as it was before; returns its path."""
    with put_in_place(path) as partial:
        partial.write_bytes(content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content)
    return Path(path)


def read_toml(module: str, name: str) -> dict[str, Any]:
    """The tables of a TOML file that lies beside a module, by the module's ``__file__``."""
    return tomllib.loads(Path(module).with_name(f"{name}.toml").read_text(encoding="utf-8"))


def read_lines(path: str | Path, *keys: str) -> list[Any]:
    """Values of a JSON-lines file, none where there is no file. A last line that is still being written, or that an
    interruption cut, is left out.

    Raises:
        DataError: another line is not JSON, or no object with these keys; says which.
    """
    path = Path(path)
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")  # not text: a cut may go through a letter
    values: list[Any] = []
    for number, line in enumerate(lines, 1):
        try:
            values += [json.loads(line)] if line.strip() else []
        except ValueError as error:
            if number < len(lines):
                raise DataError(f"{path}, line {number}: not JSON ({error}); remove or mend it") from error
    for number, value in enumerate(values if keys else (), 1):
        if not (isinstance(value, dict) and set(keys) <= set(value)):
            raise DataError(f"{path}, row {number}: needs {', '.join(keys)}, and is {value!s:.80}; remove or mend it")
    return values


def write_lines(path: Path, values: Iterable[Any]) -> None:
    """A JSON-lines file, complete or as it was before."""
    write(path, "".join(json.dumps(v, ensure_ascii=False) + "\n" for v in values))


def add_line(path: Path, value: Any) -> None:
    """One more line, in the file when this returns; what an interruption left of the last one goes."""
    with path.open("ab+") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
        whole = file.read() in (b"", b"\n")
    if not whole:
        write_lines(path, read_lines(path))
    with _naming(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(value, ensure_ascii=False) + "\n")


def plain(value: Any) -> Any:
    """Plain Python values for JSON; NaN, infinity and pandas' NA become None."""
    import numpy as np
    import pandas as pd

    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if value is pd.NA or (isinstance(value, float) and not np.isfinite(value)) else value


def csv_text(frame: Any, digits: int = 6, **options: Any) -> str:
    """A pandas table as CSV, without its index; numbers are rounded, whole ones beside missing ones whole.

    Text that a spreadsheet would take for a formula, since it begins with = + - @ and is no number, gets a ' before it.
    """
    floats = frame.loc[:, [kind.kind == "f" for kind in frame.dtypes]]  # whole numbers became such, if some are missing
    there = {name: column.dropna() for name, column in floats.items() if column.isna().any()}
    gaps = [n for n, v in there.items() if len(v) and (v % 1 == 0).all() and v.abs().max() < 2**53]
    table = frame.astype(dict.fromkeys(gaps, "Int64")).round(digits).rename(columns=_no_formula)
    for place, kind in enumerate(table.dtypes):
        if kind.kind not in "biufcmM":
            column = table.iloc[:, place]  # `map` would make floats of whole numbers among others
            table.isetitem(place, type(column)(list(map(_no_formula, column)), column.index, dtype=object))
    return str(table.to_csv(index=False, lineterminator="\n", **options))


def markdown(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table for a README or a notebook."""
    head = list(head)
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _no_formula(value: Any) -> Any:
    if not isinstance(value, str) or value[:1] not in {"=", "+", "-", "@", "\t", "\r"}:
        return value
    with suppress(ValueError):
        float(value)
        return value
    return f"'{value}"


def require_folder(path: str | Path) -> None:
    """Raises a DataError where images should lie and there is no folder."""
    if not Path(path).is_dir():
        raise DataError(f"{Path(path).absolute()}: no folder; name the one that the images lie in")


def refuse_existing(
    targets: Iterable[str | Path], *, inputs: Iterable[str | Path] = (), overwrite: bool = False
) -> None:
    """Looks before a command begins whether it would replace a file.

    Args:
        targets: files that will be written.
        inputs: files that are read, and folders of pictures; they are never replaced, by whatever path, link or ``..``
            they are reached.
        overwrite: whether others may be.
    Raises:
        DataError: a target is there, or cannot be; says how many are, and what to do.
    """
    places = list(map(reached, targets))
    for folder in {place.parent for place in places}:
        check_folder(folder)
    present = [place for place in places if os.path.lexists(place)]
    sources = {_identity(file) for i in inputs for file in _read_of(Path(i))} if present else set()
    if read := [t for t in present if _identity(t) in sources]:
        raise DataError(f"{_some(read)}: read by this command, which would replace it; choose another place for output")
    if folders := [place for place in present if place.is_dir()]:
        raise DataError(f"{_some(folders)}: a folder; give the name of a file to write")
    if present and not overwrite:
        raise DataError(
            f"{_some(present)}: there already; choose another place, or say overwrite=True (--overwrite) to replace it"
        )


def check_folder(path: Path) -> None:
    """Looks whether files can be written to a folder, which need not be there yet.

    Raises:
        DataError: names the part of the path that is no folder, or one that is read only.
    """
    there = next(p for p in (path.absolute(), *path.absolute().parents) if os.path.lexists(p))
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise DataError(f"{there}: no folder that can be written to; choose another place for output")


def reached(path: str | Path) -> Path:
    """Where the path leads once its folders are made: ``new/../photo.png`` is ``photo.png``."""
    path = Path(path)
    if ".." not in path.parts:
        return path
    return path.resolve() if path.name == ".." else path.parent.resolve() / path.name


def _read_of(path: Path) -> Iterable[Path]:
    """The file, or of a folder its pictures."""
    return (p for p in path.rglob("*") if p.suffix.lower() in PICTURES) if path.is_dir() else [path]


def _some(paths: list[Path]) -> str:
    return f"{paths[0]}" + f" and {len(paths) - 1} more" * (len(paths) > 1)


def _identity(path: Path) -> Any:
    """Of the file itself, whatever its names; of a place without a file, its path."""
    try:
        status = path.stat()
    except OSError:
        return path.resolve()
    return status.st_dev, status.st_ino


class OwnFolder:
    """A folder that a command may update, since it lists what it wrote there and replaces nothing else.

    Args:
        inputs: files that are read; they are never replaced.
        overwrite: replace other files, too.
    Raises:
        DataError: a file of the listing was changed since; or there is no listing, but there are files such as the
            ones that will be written.
    """

    _WRITTEN = (".csv", ".html", ".ipynb", ".json", ".md", ".png", ".svg", ".tex")

    def __init__(self, path: str | Path, *, inputs: Iterable[str | Path] = (), overwrite: bool = False) -> None:
        self.path, self.inputs, self.overwrite = reached(path), list(inputs), overwrite
        check_folder(self.path)
        self.written: dict[str, list[str]] = {}
        listing = self.path / LISTING
        with suppress(OSError, ValueError, TypeError, AttributeError):
            listed = json.loads(listing.read_text(encoding="utf-8"))
            self.written = {str(name): list(map(str, hashes)) for name, hashes in listed.items()}
        if overwrite:
            return
        changed = [self.path / name for name, hashes in self.written.items() if self._hash(name) not in (None, *hashes)]
        if changed:
            raise DataError(f"{_some(changed)}: changed since dsla wrote it; choose another folder, or say --overwrite")
        if not self.written:
            folders = (self.path, self.path / "figures")
            refuse_existing(p for f in folders if f.is_dir() for p in sorted(f.iterdir()) if p.suffix in self._WRITTEN)

    def write(self, name: str, content: bytes | str) -> Path:
        """Writes a file of the folder, `name` with forward slashes.

        Raises:
            DataError: a file of this name is there that is not in the listing, or that is an input.
        """
        data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
        refuse_existing([self.path / name], inputs=self.inputs, overwrite=self.overwrite or name in self.written)
        before = self._hash(name)
        now = hashlib.sha256(data).hexdigest()
        self.written[name] = sorted({now} | ({before} if before else set()))  # either, if the program is stopped now
        write(self.path / LISTING, json.dumps(dict(sorted(self.written.items())), indent=1) + "\n")
        write(self.path / name, data)
        self.written[name] = [now]
        return self.path / name

    def _hash(self, name: str) -> str | None:
        path = self.path / name
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
