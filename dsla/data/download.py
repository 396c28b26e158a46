"""COCO as it lies on its server: fetched with resume, checked, unpacked; nothing is fetched twice."""

import hashlib
import http.client
import os
import re
import shutil
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from time import sleep
from typing import NamedTuple

from ..errors import DataError
from ..files import locked, read_toml

Progress = Callable[[str, int, int], None]  # called with (file, bytes done, bytes in all)

SERVER = "http://images.cocodataset.org"
TRIES = 5  # in a row without a new byte
TRIES_IN_ALL = 1000
BLOCK = 1 << 20


class Archive(NamedTuple):
    """A zip on the server, its MD5, and a file or folder that it leaves, complete, in the data set's folder.

    No more than `most` bytes of it are taken, so that an answer without end fills no disk.
    """

    path: str
    md5: str
    gives: str
    most: int = 20_000_000_000


SPLITS = {split: tuple(Archive(**row) for row in rows) for split, rows in read_toml(__file__, "coco").items()}


def download_coco(
    split: str,
    folder: str | Path,
    *,
    server: str | None = None,
    splits: Mapping[str, tuple[Archive, ...]] | None = None,
    progress: Progress | None = None,
    wait: float = 2.0,
) -> Path:
    """A split of COCO in `folder`, as `open_dataset` finds it: annotations/ and a folder of images. Returns `folder`.

    What was fetched in part goes on where it stopped. A zip is checked before it is unpacked, and removed then.

    Args:
        server: an address with the same files (default: COCO's own).  splits: what each consists of.
        wait: seconds before the first new try; they double.
    Raises:
        DataError: unknown split, a server out of reach, a file that is not what it should be, or another download
            at work in the folder.
    """
    server, splits = server or SERVER, splits or SPLITS
    if split not in splits:
        raise DataError(f"COCO has no split {split!r} here: there are {', '.join(splits)}")
    folder = Path(folder)
    with locked(folder):
        for archive in splits[split]:
            with suppress(OSError):  # an empty folder, perhaps made by hand, holds no images; others stay
                (folder / archive.gives).rmdir()
            if (folder / archive.gives).exists():
                continue
            path = folder / Path(archive.path).name
            brought = path.exists()  # by a person: it stays
            fetch(f"{server}/{archive.path}", path, archive.md5, progress, wait, archive.most)
            _unpack(path, folder, archive.gives)
            if not brought:
                path.unlink()
    return folder


def fetch(
    url: str,
    path: Path,
    md5: str,
    progress: Progress | None = None,
    wait: float = 2.0,
    most: int = Archive._field_defaults["most"],
) -> Path:
    """The file of a URL with this MD5 at `path`; until it is complete and checked, at `path`.part.

    Raises:
        DataError: no answer after some tries (what came stays, to go on from), or another content, or more than `most`
            bytes (they are removed).
    """
    if path.exists():
        if (digest := _md5(path)) != md5:
            raise DataError(f"{path}: another file (MD5 {digest} instead of {md5}); move it away, it is not replaced")
        return path
    part = path.with_name(path.name + ".part")
    failed, tries = 0, 0
    while True:
        before, tries, error = part.stat().st_size if part.exists() else 0, tries + 1, "the connection closed early"
        try:
            if _continue(url, part, before, progress, most):
                break
        except urllib.error.HTTPError as problem:
            if problem.code == 416:  # nothing after byte `before`: complete, and the MD5 tells if it is the right file
                break
            if problem.code < 500:
                raise DataError(f"{url}: the server says {problem.code} {problem.reason}") from problem
            error = str(problem)
        except DataError:
            raise
        except (OSError, http.client.HTTPException, ValueError) as problem:  # no network, time-outs, odd headers
            error = str(problem)
        gained = part.exists() and part.stat().st_size > before
        failed = 0 if gained else failed + 1
        if failed >= TRIES or tries >= TRIES_IN_ALL:
            goes_on = f"The same command goes on from {part} when the server is within reach"
            raise DataError(f"{url}: no more data after {tries} tries ({error}). {goes_on}")
        sleep(0 if gained else wait * 2 ** (failed - 1))
    if (digest := _md5(part)) != md5:
        size, what = part.stat().st_size, "Try again, or look what stands between you and the server"
        part.unlink()
        raise DataError(f"{url}: {size} bytes with MD5 {digest} instead of {md5}; they were removed. {what}")
    os.replace(part, path)
    return path


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _continue(url: str, part: Path, have: int, progress: Progress | None, most: int) -> bool:
    """Appends to `part` what the server sends from byte `have` on; whether the file is complete then."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=60) as answer:
        begins = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
        if answer.status == 206 and begins and int(begins[1]) != have:
            part.unlink(missing_ok=True)
            raise OSError(f"the server went on from byte {begins[1]} instead of {have}")
        with part.open("ab" if answer.status == 206 else "wb") as file:  # without ranges: from the start
            done = file.tell()
            left = answer.headers.get("Content-Length", "")
            total = done + int(left) if re.fullmatch(r"[0-9]{1,18}", left) else None
            while block := answer.read(BLOCK) if max(done, total or 0) <= most else b"":
                file.write(block)
                done += len(block)
                if progress is not None:
                    progress(part.name.removesuffix(".part"), done, total or 0)
    if max(done, total or 0) > most:
        part.unlink()
        raise DataError(f"{url}: more than the {most:,} bytes that it may have; what came was removed")
    return total is None or done == total


def _unpack(path: Path, folder: Path, gives: str) -> None:
    """Unpacks a zip beside its place; what it gives appears when it is complete."""
    beside = folder / f".{path.stem}.part"
    try:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(beside)  # overwrites what an interrupted run left
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OSError) as error:  # encrypted, cut
        raise DataError(f"{path}: cannot be unpacked ({error})") from error
    if not (beside / gives).exists():
        raise DataError(f"{path}: has no {gives} inside; it lies unpacked in {beside}")
    for source in sorted(p for p in beside.rglob("*") if p.is_file() and (beside / gives) not in (p, *p.parents)):
        target = folder / source.relative_to(beside)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():  # else perhaps changed by a person
            os.replace(source, target)
    (folder / gives).parent.mkdir(parents=True, exist_ok=True)
    os.replace(beside / gives, folder / gives)
    shutil.rmtree(beside)
