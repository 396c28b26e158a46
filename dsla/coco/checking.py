"""From typed rows to checked columns of a ground truth: what is dropped, mended, only said, or refused."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import DataError
from .columns import (
    NO_BOX,
    SLACK,
    SMALLEST,
    ascending,
    box_around,
    cut_to,
    id_array,
    in_reach,
    places,
    reach,
    refuse_other_forms,
    types_of,
)  # fmt: skip
from .problems import DROPPED, MENDED, NOTED, Problems, many, refuse, some
from .reading import Annotation, Category, Image, Odd, name_of, read_listed

LARGEST = 2**30  # pixels of an image; more is a mistake in the file, which would cost memory without bound


def checked(source: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """The columns of `GroundTruth` by name, of a path or COCO dict.

    Raises:
        DataError: names the file, the rows and what to do.
    """
    name = name_of(source)
    listed, odd = read_listed(source)
    problems = Problems(name)
    category_ids, category_names = _categories(listed.categories, odd.get("categories", []), name)
    image_ids, file_names, sizes = _images(listed.images, odd.get("images", []), name, problems)
    rows = listed.annotations
    wrong = {field: {o.position: o for o in odd.get("annotations", []) if o.field == field} for field in _FIELDS}

    def label(position: int) -> Any:
        own = rows[position].id
        return f"at {position}" if own is None else own

    def add(mask: np.ndarray, kind: str, action: str, level: str, field: str = "") -> None:
        at = np.flatnonzero(mask).tolist()
        words = example(at[0], field) if at and field else ""
        problems.add(kind, action, map(label, at), "annotation", level, words)

    def example(position: int, field: str) -> str:
        own = rows[position]
        value = wrong[field][position] if position in wrong[field] else Odd(position, field, getattr(own, field))
        return f"annotation {label(position)} (image {own.image_id!r}): {value}"

    refuse(
        name,
        "rows of 'annotations' that cannot be read; correct or remove them:",
        [f"at {n}: not an object but {o}" for n, o in wrong[""].items()]
        + [
            f"annotation {label(n)} (image {rows[n].image_id!r}): {o}; needs 0 or 1"
            for field in ("iscrowd", "ignore")
            for n, o in wrong[field].items()
        ],
    )
    count = len(rows)
    flags = {
        field: np.fromiter((getattr(a, field) or 0 for a in rows), float, count) for field in ("iscrowd", "ignore")
    }
    refuse(
        name,
        "flags that are not 0 or 1; correct them:",
        [example(int(n), field) for field, flag in flags.items() for n in np.flatnonzero((flag != 0) & (flag != 1))],
    )
    image = places(id_array([a.image_id for a in rows]), image_ids)
    category = places(id_array([a.category_id for a in rows]), category_ids)
    lost, unlisted = image < 0, category < 0
    if unlisted.any():
        ids = id_array([rows[n].category_id for n in np.flatnonzero(unlisted)])
        refuse(
            name,
            f"{many(len(ids), 'annotation')} of a category that is not in 'categories', which lists "
            f"{some(category_ids.tolist())}{types_of(ids, category_ids)}; add the category or correct the ids:",
            [example(int(n), "category_id") for n in np.flatnonzero(unlisted)],
        )
    if count and lost.all():
        ids = id_array([a.image_id for a in rows])
        sides = (some([repr(i) for i in side.tolist()], 3) for side in (ids, image_ids))
        raise DataError(
            f"{name}: no annotation belongs to an image of the file: 'image_id' is {next(sides)}, the images are "
            f"{next(sides)}{types_of(ids, image_ids)}; correct the ids"
        )
    add(lost, "no such image id in 'images'", "left out", DROPPED, "image_id")

    boxes = np.fromiter(chain.from_iterable(a.bbox or NO_BOX for a in rows), float, 4 * count).reshape(-1, 4)
    masked = np.zeros(count, dtype=bool)
    for n in np.flatnonzero(np.isnan(boxes).all(1)).tolist():
        if rows[n].bbox is None and (around := box_around(bytes(getattr(rows[n], "segmentation", b"")))) is not None:
            boxes[n], masked[n] = around, True
    add(masked, "polygons or a mask, but no box", "the box around them is taken", MENDED)
    finite = in_reach(boxes)
    boxes[~finite] = np.nan
    size = boxes[:, 2:].min(1, initial=np.inf)
    width, height = (np.append(side, 0)[image] for side in sizes)  # of a lost image: that of none
    good = finite & (size >= SMALLEST) & ~lost
    refuse_other_forms(name, "annotation", boxes[good], width[good], height[good])
    missing = ~finite & np.fromiter((a.bbox is None for a in rows), bool, count) & ~lost
    add(missing, "no bbox of four numbers", "left out", DROPPED, "bbox")
    add(~finite & ~missing & ~lost, "bbox not finite or beyond 1e12 px", "left out", DROPPED, "bbox")
    add(
        finite & (size < SMALLEST) & ~lost, f"no area: width or height below {SMALLEST} px", "left out", DROPPED, "bbox"
    )

    given = np.fromiter((np.nan if a.area is None else a.area for a in rows), float, count)
    absent = np.fromiter((a.area is None for a in rows), bool, count)
    absent[list(wrong["area"])] = False
    product = boxes[:, 2] * boxes[:, 3]
    usable = np.isfinite(given) & (given > 0)
    area = np.where(usable, given, product)
    add(good & ~usable & ~absent, "an area that is no positive number", "width times height is taken", MENDED, "area")
    add(
        good & usable & (given > 1.01 * product + 1),
        "an area larger than the box",
        "used as it is, as COCO's evaluation does: it decides about small, medium and large, and above 1e10 the "
        "object counts in no AP",
        NOTED,
        "area",
    )
    crowd, ignore = (flags[field] != 0 for field in ("iscrowd", "ignore"))
    add(
        good & ignore & ~crowd,
        "the flag ignore: 1",
        "not taught, like a crowd; COCO's evaluation looks at iscrowd alone and counts them as objects",
        DROPPED,
    )
    outside = good & np.isnan(cut_to(boxes, width, height)[:, 0])
    out = reach(boxes, width, height) > SLACK
    add(outside, "outside the image", "not taught; evaluation counts them", DROPPED, "bbox")
    add(
        good & out & ~outside, f"reaches more than {SLACK:g} px out of the image",
        "taught as far as it is inside; evaluation uses it as it is", NOTED, "bbox",
    )  # fmt: skip
    ids = id_array([a.id for a in rows])
    repeated = pd.Series(ids).duplicated().to_numpy() & np.array([i is not None for i in ids.tolist()], dtype=bool)
    add(repeated & good, "an id that is used twice", "kept under a number of its own", MENDED)
    kept = np.flatnonzero(good)
    rows_of = {"category": category.astype(np.int32), "boxes": boxes, "area": area, "crowd": crowd, "ignore": ignore}
    rows_of |= {"ids": ids, "image": image.astype(np.int32)}
    about = {"name": name, "image_ids": image_ids, "file_names": file_names, "widths": sizes[0], "heights": sizes[1]}
    about |= {"category_ids": category_ids, "category_names": category_names, "problems": problems}
    return about | {column: values[kept] for column, values in rows_of.items()}


_FIELDS = ("", "id", *Annotation.__struct_fields__[1:])


def _categories(rows: list[Category], odd: list[Odd], name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    strange = {o.position: o for o in odd}
    ids = id_array([row.id for row in rows])
    first: dict[Any, int] = {}
    lines = []
    for n, own in enumerate(ids.tolist()):
        if not isinstance(own, (int, str)) or n in strange:
            lines.append(
                f"categories[{n}]: needs an 'id' (whole number or text) and a text 'name': {strange.get(n, own)}"
            )
        elif own in first:
            lines.append(f"categories[{n}]: id {own!r} is taken by {rows[first[own]].name!r}")
        else:
            first[own] = n
    refuse(name, "unusable categories:", lines)
    order = ascending(ids)
    names = (rows[n].name for n in order.tolist())
    return ids[order], tuple(str(i) if n is None else n for i, n in zip(ids[order].tolist(), names, strict=True))


def _images(
    rows: list[Image], odd: list[Odd], name: str, problems: Problems
) -> tuple[np.ndarray, tuple[str, ...], tuple[np.ndarray, np.ndarray]]:
    lines = [f"images[{o.position}]: {o} is not what it should be" for o in odd]
    ids, count = id_array([row.id for row in rows]), len(rows)
    if not lines and ids.dtype == object:
        lines = [
            f"images[{n}] ({rows[n].file_name}): needs an 'id', a whole number or text, and has {own!r}"
            for n, own in enumerate(ids.tolist())
            if not isinstance(own, (int, str))
        ]
    again = [] if lines else np.flatnonzero(pd.Series(ids).duplicated().to_numpy()).tolist()
    lines += [f"images[{n}] ({rows[n].file_name}): id {ids[n]} is used twice; remove one of them" for n in again]
    refuse(name, "unusable images:", lines)
    sides = np.array([[row.width or 0, row.height or 0] for row in rows], dtype=float).reshape(-1, 2)
    bad = ~((sides >= 0) & (sides == np.round(sides))).all(1) | (sides.prod(1) > LARGEST)
    refuse(
        name,
        f"'width' and 'height' are whole, positive, and of less than {LARGEST:.0e} pixels together; correct them:",
        [f"image {ids[n]} ({rows[n].file_name}): {sides[n, 0]:g}x{sides[n, 1]:g}" for n in np.flatnonzero(bad)],
    )
    files = pd.Series([row.file_name or "" for row in rows], dtype=object)
    shared = (files.duplicated(keep=False) & (files != "")).to_numpy()
    problems.add(
        "one image file under several ids", "used once for each", ids[shared].tolist(), "image", NOTED,
        f"{files[shared].iloc[0]!r}" if shared.any() else "",
    )  # fmt: skip
    widths, heights = sides.astype(np.int64).T.copy() if count else np.zeros((2, 0), dtype=np.int64)
    return ids, tuple(files.tolist()), (widths, heights)
