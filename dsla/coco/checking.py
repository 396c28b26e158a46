"""From typed rows to checked columns of a ground truth: what is dropped, mended, only said, or refused."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from msgspec.structs import astuple

from ..errors import DataError
from . import columns
from .problems import SLACK, SMALLEST, Problems, many, refuse, some
from .reading import Category, Image, Odd, read_listed

LARGEST = 2**30  # pixels of an image; more is a mistake in the file, which would cost memory without bound


def checked(source: str | Path | Mapping[str, Any], name: str, targets: bool = False) -> dict[str, Any]:
    """The columns of `GroundTruth` by name, of a path or COCO dict that messages call by the name.

    Args:
        source: a file, or its content.
        name: of the source.
        targets: it stands for target dicts, which do not say how many classes there are, and have no ids but places.

    Raises:
        DataError: names the file, the rows and what to do.
    """
    listed, wrong = read_listed(source)
    problems = Problems(name)
    category_ids, category_names = _categories(listed.categories, wrong.get("categories", []), name)
    image_ids, file_names, sizes = _images(listed.images, wrong.get("images", []), name, problems)
    rows, odd = listed.annotations, wrong.get("annotations", [])
    values = {(o.position, o.field): o for o in odd}

    def label(n: int) -> Any:
        return f"at {n}" if rows[n].id is None else rows[n].id

    def example(n: int, field: str) -> str:
        value = values.get((n, field)) or Odd(n, field, getattr(rows[n], field))
        return f"annotation {label(n)} (image {rows[n].image_id!r}): {value}"

    def add(kind: str, mask: np.ndarray, field: str = "") -> None:
        at = np.flatnonzero(mask).tolist()
        problems.add(kind, map(label, at), example(at[0], field) if at and field else "", at)

    flags = {field: columns.numbers_in(rows, field, 0) for field in ("iscrowd", "ignore")}
    bad = [(o.position, o.field) for o in odd if o.field in flags]
    bad += [(n, field) for field, flag in flags.items() for n in np.flatnonzero((flag != 0) & (flag != 1)).tolist()]
    lines = [f"at {o.position}: not an object but {o}" for o in odd if not o.field]
    lines += [f"{example(*place)}; needs 0 or 1" for place in bad]
    refuse(name, "rows of 'annotations' that cannot be read; correct or remove them:", lines)
    crowd, ignore = (flag != 0 for flag in flags.values())

    owner, kind = columns.ids_in(rows, "image_id"), columns.ids_in(rows, "category_id")
    image, category = columns.places(owner, image_ids), columns.places(kind, category_ids)
    lost, unlisted = image < 0, (category < 0) & ~(crowd & (kind == columns.EVERY_CLASS))
    refuse(
        name,
        f"{many(int(unlisted.sum()), 'annotation')} of a category that is not in 'categories', which lists "
        f"{some(category_ids.tolist())}{columns.types_of(kind[unlisted], category_ids)}; add the category or correct "
        "the ids:",
        [example(n, "category_id") for n in np.flatnonzero(unlisted).tolist()],
    )
    if len(rows) and lost.all():
        here, there = (some([repr(i) for i in side.tolist()], 3) for side in (owner, image_ids))
        raise DataError(
            f"{name}: no annotation belongs to an image of the file: 'image_id' is {here}, the images are {there}"
            f"{columns.types_of(owner, image_ids)}; correct the ids"
        )
    add("no-image", lost, "image_id")

    boxes, boxless = columns.boxes_in(rows), np.array([row.bbox is None for row in rows], dtype=bool)
    outlined = np.zeros(len(rows), dtype=bool)
    for n in np.flatnonzero(boxless).tolist():
        if (around := columns.box_around(bytes(getattr(rows[n], "segmentation", b"")))) is not None:
            boxes[n], outlined[n] = around, True
    add("outline", outlined)
    finite = columns.in_reach(boxes)
    boxes[~finite] = np.nan
    size = boxes[:, 2:].min(1, initial=np.inf)
    width, height = (np.append(side, 0)[image] for side in sizes)  # of a lost image: that of none
    good = finite & (size >= SMALLEST) & ~lost
    columns.refuse_other_forms(name, "annotation", boxes[good], width[good], height[good])
    add("no-box", ~finite & boxless & ~lost, "bbox")
    add("not-finite", ~finite & ~boxless & ~lost, "bbox")
    add("no-area", finite & (size < SMALLEST) & ~lost, "bbox")

    if len(rows) and not (targets or finite.any()):  # rotated, named or keypoints alone, not a slip of one row
        what = f"none of {len(rows)} annotations has a bbox of four numbers, x, y, w, h"
        raise DataError(f"{name}: {what}; convert them, as from rotated boxes or keypoints. {example(0, 'bbox')}")
    given, product = columns.numbers_in(rows, "area"), boxes[:, 2] * boxes[:, 3]
    usable = np.isfinite(given) & (given > 0)
    stated = np.array([row.area is not None for row in rows], dtype=bool)
    stated[[o.position for o in odd if o.field == "area"]] = True
    add("odd-area", good & ~usable & stated, "area")
    add("large-area", good & usable & (given > 1.01 * product + 1), "area")
    add("ignored", good & ignore & ~crowd)
    outside = good & np.isnan(columns.cut_to(boxes, width, height)[:, 0])
    add("outside", outside, "bbox")
    add("reaches-out", good & ~outside & (columns.reach(boxes, width, height) > SLACK), "bbox")
    ids = columns.ids_in(rows, "id")
    again = pd.Series(ids).duplicated().to_numpy() & np.array([i is not None for i in ids.tolist()], dtype=bool)
    add("repeated-box", repeated(np.column_stack([boxes, image, category]), good & ~crowd & ~ignore))
    add("repeated-id", again & good & ~np.bool_(targets))
    by_row = {"ids": ids, "image": image.astype(np.int32), "category": category.astype(np.int32), "boxes": boxes}
    by_row |= {"position": np.arange(len(rows), dtype=np.int32)}
    by_row |= {"area": np.where(usable, given, product), "crowd": crowd, "ignore": ignore}
    about = {"name": name, "image_ids": image_ids, "file_names": file_names, "widths": sizes[0], "heights": sizes[1]}
    about |= {"category_ids": category_ids, "category_names": category_names, "problems": problems}
    about["labels"] = None if targets else tuple(category_ids.tolist())
    return about | {column: values[good] for column, values in by_row.items()}


def repeated(rows: np.ndarray, among: np.ndarray) -> np.ndarray:
    """[N] whether a row [N,6] is the same as an earlier one, of those among which is looked."""
    again = np.zeros(len(rows), dtype=bool)
    again[among] = pd.DataFrame(rows[among]).duplicated()
    return again


def _ids(rows: list[Any], odd: list[Odd], name: str, of: str) -> np.ndarray:
    """The ids of the images or categories, every one a number or text of its own."""
    ids = columns.ids_in(rows, "id")

    def where(n: int) -> str:
        label = astuple(rows[n])[1]
        return f"{of}[{n}]" + f" ({label})" * bool(label)

    lines = [f"{of}[{o.position}]: {o} is not what it should be" for o in odd]
    if not lines and ids.dtype == object:
        what = "needs an 'id', a whole number or text, and has"
        lines = [f"{where(n)}: {what} {one!r}" for n, one in enumerate(ids.tolist()) if not isinstance(one, (int, str))]
    again = [] if lines else np.flatnonzero(pd.Series(columns.comparable(ids)).duplicated().to_numpy()).tolist()
    lines += [f"{where(n)}: id {ids[n]} is used twice; remove one of them" for n in again]
    refuse(name, f"unusable {of}:", lines)
    return ids


def _categories(rows: list[Category], odd: list[Odd], name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    ids = _ids(rows, odd, name, "categories")
    if columns.EVERY_CLASS in ids.tolist():
        what = f"a category has the id {columns.EVERY_CLASS}, which is that of crowds of every class; give it another"
        raise DataError(f"{name}: {what}")
    order = columns.ascending(ids)
    return ids[order], tuple(str(ids[n]) if rows[n].name is None else rows[n].name for n in order.tolist())


def _images(
    rows: list[Image], odd: list[Odd], name: str, problems: Problems
) -> tuple[np.ndarray, tuple[str, ...], np.ndarray]:
    """Ids, file names, and widths and heights [2,B], 0 where there are none."""
    ids = _ids(rows, odd, name, "images")
    files = pd.Series([row.file_name or "" for row in rows], dtype=object)
    sides = np.stack([columns.numbers_in(rows, side, 0) for side in ("width", "height")])
    bad = ~((sides >= 0) & (sides == np.round(sides))).all(0) | (sides.clip(0, LARGEST).prod(0) > LARGEST)
    refuse(
        name,
        f"'width' and 'height' are whole, positive, and of less than {LARGEST:.0e} pixels together; correct them:",
        [f"image {ids[n]} ({rows[n].file_name}): {sides[0, n]:g}x{sides[1, n]:g}" for n in np.flatnonzero(bad)],
    )
    partly = [i for i, row in zip(ids.tolist(), rows, strict=True) if row.neg_category_ids is not None]
    problems.add("some-classes", partly)
    shared = (files.map(columns.parts_of).duplicated(keep=False) & (files != "")).to_numpy()
    problems.add("shared-file", ids[shared].tolist(), f"{files[shared].iloc[0]!r}" if shared.any() else "")
    return ids, tuple(files.tolist()), sides.astype(np.int64)
