"""What an assignment makes of the head's outputs: the losses of a step and what they are divided by."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Protocol

import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from ..assigners import Assignment
from ..assigners.dsla import centerness
from ..geometry import HeadOutputs
from ..losses import giou_loss, iou_loss
from ..recipes.recipe import checked
from .loss_sums import focal_sum, quality_focal_sum

BOX_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "iou": iou_loss,
    "iou-linear": partial(iou_loss, mode="linear"),
    "giou": giou_loss,
}


class Criterion(Protocol):
    """Losses by name, each a scalar; finite, with a path to every output, whatever the batch holds."""

    def __call__(self, outputs: HeadOutputs, assignment: Assignment) -> dict[str, Tensor]: ...


@dataclass(frozen=True)
class DSLACriterion:
    """Quality focal loss on the dynamic label, box loss weighted by the static one.

    Args:
        coupling: dynamic label "on" (static · IoU), "off" (static), "iou-only". The detector hands it to its assigner;
            what is taught is what the assignment then carries.
        cls_weight, box_loss_weight: factors of the two losses.
        box_loss: "iou" (−log IoU), "iou-linear" (1 − IoU) or "giou".
        beta: exponent of the quality focal loss.
    Raises:
        ValueError: an option that there is not.
    Source: release ``DSLAHead.loss``. Classification is divided by max(Σ y_d, 1), boxes by max(Σ y_s, 1), both
    sums averaged over ranks. A positive whose dynamic label is 0 counts as background.
    """

    coupling: str = "on"
    cls_weight: float = 1.0
    box_loss: str = "giou"
    box_loss_weight: float = 1.0
    beta: float = 2.0

    def __post_init__(self) -> None:
        checked("coupling", self.coupling), checked("box_loss", self.box_loss)

    def __call__(self, outputs: HeadOutputs, assignment: Assignment) -> dict[str, Tensor]:
        target = assignment.target(outputs.boxes.detach())
        cls = quality_focal_sum(outputs.logits, target, assignment.category, assignment.ignored, self.beta)
        box = BOX_LOSSES[self.box_loss](outputs.boxes, assignment.matched_boxes)
        return {
            "loss_cls": self.cls_weight * cls / normaliser(target.sum()),
            "loss_box": self.box_loss_weight * (box * assignment.label).sum() / normaliser(assignment.label.sum()),
        }


@dataclass(frozen=True)
class FCOSCriterion:
    """Focal loss, box loss, and a quality branch: what FCOS-like hard labels are trained with.

    The label of the assignment is the target, 1 under hard labels: a soft one is taught as the views show it.

    Args:
        quality: what the branch learns at positives, "centerness" or "iou"; None where there is no branch.
        box_weighting: share of a positive in the box loss, "centerness" (mmdetection), its "label", or "none", which is
            1 (torchvision).
        cls_weight, box_loss_weight, box_loss: as in `DSLACriterion`.
    Raises:
        ValueError: an option that there is not.
    Source: mmdetection ``FCOSHead.loss``; torchvision ``FCOSHead.compute_loss``.
    """

    coupling: ClassVar[str] = "off"  # hard labels are taught as they are
    quality: str | None = "centerness"
    box_weighting: str = "centerness"
    cls_weight: float = 1.0
    box_loss: str = "iou"
    box_loss_weight: float = 1.0

    def __post_init__(self) -> None:
        for name in ("quality", "box_weighting", "box_loss"):
            checked(name, getattr(self, name))

    def __call__(self, outputs: HeadOutputs, assignment: Assignment) -> dict[str, Tensor]:
        positive = assignment.positive.float()
        count = normaliser(positive.sum())
        cls = focal_sum(outputs.logits, assignment.label, assignment.category, assignment.ignored)

        x, y = outputs.grid.xy.unbind(-1)
        x1, y1, x2, y2 = assignment.matched_boxes.unbind(-1)
        centred = centerness(x - x1, y - y1, x2 - x, y2 - y) * positive
        weight = {"centerness": centred, "label": assignment.label}.get(self.box_weighting, positive)
        total = count
        if weight is not positive:
            total = mean_over_ranks(weight.sum()).clamp(min=1e-6 if weight is centred else 1)
        box = BOX_LOSSES[self.box_loss](outputs.boxes, assignment.matched_boxes)
        losses = {
            "loss_cls": self.cls_weight * cls / count,
            "loss_box": self.box_loss_weight * (box * weight).sum() / total,
        }
        if self.quality is not None:
            if outputs.quality is None:
                raise ValueError(f"the criterion trains a {self.quality} branch, but the head has none")
            wanted = centred if self.quality == "centerness" else assignment.iou(outputs.boxes.detach())
            entropy = F.binary_cross_entropy_with_logits(outputs.quality.float(), wanted, reduction="none")
            losses["loss_quality"] = (entropy * positive).sum() / count
        return losses


def together() -> bool:
    """Whether this process is one of several that work together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def mean_over_ranks(value: Tensor) -> Tensor:
    """The mean of a scalar over the processes of a distributed run; the value itself in a single one."""
    value = value.detach()
    if not together():
        return value
    value = value.clone()
    dist.all_reduce(value)
    return value / dist.get_world_size()


def normaliser(total: Tensor) -> Tensor:
    """max(mean of a sum over ranks, 1)."""
    return mean_over_ranks(total).clamp(min=1)
