"""JSON of COCO's kinds into typed rows, fast; what the fast parser refuses is read by Python's own, row by row.

The types below are the only definition of what a row may hold. msgspec skips what they do not name and keeps polygons
as raw bytes, so that a file of a million annotations needs seconds and little memory.
"""

import gzip
import json
import zlib
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import msgspec
from msgspec import Raw, Struct

from ..errors import DataError
from ..files import read_toml

Id: TypeAlias = int | float | str | None
Flag: TypeAlias = bool | float | None
Box: TypeAlias = tuple[float, float, float, float] | None


class Image(Struct, gc=False):
    id: Id = None
    file_name: str | None = None
    width: float | None = None
    height: float | None = None
    neg_category_ids: Any = None  # of LVIS


class Category(Struct, gc=False):
    id: Id = None
    name: str | None = None


class Annotation(Struct, gc=False):
    id: Id = None
    image_id: Id = None
    category_id: Id = None
    bbox: Box = None
    area: float | None = None
    iscrowd: Flag = None
    ignore: Flag = None


class Outlined(Annotation, gc=False):
    """With polygons or a mask, which are looked at only where a file has annotations without a box."""

    segmentation: Raw = Raw()


class Detection(Struct, gc=False):
    image_id: Id = None
    category_id: Id = None
    bbox: Box = None
    score: float | None = None
    file_name: str | None = None


class Listed(Struct):
    """The lists of a ground truth."""

    images: list[Image]
    annotations: list[Annotation]
    categories: list[Category]


class ListedOutlines(Listed):
    annotations: list[Outlined]  # type: ignore[assignment]


_REFUSED = (msgspec.MsgspecError, RecursionError, ValueError, TypeError, OverflowError)  # by msgspec
LISTS = {"categories": Category, "images": Image, "annotations": Outlined}


MOST = 2**32  # bytes of a file, which may be packed: few can say that they are gigabytes
_STRANGERS = read_toml(__file__, "strangers")  # how files begin that are given for one of COCO's → what they are


class Odd(NamedTuple):
    """A field that is not of its type; the row has None there. A row that is no object has the field ""."""

    position: int
    field: str
    value: Any

    def __str__(self) -> str:
        text = repr(self.value)
        return f"{self.field} {text[:80]}{'…' * (len(text) > 80)}".strip()


def name_of(source: Any) -> str:
    """What messages call the source: a path as it is given, or the kind of object."""
    return str(source) if isinstance(source, (str, Path)) else f"the given {type(source).__name__}"


def read_listed(source: str | Path | Mapping[str, Any]) -> tuple[Listed, dict[str, list[Odd]]]:
    """A ground truth's rows, and for each list the fields that are not of their type.

    Raises:
        DataError: a file that cannot be read or is something else.
    """
    name = name_of(source)
    content, typed = _content(source, name, Listed)
    if typed and any(row.bbox is None for row in content.annotations):
        content, typed = _content(source, name, ListedOutlines)
    if typed:
        return content, {}
    if not isinstance(content, Mapping):
        hint = " (a list is what detection results look like)" if isinstance(content, list) else ""
        raise DataError(f"{name}: not a COCO detection file: a {type(content).__name__} instead of an object{hint}")
    rows: dict[str, Any] = {}
    odd: dict[str, list[Odd]] = {}
    for key, kind in LISTS.items():
        values = content.get(key)
        if not isinstance(values, (list, tuple)):
            state = "it is missing" if key not in content else f"it is a {type(values).__name__}"
            keys = list(content)[:10]
            raise DataError(f"{name}: not a COCO detection file: needs a list {key!r}, {state}; keys: {keys}")
        rows[key], odd[key] = _converted(values, kind)
    return Listed(**rows), odd


def read_results(source: str | Path | Iterable[Mapping[str, Any]]) -> tuple[list[Detection], list[Odd]]:
    """Rows of COCO results, and the fields that are not of their type. A file may have one row a line, too.

    Raises:
        DataError: a file that cannot be read or is something else.
    """
    name = name_of(source)
    content, typed = _content(source, name, list[Detection], lines=True)
    if typed:
        return content, []
    if isinstance(content, (Mapping, str)) or not isinstance(content, Iterable):
        keys = f" with the keys {list(content)[:10]}" if isinstance(content, Mapping) else ""
        raise DataError(
            f"{name} is not a COCO results list of image_id, category_id, bbox, score rows but a "
            f"{type(content).__name__}{keys}"
        )
    return _converted(list(content), Detection)


def _content(source: Any, name: str, kind: Any, lines: bool = False) -> tuple[Any, bool]:
    """A file's values of this kind and True; or, untyped, what it holds, or the source itself, if it is no path."""
    if not isinstance(source, (str, Path)):
        return source, False
    data = _bytes_of(Path(source))
    try:
        return msgspec.json.decode(data, type=kind), True
    except _REFUSED:
        return _parsed(data, name, lines), False


def _bytes_of(path: Path) -> bytes:
    try:
        data = _read(path, MOST + 1)
    except FileNotFoundError:
        raise DataError(f"{path.absolute()}: no such file; cannot read it") from None
    except OSError as error:
        raise DataError(f"{path.absolute()}: cannot be read ({error.strerror or error})") from error
    except (EOFError, zlib.error) as error:
        raise DataError(f"{path}: packed with gzip, and damaged ({error})") from error
    if len(data) > MOST:
        raise DataError(f"{path}: more than {MOST:,} bytes, as many as are read of a file; give it in parts")
    kinds = (kind for start, kind in _STRANGERS.items() if data.startswith(start.encode("latin-1")))
    if kind := next(kinds, "" if data.strip() else "empty"):
        raise DataError(f"{path}: not JSON but {kind}")
    return data


def head_of(path: Path) -> bytes:
    """The first 64 KB of a regular file, unpacked where gzip has packed it; nothing of one that cannot be read."""
    try:
        return _read(path, 2**16) if path.is_file() else b""
    except (OSError, EOFError, zlib.error):
        return b""


def _read(path: Path, most: int) -> bytes:
    with path.open("rb") as plain:
        start = plain.read(2)
        packed = start == b"\x1f\x8b"
        with gzip.open(path) if packed else nullcontext(plain) as file:
            parts = [start * (not packed)]
            while sum(map(len, parts)) < most and (block := file.read(min(most, 2**24))):
                parts.append(block)
    return b"".join(parts)


def _parsed(data: bytes, name: str, lines: bool = False) -> Any:
    """By Python's parser: NaN, numbers beyond a float, UTF-16 and byte-order marks are no obstacle."""
    try:
        return json.loads(data, object_hook=_without_polygons)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError, ValueError) as error:
        if lines and getattr(error, "msg", "") == "Extra data":
            return [_parsed(line, f"{name}, line {n}") for n, line in enumerate(data.splitlines(), 1) if line.strip()]
        if isinstance(error, UnicodeDecodeError):
            raise DataError(f"{name}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from error
        hint = "; rows one a line are read of results only" * (getattr(error, "msg", "") == "Extra data")
        raise DataError(f"{name}: not valid JSON ({error}){hint}") from error


def _without_polygons(row: dict[str, Any]) -> dict[str, Any]:
    """Polygons are needed only where there is no box; they make most of a file."""
    if row.get("bbox"):
        row.pop("segmentation", None)
    return row


def _converted(rows: list[Any] | tuple[Any, ...], kind: type) -> tuple[list[Any], list[Odd]]:
    """All at once; where that fails, row by row, and in a row field by field."""
    try:
        return [msgspec.convert(row, kind) for row in rows], []
    except _REFUSED:
        typed, odd = [], []
    types = {field.name: field.type for field in msgspec.structs.fields(kind)}
    for position, row in enumerate(rows):
        one = kind()
        typed.append(one)
        if not isinstance(row, Mapping):
            odd.append(Odd(position, "", row))
            continue
        for name in (n for n in types if n in row):
            value = _plain(row[name])
            try:
                raw = types[name] is Raw
                setattr(one, name, Raw(msgspec.json.encode(value)) if raw else msgspec.convert(value, types[name]))
            except _REFUSED:
                odd.append(Odd(position, name, value))
    return typed, odd


def _plain(value: Any) -> Any:
    """Tensors, arrays and their scalars as Python's numbers and lists."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value
