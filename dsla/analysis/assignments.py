"""Assignment statistics: what an assigner does with the objects of a whole data set, before any training."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..assigners import as_assigner
from ..coco.columns import corners_of
from ..coco.ground_truth import GroundTruth
from ..coco.problems import some
from ..errors import DataError
from ..geometry import InputSize
from .points import count_points
from .tables import BOX, Measured, Table, summarises, truth_of

FEW = 2  # points; an object with no more is taught by so little that it hangs on one or two of them
Sizes = Sequence[int] | Sequence[Sequence[int]]


def assignment_statistics(
    assigner: Any,
    data: Any,
    *,
    strides: Sequence[int] = (8, 16, 32, 64, 128),
    offset: float | None = None,
    image_sizes: Sizes | None = None,
    input_size: InputSize = "native",
    batch_size: int = 8,
    max_images: int | None = None,
    jitter: float = 0.1,
    seed: int = 0,
) -> Table:
    """One row a non-crowd object: the points that learn it, and those that would if it were alone.

    Args:
        assigner: an `Assigner`, its class, or its name in `dsla.assigners` (level ranges then fit the strides).
        data: a data set, a COCO json (path or dict) or a list of targets; images are not read.
        strides, offset: of the points; the offset in strides, by default the method's own (DSLA 0, others 0.5).
        image_sizes: (height, width) in pixels, one for all images or one each; needed where `data` has none.
        input_size: what images are scaled to, as a detector's input: "native", (800, 1333) for the shorter and the
            longest longer side, 640 for a padded square; see `dsla.geometry.Frame`. Many small objects have a point at
            800/1333 that have none at the size in which they are stored.
        batch_size: images assigned together; it changes nothing but speed.
        max_images: only the first ones.
        jitter, seed: for assigners that need predictions: these are true boxes, jittered, see
            `dsla.assigners.jittered_predictions`; image i is drawn with seed + i.

    Returns:
        Table: image, gt, category, x1, y1, x2, y2 (pixels of the input); points (that learn it), points_S of
        these at the level of stride S, label_mass (sum of their labels), label_max; claimed (points that would
        learn it if it were the only object of its image), ambiguous (points that learn it and that another object
        claims). Where a method lets objects decide about each other's candidates (SimOTA), an object can have
        points that it would not have alone.

    Raises:
        DataError: sizes that are not known, or not of as many images as there are.
    """
    chosen = as_assigner(assigner, strides)
    truth = truth_of(data, max_images)
    sizes = _sizes(truth, data, image_sizes)
    rows = taught_rows(truth)
    points = count_points(
        chosen,
        truth.image[rows].astype(np.int64),
        corners_of(truth.inside[rows]),
        truth.category[rows].astype(np.int64),
        np.array(sizes, dtype=np.int64).reshape(-1, 2),
        strides=strides,
        offset=offset,
        input_size=input_size,
        batch_size=batch_size,
        classes=max(len(truth.category_ids), 1),
        jitter=jitter,
        seed=seed,
    )
    table = Table(truth.objects[["image", "gt", "category"]].iloc[rows].reset_index(drop=True))
    table[BOX] = points.boxes.astype(float)
    table["points"] = points.total
    for level, stride in enumerate(strides):
        table[f"points_{stride}"] = points.at_level[:, level]
    columns = ("label_mass", "label_max", "claimed", "ambiguous")
    table = table.assign(**{name: getattr(points, name) for name in columns})
    table.attrs = {
        "analysis": "assignment",
        "assigner": repr(chosen),
        "strides": tuple(strides),
        "offset": chosen.point_offset if offset is None else offset,
        "images": len(truth.images),
        "jitter": jitter if chosen.needs_predictions else None,
    }
    return table


def taught_rows(truth: GroundTruth) -> np.ndarray:
    """Positions of the objects that a network is taught, image after image."""
    order = np.argsort(truth.image, kind="stable")
    return order[truth.taught[order]]


def _sizes(truth: GroundTruth, data: Any, given: Sizes | None) -> list[tuple[int, int]]:
    """(height, width) of every image."""
    count = len(truth.images)
    if given is not None:
        table = np.asarray(given)
        table = np.broadcast_to(table, (count, 2)) if table.shape == (2,) else table
        if table.shape != (count, 2):
            raise DataError(f"image_sizes is (height, width), or one each of {count} images; got {list(table.shape)}")
        return [(int(h), int(w)) for h, w in table]
    if hasattr(data, "image_size"):
        return [tuple(data.image_size(i)) for i in range(count)]
    sizes = np.stack([truth.heights, truth.widths], 1)
    if missing := [image for image, size in zip(truth.images, sizes, strict=True) if not size.all()]:
        raise DataError(f"height and width of images {some(missing)} are not known; give image_sizes=(height, width)")
    return [(int(h), int(w)) for h, w in sizes]


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
