"""`PairAssigner`: the short way to an assigner of your own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..geometry import HeadOutputs, PointGrid
from .base import Assigner, Pairs, Truth
from .explanation import Explanation, Rule
from .rules import checked_ranges, explain_pair, region_rules
from .sparse.windows import Windows


class PairAssigner(Assigner):
    """Base of the methods whose label for a point and a box depends on these two alone.

    Write `name` and `factors`; assigning a batch, ties, crowds, padding, `explain` and the tables are there. A point
    that several boxes would teach goes to the highest label, of equal ones to the smaller box, then the lower index.
    Only points strictly inside a box are asked about.

    Args:
        regress_ranges: (low, high) of max(l, t, r, b) in pixels for each level: no other pair is asked about, which
            makes large images quick. None: every point inside a box. A label may exclude more, and then says so
            by being 0.
    """

    def __init__(self, regress_ranges: Sequence[Sequence[float]] | None = None) -> None:
        self.regress_ranges = None if regress_ranges is None else checked_ranges(regress_ranges, None)

    def options(self) -> dict[str, Any]:
        return {"regress_ranges": self.regress_ranges}

    def _within(self, pairs: Pairs) -> Tensor:
        """Pairs that are asked about."""
        if self.regress_ranges is None:
            return pairs.inside()
        low, high = pairs.of_level(*zip(*self.regress_ranges, strict=True))
        return pairs.inside() & (pairs.measure >= low) & (pairs.measure <= high)

    def _assign(self, grid: PointGrid, truth: Truth, predictions: HeadOutputs | None) -> Tensor:
        ranges = self.regress_ranges or ((0.0, 1e8),) * len(grid.shapes)
        low, high = zip(*ranges, strict=True)
        candidates = Windows.of(grid, truth, low, high).candidates()
        label = self.factors(candidates.pairs)["label"].float()
        within = self._within(candidates.pairs)
        if label.device.type == "cpu" and within.any():  # on a GPU looking would halt the step
            least, most = label[within].aminmax()
            if not (least >= 0 and most <= 1):
                raise ValueError(
                    f"{self.name}: factors() gives labels from {float(least):g} to {float(most):g}; they must lie in "
                    "0…1 and be finite"
                )
        return candidates.reduce(torch.where(within, label, 0))

    def explain(self, grid: PointGrid, point: int, box: Iterable[float]) -> Explanation:
        """Inside the box, the range if there is one, each factor, then the label."""

        def rules(pairs: Pairs) -> list[Rule]:
            found = region_rules(pairs, None)
            if self.regress_ranges is not None:
                low, high = self.regress_ranges[int(pairs.level)]
                m = float(pairs.measure)
                found.append(Rule("regression range", f"m = {m:g} in [{low:g}, {high:g}]", m, low <= m <= high))
            values = {k: float(v) for k, v in self.factors(pairs).items()}
            label = values.pop("label") * bool(self._within(pairs))
            found += [Rule(k, f"{v:.4g}", v) for k, v in values.items()]
            return [*found, Rule("label", f"{label:.4g}", label, label > 0)]

        return explain_pair(self, grid, point, box, rules)
