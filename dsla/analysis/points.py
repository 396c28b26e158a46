"""Points that learn each object of a data set, counted from the pairs that a method admits.

Methods whose label depends on a point and a box alone (`PairAssigner`: FCOS, DSLA and most of one's own) are counted
from their candidates: some hundred pairs an object, no table of all points of all images. The others assign image
after image. Both give what `Assigner` gives; tests/analysis/test_assignments.py holds them equal.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ..assigners import Assigner, PairAssigner, jittered_predictions
from ..assigners.pairs import Truth
from ..assigners.sparse.keys import winning_key
from ..geometry import Frame, HeadOutputs, InputSize, PointGrid
from .tables import array

TOGETHER = 2_000_000  # points that are held at a time where a method assigns, so that memory stays bounded
OBJECTS = 4096  # that are counted at a time from their candidates


@dataclass(frozen=True, eq=False)
class Points:
    """What N objects get.

    Attributes:
        boxes: [N,4] in pixels of the input, float32.
        at_level: [N,L] points that learn the object: where several objects claim a point, it counts for the winner.
        label_mass, label_max: [N] sum and maximum of their labels.
        claimed: [N] points that would learn it if it were the only object of its image.
        ambiguous: [N] points that learn it and that another object of the image claims.
    """

    boxes: np.ndarray
    at_level: np.ndarray
    label_mass: np.ndarray
    label_max: np.ndarray
    claimed: np.ndarray
    ambiguous: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """[N] points that learn the object."""
        return self.at_level.sum(axis=1)


@dataclass(frozen=True, eq=False)
class _Wins:
    """K points that N objects win, and what each object claims."""

    box: Tensor  # [K] into N
    level: Tensor
    label: Tensor
    contested: Tensor  # bool
    claimed: Tensor  # [N]


def count_points(
    assigner: Assigner,
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    sizes: np.ndarray,
    *,
    strides: Sequence[int],
    offset: float | None = None,
    input_size: InputSize = "native",
    batch_size: int = 8,
    classes: int = 1,
    jitter: float = 0.1,
    seed: int = 0,
) -> Points:
    """The points of all objects.

    Args:
        assigner: the method.
        image: [N] place of each object's image, ascending.
        boxes: [N,4] x1, y1, x2, y2 in pixels of the image, as a network is taught them: cut to it, no crowds.
        labels: [N] classes.
        sizes: [B,2] (height, width) of the images as they are stored.
        strides: of the levels.
        offset: of the points in strides; None: the method's own.
        input_size: of the network, see `dsla.geometry.Frame`.
        batch_size: images at a time where a method assigns.
        classes: C, for predictions.
        jitter, seed: of `jittered_predictions`, for methods that need predictions.

    Raises:
        ValueError: ranges of the assigner for another number of levels.
    """
    assigner.check_levels(strides)
    offset = assigner.point_offset if offset is None else offset
    resized, padded, boxes_in = _in_frames(image, boxes, sizes, input_size)
    classes_of = torch.tensor(labels)
    pairwise_method = assigner if getattr(type(assigner), "_assign", None) is PairAssigner._assign else None
    whole = PointGrid(padded.max(axis=0, initial=1).tolist(), tuple(strides), offset)
    parts = []
    together = 1 if assigner.needs_predictions else batch_size
    for here, counts, rows in _batches(image, pairwise_method is not None, together):
        mine, names = list(boxes_in[rows].split(counts)), list(classes_of[rows].split(counts))
        size = [(int(h), int(w)) for h, w in resized[here]]
        if isinstance(pairwise_method, PairAssigner):
            parts.append(_from_pairs(pairwise_method, whole, mine, names, size))
            continue
        grid, predictions = PointGrid(padded[here].max(axis=0).tolist(), tuple(strides), offset), None
        if assigner.needs_predictions:  # they belong to the points of one image: with others they would be drawn anew
            predictions = jittered_predictions(grid, mine, names, jitter, classes, seed + int(here[0]))
        parts.append(_from_assigning(assigner, grid, mine, names, size, predictions))
    return _summed(array(boxes_in), parts, len(strides))


def _in_frames(
    image: np.ndarray, boxes: np.ndarray, sizes: np.ndarray, input_size: InputSize
) -> tuple[np.ndarray, np.ndarray, Tensor]:
    """Resized and padded (height, width) of each image [B,2], and the boxes there [N,4], as `Frame.boxes` has them."""
    kinds, which = np.unique(sizes, axis=0, return_inverse=True)
    frames = [Frame.of(kind, input_size) for kind in kinds.tolist()]
    resized, padded = (
        np.array([getattr(frame, name) for frame in frames], dtype=np.int64).reshape(-1, 2)[which.reshape(-1)]
        for name in ("size", "padded")
    )
    after, before = (torch.from_numpy(side[image][:, ::-1].copy()).float() for side in (resized, sizes))
    return resized, padded, torch.tensor(boxes, dtype=torch.float32) * (after / before).repeat(1, 2)


def _batches(image: np.ndarray, many: bool, batch_size: int) -> Iterator[tuple[np.ndarray, list[int], slice]]:
    """Images that have objects, the number of these in each, and where they stand: `batch_size` images or many."""
    here, first = np.unique(image, return_index=True)
    edges = np.append(first, len(image))
    if many:
        cuts = np.unique(np.searchsorted(edges, np.arange(0, len(image), OBJECTS)))
    else:
        cuts = np.arange(0, len(here), batch_size)
    for low, high in pairwise([*cuts.tolist(), len(here)]):
        if high > low:
            yield here[low:high], np.diff(edges[low : high + 1]).tolist(), slice(int(edges[low]), int(edges[high]))


def _from_pairs(
    assigner: PairAssigner, grid: PointGrid, boxes: list[Tensor], labels: list[Tensor], size: list[tuple[int, int]]
) -> _Wins:
    """From the pairs that the method asks about; no [B, P] table."""
    truth = Truth.of(boxes, labels, grid.device, size)
    assert truth.sizes is not None
    cells = assigner.region(grid, truth).listed()
    label, limit = assigner.label(cells.pairs), truth.sizes[truth.image[cells.box]]
    claim = ((label > 0) & (cells.pairs.y < limit[:, 0]) & (cells.pairs.x < limit[:, 1])).nonzero()[:, 0]
    box, label, level = cells.box[claim], label[claim], cells.pairs.level[claim]
    place, claims = torch.unique(cells.point[claim], return_inverse=True, return_counts=True)[1:]
    key = winning_key(label, truth.rank[box])
    best = torch.zeros(len(claims), dtype=torch.int64).scatter_reduce_(0, place, key, "amax")
    won = best[place] == key
    claimed = torch.bincount(box, minlength=len(truth.boxes))
    return _Wins(box[won], level[won], label[won], (claims[place] > 1)[won], claimed)


def _from_assigning(
    assigner: Assigner,
    grid: PointGrid,
    boxes: list[Tensor],
    labels: list[Tensor],
    size: list[tuple[int, int]],
    predictions: HeadOutputs | None,
) -> _Wins:
    """Assigned once together, and once with each object alone."""
    together = assigner(grid, boxes, labels, predictions=predictions, image_sizes=size)
    home = torch.repeat_interleave(torch.arange(len(boxes)), torch.tensor([len(b) for b in boxes]))
    names, claimed, others = torch.cat(labels), [], torch.zeros_like(together.positive)
    for mine in torch.arange(len(home)).split(max(TOGETHER // len(grid), 1)):
        alone = predictions
        if alone is not None:
            logits, distances = (x.expand(len(mine), -1, -1) for x in (alone.logits, alone.distances))
            alone = HeadOutputs(logits, distances, grid)
        positive = assigner(
            grid,
            list(together.boxes[mine].split(1)),
            list(names[mine].split(1)),
            predictions=alone,
            image_sizes=[size[i] for i in home[mine].tolist()],
        ).positive
        claimed.append(positive.sum(1))
        own = together.gt_index[home[mine]] == (mine - together.first[home[mine]])[:, None]
        row, point = (positive & ~own).nonzero(as_tuple=True)
        others[home[mine][row], point] = True
    row, point = together.positive.nonzero(as_tuple=True)
    box = together.gt_index[row, point] + together.first[row]
    return _Wins(box, grid.level[point], together.label[row, point], others[row, point], torch.cat(claimed))


def _summed(boxes: np.ndarray, parts: list[_Wins], levels: int) -> Points:
    """Batches of objects, one after the other, as columns."""
    counts = [len(part.claimed) for part in parts]
    starts = np.cumsum([0, *counts])[:-1]
    size, claimed = sum(counts), [array(part.claimed) for part in parts]
    box = np.concatenate([array(p.box) + s for p, s in zip(parts, starts, strict=True)] or [np.zeros(0, dtype=int)])
    level, label, contested = (
        np.concatenate([array(getattr(part, name)) for part in parts] or [np.zeros(0, dtype=kind)])
        for name, kind in (("level", int), ("label", float), ("contested", bool))
    )
    best = np.zeros(size)
    np.maximum.at(best, box, label.astype(float))
    return Points(
        boxes=boxes,
        at_level=np.bincount(box * levels + level, minlength=size * levels).reshape(size, levels),
        label_mass=np.bincount(box, label.astype(float), minlength=size),
        label_max=best,
        claimed=np.concatenate(claimed or [np.zeros(0, dtype=int)]),
        ambiguous=np.bincount(box[contested], minlength=size),
    )
