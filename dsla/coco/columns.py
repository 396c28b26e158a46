"""What ground truths and results share: ids and boxes as arrays. N rows; a box in a file is x, y, width, height."""

import posixpath
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from ..errors import DataError
from .problems import SLACK, SMALLEST, many

EVERY_CLASS = -1  # category of a crowd region whose class is not known
CORNERS = ["x1", "y1", "x2", "y2"]
SIZE = ["w", "h"]  # the file's own width and height: x2 − x1 may be rounded otherwise
FARTHEST = 1e12  # pixels; coordinates beyond overflow in products, and are of no image


def array(values: Any) -> np.ndarray:
    """A tensor or anything like an array, in numpy; bfloat16, which numpy has not, as float32."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if str(values.dtype) == "torch.bfloat16" else values
    return np.asarray(values)


def ids_in(rows: Sequence[Any], field: str) -> np.ndarray:
    """A field of ids of the rows, as `id_array` has them."""
    return id_array(list(map(attrgetter(field), rows)))


def numbers_in(rows: Sequence[Any], field: str, missing: float = np.nan) -> np.ndarray:
    """A field of numbers of the rows."""
    values = map(attrgetter(field), rows)
    return np.fromiter((missing if value is None else value for value in values), float, len(rows))


def boxes_in(rows: Sequence[Any]) -> np.ndarray:
    """[N,4] their `bbox`, NaN without one."""
    none = (np.nan,) * 4
    boxes = chain.from_iterable(row.bbox or none for row in rows)
    return np.fromiter(boxes, float, 4 * len(rows)).reshape(-1, 4)


def id_array(values: list[Any]) -> np.ndarray:
    """Ids as int64 where all are whole numbers that fit, else as objects; 1.0 is 1."""
    kinds = set(map(type, values))
    if float in kinds:
        values = [int(v) if isinstance(v, float) and v.is_integer() else v for v in values]
        kinds = set(map(type, values))
    if kinds <= {int}:
        with suppress(OverflowError):
            return np.array(values, dtype=np.int64)
    ids = np.empty(len(values), dtype=object)
    ids[:] = values
    return ids


def places(ids: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Place of each id among others, −1 where it is not there."""
    if ids.dtype == among.dtype == np.int64:
        return pd.Index(among).get_indexer(pd.Index(ids))
    left, right = (pd.Index(values.astype(object), dtype=object) for values in (ids, among))
    return right.get_indexer(left)


def ascending(ids: np.ndarray) -> np.ndarray:
    """Order of the ids: numbers, then text."""
    if ids.dtype == np.int64:
        return np.argsort(ids, kind="stable")
    values = ids.tolist()
    return np.array(sorted(range(len(values)), key=lambda n: (isinstance(values[n], str), values[n])), dtype=np.int64)


def comparable(ids: np.ndarray) -> np.ndarray:
    """The ids, as text where they are of several kinds, which no table can sort."""
    kinds = set() if ids.dtype == np.int64 else {type(i) for i in ids.tolist()}
    return np.array([str(i) for i in ids.tolist()], dtype=object) if len(kinds) > 1 else ids


def plain_id(value: Any) -> Any:
    """An image id as a target has it: text, or a number of any kind, a tensor's too, as Python's int."""
    return value if isinstance(value, str) else int(value)


def parts_of(file: str) -> tuple[str, ...]:
    """Name and folders of a file as a data set writes it, the name first; ``./a.png``, ``x/../a.png`` are a.png."""
    return tuple(posixpath.normpath(file.replace("\\", "/")).split("/")[::-1])


def types_of(ids: np.ndarray, listed: np.ndarray) -> str:
    """Says so where the one is text and the other a number."""
    texts = [any(isinstance(v, str) for v in side.tolist()) for side in (ids, listed)]
    if len(listed) and texts[0] != texts[1]:
        return f" ({'text' if texts[0] else 'numbers'} here, {'text' if texts[1] else 'numbers'} there)"
    return ""


def refuse_other_forms(name: str, of: str, boxes: np.ndarray, width: np.ndarray, height: np.ndarray) -> None:
    """Refuses boxes [N,4] that as a whole are no x, y, w, h in pixels, with a guess at what they are.

    Args:
        name, of: the file, and what has the boxes, for the message.
        boxes: finite.
        width, height: [N] of their images, 0 where not known.
    """
    if not len(boxes):
        return
    corners, sizes = corners_of(boxes), np.stack([width, height], 1)
    highest = corners[:, 2:].max()
    if highest <= 1 and boxes[:, :2].min() >= 0 and not (sizes == 1).any():
        raise DataError(
            f"{name}: no box of {many(len(boxes), of)} reaches a pixel (the largest corner is {highest:g}): they look "
            "like fractions of the image; multiply x and w by its width, y and h by its height"
        )
    sized = (sizes > 0).all(1)
    beyond = sized & (corners[:, 2:] > sizes + SLACK).any(1)
    as_corners = (boxes[:, 2:] > boxes[:, :2]).all(1)
    as_corners &= (boxes[:, 2:] <= sizes + SLACK).all(1) & (boxes[:, :2] >= -SLACK).all(1)
    if len(boxes) > 1 and beyond.sum() > len(boxes) / 2 and (as_corners | ~sized).all():
        raise DataError(
            f"{name}: {beyond.sum()} of {many(len(boxes), of)} reach out of the image as x, y, w, h, and all lie in it "
            "as corners x1, y1, x2, y2: write x1, y1, x2 − x1, y2 − y1"
        )


def in_reach(boxes: np.ndarray) -> np.ndarray:
    """[N] whether all numbers of a box, and its score if that stands beside it, are finite and within `FARTHEST`."""
    return (np.abs(boxes) < FARTHEST).all(1)


def corners_of(boxes: np.ndarray) -> np.ndarray:
    """x, y, w, h [N,4] as x1, y1, x2, y2."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def cut_to(boxes: np.ndarray, width: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Boxes cut to images of this size; NaN where nothing is left. Images of no known size (0) cut nothing."""
    out = reach(boxes, width, height) > 0
    if not out.any():
        return boxes
    size = np.stack([width, height], 1)[out].astype(float)
    size[size == 0] = np.inf
    corners = corners_of(boxes[out])
    start, end = corners[:, :2].clip(0), np.minimum(corners[:, 2:], size)
    part = np.concatenate([start, end - start], axis=1)
    part[~(part[:, 2:] >= SMALLEST).all(1)] = np.nan
    cut = boxes.copy()
    cut[out] = part
    return cut


def reach(boxes: np.ndarray, width: np.ndarray, height: np.ndarray) -> np.ndarray:
    """[N] pixels that each box reaches out of its image at most; 0 or less inside, NaN for boxes that are NaN."""
    farthest = -boxes[:, :2].min(1, initial=np.inf)
    for axis, side in enumerate((width, height)):
        beyond = boxes[:, axis] + boxes[:, axis + 2] - side
        farthest = np.where(side > 0, np.maximum(farthest, beyond), farthest)
    return farthest


def box_around(segmentation: bytes) -> np.ndarray | None:
    """x, y, w, h around polygons (JSON: lists of x, y, x, y, …) or a run-length mask; None if it is neither."""
    try:
        parts = msgspec.json.decode(segmentation)
        if isinstance(parts, list):
            points = np.concatenate([np.asarray(polygon, dtype=float).reshape(-1, 2) for polygon in parts])
            box = np.concatenate([points.min(0), np.ptp(points, axis=0)])
        else:
            from pycocotools import mask

            runs = parts if isinstance(parts["counts"], str) else mask.frPyObjects(parts, *parts["size"])
            box = np.asarray(mask.toBbox(runs), dtype=float).reshape(4)
    except Exception:  # whatever stands there instead
        return None
    return box if np.isfinite(box).all() else None


def box_table(boxes: np.ndarray) -> pd.DataFrame:
    """x, y, w, h [N,4] as a table of x1, y1, x2, y2, w, h."""
    return pd.DataFrame(np.concatenate([corners_of(boxes), boxes[:, 2:]], axis=1), columns=[*CORNERS, *SIZE])


def with_size(table: pd.DataFrame) -> pd.DataFrame:
    """A table of boxes with w and h: its own, if they are those of its boxes, or the differences of the corners."""
    corners = table[CORNERS].to_numpy(dtype=float)
    size = corners[:, 2:] - corners[:, :2]
    if set(SIZE) <= set(table) and np.allclose(table[SIZE].to_numpy(dtype=float), size, rtol=0, atol=1e-6):
        return table
    return table.assign(w=size[:, 0], h=size[:, 1])
