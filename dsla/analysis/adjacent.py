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
from ..models.postprocess import Postprocess
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


def hard_rule(model: Any) -> FCOS:
    """FCOS's hard assignment with the level ranges of a model."""
    return FCOS(getattr(model.assigner, "regress_ranges", None) or model.recipe.ranges)


def adjacency(
    source: Any,
    other: Any,
    *,
    reference: Assigner | None = None,
    own: Assignment | None = None,
    scores: Tensor | None = None,
    across_levels: bool = False,
    threshold: float = 0.1,
    image_ids: Sequence[int] | None = None,
    **running: Any,
) -> Table:
    """Pairs of neighbouring points, one positive and one negative under a reference, of one batch or of a data set.

    With the same reference (FCOS's hard labels) the numbers of different methods can be compared.

    Args:
        source: what the head says at every point, `HeadOutputs`; or a model, which is run. Pixels are those of the
            network's input.
        other: the reference `Assignment` of the batch, which decides which pairs count and which object they belong to
            (ignored points form no pair); or the data set.
        reference: the assigner of a model's reference, by default FCOS's hard one with the model's ranges, on its
            points.
        own: of outputs, the assignment that the method itself is taught with, and with which coupling; without it the
            reference. Of a model its own.
        scores: of outputs [B,P,C]; without them σ(logits), times σ(quality) where the head has that
            branch.
        across_levels: also pairs of a point with the one at the same place on the next level.
        threshold: of the summary: scores closer than this count as not told apart.
        image_ids: of outputs; without them the places in the batch.
        running: batch_size, device, max_images, progress of a model's run.

    Returns:
        Table, a the positive and b the negative point: image, direction (right, down, level), level_a,
        level_b, point_a, point_b (index in the grid), x_a, y_a, x_b, y_b (pixels), gt (index in the image),
        category; at the object's class label_a, label_b (taught), score_a, score_b; iou_a, iou_b of the
        predicted boxes with the object; d_label, d_score, d_iou (a − b).
    """
    if not isinstance(source, HeadOutputs):
        options: dict[str, Any] = {"across_levels": across_levels, "threshold": threshold}
        rule = reference or hard_rule(source)
        return over(
            source, other, lambda raw, **seen: adjacency(raw.outputs, assign(rule, raw), **seen, **options), **running
        )
    outputs, rules = source, other
    taught: Assignment = rules if own is None else own
    with torch.no_grad():
        scores = Postprocess().scores(outputs) if scores is None else scores
        a, b, direction = neighbours(outputs.grid, across_levels)
        positive = rules.gt_index >= 0
        negative = ~positive & ~rules.ignored
        forward, backward = positive[:, a] & negative[:, b], negative[:, a] & positive[:, b]
        image, pair = (forward | backward).nonzero(as_tuple=True)
        swap = backward[image, pair]
        ends = [torch.where(swap, b[pair], a[pair]), torch.where(swap, a[pair], b[pair])]
        category, box = rules.category[image, ends[0]], rules.matched_boxes[image, ends[0]]
        target = taught.target(outputs.boxes)
        columns: dict[str, Any] = {
            "image": image if image_ids is None else torch.tensor(image_ids)[image.cpu()],
            "direction": np.array(DIRECTIONS, dtype=object)[array(direction[pair])],
            "gt": rules.gt_index[image, ends[0]],
            "category": category,
        }
        for name, end in zip("ab", ends, strict=True):
            there = {"level": outputs.grid.level[end], "point": end}
            there |= {"x": outputs.grid.xy[end, 0], "y": outputs.grid.xy[end, 1]}
            # What is taught there about another class is, for this one, background.
            there["label"] = target[image, end] * (taught.category[image, end] == category)
            there["score"] = scores[image, end, category]
            there["iou"] = aligned_iou(outputs.boxes[image, end], box)
            columns |= {f"{key}_{name}": values for key, values in there.items()}
    table = frame_of(columns, analysis="adjacency", threshold=threshold, coupling=taught.coupling)
    for name in ("label", "score", "iou"):
        table[f"d_{name}"] = table[f"{name}_a"] - table[f"{name}_b"]
    return table


def profile(
    source: Any,
    other: Any,
    *,
    scores: Tensor | None = None,
    reach: int = 4,
    image_ids: Sequence[int] | None = None,
    **running: Any,
) -> Table:
    """Label, score and IoU along the row and the column through each object's best point, of a batch or a data set.

    Args:
        source, scores, image_ids, running: as in `adjacency`.
        other: the assignment that the method is taught with; or the data set.
        reach: points to either side.

    Returns:
        Table: image, gt (in the image), category, level, axis (x, y), offset (strides from the
        object's positive point of highest label; of equal ones the better box, then the first), label taught
            there for this object, score of its class, iou of the predicted box with it, place of the point in the
            object's box along the axis (0 and 1: its sides).
    """
    if not isinstance(source, HeadOutputs):
        return over(source, other, lambda raw, own, **s: profile(raw.outputs, own, reach=reach, **s), **running)
    outputs, taught = source, other
    with torch.no_grad():
        grid, scores = outputs.grid, Postprocess().scores(outputs) if scores is None else scores
        iou, target = taught.iou(outputs.boxes), taught.target(outputs.boxes)
        image, point = taught.positive.nonzero(as_tuple=True)
        owner = {"image": image, "gt": taught.gt_index[image, point]}
        learns = frame_of(owner | {"label": target[image, point], "iou": iou[image, point]})
        learns = learns.sort_values(list(learns), ascending=[True, True, False, False], kind="stable")
        best = torch.tensor(learns.drop_duplicates(["image", "gt"]).index.to_numpy()).to(grid.device)
        image, point = image[best], point[best]
        thing, category, box = (v[image, point] for v in (taught.gt_index, taught.category, taught.matched_boxes))
        height, width = torch.tensor(grid.shapes, device=grid.device)[grid.level[point]].unbind(-1)
        steps, parts = torch.arange(-reach, reach + 1, device=grid.device), []
        for k, (place, size, step) in enumerate(
            ((grid.column, width, torch.ones_like(width)), (grid.row, height, width))
        ):
            there = place[point] + steps[:, None]
            offset, n = ((there >= 0) & (there < size)).nonzero(as_tuple=True)
            i, at, sides = image[n], point[n] + steps[offset] * step[n], box[n]
            columns = {
                "image": i if image_ids is None else torch.tensor(image_ids)[i.cpu()],
                "gt": thing[n],
                "category": category[n],
                "level": grid.level[at],
                "label": target[i, at] * (taught.gt_index[i, at] == thing[n]),
                "score": scores[i, at, category[n]],
                "iou": aligned_iou(outputs.boxes[i, at], sides),
                "place": (grid.xy[at, k] - sides[:, k]) / (sides[:, k + 2] - sides[:, k]),
            }
            parts.append(frame_of(columns).assign(axis="xy"[k], offset=array(steps[offset])))
    table = Table(pd.concat(parts, ignore_index=True))
    table.attrs = {"analysis": "profile", "coupling": taught.coupling}
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
