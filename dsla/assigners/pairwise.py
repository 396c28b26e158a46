"""`PairAssigner`: methods whose label for a point and a box depends on these two alone."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..geometry import HeadOutputs, PointGrid
from .base import Assigner
from .entry import checked_ranges
from .pairs import Decision, Pairs, Truth
from .rules import Case, Rule, label_rule, range_rule, region_rules, value_rules
from .sparse.regions import Region, candidates


class PairAssigner(Assigner):
    """Base of DSLA, of FCOS and of a method of your own whose label depends on a point and a box alone.

    Write `name` and `factors`; assigning a batch, ties, crowds, padding, `explain` and the tables are there. A point
    that several boxes would teach goes to the highest label, of equal ones to the smaller box, then the lower index
    (`dsla.assigners.dense` defines it). Only points strictly inside a box are asked about.

    Args:
        regress_ranges: (low, high) of max(l, t, r, b) in pixels for each level: no other pair is asked about, which
            makes large images quick. None: every point inside a box. A label may exclude more, and then says so
            by being 0.

    Attributes:
        center_sampling: a subclass that sets it is asked only about points within so many strides of a box's centre.
    """

    regress_ranges: tuple[tuple[float, float], ...] | None
    center_sampling: float | None = None

    def __init__(self, regress_ranges: Sequence[Sequence[float]] | None = None) -> None:
        self.regress_ranges = None if regress_ranges is None else checked_ranges(regress_ranges)

    @property
    def reach(self) -> tuple[tuple[float, float], ...] | None:
        """(low, high) of max(l, t, r, b) beyond which every label is 0, for each level."""
        return self.regress_ranges

    @abstractmethod
    def factors(self, pairs: Pairs) -> dict[str, Tensor]:
        """What makes the label of each pair, by name; "label" is their product, 0 where excluded."""

    def label(self, pairs: Pairs) -> Tensor:
        """The label of each pair: that of `factors` where the pair is asked about, else 0.

        Raises:
            ValueError: labels outside 0…1; not looked for on a GPU, where it would halt the step.
        """
        factors, within = self.factors(pairs), pairs.inside(self.center_sampling)
        label = factors.get("label") if isinstance(factors, Mapping) else None
        if not isinstance(label, Tensor):
            raise ValueError(f"{self.name}: factors() must give a dict with a tensor 'label', not {factors!r:.80}")
        label = label.float()
        if self.regress_ranges is not None:
            low, high = pairs.of_level(*zip(*self.regress_ranges, strict=True))
            within = within & (pairs.measure >= low) & (pairs.measure <= high)
        label = torch.where(within, label, 0)
        if label.device.type == "cpu" and label.numel():
            least, most = label.aminmax()
            if not (least >= 0 and most <= 1):
                raise ValueError(
                    f"{self.name}: factors() gives labels from {float(least):g} to {float(most):g}; they must lie in "
                    "0…1 and be finite"
                )
        return label

    def region(self, grid: PointGrid, truth: Truth) -> Region:
        """The pairs that are asked about."""
        low, high = zip(*(self.reach or ((0.0, 1e8),) * len(grid.shapes)), strict=True)
        return candidates(grid, truth, low, high, self.center_sampling)

    def _assign(self, grid: PointGrid, truth: Truth, predictions: HeadOutputs | None) -> Decision:
        return Decision(*self.region(grid, truth).winners(lambda cells: self.label(cells.pairs)))

    def rules(self, case: Case) -> list[Rule]:
        """Inside the box, the range if there is one, each factor, then the label."""
        rules = region_rules(case.pairs, self.center_sampling)
        if self.regress_ranges is not None:
            ends = self.regress_ranges[int(case.pairs.level)]
            rules.append(range_rule("regression range", "m", float(case.pairs.measure), ends))
        factors = {k: v for k, v in case.values(self.factors).items() if k != "label"}
        label = float(self.label(case.pairs))
        return [*rules, *value_rules(factors), label_rule(f"{label:.4g}", label)]
