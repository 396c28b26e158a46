"""`ImageAssigner`: methods in which the points, or the boxes, of an image decide about each other."""

from abc import abstractmethod

import torch
from torch import Tensor

from ..geometry import HeadOutputs, PointGrid
from .base import Assigner
from .dsla import centerness
from .pairs import Decision, Pairs, Truth
from .rules import Case, Rule, label_rule, region_rules
from .sparse.cells import Cells
from .sparse.keys import winners


class Competition(Assigner):
    """Base of methods in which the label of a pair depends on other points or boxes: alone it has its centerness."""

    def factors(self, pairs: Pairs) -> dict[str, Tensor]:
        """centerness (of a quality branch)."""
        return {"centerness": centerness(*pairs.distances)}


class ImageAssigner(Competition):
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
        for image in range(len(truth.first)):
            rows = truth.order[truth.image[truth.order] == image]  # smaller boxes first, then lower indices
            cells = self._cells(grid, truth, image, rows)
            cells.keys(self._checked(cells.pairs), into=keys)
        return Decision(*winners(truth, keys))

    def rules(self, case: Case) -> list[Rule]:
        """Inside the box, then the label among all points and, where they are given, the other boxes."""
        cells = self._cells(case.grid, case.truth, 0, case.truth.order)
        label = float(self._checked(cells.pairs)[case.truth.rank[0], cells.at[0] == case.point].sum())
        return [*region_rules(case.pairs), label_rule(f"{label:.4g} among all points and boxes", label)]

    def _cells(self, grid: PointGrid, truth: Truth, image: int, rows: Tensor) -> Cells:
        """Some boxes of an image, [M, 1], with all points that lie in it, [1, P]."""
        points = torch.arange(len(grid), device=grid.device)
        there = points if truth.sizes is None else points[grid.inside(truth.sizes)[image]]
        return Cells(grid, truth, rows[:, None], there[None])

    def _checked(self, pairs: Pairs) -> Tensor:
        """[M, P] labels, 0 outside the boxes."""
        inside = pairs.inside()
        if not inside.numel():  # no boxes, or no point in the image
            return inside.float()
        label = self.labels(pairs)
        if label.shape != inside.shape or not bool(((label >= 0) & (label <= 1)).all()):
            raise ValueError(
                f"{self.name}: labels() must give numbers in 0…1, one a box and point, {list(inside.shape)}; "
                f"got {list(label.shape)}, from {float(label.min()):g} to {float(label.max()):g}"
            )
        return torch.where(inside, label.float(), 0)
