"""RetinaNet's assignment: the IoU of one square anchor a point with the boxes, against two thresholds.

Lin et al., "Focal loss for dense object detection", ICCV 2017; one square anchor a point as in the ATSS paper's
comparison. Positives equal those of torchvision's ``Matcher`` with ``allow_low_quality_matches``.
"""

import torch
from torch import Tensor

from ..geometry import HeadOutputs, PointGrid, overlap
from .atss import anchors
from .imagewise import Competition
from .pairs import Decision, Truth, pick
from .rules import Case, Rule, label_rule
from .sparse.cells import Cells, Levels
from .sparse.regions import Region, map_sizes


class MaxIoU(Competition):
    """Label 1 where the anchor's IoU with a box reaches `positive`, and at the best anchors of each box.

    A point goes to the box of the highest IoU among those that may claim it, then to the smaller box, then to the
    lower index. With `low_quality` a box also claims the anchors that overlap it most, however little (all
    of them where several do so equally; such a point can lie outside a small box). mmdetection gives an anchor
    that is the best of two boxes to the later one; here it is the one that it overlaps more. Points that no
    box claims, with an IoU from `negative` to `positive`, are ignored: taught nothing.

    Args:
        positive, negative: thresholds of the IoU.
        low_quality: whether each box claims its best anchors.
        anchor_scale: side of the anchor in strides.
    Raises:
        ValueError: thresholds that are not 0 < negative ≤ positive ≤ 1, anchor_scale ≤ 0.
    """

    name = "Max-IoU"

    def __init__(
        self, positive: float = 0.5, negative: float = 0.4, low_quality: bool = True, anchor_scale: float = 8.0
    ) -> None:
        if not 0 < negative <= positive <= 1:
            raise ValueError(f"thresholds must be 0 < negative ≤ positive ≤ 1, got {negative} and {positive}")
        if not anchor_scale > 0:
            raise ValueError(f"anchor_scale must be above 0, got {anchor_scale}")
        self.positive, self.negative, self.low_quality = float(positive), float(negative), low_quality
        self.anchor_scale = float(anchor_scale)

    def _assign(self, grid: PointGrid, truth: Truth, predictions: HeadOutputs | None) -> Decision:
        highest = torch.zeros(len(truth.first) * len(grid), dtype=torch.float32, device=grid.device)

        def claimed(cells: Cells) -> Tensor:
            iou, best = self._overlaps(cells)
            highest.scatter_reduce_(0, cells.point.flatten(), iou.flatten(), "amax")
            best_of_box = (iou == best[cells.box]) & (iou > 0) & self.low_quality
            return iou * ((iou >= self.positive) | best_of_box)

        point, box, iou = self._region(grid, truth).winners(claimed)
        return Decision(point, box, torch.ones_like(iou), {"anchor_iou": iou}, ignored=highest >= self.negative)

    def _overlaps(self, cells: Cells) -> tuple[Tensor, Tensor]:
        """IoU of each pair, which are all of an IoU ≥ `negative` and all best ones; best IoU [N] of the boxes in it."""
        anchor, box = pick(anchors(cells.grid, self.anchor_scale), cells.at), pick(cells.truth.boxes, cells.box)
        iou = cells.counted(overlap(anchor, box)[0])
        best = iou.new_zeros(len(cells.truth.boxes))
        return iou, best.scatter_reduce_(0, cells.box.expand_as(iou).flatten(), iou.flatten(), "amax")

    def _region(self, grid: PointGrid, truth: Truth) -> Region:
        """Per (box, level) the rectangle of points whose anchors can matter.

        The IoU falls with |dx| and with |dy|. It reaches t only where the overlap along x is at least
        t · max(box, anchor) / min(height, side), and likewise y. The best IoU of a level is that of the
        point nearest to the box's centre, shared by all points not further away than the two intervals allow
        without loss, |width − side| / 2.
        """
        stride, count = Levels.of(grid).stride[:, None], map_sizes(grid, truth)  # [L, 1], [N, L, 2]
        side = self.anchor_scale * stride
        start, end = truth.boxes[:, None, :2], truth.boxes[:, None, 2:]  # [N, 1, 2]
        centre, extent = (start + end) / 2, (end - start).clamp(min=0)
        larger = torch.maximum(extent.prod(-1, keepdim=True), side**2)
        needed = self.negative * larger / torch.minimum(extent.flip(-1), side).clamp(min=1e-6)  # [N, L, 2]
        reach = (extent + side) / 2 - needed
        reach = reach.masked_fill((needed > torch.minimum(extent, side)).any(-1, keepdim=True), -torch.inf)

        place = centre / stride - grid.offset
        closest = torch.minimum(place.round().clamp(0, 2.0**24), (count - 1).float())
        at = (closest + grid.offset) * stride
        if self.low_quality:
            square = torch.cat((at - side / 2, at + side / 2), -1)  # [N, L, 4]
            iou = overlap(square, truth.boxes[:, None])[0] * (count > 0).all(-1)
            good = (iou >= iou.amax(1, keepdim=True) * (1 - 1e-5)) & (iou > 0)  # [N, L]
            plateau = torch.maximum((extent - side).abs() / 2, (at - centre).abs())
            reach = torch.where(good[..., None], torch.maximum(reach, plateau), reach)
        slack = reach.clamp(-1e9, 1e9) / stride + 1e-3  # wide enough that rounding leaves out nothing
        first = (place - slack).ceil().clamp(0, 2.0**24).long()
        last = torch.minimum((place + slack).floor().clamp(-1, 2.0**24).long(), count - 1)
        return Region(grid, truth, first, last)

    def rules(self, case: Case) -> list[Rule]:
        """IoU of the anchor against the thresholds and against the box's best; then the label."""
        best = max(float(self._overlaps(cells)[1][0]) for cells in self._region(case.grid, case.truth).cells())
        anchor = anchors(case.grid, self.anchor_scale)[case.point]
        iou, side = float(overlap(anchor, case.truth.boxes[0])[0]), float(anchor[2] - anchor[0])
        best_of_box = self.low_quality and iou == best and iou > 0
        label = iou >= self.positive or best_of_box
        kind = "positive" if iou >= self.positive else "background" if iou < self.negative else "ignored"
        text = f"of its anchor (side {side:g}) {iou:.4g}: {kind}, thresholds {self.negative:g} and {self.positive:g}"
        rules = [Rule("IoU", text, iou, None if best_of_box else label)]
        if self.low_quality:
            verb = "this is one" if best_of_box else "this is not one"
            rules.append(Rule("best anchor", f"the box's best anchors have IoU {best:.4g}: {verb}", best))
        return [*rules, label_rule(f"{int(label)}", float(label))]
