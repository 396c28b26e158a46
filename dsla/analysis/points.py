"""Points that learn each object of a data set, counted from the pairs that a method admits.

Methods whose label depends on a point and a box alone (`PairAssigner`: FCOS, DSLA and most of one's own) are counted
from their candidates: some hundred pairs an object, no table of all points of all images. The others assign image
after image. Both give what `Assigner` gives; tests/analysis/test_assignments.py holds them equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..assigners import Assigner, Explanation, PairAssigner, as_assigner, jittered_predictions
from ..assigners.pairs import Truth
from ..assigners.sparse.keys import winning_key
from ..coco.columns import corners_of
from ..coco.ground_truth import GroundTruth
from ..errors import strides_of
from ..geometry import Frame, HeadOutputs, InputSize, PointGrid, size_text
from .tables import BOX, array

TOGETHER = 2_000_000  # points that are held at a time where a method assigns, so that memory stays bounded
JITTER = 0.1  # of the true boxes that stand for predictions
IMAGES = 256  # whose objects are counted at a time from their candidates
Wins = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]  # of K points that N objects win: box [K] into N, level [K],
# label [K], contested [K] bool; and of each object how many it claims [N]


@dataclass(frozen=True)
class Setting:
    """Under which points are counted.

    Attributes:
        assigner: the method.
        strides: of its levels.
        offset: of the points, in strides.
        input_size: of the network, see `dsla.geometry.Frame`.
    """

    assigner: Assigner
    strides: tuple[int, ...]
    offset: float
    input_size: InputSize = "native"

    @classmethod
    def of(
        cls, assigner: Any, strides: Sequence[int], offset: float | None = None, input_size: InputSize = "native"
    ) -> "Setting":
        """From a method by name, class or object; ranges of a name follow the strides, the offset is its own if None.

        Raises:
            DataError: no such method, no such input size; strides that are none (`dsla.errors.strides_of`).
        """
        strides = strides_of(strides)
        chosen: Assigner = as_assigner(assigner, strides)
        Frame.of((1, 1), input_size)  # refuses what is none
        return cls(chosen, strides, chosen.point_offset if offset is None else offset, input_size)

    def __str__(self) -> str:
        strides = ", ".join(map(str, self.strides))
        return f"{self.assigner.name}, strides {strides}, input size {size_text(self.input_size)}"

    def count(self, truth: GroundTruth, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points of each object by level [N,L], and its box in the input [N,4]; objects as `objects_of` has them.

        Objects that are not taught (flag `ignore`, wholly outside) have none; those of images of no known size −1.
        All objects of the images in question must be among the rows: they compete.
        """
        sizes = np.stack([truth.heights, truth.widths], 1)
        at, boxes = np.zeros((len(rows), len(self.strides)), dtype=np.int64), np.full((len(rows), 4), np.nan)
        sized = (truth.widths * truth.heights > 0)[truth.image[rows]]
        at[~sized] = -1
        taught = np.flatnonzero(truth.taught[rows] & sized)
        points = count_points(self, truth, rows[taught], sizes.clip(1))
        at[taught], boxes[taught] = points[[f"points_{s}" for s in self.strides]], points[BOX]
        return at, boxes

    def rule(self, frame: Frame, box: Sequence[float], category: int) -> str:
        """Why no point learns a box: the rule that fails at the point that comes nearest to learning it."""
        if self.assigner.needs_predictions:
            return "not among the points that the method chose by the predictions"
        grid = frame.grid(self.strides, self.offset)
        at = [_middle(grid, level, box) for level in range(len(self.strides))]  # the points nearest to its middle
        cases = [self.assigner.explain(grid, point, box, category=category, image_size=frame.size) for point in at]
        if any(case.admitted for case in cases):
            return "its points learn other objects"

        def progress(case: Explanation) -> tuple[int, float]:
            failed = [rule for rule in case.rules if rule.passed is False]
            return sum(rule.passed is True for rule in case.rules), -abs(failed[0].value) if failed else 0.0

        case = max(cases, key=progress)  # of equal ones the first, on the finest level
        failed = next((rule for rule in case.rules if rule.passed is False), None)
        return f"stride {case.stride}: " + (f"{failed.name}: {failed.text}" if failed else case.verdict)


def _middle(grid: PointGrid, level: int, box: Sequence[float]) -> int:
    """Index of the point of a level that is nearest to the middle of a box."""
    (h, w), stride = grid.shapes[level], grid.strides[level]
    column, row = (
        int(np.clip(round((box[i] + box[i + 2]) / 2 / stride - grid.offset), 0, n - 1)) for i, n in ((0, w), (1, h))
    )
    return sum(grid.num_points[:level]) + row * w + column


def count_points(
    setting: Setting,
    truth: GroundTruth,
    rows: np.ndarray,
    sizes: np.ndarray,
    *,
    jitter: float = JITTER,
    seed: int = 0,
    batch_size: int = 8,
) -> pd.DataFrame:
    """The points of objects.

    Args:
        setting: the method, and under which points.
        truth: what they are of.
        rows: [N] positions of the objects in it, image after image, as a network is taught them: no crowds.
        sizes: [B,2] (height, width) of the images as they are stored.
        jitter, seed: of the boxes that stand for predictions, see `assignment_statistics`.
        batch_size: images at a time where a method assigns.

    Returns:
        A row an object: x1, y1, x2, y2 (pixels of the input), points, points_S …, label_mass, label_max, claimed,
        ambiguous; see `assignment_statistics`.

    Raises:
        ValueError: ranges of the assigner for another number of levels.
    """
    assigner, strides, offset = setting.assigner, setting.strides, setting.offset
    assigner.check_levels(strides)
    resized, padded, boxes = _in_frames(truth.image[rows], corners_of(truth.inside[rows]), sizes, setting.input_size)
    classes = torch.tensor(truth.category[rows].astype(np.int64))
    at_level = np.zeros((len(rows), len(strides)), dtype=np.int64)
    mass, most, claimed, ambiguous = np.zeros((4, len(rows)))
    pairwise = assigner if getattr(type(assigner), "_assign", None) is PairAssigner._assign else None
    together = IMAGES if pairwise else 1 if assigner.needs_predictions else batch_size
    whole = PointGrid(padded.max(axis=0, initial=1).tolist(), strides, offset)
    images, first = np.unique(truth.image[rows], return_index=True)
    edges = [*first.tolist(), len(rows)]
    for low in range(0, len(images), together):
        here, edge = images[low : low + together], edges[low : low + together + 1]
        part, counts = slice(edge[0], edge[-1]), np.diff(edge).tolist()
        mine, names = list(boxes[part].split(counts)), list(classes[part].split(counts))
        size = [(int(h), int(w)) for h, w in resized[here]]
        if isinstance(pairwise, PairAssigner):
            wins = _from_pairs(pairwise, whole, mine, names, size)
        else:
            grid, predictions = PointGrid(padded[here].max(axis=0).tolist(), strides, offset), None
            if assigner.needs_predictions:  # they belong to the points of one image: with others they would differ
                count = max(len(truth.category_ids), 1)
                predictions = jittered_predictions(grid, mine, names, jitter, count, seed + int(here[0]))
            wins = _from_assigning(assigner, grid, mine, names, size, predictions)
        box, level, label, contested, claims = map(array, wins)
        shape, claimed[part] = at_level[part].shape, claims
        at_level[part] = np.bincount(box * shape[1] + level, minlength=shape[0] * shape[1]).reshape(shape)
        mass[part] = np.bincount(box, label.astype(float), shape[0])
        np.maximum.at(most[part], box, label.astype(float))
        ambiguous[part] = np.bincount(box[contested], minlength=shape[0])
    table = pd.DataFrame(array(boxes).astype(float), columns=BOX).assign(points=at_level.sum(1))
    table[[f"points_{stride}" for stride in strides]] = at_level
    table["label_mass"], table["label_max"] = mass, most
    return table.assign(claimed=claimed.astype(np.int64), ambiguous=ambiguous.astype(np.int64))


def _in_frames(
    image: np.ndarray, boxes: np.ndarray, sizes: np.ndarray, input_size: InputSize
) -> tuple[np.ndarray, np.ndarray, Tensor]:
    """Resized and padded (height, width) of each image [B,2], and the boxes there [N,4], as `Frame.boxes` has them."""
    kinds, which = np.unique(sizes, axis=0, return_inverse=True)
    of_kind = [(*frame.size, *frame.padded) for frame in (Frame.of(kind, input_size) for kind in kinds.tolist())]
    resized, padded = np.split(np.array(of_kind, dtype=np.int64).reshape(-1, 4)[which.reshape(-1)], 2, axis=1)
    after, before = (torch.from_numpy(side[image][:, ::-1].copy()).float() for side in (resized, sizes))
    return resized, padded, torch.tensor(boxes, dtype=torch.float32) * (after / before).repeat(1, 2)


def _from_pairs(
    assigner: PairAssigner, grid: PointGrid, boxes: list[Tensor], labels: list[Tensor], size: list[tuple[int, int]]
) -> Wins:
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
    return box[won], level[won], label[won], (claims[place] > 1)[won], claimed


def _from_assigning(
    assigner: Assigner,
    grid: PointGrid,
    boxes: list[Tensor],
    labels: list[Tensor],
    size: list[tuple[int, int]],
    predictions: HeadOutputs | None,
) -> Wins:
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
        itself = together.gt_index[home[mine]] == (mine - together.first[home[mine]])[:, None]
        row, point = (positive & ~itself).nonzero(as_tuple=True)
        others[home[mine][row], point] = True
    row, point = together.positive.nonzero(as_tuple=True)
    box = together.gt_index[row, point] + together.first[row]
    return box, grid.level[point], together.label[row, point], others[row, point], torch.cat(claimed)
