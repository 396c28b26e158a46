"""`ImageAssigner`: methods in which the points, or the boxes, of an image decide about each other."""

from abc import abstractmethod

import torch
from torch import Tensor

from ..geometry import HeadOutputs, PointGrid
from .base import Assigner
from .pairs import Decision, Pairs, Truth
from .rules import Case, Rule, label_rule, region_rules
from .sparse.cells import Cells
from .sparse.keys import winners


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

    def _assign(self, grid: PointGrid, truth: Truth, predictions: HeadOutputs | None) -> Decision:
        keys = torch.zeros(len(truth.first) * len(grid), dtype=torch.int64, device=grid.device)
        points = torch.arange(len(grid), device=grid.device)
        for image in range(len(truth.first)):
            rows = truth.order[truth.image[truth.order] == image]  # smaller boxes first, then lower indices
            there = points if truth.sizes is None else points[grid.inside(truth.sizes)[image]]
            if len(rows) and len(there):
                cells = Cells(grid, truth, rows[:, None], there[None])
                cells.keys(self._checked(cells.pairs), into=keys)
        return Decision(*winners(truth, keys))

    def rules(self, case: Case) -> list[Rule]:
        """Inside the box, then the label among all points and, where they are given, the other boxes."""
        points = torch.arange(len(case.grid), device=case.grid.device)
        table = self._checked(Cells(case.grid, case.truth, case.truth.order[:, None], points[None]).pairs)
        label = float(table[case.truth.rank[0], case.point])
        return [*region_rules(case.pairs), label_rule(f"{label:.4g} among all points and boxes", label)]

    def _checked(self, pairs: Pairs) -> Tensor:
        """[M, P] labels, 0 outside the boxes."""
        label, inside = self.labels(pairs), pairs.inside()
        if label.shape != inside.shape or not bool(((label >= 0) & (label <= 1)).all()):
            raise ValueError(
                f"{self.name}: labels() must give numbers in 0…1, one a box and point, {list(inside.shape)}; "
                f"got {list(label.shape)}, from {float(label.min()):g} to {float(label.max()):g}"
            )
        return torch.where(inside, label.float(), 0)
