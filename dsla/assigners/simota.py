"""SimOTA: each box takes as many points as its predictions overlap it, at the least cost.

Ge et al., "YOLOX: Exceeding YOLO series in 2021", arXiv 2107.08430; mmdetection ``SimOTAAssigner`` gives the same
numbers.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..geometry import HeadOutputs, PointGrid, overlap, probability
from .imagewise import Competition
from .pairs import Decision, Truth
from .rules import Case, Rule, centre_rule, label_rule, region_rules
from .sparse.best import best_by_overlap
from .sparse.cells import Cells, Levels
from .sparse.keys import LAST, index_of, ordering_key
from .sparse.regions import PIECE, Region, spread


class SimOTA(Competition):
    """Label 1 at the k points of least classification and IoU cost, k from the box's best IoUs.

    Candidates are the points of the image inside any box or within `center_radius` strides of any centre. The
    k of a box is the sum of its `candidate_topk` highest IoUs over all candidates, cut to an integer, at least 1.
    The box takes the k points of least cost, those in both its own box and its own centre region first. A point
    taken by several boxes goes to the one of all boxes, not only of those, for which it is cheapest, by the same
    order, then to the smaller box, then to the lower index; who loses a point gets no other.

    cost = cls_weight · Σ over classes of BCE(√score, one-hot) − iou_weight · ln(IoU + 1e-7); the score is that of the
    class, times the quality where the detector has that branch, as YOLOX has its objectness. mmdetection puts own
    points first by adding 1e8 to the cost of others, which in float32 makes their order arbitrary; here the order
    is that of the cost. Of equal costs the first point is taken.

    On a GPU the host waits 9 times a step for a number that depends on the predictions: runs of cells that the regions
    cover (2), tiles and points that can still be among the best IoUs (2), boxes with too few points of their own, pairs
    that are taken, points that several boxes take, these boxes, and positives.

    Args:
        center_radius: of the centre region, strides.
        candidate_topk: IoUs that k sums.
        iou_weight, cls_weight: of the two costs.
    Raises:
        ValueError: radius ≤ 0, candidate_topk below 1, negative weights.
    """

    name = "SimOTA"
    needs_predictions = True

    def __init__(
        self, center_radius: float = 2.5, candidate_topk: int = 10, iou_weight: float = 3.0, cls_weight: float = 1.0
    ) -> None:
        if not center_radius > 0 or candidate_topk < 1 or min(iou_weight, cls_weight) < 0:
            raise ValueError(
                "needs center_radius > 0, candidate_topk ≥ 1 and weights ≥ 0; got "
                f"{center_radius}, {candidate_topk}, {iou_weight}, {cls_weight}"
            )
        self.center_radius, self.candidate_topk = float(center_radius), int(candidate_topk)
        self.iou_weight, self.cls_weight = float(iou_weight), float(cls_weight)

    def _assign(self, grid: PointGrid, truth: Truth, predictions: HeadOutputs | None) -> Decision:
        assert predictions is not None
        scene = _Scene(self, grid, truth, predictions)
        box, point = scene.taken()
        row = truth.image[box] * len(grid) + point
        winner = torch.full((len(truth.first) * len(grid),), -1, dtype=torch.int64, device=grid.device)
        winner[row] = box  # where several boxes took a point, any: the next lines decide
        takers = torch.zeros_like(winner).scatter_add_(0, row, torch.ones_like(row))
        contested = (takers > 1).nonzero().flatten()
        if len(contested):
            winner[contested] = scene.cheapest(contested)
        where = (winner >= 0).nonzero().flatten()
        owner = winner[where]
        extras = {"cost": scene.cost(owner, where % len(grid)), "dynamic_k": scene.dynamic_k[owner].float()}
        return Decision(where, owner, torch.ones_like(extras["cost"]), extras)

    def rules(self, case: Case) -> list[Rule]:
        """Inside, centre region, the parts of the cost, k, taken or not; then the label without rivals.

        The image's other boxes matter to k alone: points in their regions are candidates too.
        """
        assert case.predictions is not None
        scene = _Scene(self, case.grid, case.truth, case.predictions)
        first, at = (torch.tensor([i], device=case.grid.device) for i in (0, case.point))
        iou, cost, by_class = (float(of(first, at)) for of in (scene.iou, scene.cost, scene.class_cost))
        k, best, both_in = int(scene.dynamic_k[0]), float(scene.best_iou[0].sum()), int(scene.inner[1][0].sum())
        taker, taken = scene.taken()
        chosen = bool(((taker == 0) & (taken == case.point)).any())
        candidate, both = bool(scene.candidate[0, case.point]), bool(scene.both(first, at))
        first_come = "the box and its centre region: their points come first"
        regions = [*region_rules(case.pairs), centre_rule("centre region", case.pairs, self.center_radius)]
        return [
            *(Rule(r.name, r.text.replace(", must be", "; first come those"), r.value) for r in regions),
            Rule("first choice", f"{'in' if both else 'not in both'} {first_come}", float(both)),
            Rule("candidate", "must be in the box or centre region of a box of the image", float(candidate), candidate),
            Rule("class cost", f"Σ BCE(√score, one-hot) = {by_class:.4g}, weight {self.cls_weight:g}", by_class),
            Rule("IoU cost", f"−ln(IoU {iou:.4g} + 1e-7), weight {self.iou_weight:g}", iou),
            Rule("cost", f"{cost:.4g}", cost),
            Rule(
                "dynamic k",
                f"the {self.candidate_topk} best IoUs sum to {best:.4g}: k = {k}; {both_in} points in both regions",
                k,
            ),
            Rule("cheapest points", f"{'' if chosen else 'not '}among the {k} that the box takes", cost, chosen),
            label_rule(f"{int(chosen)}", float(chosen)),
        ]


@dataclass(frozen=True, eq=False)
class _Scene:
    """Regions and costs of a batch. Box indices into N and points into P, as tensors of one shape."""

    method: SimOTA
    grid: PointGrid
    truth: Truth
    predictions: HeadOutputs

    @cached_property
    def boxes(self) -> Tensor:
        return self.predictions.boxes.float()

    @cached_property
    def regions(self) -> tuple[Region, Region]:
        """Cells strictly inside each box, and inside its centre region, which the box does not limit."""
        low, high = self.truth.boxes[:, None, :2], self.truth.boxes[:, None, 2:]
        centre, reach = (low + high) / 2, self.method.center_radius * Levels.of(self.grid).stride[:, None]
        around = Region.inside(self.grid, self.truth, centre - reach, centre + reach)
        return Region.inside(self.grid, self.truth, low, high), around

    @cached_property
    def candidate(self) -> Tensor:
        """[B, P] bool."""
        box, centre = self.regions
        return box.covered() | centre.covered()

    @cached_property
    def inner(self) -> tuple[Tensor, Tensor]:
        """Points in P in both box and centre region of each box, [N, Q], and which exist.

        An open interval of 2 · radius strides holds at most ceil(2 · radius) points.
        """
        box, centre = self.regions
        count = -int(-2 * self.method.center_radius // 1)
        cells = (box & centre).windows(count, count)
        assert cells.valid is not None
        return cells.at.flatten(1), cells.valid.flatten(1)

    @cached_property
    def best_iou(self) -> Tensor:
        """[N, candidate_topk] float64: the highest IoUs of each box with the predictions of all candidates."""
        k = min(self.method.candidate_topk, len(self.grid))
        best, _ = best_by_overlap(
            self.grid,
            self.truth,
            self.boxes,
            k,
            score=lambda box, point, iou: iou,
            bound=lambda box, tile, iou: iou,
            allowed=self.candidate,
        )
        return best.double()  # sums of ten are exact, so no order of summing can move k

    @cached_property
    def dynamic_k(self) -> Tensor:
        """[N] int64; 0 in an image without candidates."""
        k = self.best_iou.sum(1).long().clamp(min=1)
        return k * self.candidate.any(1)[self.truth.image]

    @cached_property
    def quality(self) -> Tensor:
        """[B, P] of the branch, 1 without one."""
        quality = self.predictions.quality
        if quality is None:
            return torch.ones_like(self.predictions.logits[..., 0], dtype=torch.float32)
        return probability(quality)

    def _root(self, logits: Tensor, quality: Tensor) -> Tensor:
        """√score, float32."""
        return (probability(logits) * quality).sqrt()

    @cached_property
    def background_cost(self) -> Tensor:
        """[B, P] float64: Σ over classes of BCE(√score, 0); each logarithm at least −100."""
        root = self._root(self.predictions.logits, self.quality[..., None])
        return -root.neg_().log1p_().clamp_(min=-100).sum(-1, dtype=torch.float64)

    def class_cost(self, box: Tensor, point: Tensor) -> Tensor:
        """Σ over classes of BCE(√score, one-hot of the box), float64: the background's, but for one class."""
        image = self.truth.image[box]
        root = self._root(self.predictions.logits[image, point, self.truth.labels[box]], self.quality[image, point])
        change = (-root).log1p().clamp(min=-100).double() - root.log().clamp(min=-100).double()
        return self.background_cost[image, point] + change

    def iou(self, box: Tensor, point: Tensor) -> Tensor:
        return overlap(self.boxes[self.truth.image[box], point], self.truth.boxes[box])[0].nan_to_num(0)

    def cost(self, box: Tensor, point: Tensor) -> Tensor:
        by_iou = self.method.iou_weight * (self.iou(box, point) + 1e-7).log().double()
        return (self.method.cls_weight * self.class_cost(box, point) - by_iou).float()

    def both(self, box: Tensor, point: Tensor) -> Tensor:
        """Whether the point lies in both the box and its centre region."""
        return Cells(self.grid, self.truth, box, point).pairs.inside(self.method.center_radius)

    def taken(self) -> tuple[Tensor, Tensor]:
        """(box, point) of the k cheapest points of each box, [Q] twice."""
        point, on = self.inner
        every = torch.arange(len(self.grid), device=point.device)[None]
        enough = on.sum(1) >= self.dynamic_k
        boxes = torch.arange(len(point), device=point.device)
        taken = [self._cheapest_of(boxes, point, on, self.dynamic_k * enough)]
        short = boxes[~enough]  # with too few points of their own they are rare: in full
        for few in short.split(max(1, PIECE // len(self.grid))) if len(short) else ():
            free, behind = self.candidate[self.truth.image[few]], ~self.both(few[:, None], every)
            taken.append(self._cheapest_of(few, every, free, self.dynamic_k[few], behind))
        box, point = (torch.cat(column) for column in zip(*taken, strict=True))
        return box, point

    def cheapest(self, row: Tensor) -> Tensor:
        """The box of least cost among all of the image, for points [Q] of B·P → [Q]."""
        ends = torch.cat((self.truth.first[1:], self.truth.first.new_full((1,), len(self.truth.image))))
        counts, winner = ends - self.truth.first, []  # boxes of each image
        for few in row.split(max(1, PIECE // len(self.truth.image))):
            image, point = few // len(self.grid), few % len(self.grid)
            owner, place = spread(counts[image])
            box, at = self.truth.first[image[owner]] + place, point[owner]
            key = ordering_key(self.cost(box, at), self.truth.rank[box], ~self.both(box, at))
            least = torch.full_like(few, LAST).scatter_reduce_(0, owner, key, "amin")
            winner.append(self.truth.order[index_of(least)])
        return torch.cat(winner)

    def _cheapest_of(
        self, box: Tensor, point: Tensor, allowed: Tensor, count: Tensor, behind: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Boxes [n] and points [n or 1, Q] → the pairs (box, point) of least cost, `count` [n] of each box at most."""
        cost = self.cost(box[:, None], point)
        point = point.expand_as(cost)
        key = ordering_key(cost, point, behind).masked_fill(~allowed, LAST)
        key = key.topk(min(self.method.candidate_topk, key.shape[1]), largest=False).values
        take = torch.arange(key.shape[1], device=key.device) < count[:, None]
        row, column = (take & (key < LAST)).nonzero(as_tuple=True)
        return box[row], index_of(key[row, column])
