"""Assignment statistics: what an assigner does with the objects of a whole data set, before any training.

`coverage` asks it of several methods, strides and input sizes: which objects they leave without a point. No training
makes a detector find an object that no point learns, and one that hangs on one or two points is found less often.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..coco.engines import SIZES, size_names
from ..coco.ground_truth import GroundTruth
from ..coco.heads import frame, opened
from ..coco.problems import Problems, some
from ..errors import DataError, strides_of
from ..geometry import InputSize, size_text
from .points import JITTER, Setting, count_points
from .tables import BOX, Measured, Table, summarises, truth_of

FEW = 2  # points; an object with no more is taught by so little that it hangs on one or two of them
LOOKED_AT = 100  # pictures of a data set whose sizes are compared with those of its file
Sizes = str | np.ndarray | Sequence[int] | Sequence[Sequence[int]]


def assignment_statistics(
    assigner: Any,
    data: Any,
    *,
    strides: Sequence[int] = (8, 16, 32, 64, 128),
    offset: float | None = None,
    image_sizes: Sizes | None = None,
    input_size: InputSize = "native",
    jitter: float = JITTER,
    seed: int = 0,
    batch_size: int = 8,
    max_images: int | None = None,
) -> Table:
    """One row a non-crowd object: the points that learn it, and those that would if it were alone.

    Args:
        assigner: an `Assigner`, its class, or its name in `dsla.assigners` (level ranges then fit the strides).
        data: a data set, a COCO json (path or dict) or a list of targets; images are not read, but the sizes of up to
            100 files of a data set are held against its annotations, and what differs is said.
        strides, offset: of the points; the offset in strides, by default the method's own (DSLA 0, others 0.5).
        image_sizes: (height, width) in pixels, one for all images or one each; needed where `data` has none.
            "pictures": those of the files of a data set, whatever its annotations say.
        input_size: what images are scaled to, as a detector's input: "native", (800, 1333) for the shorter and the
            longest longer side, 640 for a padded square; see `dsla.geometry.Frame`. Many small objects have a point at
            800/1333 that have none at the size in which they are stored.
        jitter, seed: for assigners that need predictions: these are true boxes, jittered, see
            `dsla.assigners.jittered_predictions`; image i is drawn with seed + i.
        batch_size: images assigned together; it changes nothing but speed.
        max_images: only the first ones.

    Returns:
        Table: image, gt, category, x1, y1, x2, y2 (pixels of the input); points (that learn it), points_S of
        these at the level of stride S, label_mass (sum of their labels), label_max; claimed (points that would
        learn it if it were the only object of its image), ambiguous (points that learn it and that another object
        claims). Where a method lets objects decide about each other's candidates (SimOTA), an object can have
        points that it would not have alone.

    Raises:
        DataError: sizes that are not known, or not of as many images as there are.
    """
    setting = Setting.of(assigner, strides, offset, input_size)
    truth = truth_of(data, max_images)
    rows, sizes = taught_rows(truth), sizes_of(truth, image_sizes, data)
    points = count_points(setting, truth, rows, sizes, jitter=jitter, seed=seed, batch_size=batch_size)
    table = Table(truth.objects[["image", "gt", "category"]].iloc[rows].reset_index(drop=True).join(points))
    table.attrs = {
        "analysis": "assignment",
        "assigner": repr(setting.assigner),
        "strides": setting.strides,
        "offset": setting.offset,
        "images": len(truth.images),
        "jitter": jitter if setting.assigner.needs_predictions else None,
    }
    return table


def taught_rows(truth: GroundTruth) -> np.ndarray:
    """Positions of the objects that a network is taught, image after image."""
    order = np.argsort(truth.image, kind="stable")
    return order[truth.taught[order]]


def sizes_of(truth: GroundTruth, given: Sizes | None, data: Any) -> np.ndarray:
    """[B,2] (height, width) of every image; says where files of a data set are of another size."""
    sizes = np.stack([truth.heights, truth.widths], 1)
    annotated = list(map(tuple, sizes.tolist()))
    if isinstance(given, str):
        if given != "pictures" or not hasattr(data, "path"):
            got = f"{given!r} of a {type(data).__name__}"
            raise DataError(f"image_sizes is (height, width), or 'pictures' of a CocoDataset; got {got}")
        return np.array([_size(data.path(i), annotated[i]) for i in range(len(annotated))]).reshape(-1, 2)
    if given is not None:
        table = np.asarray(given)
        if table.shape not in ((2,), sizes.shape):
            got = f"one each of {len(sizes)} images; got {list(table.shape)}"
            raise DataError(f"image_sizes is (height, width), or {got}")
        return np.broadcast_to(table, sizes.shape).astype(np.int64)
    if len(missing := np.flatnonzero(~sizes.all(1))):
        images = some([truth.images[i] for i in missing])
        raise DataError(f"height and width of images {images} are not known; give image_sizes=(height, width)")
    other, problems = [], Problems(truth.name)
    for i in range(0, len(annotated) if hasattr(data, "path") else 0, -(-len(annotated) // LOOKED_AT) or 1):
        with suppress(DataError):  # of a picture that is not there nothing is known
            other += [truth.images[i]] if _size(data.path(i), annotated[i]) != annotated[i] else []
    problems.add("other-size", other)
    problems.warn()
    return sizes


def _size(path: Path, annotated: tuple[int, int]) -> tuple[int, int]:
    with opened(path) as picture:
        return frame(picture, annotated)


@summarises("assignment", few=FEW)
def assignment_summary(frame: pd.DataFrame, few: int) -> Measured:
    """How many points objects have and share; what can be found at best."""
    points, contested = frame["points"].to_numpy(dtype=float), int(frame["ambiguous"].sum())
    values = {
        "objects": len(frame),
        "points": points,
        "points_median": np.median(points) if len(frame) else np.nan,
        **{name: frame[name] for name in frame.columns if name.startswith("points_")},
        "label_mass": frame["label_mass"],
        "positives": points.sum(),
        "ambiguous": contested,
        "ambiguous_share": contested / points.sum() if points.sum() else np.nan,
        "without_point": (points == 0).sum(),
        "few_points_share": (points > 0) & (points <= few),
        "crowded_out": ((points == 0) & (frame["claimed"].to_numpy(dtype=float) > 0)).sum(),
        "best_possible_recall": points > 0,
    }
    return values, {"": "no object"} | ({"ambiguous_share": "no point learns an object"} if len(frame) else {})


def coverage(
    assigners: str | Sequence[Any],
    data: Any,
    *,
    strides: Sequence[Any] = (8, 16, 32, 64, 128),
    input_sizes: Any = "native",
    max_images: int | None = None,
) -> Table:
    """Objects without a point and with few, for every method × strides × input size.

    Args:
        assigners: methods, as `assignment_statistics` takes them; of a name, level ranges fit the strides.
        data: as there. Images must have a size.
        strides: of the levels; or several such.
        input_sizes: one as `dsla.geometry.Frame` has it, or a list of several.
        max_images: only the first ones.

    Returns:
        Table, a row a setting and group of objects: method, strides, input_size (text); by ("all", "size", "class",
        "level") and group: sizes are COCO's, by area in the file; the level is that of the stride up to whose
        8-fold half the longer side at the input reaches. objects; none, few: shares of them that no point learns, and
        that 1 or 2 do. Points count for the object that wins them: where objects compete, one can go without.
    """
    methods = [assigners] if isinstance(assigners, str) or not isinstance(assigners, Sequence) else list(assigners)
    several = isinstance(strides, Sequence) and len(strides) and isinstance(strides[0], Iterable)
    steps = [strides_of(levels) for levels in (strides if several else [strides])]
    sizes: list[InputSize] = list(input_sizes) if isinstance(input_sizes, list) else [input_sizes]
    truth = truth_of(data, max_images)
    rows, shapes = taught_rows(truth), sizes_of(truth, None, data)
    size = size_names(truth.area[rows])
    kind = np.array(list(truth.categories.values()), dtype=object)[truth.category[rows]]
    parts, settings = [], {  # each once, also where it is given twice
        (m if isinstance(m, str) else repr(m), tuple(levels), size_text(side)): (m, levels, side)
        for m, levels, side in product(methods, steps, sizes)
    }  # fmt: skip
    for (name, _, text), (method, levels, side) in settings.items():
        counted = assignment_statistics(method, truth, strides=levels, input_size=side, image_sizes=shapes)
        corners = counted[BOX].to_numpy(dtype=float)
        half = (corners[:, 2:] - corners[:, :2]).max(axis=1, initial=0) / 2
        level = np.array(levels)[np.searchsorted(8 * np.array(levels[:-1]), half)]
        points = counted["points"].to_numpy()
        frame = pd.DataFrame({"none": points == 0, "few": (points > 0) & (points <= FEW)})
        groups = {"all": np.full(len(points), "all"), "size": size, "class": kind, "level": level}
        for by, group in groups.items():
            part = frame.groupby(group, sort=by in ("level", "class"))
            part = part.agg(objects=("none", "size"), none=("none", "mean"), few=("few", "mean"))
            part = part.reindex([s for s in SIZES if s in part.index]) if by == "size" else part
            part = part.rename_axis("group").reset_index().assign(group=lambda t: t["group"].astype(str))
            setting = {"method": name, "strides": ", ".join(map(str, levels)), "input_size": text}
            parts.append(part.assign(**setting, by=by))
    columns = ["method", "strides", "input_size", "by", "group", "objects", "none", "few"]
    table = Table(pd.concat(parts, ignore_index=True)[columns])
    table.attrs = {"analysis": "coverage"}
    return table


def best_setting(frame: pd.DataFrame) -> pd.Series:
    """The row of all objects under the setting that leaves fewest without a point, of equal ones fewest with 1 or 2.

    Raises:
        DataError: there is no object.
    """
    whole = frame[frame["by"] == "all"]
    if whole.empty:
        raise DataError("no object that a network would be taught: there is none but crowds and what is left out")
    return whole.sort_values(["none", "few"], kind="stable").iloc[0]


@summarises("coverage", few=FEW)
def coverage_summary(frame: pd.DataFrame, **_: int) -> Measured:
    """How many settings there are, and what the best and the worst of them leave."""
    whole = frame[frame["by"] == "all"]
    settings = len(frame[["method", "strides", "input_size"]].drop_duplicates())
    values = {"settings": settings, "objects": whole["objects"].max() if len(whole) else 0}
    values |= {"least": whole["none"].min(), "most": whole["none"].max(), "least_few": whole["few"].min()}
    return values, {"": "no object"}
