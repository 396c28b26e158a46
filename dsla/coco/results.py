"""COCO ground truths and results rows: read, checked, completed; and numbers as they are shown.

An undefined number is NaN inside, "n/a" on a page and null in JSON; never −1 and never 0.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from ..errors import DataError
from ..files import write

Rows = list[dict[str, Any]]
Detections: TypeAlias = str | Path | Iterable[Mapping[str, Any]] | pd.DataFrame
BOX, SIZE = ["x1", "y1", "x2", "y2"], ["w", "h"]  # the file's own width and height: x2 − x1 may be rounded otherwise


def read_json(source: str | Path | Any) -> tuple[Any, str]:
    """Parsed JSON of a path (UTF-8, with or without byte-order mark), or the object itself; and its name."""
    if not isinstance(source, (str, Path)):
        return source, f"the given {type(source).__name__}"
    path = Path(source)
    try:
        return json.loads(path.read_text(encoding="utf-8-sig")), str(path)
    except OSError as error:
        raise DataError(f"cannot read {path} (looked in {path.resolve()}): {error.strerror}") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path} is not JSON in UTF-8: {error}") from error


def read_lines(path: str | Path) -> list[Any]:
    """Values of a JSON-lines file, none where there is no file. A last line that is still being written, or that an
    interruption cut, is left out.

    Raises:
        DataError: another line is not JSON; says which.
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
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(value, ensure_ascii=False) + "\n")


def read_ground_truth(source: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a COCO ground truth with every annotation complete: id from 1, area, iscrowd, bbox (floats).

    The annotation's own id is kept as `original_id`; the source is not changed. Raises DataError with the
    ids of annotations that cannot be used: bbox not four finite numbers, image or category not in the file.
    """
    data, name = read_json(source)
    present = data if isinstance(data, Mapping) else ()
    missing = [key for key in ("images", "annotations", "categories") if key not in present]
    if missing:
        raise DataError(f"{name} is not a COCO ground truth: no {', '.join(map(repr, missing))} in it")
    images = {image["id"] for image in data["images"]}
    categories = {category["id"] for category in data["categories"]}
    annotations: Rows = []
    bad: list[str] = []
    for position, row in enumerate(data["annotations"]):
        original = row.get("id", position)
        box = _box(row.get("bbox"))
        if box is None:
            bad.append(f"{original} (bbox {row.get('bbox')!r})")
        elif row.get("image_id") not in images:
            bad.append(f"{original} (image_id {row.get('image_id')!r} not among the images)")
        elif row.get("category_id") not in categories:
            bad.append(f"{original} (category_id {row.get('category_id')!r} not among the categories)")
        else:
            area = row.get("area")
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "original_id": original,
                    "image_id": row["image_id"],
                    "category_id": row["category_id"],
                    "bbox": box,
                    "iscrowd": int(row.get("iscrowd") or 0),
                    "area": float(box[2] * box[3] if area is None else area),
                }
            )
    if bad:
        raise DataError(f"{name}: {len(bad)} annotations cannot be used, ids {some(bad)}; correct or remove them")
    return {
        "images": [dict(image) for image in data["images"]],
        "annotations": annotations,
        "categories": [dict(category) for category in data["categories"]],
    }


def read_detections(source: str | Path | Iterable[Mapping[str, Any]], ground_truth: Mapping[str, Any]) -> Rows:
    """Checked copies of COCO results rows: image_id, category_id, bbox (x, y, w, h), score, id (from 1).

    As `read_table`, with its errors.
    """
    return rows_of(read_table(source, ground_truth))


def rows_of(table: pd.DataFrame) -> Rows:
    """COCO results rows of a table that `read_table` made, with id (from 1), area and iscrowd."""
    boxes = table[[*BOX[:2], *SIZE]].to_numpy(dtype=float).tolist()
    columns = (table["image"].tolist(), table["category"].tolist(), boxes, table["score"].tolist())
    return [
        {"id": n, "image_id": i, "category_id": c, "bbox": b, "area": b[2] * b[3], "iscrowd": 0, "score": s}
        for n, (i, c, b, s) in enumerate(zip(*columns, strict=True), 1)
    ]


def read_table(source: Detections, ground_truth: Mapping[str, Any]) -> pd.DataFrame:
    """COCO results, checked, in columns: image, category (ids), x1, y1, x2, y2, w, h (pixels), score.

    A table that has these columns (w and h are optional) is checked and completed.

    Raises:
        DataError: rows without the fields or with a value that is not finite; image or category ids that the ground
            truth does not know.
    """
    if isinstance(source, pd.DataFrame):
        table, name = _completed(source), "the given table"
    else:
        data, name = read_json(source)
        if isinstance(data, (Mapping, str)) or not isinstance(data, Iterable):
            raise DataError(f"{name} is not a COCO results list of image_id, category_id, bbox, score rows")
        table = _table_of(list(data), name)
    for key, of in (("image", "images"), ("category", "categories")):
        known = {entry["id"] for entry in ground_truth[of]}
        strange = set(table[key].unique()) - known
        if strange:
            message = f"{name}: {table[key].isin(strange).sum()} detections have a {key}_id that the ground truth "
            message += f"does not know: {some(sorted(strange, key=str))}"
            if key == "category":
                message += f"; it knows {some(sorted(known))} (results carry the file's ids, not 0…C−1)"
            raise DataError(message)
    return table


def _table_of(rows: list[Any], name: str) -> pd.DataFrame:
    """All rows at once; where that fails, one by one, which finds the culprit."""
    try:
        xywh = np.array([row["bbox"] for row in rows], dtype=float).reshape(len(rows), -1)
        score = np.array([row["score"] for row in rows])
        good = (
            xywh.shape[1] == 4
            and score.dtype.kind in "fiub"
            and bool(np.isfinite(xywh).all() & np.isfinite(score).all())
        )
    except (TypeError, ValueError, KeyError, IndexError, AttributeError):
        good = False
    if not good:
        checked = [_checked(row, position, name) for position, row in enumerate(rows)]
        xywh, score = (np.array([row[i] for row in checked], dtype=float) for i in (0, 1))
    xywh = xywh.reshape(-1, 4)
    table = pd.DataFrame(
        np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:], xywh[:, 2:]], axis=1), columns=[*BOX, *SIZE]
    )
    ids = {key: pd.Series([row.get(f"{key}_id") for row in rows]) for key in ("image", "category")}
    return table.assign(**(ids if rows else dict.fromkeys(ids, np.zeros(0, dtype=np.int64))), score=score.astype(float))


def _checked(row: Any, position: int, name: str) -> tuple[list[float], float]:
    if not isinstance(row, Mapping):
        raise DataError(f"{name}: detection {position} is {row!r}, not a row of image_id, category_id, bbox, score")
    box, score = _box(row.get("bbox")), row.get("score")
    if box is None or not isinstance(score, (int, float, np.number)) or not math.isfinite(score):
        raise DataError(
            f"{name}: detection {position} (image_id {row.get('image_id')!r}) has bbox "
            f"{row.get('bbox')!r} and score {score!r}; four finite numbers and one are needed"
        )
    return box, float(score)


def _completed(table: pd.DataFrame) -> pd.DataFrame:
    missing = [name for name in ("image", "category", *BOX, "score") if name not in table]
    if missing:
        raise DataError(f"a table of detections has columns image, category, x1, y1, x2, y2, score; {missing} missing")
    bad = ~np.isfinite(table[[*BOX, "score"]].to_numpy(dtype=float)).all(axis=1)
    if bad.any():
        row, image = int(bad.argmax()), table["image"].to_numpy()[bad][0]
        raise DataError(f"image {image}, row {row}: box or score is not finite; mend the row or leave it out")
    return with_size(table)


def with_size(table: pd.DataFrame) -> pd.DataFrame:
    """A table of boxes with w and h: its own, if they are those of its boxes, or the differences of the corners."""
    corners = table[BOX].to_numpy(dtype=float)
    size = corners[:, 2:] - corners[:, :2]
    if set(SIZE) <= set(table) and np.allclose(table[SIZE].to_numpy(dtype=float), size, rtol=0, atol=1e-6):
        return table
    return table.assign(w=size[:, 0], h=size[:, 1])


def _box(value: Any) -> list[float] | None:
    """Four finite floats, or None."""
    try:
        box = [float(number) for number in value]
    except (TypeError, ValueError):
        return None
    return box if len(box) == 4 and all(map(math.isfinite, box)) else None


def some(values: Sequence[Any], most: int = 20) -> str:
    """The first values in one line, and how many there are if that is more."""
    text = ", ".join(str(value) for value in values[:most])
    return text + (f", … ({len(values)} in all)" if len(values) > most else "")


def render(numbers: pd.Series, digits: int = 3) -> str:
    """Aligned lines of name and value, n/a where undefined."""
    width = max((len(str(name)) for name in numbers.index), default=0)
    return "\n".join(f"{name!s:<{width}}  {number(value, digits)}" for name, value in numbers.items())


def number(value: Any, digits: int = 3) -> str:
    """A value as it is shown: n/a where undefined."""
    if not isinstance(value, (int, float, np.number)):
        return "n/a" if value is None or value is pd.NA else str(value)
    if not np.isfinite(value):
        return "n/a"
    return str(int(value)) if isinstance(value, (int, np.integer)) else f"{value:.{digits}f}"


def plain(value: Any) -> Any:
    """Plain Python values for JSON; NaN, infinity and NA become None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if value is pd.NA or (isinstance(value, float) and not np.isfinite(value)) else value
