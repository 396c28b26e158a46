"""ATSS: each box draws its own IoU threshold from the anchors nearest to its centre.

Zhang et al., "Bridging the gap between anchor-based and anchor-free detection via adaptive training sample
selection", CVPR 2020; mmdetection ``ATSSAssigner`` gives the same numbers.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..geometry import HeadOutputs, PointGrid, constant, overlap
from .imagewise import Competition
from .pairs import Decision, Truth
from .rules import Case, Rule, inside_rule, label_rule
from .sparse.cells import Cells, Levels
from .sparse.keys import LAST, index_of, ordering_key, winners
from .sparse.regions import map_sizes

INSIDE = 0.01  # pixels that a point must be inside a box (mmdetection; also in TOOD)


class ATSS(Competition):
    """Label 1 where a near anchor overlaps the box by more than the mean + deviation of all near anchors.

    Each point carries one square anchor. The `topk` anchors whose centres are nearest to the box's are
    candidates at each level (all of a level that has fewer); a candidate is positive if its IoU reaches mean +
    standard deviation over the candidates of all levels and its centre lies in the box. A point claimed by
    several boxes goes to the one of the highest IoU, then to the smaller box, then to the lower index.

    Where mmdetection leaves a choice open: among equally near anchors the first point is taken (there: any);
    the deviation of a single candidate is 0 (there: NaN, no positive); points in the padding are no candidates.

    Args:
        topk: candidates a level.
        anchor_scale: side of the anchor in strides.
    Raises:
        ValueError: topk below 1, anchor_scale ≤ 0.
    """

    name = "ATSS"

    def __init__(self, topk: int = 9, anchor_scale: float = 8.0) -> None:
        if topk < 1 or not anchor_scale > 0:
            raise ValueError(f"topk must be at least 1 and anchor_scale above 0, got {topk} and {anchor_scale}")
        self.topk, self.anchor_scale = int(topk), float(anchor_scale)

    def _assign(self, grid: PointGrid, truth: Truth, predictions: HeadOutputs | None) -> Decision:
        near = self.candidates(grid, truth)
        cells = Cells.each(grid, truth, near.point)
        passed = near.valid & (cells.pairs.depth > INSIDE) & (near.iou >= near.threshold[:, None])
        point, box, iou = winners(truth, cells.keys(near.iou * passed))
        return Decision(point, box, torch.ones_like(iou), {"anchor_iou": iou})

    def candidates(self, grid: PointGrid, truth: Truth) -> "Nearest":
        """The nearest anchors of each box over all levels, with their statistics."""
        point, valid = nearest(grid, truth, self.topk)
        iou = overlap(anchors(grid, self.anchor_scale)[point], truth.boxes[:, None])[0] * valid
        # in double, so that the order of a sum cannot matter to the result in single precision
        count, wide = valid.sum(1).clamp(min=1), iou.double()
        mean = wide.sum(1) / count
        deviation = ((wide - mean[:, None]).square() * valid).sum(1) / (count - 1).clamp(min=1)
        return Nearest(point, valid, iou, mean.float(), deviation.sqrt().float())

    def rules(self, case: Case) -> list[Rule]:
        """Candidate or not, IoU against the threshold, inside; then the label."""
        grid, level = case.grid, int(case.pairs.level)
        near = self.candidates(grid, case.truth)
        distance = float(torch.hypot(*case.pairs.from_centre))
        chosen = bool((near.valid & (near.point == case.point))[0].any())
        places = near.valid[0].view(len(grid.shapes), -1).sum(1).tolist()  # [L]
        iou = float(overlap(anchors(grid, self.anchor_scale)[case.point], case.truth.boxes[0])[0])
        mean, deviation, threshold = (float(v[0]) for v in (near.mean, near.deviation, near.threshold))
        among = f"{'' if chosen else 'not '}among the {places[level]} nearest of level {level}"
        text = f"{distance:.4g} px from the centre, {among}; {sum(places)} candidates in all"
        needed = f"mean {mean:.4g} + deviation {deviation:.4g} = {threshold:.4g}"
        rules = [
            Rule("candidate", text, distance, chosen),
            Rule("threshold", f"IoU of its anchor {iou:.4g}, must be ≥ {needed}", iou, iou >= threshold),
            inside_rule(case.pairs, INSIDE),
        ]
        label = float(all(r.passed for r in rules))
        return [*rules, label_rule(f"{label:g}", label)]


@dataclass(frozen=True, eq=False)
class Nearest:
    """Candidates of each box, Q = L · topk: point [N, Q] in P, valid, iou [N, Q]; mean, deviation [N]."""

    point: Tensor
    valid: Tensor
    iou: Tensor
    mean: Tensor
    deviation: Tensor

    @property
    def threshold(self) -> Tensor:
        return self.mean + self.deviation


def anchors(grid: PointGrid, scale: float) -> Tensor:
    """[P, 4] the square of side scale · stride around each point."""
    half = (grid.stride * (scale / 2))[:, None]
    return torch.cat((grid.xy - half, grid.xy + half), -1)


def nearest(grid: PointGrid, truth: Truth, k: int) -> tuple[Tensor, Tensor]:
    """The k points of each level nearest to each box's centre: [N, L·k] in P, and which exist.

    Order the columns of a level by their distance to the centre and the rows by theirs. The point of the a-th
    column and b-th row has a·b − 1 others at least as near, those of no later column and row; so the k nearest
    have a·b ≤ k: 23 points for k = 9, wherever the centre lies and however small the map is. All of this
    orders by (distance, index), and so do ties: the first of equally near points.
    """
    table = Levels.of(grid)
    columns, rows = map_sizes(grid, truth).unbind(-1)
    x1, y1, x2, y2 = (truth.boxes[:, i, None] for i in range(4))
    ranks = _hyperbola(k, max(w for _, w in grid.shapes), max(h for h, _ in grid.shapes))
    a, b = constant(ranks, grid.device, torch.int64)
    column, dx = _nearest_cells((x1 + x2) / 2, table.stride, columns, max(ranks[0]) + 1, grid.offset)
    row, dy = _nearest_cells((y1 + y2) / 2, table.stride, rows, max(ranks[1]) + 1, grid.offset)
    distance = dx[..., a].square() + dy[..., b].square()  # [N, L, Q]
    place = row[..., b] * table.size[:, :1] + column[..., a]
    key = ordering_key(distance, place).masked_fill(~distance.isfinite(), LAST)
    key = key.topk(min(k, len(a)), largest=False).values
    valid = key < LAST
    point = (index_of(key) + table.first[:, None]).where(valid, 0)
    return point.flatten(1), valid.flatten(1)


@lru_cache(maxsize=64)
def _hyperbola(k: int, columns: int, rows: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ranks from 0 of columns and rows with (a + 1)(b + 1) ≤ k that a map of this size can have."""
    ranks = [(a, b) for a in range(min(k, columns)) for b in range(min(k // (a + 1), rows))]
    return tuple(a for a, _ in ranks), tuple(b for _, b in ranks)


def _nearest_cells(centre: Tensor, stride: Tensor, size: Tensor, count: int, offset: float) -> tuple[Tensor, Tensor]:
    """The `count` cells of 0…size−1 nearest to a coordinate and their distances, [N, L, count]; inf: none left.

    They lie within count / 2 cells of it, or at the border of the map.
    """
    begin = (centre / stride - offset - count / 2).floor().clamp(0, 2.0**24).long()
    begin = torch.minimum(begin, size - count - 2).clamp(min=0)
    cell = begin[..., None] + torch.arange(count + 2, device=size.device)
    distance = ((cell.float() + offset) * stride[:, None] - centre[..., None]).abs()
    distance, order = distance.masked_fill(cell >= size[..., None], torch.inf).sort(stable=True)
    return cell.gather(-1, order)[..., :count], distance[..., :count]
