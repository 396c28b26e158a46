"""`ImageAssigner`: methods in which the points, or the boxes, of an image decide about each other."""

from abc import abstractmethod

import torch
from torch import Tensor

from ..geometry import HeadOutputs, PointGrid
from .base import Assigner
from .pairs import Decision, Pairs, Truth
from .rules import Case, Rule, label_rule, region_rules


class ImageAssigner(Assigner):
    """Base of a method of your own that ranks points, or lets boxes compete, over a whole image.

    Write `name` and `labels`; batches, ties, crowds, padding, `explain` and the tables are there. A point that several
    boxes would teach goes to the highest label, of equal ones to the smaller box, then the lower index. Of a point
    outside a box the label counts as 0. All pairs of an image are held at once, which is plain and not quick; where it
    matters, `dsla.assigners.atss` shows how candidates are listed instead.
    """

    @abstractmethod
    def labels(self, pairs: Pairs) -> Tensor:
        """[M, P] labels in 0…1 of the M boxes of an image, smaller ones first, at its P points.

        Args:
            pairs: x, y, stride and level are [1, P], corners of boxes [M, 1]; what is made of both is [M, P].
        """

    def factors(self, pairs: Pairs) -> dict[str, Tensor]:
        """ "label" is 1 inside the box: the rest depends on the other points and boxes."""
        return {"label": pairs.inside().float()}

    def _assign(self, grid: PointGrid, truth: Truth, predictions: HeadOutputs | None) -> Decision:
        chosen: list[tuple[Tensor, Tensor, Tensor]] = []
        points = torch.arange(len(grid), device=grid.device)
        for image in range(len(truth.first)):
            rows = truth.order[truth.image[truth.order] == image]  # smaller boxes first, then lower indices
            there = points if truth.sizes is None else points[grid.inside(truth.sizes)[image]]
            if len(rows) and len(there):
                label = self._table(grid, truth.boxes[rows], there)
                best, row = label.max(0).values, label.argmax(0)  # the first of equal ones
                won = best > 0
                chosen.append((there[won] + image * len(grid), rows[row[won]], best[won]))
        if not chosen:
            return Decision(points[:0], points[:0], grid.xy[:0, 0])
        point, box, best = (torch.cat(column) for column in zip(*chosen, strict=True))
        return Decision(point, box, best)

    def rules(self, case: Case) -> list[Rule]:
        """Inside the box, then the label among all points and, where they are given, the other boxes."""
        boxes = case.truth.boxes
        if case.others is not None:
            boxes = torch.cat((boxes, case.others.to(boxes)))
        points = torch.arange(len(case.grid), device=case.grid.device)
        order = torch.argsort((boxes[:, 2:] - boxes[:, :2]).prod(-1), stable=True)
        label = float(self._table(case.grid, boxes[order], points)[(order == 0).int().argmax(), case.point])
        return [*region_rules(case.pairs), label_rule(f"{label:.4g} among all points and boxes", label)]

    def _table(self, grid: PointGrid, boxes: Tensor, points: Tensor) -> Tensor:
        """[M, P] labels of boxes at some points of the grid."""
        x, y = grid.xy[None, points].unbind(-1)
        x1, y1, x2, y2 = (boxes[:, i, None] for i in range(4))
        pairs = Pairs(x, y, (x1, y1, x2, y2), grid.stride[None, points], grid.level[None, points])
        label = self.labels(pairs)
        if label.shape != (len(boxes), len(points)) or not bool(((label >= 0) & (label <= 1)).all()):
            raise ValueError(
                f"{self.name}: labels() must give numbers in 0…1, one a box and point, {[len(boxes), len(points)]}; "
                f"got {list(label.shape)}, from {float(label.min()):g} to {float(label.max()):g}"
            )
        return torch.where(pairs.inside(), label.float(), 0)
