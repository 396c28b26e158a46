"""Assignment statistics: what an assigner does with the objects of a whole data set, before any training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..assigners import Assigner, Assignment, as_assigner, jittered_predictions
from ..coco.problems import some
from ..errors import DataError
from ..geometry import Frame, HeadOutputs, InputSize, PointGrid
from .tables import BOX, Numbers, Table, Truth, array, summarises

TOGETHER = 2_000_000  # points that are held at a time, so that memory stays bounded whatever the batch
Sizes = Sequence[int] | Sequence[Sequence[int]]


@dataclass(frozen=True)
class _Image:
    """Objects of one image in the frame of the network's input."""

    number: int
    frame: Frame
    rows: np.ndarray  # positions of its objects, without crowds, in Truth.objects
    boxes: Tensor
    labels: Tensor
    crowds: Tensor


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
    levels = len(chosen.level_ranges or strides)
    if levels != len(strides):
        raise ValueError(f"{chosen.name} has ranges for {levels} levels but there are {len(strides)} strides {strides}")
    offset = chosen.point_offset if offset is None else offset
    truth = Truth.of(data, max_images, taught=True)
    parts: list[pd.DataFrame] = []
    # Predictions belong to the points of one image: with others in the batch they would be drawn differently.
    for batch in _batches(truth, data, image_sizes, input_size, 1 if chosen.needs_predictions else batch_size):
        size = np.array([image.frame.padded for image in batch]).max(0).tolist()
        grid, predictions = PointGrid(size, tuple(strides), offset), None
        if chosen.needs_predictions:
            image, classes = batch[0], max(len(truth.category_ids or truth.categories), 1)
            predictions = jittered_predictions(
                grid, [image.boxes], [image.labels], jitter, classes, seed + image.number
            )
        parts.append(_counted(chosen, grid, truth.objects, batch, predictions))
    table = Table(pd.concat(parts or [_no_objects(truth.objects, strides)], ignore_index=True))
    table.attrs = {
        "analysis": "assignment",
        "assigner": repr(chosen),
        "strides": tuple(strides),
        "offset": offset,
        "images": len(truth.images),
        "jitter": jitter if chosen.needs_predictions else None,
    }
    return table


def _batches(
    truth: Truth, data: Any, image_sizes: Sizes | None, input_size: InputSize, batch_size: int
) -> Iterator[list[_Image]]:
    """Images that have objects; the others say nothing."""
    sizes = _sizes(truth, data, image_sizes)
    labels = {category: i for i, category in enumerate(truth.category_ids or sorted(truth.categories))}
    label = truth.objects["category"].map(labels).fillna(-1).to_numpy(dtype=np.int64)  # a crowd may have none
    every, is_crowd = truth.objects[BOX].to_numpy(dtype=float), truth.objects["crowd"].to_numpy(dtype=bool)
    of_image = truth.objects.groupby("image", sort=False).indices
    batch: list[_Image] = []
    for number, (name, (height, width)) in enumerate(zip(truth.images, sizes, strict=True)):
        rows = of_image.get(name, np.zeros(0, dtype=np.int64))
        crowds, rows = rows[is_crowd[rows]], rows[~is_crowd[rows]]
        if not len(rows):
            continue
        frame = Frame.of((height, width), input_size)
        boxes, regions = (frame.boxes(torch.tensor(every[at], dtype=torch.float32)) for at in (rows, crowds))
        batch.append(_Image(number, frame, rows, boxes, torch.tensor(label[rows]), regions))
        if len(batch) == batch_size:
            yield batch
            batch = []
    if batch:
        yield batch


def _sizes(truth: Truth, data: Any, given: Sizes | None) -> list[tuple[int, int]]:
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
    sizes = np.stack([truth.columns.heights, truth.columns.widths], 1)
    if missing := [image for image, size in zip(truth.images, sizes, strict=True) if not size.all()]:
        raise DataError(f"height and width of images {some(missing)} are not known; give image_sizes=(height, width)")
    return [(int(h), int(w)) for h, w in sizes]


def _counted(
    assigner: Assigner, grid: PointGrid, objects: pd.DataFrame, batch: Sequence[_Image], predictions: HeadOutputs | None
) -> pd.DataFrame:
    """The rows of a batch: assigned once together, once with each object alone."""
    sizes = [image.frame.size for image in batch]
    together = assigner(
        grid,
        [image.boxes for image in batch],
        [image.labels for image in batch],
        predictions=predictions,
        ignore=[image.crowds for image in batch],
        image_sizes=sizes,
    )
    home = torch.repeat_interleave(torch.arange(len(batch)), torch.tensor([len(i.boxes) for i in batch]))
    names = torch.cat([image.labels for image in batch])
    claimed, others = _claims(assigner, together, names, home, sizes, predictions)

    image, point = together.positive.nonzero(as_tuple=True)
    thing = array(together.gt_index[image, point] + together.first[image])
    label, level = array(together.label[image, point]).astype(float), array(grid.level[point])
    contested = array(others[image, point])
    size, levels = len(home), len(grid.strides)
    table = objects.iloc[np.concatenate([i.rows for i in batch])][["image", "gt", "category"]].reset_index(drop=True)
    table[BOX] = array(torch.cat([i.boxes for i in batch])).astype(float)
    table["points"] = np.bincount(thing, minlength=size)
    at_level = np.bincount(thing * levels + level, minlength=size * levels).reshape(size, levels)
    for i, stride in enumerate(grid.strides):
        table[f"points_{stride}"] = at_level[:, i]
    table["label_mass"] = np.bincount(thing, label, minlength=size)
    best = np.zeros(size)
    np.maximum.at(best, thing, label)
    table["label_max"], table["claimed"] = best, claimed
    table["ambiguous"] = np.bincount(thing[contested], minlength=size)
    return table


def _claims(
    assigner: Assigner,
    together: Assignment,
    names: Tensor,
    home: Tensor,
    sizes: Sequence[tuple[int, int]],
    predictions: HeadOutputs | None,
) -> tuple[np.ndarray, Tensor]:
    """[N] points that each object would have alone; [B, P] would another than its own object have the point?"""
    grid, claimed, others = together.grid, [], torch.zeros_like(together.positive)
    for mine in torch.arange(len(home)).split(max(TOGETHER // len(grid), 1)):
        said = predictions
        if said is not None:
            logits, distances = (x.expand(len(mine), -1, -1) for x in (said.logits, said.distances))
            said = HeadOutputs(logits, distances, grid)
        alone = assigner(
            grid,
            list(together.boxes[mine].split(1)),
            list(names[mine].split(1)),
            predictions=said,
            image_sizes=[sizes[i] for i in home[mine].tolist()],
        ).positive
        claimed.append(array(alone.sum(1)))
        own = together.gt_index[home[mine]] == (mine - together.first[home[mine]])[:, None]
        image, point = (alone & ~own).nonzero(as_tuple=True)
        others[home[mine][image], point] = True
    return np.concatenate(claimed), others


def _no_objects(frame: pd.DataFrame, strides: Sequence[int]) -> pd.DataFrame:
    columns = ["points", *(f"points_{s}" for s in strides), "label_mass", "label_max", "claimed", "ambiguous"]
    return frame.iloc[:0][["image", "gt", "category", *BOX]].assign(**dict.fromkeys(columns, 0))


@summarises("assignment")
def assignment_summary(frame: pd.DataFrame) -> pd.Series:
    """How many points objects have and share; what can be found at best."""
    none, points = "no object", frame["points"].to_numpy(dtype=float)
    numbers = Numbers()
    numbers.add("objects", len(frame), "objects that are not crowds")
    numbers.share("points", points, "mean number of points that learn an object", none)
    middle = float(np.median(points)) if len(frame) else np.nan
    numbers.add("points_median", middle, "median number of points that learn an object", none)
    for name in [c for c in frame.columns if c.startswith("points_")]:
        stride = name.removeprefix("points_")
        numbers.share(name, frame[name], f"mean number of these points on the level of stride {stride}", none)
    numbers.share("label_mass", frame["label_mass"], "mean sum of the labels of an object's points", none)
    numbers.add("positives", int(points.sum()), "points that learn an object")
    contested = int(frame["ambiguous"].sum())
    numbers.add("ambiguous", contested, "points that learn an object and that another one would have if it were alone")
    share = contested / points.sum() if points.sum() else np.nan
    lacking = "no point learns an object" if len(frame) else none
    numbers.add("ambiguous_share", share, "share of the points that learn an object which are ambiguous", lacking)
    numbers.add("without_point", int((points == 0).sum()), "objects that no point learns")
    crowded = (points == 0) & (frame["claimed"].to_numpy(dtype=float) > 0)
    numbers.add("crowded_out", int(crowded.sum()), "of these the ones that would have points if they were alone")
    meaning = "share of the objects that at least one point learns: no training can give more recall"
    numbers.share("best_possible_recall", points > 0, meaning, none)
    return numbers.series()
