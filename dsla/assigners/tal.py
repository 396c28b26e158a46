"""Task-aligned assignment: the points that a box already detects best, by score and overlap together.

Feng et al., "TOOD: Task-aligned one-stage object detection", ICCV 2021; mmdetection ``TaskAlignedAssigner`` and
the targets of ``TOODHead`` give the same numbers.
"""

import torch
from torch import Tensor

from ..geometry import HeadOutputs, PointGrid, overlap, probability
from .atss import INSIDE
from .imagewise import Competition
from .pairs import Decision, Truth
from .rules import Case, Rule, inside_rule, label_rule
from .sparse.best import best_by_overlap, tile_points
from .sparse.cells import Cells
from .sparse.keys import winners, winning_key


class TaskAligned(Competition):
    """Soft labels: the alignment score^α · IoU^β, normalised so that a box's best point gets its best IoU.

    Each box takes its `topk` points of highest alignment over all levels, and then drops those outside it,
    without replacement: a box may end with fewer, or none. A point kept by several boxes goes to the one of
    the highest IoU, then to the smaller box, then to the lower index. Of equal alignments the first point is taken
    (mmdetection: any). Points in the padding do not compete.

    On a GPU the host waits twice a step for a number that depends on the predictions: of tiles, and then of points in
    them, that can still be among a box's best.

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

    def _assign(self, grid: PointGrid, truth: Truth, predictions: HeadOutputs | None) -> Decision:
        assert predictions is not None
        boxes = predictions.boxes.float()
        metric, point = self.best(grid, truth, predictions)  # [N, topk]
        cells = Cells.each(grid, truth, point)
        kept = (metric > 0) & (cells.pairs.depth > INSIDE)
        iou = overlap(boxes[truth.image[:, None], point], truth.boxes[:, None])[0].where(kept, 0)
        row, keys = cells.point, cells.keys(iou)
        owned = kept & (keys[row] == winning_key(iou, truth.rank[:, None])) if len(keys) else kept
        metric = metric.where(owned, 0)
        highest = metric.amax(1, keepdim=True)
        label = metric / (highest + 1e-7) * iou.where(owned, 0).amax(1, keepdim=True)
        labels, aligned = (  # one pair at most owns a point
            v.new_zeros(len(keys)).scatter_reduce_(0, row.flatten(), v.flatten(), "amax") for v in (label, metric)
        )
        where, owner, _ = winners(truth, keys)
        return Decision(where, owner, labels[where].clamp(max=1), {"alignment": aligned[where]})

    def best(self, grid: PointGrid, truth: Truth, predictions: HeadOutputs) -> tuple[Tensor, Tensor]:
        """The topk alignments of each box, [N, topk], and their points in P; 0 where there are fewer."""

        def alignment(box: Tensor, point: Tensor, iou: Tensor) -> Tensor:
            logit = predictions.logits[truth.image[box], point, truth.labels[box]]
            return self.alignment(probability(logit), iou)

        tile, _ = tile_points(grid.shapes, grid.device)
        highest = predictions.logits[:, tile].amax(2).transpose(1, 2).contiguous()  # [B, C, T]

        def bound(box: Tensor, tile: Tensor, iou: Tensor) -> Tensor:
            logit = highest[truth.image[box], truth.labels[box], tile]
            return self.alignment(probability(logit), iou).mul_(1 + 1e-4)

        allowed = None if truth.sizes is None else grid.inside(truth.sizes)
        boxes, k = predictions.boxes.float(), min(self.topk, len(grid))
        return best_by_overlap(grid, truth, boxes, k, alignment, bound, allowed)

    def alignment(self, score: Tensor, iou: Tensor) -> Tensor:
        aligned = score.double().pow(self.alpha) * iou.double().pow(self.beta)
        return aligned.float()  # in between, powers of float32 depend on where in a tensor they stand

    def rules(self, case: Case) -> list[Rule]:
        """Score, IoU, alignment, its place among the box's best, inside; then the label without rivals."""
        outputs, truth, grid = case.predictions, case.truth, case.grid
        assert outputs is not None
        score = float(probability(outputs.logits[0, case.point, truth.labels[0]]))
        iou = float(overlap(outputs.boxes[0, case.point].float(), truth.boxes[0])[0])
        metric = float(self.alignment(torch.tensor(score), torch.tensor(iou)))
        values, points = self.best(grid, truth, outputs)
        chosen, last = bool(((points[0] == case.point) & (values[0] > 0)).any()), float(values[0, -1])
        among = f"{'' if chosen else 'not '}among the {points.shape[1]} best; the last of them has {last:.4g}"
        label = case.alone(self)
        return [
            Rule("score", f"σ = {score:.4g} for the box's class", score),
            Rule("IoU", f"IoU of its predicted box {iou:.4g}", iou),
            Rule("alignment", f"σ^{self.alpha:g} · IoU^{self.beta:g} = {metric:.4g}, must be > 0", metric, metric > 0),
            Rule("best of the box", among, metric, chosen),
            inside_rule(case.pairs, INSIDE),
            label_rule(f"alignment / best alignment · best IoU = {label:.4g}", label),
        ]
