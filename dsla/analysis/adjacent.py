"""Adjacency (inconsistency 1): neighbouring points that look alike but are taught opposite things."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from ..assigners import FCOS, Assigner, Assignment
from ..geometry import HeadOutputs, PointGrid, aligned_iou
from .running import assign, over
from .tables import Measured, Table, array, frame_of, summarises

DIRECTIONS = ("right", "down", "level")


def neighbours(grid: PointGrid, across_levels: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Points a, b and direction (index of DIRECTIONS), [K] each, of all neighbouring pairs.

    They are to the right, below and, if asked, on the next level; there the neighbour
    is the point of the cell that covers the one of a.
    """
    point = torch.arange(len(grid), device=grid.device)
    height, width = torch.tensor(grid.shapes, device=grid.device)[grid.level].unbind(-1)
    right, down = grid.column < width - 1, grid.row < height - 1
    pairs = [(point[right], point[right] + 1), (point[down], point[down] + width[down])]
    first = np.cumsum([0, *grid.num_points])
    for level in range(len(grid.shapes) - 1 if across_levels else 0):
        mine = grid.level == level
        ratio, (h, w) = grid.strides[level + 1] / grid.strides[level], grid.shapes[level + 1]
        row, column = ((v[mine] / ratio).long().clamp(max=n - 1) for v, n in ((grid.row, h), (grid.column, w)))
        pairs.append((point[mine], int(first[level + 1]) + row * w + column))
    direction = [torch.full_like(a, min(i, 2)) for i, (a, _) in enumerate(pairs)]
    return torch.cat([a for a, _ in pairs]), torch.cat([b for _, b in pairs]), torch.cat(direction)


def scores_of(outputs: HeadOutputs) -> Tensor:
    """[B,P,C] σ(logits), times σ(quality) where the head has that branch."""
    scores = outputs.logits.float().sigmoid()
    return scores if outputs.quality is None else scores * outputs.quality.float().sigmoid()[..., None]


def adjacency(source: Any, other: Any, *, reference: Assigner | None = None, **options: Any) -> Table:
    """Neighbouring points of which one is positive and one negative, for one batch or a data set.

    ``adjacency(outputs, reference_assignment, …)`` is `adjacency_of`, with its options.
    ``adjacency(model, dataset, reference=…, …)`` runs the model (options batch_size, device, max_images,
    progress) and takes its own assignment for the labels; the reference is by default FCOS's hard
    assignment with the model's ranges, on the model's points. Pixels are then those of the network's input.
    Options threshold and across_levels as in `adjacency_of`.
    """
    if isinstance(source, HeadOutputs):
        return adjacency_of(source, other, **options)
    shown = {name: options.pop(name) for name in ("threshold", "across_levels") if name in options}
    rule = reference or hard_rule(source)

    def pairs(raw: Any, **seen: Any) -> Table:
        return adjacency_of(reference=assign(rule, raw), **seen, **shown)

    return over(source, other, pairs, **options)[0]


def hard_rule(model: Any) -> FCOS:
    """FCOS's hard assignment with the level ranges of a model."""
    return FCOS(getattr(model.assigner, "regress_ranges", None) or model.recipe.ranges)


def adjacency_of(
    outputs: HeadOutputs,
    reference: Assignment,
    *,
    own: Assignment | None = None,
    scores: Tensor | None = None,
    across_levels: bool = False,
    threshold: float = 0.1,
    image_ids: Sequence[int] | None = None,
) -> Table:
    """Pairs of neighbouring points of one batch, one positive and one negative under the reference.

    Args:
        outputs: what the head says at every point.
        reference: decides which pairs count and which object they belong to; ignored points form no pair.
            With the same reference (FCOS's hard labels) the numbers of different methods can be compared.
        own: the assignment that the method itself is taught with, and with which coupling; without it the reference.
        scores: [B,P,C]; without them those of `scores_of`.
        across_levels: also pairs of a point with the one at the same place on the next level.
        threshold: of the summary: scores closer than this count as not told apart.
        image_ids: of the batch; without them its indices.

    Returns:
        Table, a the positive and b the negative point: image, direction (right, down, level), level_a,
        level_b, point_a, point_b (index in the grid), x_a, y_a, x_b, y_b (pixels), gt (index in the image),
        category; at the object's class label_a, label_b (taught), score_a, score_b; iou_a, iou_b of the
        predicted boxes with the object; d_label, d_score, d_iou (a − b).
    """
    with torch.no_grad():
        own = reference if own is None else own
        scores = scores_of(outputs) if scores is None else scores
        a, b, direction = neighbours(outputs.grid, across_levels)
        positive = reference.gt_index >= 0
        negative = ~positive & ~reference.ignored
        forward, backward = positive[:, a] & negative[:, b], negative[:, a] & positive[:, b]
        image, pair = (forward | backward).nonzero(as_tuple=True)
        swap = backward[image, pair]
        ends = [torch.where(swap, b[pair], a[pair]), torch.where(swap, a[pair], b[pair])]
        category, box = reference.category[image, ends[0]], reference.matched_boxes[image, ends[0]]
        target = own.target(outputs.boxes)
        columns: dict[str, Any] = {
            "image": image if image_ids is None else torch.tensor(image_ids)[image.cpu()],
            "direction": [DIRECTIONS[i] for i in direction[pair].tolist()],
            "gt": reference.gt_index[image, ends[0]],
            "category": category,
        }
        for name, end in zip("ab", ends, strict=True):
            columns |= {
                f"level_{name}": outputs.grid.level[end],
                f"point_{name}": end,
                f"x_{name}": outputs.grid.xy[end, 0],
                f"y_{name}": outputs.grid.xy[end, 1],
                # What own teaches there about another class is, for this one, background.
                f"label_{name}": target[image, end] * (own.category[image, end] == category),
                f"score_{name}": scores[image, end, category],
                f"iou_{name}": aligned_iou(outputs.boxes[image, end], box),
            }
    table = frame_of(columns, analysis="adjacency", threshold=threshold, coupling=own.coupling)
    for name in ("label", "score", "iou"):
        table[f"d_{name}"] = table[f"{name}_a"] - table[f"{name}_b"]
    return table


def profile(source: Any, other: Any, *, reach: int = 4, **options: Any) -> Table:
    """Label, score and IoU along the row and the column through each object's best point.

    ``profile(outputs, own_assignment, …)`` is `profile_of`, with its options. ``profile(model, dataset, …)`` runs
    the model (options batch_size, device, max_images, progress), with its own assignment.
    """
    if isinstance(source, HeadOutputs):
        return profile_of(source, other, reach=reach, **options)

    def lines(_: Any, **seen: Any) -> Table:
        return profile_of(reach=reach, **seen)

    return over(source, other, lines, **options)[0]


def profile_of(
    outputs: HeadOutputs,
    own: Assignment,
    *,
    scores: Tensor | None = None,
    reach: int = 4,
    image_ids: Sequence[int] | None = None,
) -> Table:
    """Label, score and IoU through each object's best point, of one batch.

    Args:
        outputs, own, scores, image_ids: as in `adjacency_of`.
        reach: points to either side.

    Returns:
        Table: image, gt (in the image), category, level, axis (x, y), offset (strides from the
        object's positive point of highest label; of equal ones the better box, then the first), label taught
            there for this object, score of its class, iou of the predicted box with it, place of the point in the
            object's box along the axis (0 and 1: its sides).
    """
    with torch.no_grad():
        grid, scores = outputs.grid, scores_of(outputs) if scores is None else scores
        iou = own.iou(outputs.boxes)
        target = own.target(outputs.boxes)
        image, point = own.positive.nonzero(as_tuple=True)
        best_of = (point, iou[image, point], target[image, point], own.gt_index[image, point])
        keys = [array(v).astype(float) for v in (*best_of, image)]
        order = np.lexsort([-keys[0], *keys[1:]])  # the best of each object comes last
        last = np.flatnonzero(np.diff(np.stack(keys[3:])[:, order], append=np.nan).any(axis=0))
        best = torch.from_numpy(order[last]).to(grid.device)
        image, point = image[best], point[best]
        thing, category, box = (v[image, point] for v in (own.gt_index, own.category, own.matched_boxes))
        height, width = torch.tensor(grid.shapes, device=grid.device)[grid.level[point]].unbind(-1)
        parts = []
        for k, axis, place, size, step in (
            (0, "x", grid.column[point], width, torch.ones_like(width)),
            (1, "y", grid.row[point], height, width),
        ):
            for offset in range(-reach, reach + 1):
                inside = (place + offset >= 0) & (place + offset < size)
                i, at = image[inside], (point + offset * step)[inside]
                same = own.gt_index[i, at] == thing[inside]
                columns = {
                    "image": i if image_ids is None else torch.tensor(image_ids)[i.cpu()],
                    "gt": thing[inside],
                    "category": category[inside],
                    "level": grid.level[at],
                    "label": target[i, at] * same,
                    "score": scores[i, at, category[inside]],
                    "iou": aligned_iou(outputs.boxes[i, at], box[inside]),
                    "place": (grid.xy[at, k] - box[inside, k]) / (box[inside, k + 2] - box[inside, k]),
                }
                parts.append(frame_of(columns).assign(axis=axis, offset=offset))
    table = Table(pd.concat(parts, ignore_index=True))
    table.attrs = {"analysis": "profile", "coupling": own.coupling}
    return table


@summarises("profile")
def profile_summary(frame: pd.DataFrame) -> Measured:
    """Label, score and IoU at objects' best points and one stride beside them."""
    values: dict[str, Any] = {"objects": len(frame[["image", "gt"]].drop_duplicates())}
    at_best = frame[(frame["offset"] == 0) & (frame["axis"] == "x")]
    for name in ("label", "score", "iou"):
        values |= {f"{name}_best": at_best[name], f"{name}_beside": frame.loc[frame["offset"].abs() == 1, name]}
    return values, {"": "no such point"}


@summarises("adjacency", threshold=0.1)
def adjacency_summary(frame: pd.DataFrame, threshold: float) -> Measured:
    """Can the model tell the two apart, does it follow its labels, does its score follow the boxes?"""
    label, score, box = (frame[name].to_numpy(dtype=float) for name in ("d_label", "d_score", "d_iou"))
    ends, count = np.concatenate([frame["score_a"], frame["score_b"]]), len(frame)
    higher = stats.rankdata(ends)[:count].sum() - count * (count + 1) / 2  # ends a than ends b
    values = {
        "pairs": len(frame),
        "alike": np.abs(score) < threshold,
        "d_label": np.abs(label),
        "d_score": np.abs(score),
        "mismatch": np.abs(label - score),
        "told_apart": higher / count**2 if count else np.nan,
        "follows_iou": np.sign(score[box != 0]) == np.sign(box[box != 0]),
        "constant_rule": box[box != 0] > 0,
        "follows_iou_against": score[box < 0] < 0,
    }
    none = "no neighbouring points of which one is positive and one negative"
    equal = dict.fromkeys(("follows_iou", "constant_rule"), "no pair with different IoU")
    equal["follows_iou_against"] = "no pair whose negative point has the better box"
    return values, {"": none} | (equal if len(frame) else {})
