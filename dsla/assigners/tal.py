"""Task-aligned assignment: the points that a box already detects best, by score and overlap together.

Feng et al., "TOOD: Task-aligned one-stage object detection", ICCV 2021; mmdetection ``TaskAlignedAssigner`` and
the targets of ``TOODHead`` give the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ..geometry import HeadOutputs, PointGrid, at_least_float32, overlap
from .atss import INSIDE
from .base import Assigner, Pairs, Truth
from .dsla import centerness
from .explanation import Explanation, Rule
from .rules import explain_pair, one_image
from .sparse.best import best_by_overlap, tile_points
from .sparse.regions import reduce_pairs


class TaskAligned(Assigner):
    """Soft labels: the alignment score^α · IoU^β, normalised so that a box's best point gets its best IoU.

    Each box takes its `topk` points of highest alignment over all levels, and then drops those outside it,
    without replacement: a box may end with fewer, or none. A point kept by several boxes goes to the one of
    the highest IoU, then to the smaller box, then to the lower index. Of equal alignments the first point is taken
    (mmdetection: any). Points in the padding do not compete.

    The label is alignment / (its maximum + 1e-7) · the maximum IoU, both over the points the box ends with.

    Args:
        topk: points a box.
        alpha, beta: exponents of score and IoU.
    Raises:
        ValueError: topk below 1, negative exponents, β = 0 (points that miss the box would be aligned).
    """

    name = "TAL"
    needs_predictions = True

    def __init__(self, topk: int = 13, alpha: float = 1.0, beta: float = 6.0) -> None:
        if topk < 1 or alpha < 0 or beta <= 0:
            raise ValueError(f"needs topk ≥ 1, alpha ≥ 0, beta > 0; got {topk}, {alpha}, {beta}")
        self.topk, self.alpha, self.beta = int(topk), float(alpha), float(beta)

    def options(self) -> dict[str, Any]:
        return {"topk": self.topk, "alpha": self.alpha, "beta": self.beta}

    def _assign(
        self, grid: PointGrid, truth: Truth, predictions: HeadOutputs | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        assert predictions is not None
        boxes = predictions.boxes.float()
        metric, point = self.best(grid, truth, predictions)  # [N, topk]
        near = truth.boxes[:, None]
        depth = torch.cat((grid.xy[point] - near[..., :2], near[..., 2:] - grid.xy[point]), -1).amin(-1)
        kept = (metric > 0) & (depth > INSIDE)
        iou = overlap(boxes[truth.image[:, None], point], near)[0].where(kept, 0)

        box = torch.arange(len(truth.boxes), device=grid.device)[:, None].expand_as(point)
        row = point + (truth.image * len(grid))[:, None]
        keys = reduce_pairs(grid, truth, box, row, iou)
        owned = kept & (keys[row] == truth.keys(iou, box)) if len(keys) else kept
        metric = metric.where(owned, 0)
        highest = metric.amax(1, keepdim=True)
        label = metric / (highest + 1e-7) * iou.where(owned, 0).amax(1, keepdim=True)
        labels, aligned = (  # one pair at most owns a point
            torch.zeros(len(keys), device=grid.device).scatter_reduce_(0, row.flatten(), v.flatten(), "amax")
            for v in (label, metric)
        )
        shape = (len(truth.first), len(grid))
        return keys, {"label": labels.view(shape).clamp(max=1), "alignment": aligned.view(shape)}

    def best(self, grid: PointGrid, truth: Truth, predictions: HeadOutputs) -> tuple[Tensor, Tensor]:
        """The topk alignments of each box, [N, topk], and their points in P; 0 where there are fewer."""

        def alignment(box: Tensor, point: Tensor, iou: Tensor) -> Tensor:
            logit = predictions.logits[truth.image[box], point, truth.labels[box]]
            return self.alignment(at_least_float32(logit).sigmoid().float(), iou)

        tile, _ = tile_points(grid.shapes, grid.device)
        highest = predictions.logits[:, tile].amax(2).transpose(1, 2).contiguous()  # [B, C, T]

        def bound(box: Tensor, tile: Tensor, iou: Tensor) -> Tensor:
            logit = highest[truth.image[box], truth.labels[box], tile]
            return self.alignment(at_least_float32(logit).sigmoid().float(), iou).mul_(1 + 1e-4)

        k, allowed = min(self.topk, len(grid)), None
        if truth.sizes is not None:
            allowed = (grid.xy < truth.sizes.flip(-1)[:, None]).all(-1)
        return best_by_overlap(grid, truth, predictions.boxes.float(), k, alignment, bound, allowed)

    def alignment(self, score: Tensor, iou: Tensor) -> Tensor:
        return score.pow(self.alpha) * iou.pow(self.beta)

    def factors(self, pairs: Pairs) -> dict[str, Tensor]:
        """centerness; "label" is 1 inside the box: the alignment is known only with predictions."""
        left, top, right, bottom = pairs.distances
        inside = torch.minimum(torch.minimum(left, right), torch.minimum(top, bottom)) > INSIDE
        return {"centerness": centerness(left, top, right, bottom), "label": inside.float()}

    def explain(
        self,
        grid: PointGrid,
        point: int,
        box: Iterable[float],
        predictions: HeadOutputs | None = None,
        image: int = 0,
        category: int = 0,
        others: Tensor | None = None,
    ) -> Explanation:
        """Score, IoU, alignment, its place among the box's best, inside; then the label without rivals."""

        def rules(pairs: Pairs) -> list[Rule]:
            truth, alone = one_image(self, grid, pairs, predictions, image, category)
            score = float(at_least_float32(alone.logits[0, point, category]).sigmoid())
            iou = float(overlap(alone.boxes[0, point].float(), truth.boxes[0])[0])
            metric = float(self.alignment(torch.tensor(score), torch.tensor(iou)))
            values, points = self.best(grid, truth, alone)
            chosen = bool(((points[0] == point) & (values[0] > 0)).any())
            last, nearest = float(values[0, -1]), min(float(d) for d in pairs.distances)
            assigned = self(grid, [truth.boxes], [truth.labels], predictions=alone)
            label = float(assigned.label[0, point])
            return [
                Rule("score", f"σ = {score:.4g} for class {category}", score),
                Rule("IoU", f"IoU of its predicted box {iou:.4g}", iou),
                Rule("alignment", f"σ^{self.alpha:g} · IoU^{self.beta:g} = {metric:.4g}", metric, metric > 0),
                Rule(
                    "best of the box",
                    f"{'' if chosen else 'not '}among the {points.shape[1]} best; the last of them has {last:.4g}",
                    metric,
                    chosen,
                ),
                Rule("inside the box", f"smallest distance {nearest:g} > {INSIDE}", nearest, nearest > INSIDE),
                Rule("label", f"alignment / best alignment · best IoU = {label:.4g}", label, label > 0),
            ]

        return explain_pair(self, grid, point, box, rules)
