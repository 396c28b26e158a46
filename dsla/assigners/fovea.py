"""FoveaBox: the shrunk middle of a box, at the levels whose scale range holds its size.

Kong et al., "FoveaBox: beyond anchor-based object detection", IEEE TIP 2020; mmdetection ``FoveaHead`` gives
the same numbers.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..geometry import HeadOutputs, PointGrid, constant
from .base import Assigner
from .dsla import smooth_label
from .entry import checked_ranges
from .pairs import Decision, Pairs, Truth
from .rules import Case, Rule, label_rule, range_rule
from .sparse.cells import Cells, Levels
from .sparse.regions import Region, map_sizes

SCALE_RANGES = ((1.0, 64.0), (32.0, 128.0), (64.0, 256.0), (128.0, 512.0), (256.0, 2048.0))


class FoveaBox(Assigner):
    """Label 1, or DSLA's smooth label, in the fovea: the box shrunk by σ about its centre.

    A box acts at every level with low ≤ √(width · height) ≤ high; ranges overlap, so it may act at several.
    There it takes the cells whose points lie in its fovea, ends included. A point in several foveas goes to the
    smallest box, then to the lower index; with smooth labels first to the highest label.

    As in mmdetection, both ends of a fovea are clamped to the map: one that falls between two cells at the
    border, or beyond it, takes the cell of the border. Boxes outside their image are the data set's to refuse.

    With `smooth` the label is centerness, 1 in the core zone (half a stride around the centre), times the
    interval relaxation of √(width · height) over the level's range, as `DSLA` has it of max(l, t, r, b). The paper
    reports DSLA on FoveaBox without giving the formula: this is this package's reading of it.

    Args:
        scale_ranges: (low, high) of √(width · height) for each level, pixels, both included.
        sigma: share of each side that the fovea keeps.
        smooth: DSLA's labels in place of 1.
        relaxation: γ of the smooth labels.
    Raises:
        ValueError: ranges that are not 0 ≤ low < high, σ outside (0, 1], γ outside [0, 1).
    """

    name = "FoveaBox"

    def __init__(
        self,
        scale_ranges: Sequence[Sequence[float]] = SCALE_RANGES,
        sigma: float = 0.4,
        smooth: bool = False,
        relaxation: float = 0.2,
    ) -> None:
        self.scale_ranges = checked_ranges(scale_ranges, "scale_ranges")
        if not 0 < sigma <= 1 or not 0 <= relaxation < 1:
            raise ValueError(f"sigma must be in (0, 1] and relaxation in [0, 1), got {sigma} and {relaxation}")
        self.sigma, self.smooth, self.relaxation = float(sigma), smooth, float(relaxation)
        if smooth:
            self.name, self.default_coupling = "FoveaBox + DSLA", "on"

    @property
    def reach(self) -> tuple[tuple[float, float], ...]:
        """The scales at which a box acts at each level: the ranges, relaxed by γ under smooth labels."""
        share = self.relaxation if self.smooth else 0.0
        return tuple((lo * (1 - share), hi * (1 + share)) for lo, hi in self.scale_ranges)

    def _assign(self, grid: PointGrid, truth: Truth, predictions: HeadOutputs | None) -> Decision:
        def label(cells: Cells) -> Tensor:
            if self.smooth:
                return self._smooth(cells.pairs)["label"]
            return torch.ones(cells.point.shape, dtype=torch.float32, device=grid.device)

        return Decision(*self.fovea(grid, truth).winners(label))

    def fovea(self, grid: PointGrid, truth: Truth) -> Region:
        """The cells of each (box, level); in strides, rounded as the code base does."""
        sizes, stride = map_sizes(grid, truth), Levels.of(grid).stride[:, None]
        start, end = truth.boxes[:, None, :2] / stride, truth.boxes[:, None, 2:] / stride  # [N, L, 2]
        scale = _scale(*truth.boxes.unbind(-1))[:, None]
        low, high = constant(tuple(zip(*self.reach, strict=True)), grid.device)
        acts = (scale >= low) & (scale <= high) & (sizes > 0).all(-1)  # a level may lie in the padding alone
        half = 0.5 * (end - start)
        first = (start + (1 - self.sigma) * half - grid.offset).ceil()
        last = (start + (1 + self.sigma) * half - grid.offset).floor()
        first, last = (torch.minimum(v.clamp(0, 2.0**24).long(), sizes - 1) for v in (first, last))
        return Region(grid, truth, first, last.where(acts[..., None], first - 1))

    def _smooth(self, pairs: Pairs) -> dict[str, Tensor]:
        return smooth_label(pairs, _scale(*pairs.boxes), self.scale_ranges, self.reach)

    def factors(self, pairs: Pairs) -> dict[str, Tensor]:
        """centerness, core_zone, relaxation and the label they make in the fovea; 1 there without `smooth`."""
        factors = self._smooth(pairs)
        if self.smooth:
            return factors
        return factors | {"core_zone": factors["core_zone"] & False, "label": factors["relaxation"]}

    def rules(self, case: Case) -> list[Rule]:
        """Scale range, fovea, and the factors of a smooth label; then the label."""
        grid, pairs, region = case.grid, case.pairs, self.fovea(case.grid, case.truth)
        level, row, column = int(pairs.level), int(grid.row[case.point]), int(grid.column[case.point])
        (left, top), (right, bottom) = region.first[0, level].tolist(), region.last[0, level].tolist()
        within = left <= column <= right and top <= row <= bottom
        acts = range_rule("scale range", "√(w · h)", float(_scale(*pairs.boxes)), self.reach[level])
        cells = f"rows {top}…{bottom}, columns {left}…{right}"
        holds = cells if acts.passed else "no cell of a level it does not act at"
        text = f"row {row}, column {column}; the box shrunk by {self.sigma:g} holds {holds}"
        rules, label = [acts, Rule("fovea", text, float(within), within)], float(within)
        if self.smooth:
            c, core, h, smooth = (float(v) for v in self._smooth(pairs).values())
            rules.append(Rule("centerness", f"c = {c:.4g}{', 1 in the core zone' if core else ''}", c))
            rules.append(Rule("interval relaxation", f"h = {h:.4g}", h))
            label *= smooth
        return [*rules, label_rule(f"{label:.4g}", label)]


def _scale(x1: Tensor, y1: Tensor, x2: Tensor, y2: Tensor) -> Tensor:
    """√(width · height), pixels."""
    return ((x2 - x1) * (y2 - y1)).clamp(min=0).sqrt()
