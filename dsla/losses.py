"""Losses as pure functions, finite everywhere; float32 inside, whatever the precision of the network.

Elementwise or per box, without reduction: what a sum is divided by is the criterion's business
(`dsla.models.criteria`).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import DataError
from .geometry import at_least_float32, overlap


def quality_focal_loss(logits: Tensor, targets: Tensor, beta: float = 2.0) -> Tensor:
    """|y − σ|^β · BCE(logit, y): focal loss for targets y in [0, 1]. Shapes equal, elementwise.

    It is 0 at σ = y, where the weight vanishes although the BCE keeps the entropy of a soft target. Computed
    from logits, so that it stays finite where σ rounds to 0 or 1.

    Raises:
        ValueError: β below 1 other than 0, whose gradient is infinite at σ = y.
    Source: Li et al., "Generalized focal loss", NeurIPS 2020, eq. 2; release ``quality_focal_loss``.
    """
    if beta != 0 and beta < 1:
        raise ValueError(f"beta must be 0 or at least 1, got {beta}: the gradient is infinite at σ = y")
    logits, targets = at_least_float32(logits), at_least_float32(targets)
    with torch.autocast(logits.device.type, enabled=False):
        entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return (targets - logits.sigmoid()).abs().pow(beta) * entropy


def focal_loss(logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Sigmoid focal loss for targets of 0 or 1; between, each of its factors is linear. Shapes equal, elementwise.

    Source: Lin et al., "Focal loss for dense object detection", ICCV 2017, eq. 5.
    """
    logits, targets = at_least_float32(logits), at_least_float32(targets)
    with torch.autocast(logits.device.type, enabled=False):
        entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        p = logits.sigmoid()
        miss = p * (1 - targets) + (1 - p) * targets
        weight = alpha * targets + (1 - alpha) * (1 - targets)
        return weight * miss.pow(gamma) * entropy


def iou_loss(pred: Tensor, target: Tensor, mode: str = "log", eps: float = 1e-6) -> Tensor:
    """IoU loss of boxes [..., 4] → [...]: −log IoU, or with mode "linear" 1 − IoU, "square" 1 − IoU².

    The IoU is clamped at eps: below it the value is constant and the gradient 0.

    Source: Yu et al., "UnitBox", ACM MM 2016; release ``iou_loss``.
    """
    iou = overlap(pred, target)[0].clamp(min=eps)
    if mode == "log":
        return -iou.log()
    if mode not in ("linear", "square"):
        raise ValueError(f"mode is 'log', 'linear' or 'square', got {mode!r}")
    return 1 - (iou if mode == "linear" else iou**2)


def giou_loss(pred: Tensor, target: Tensor, eps: float = 1e-6) -> Tensor:
    """1 − GIoU of boxes [..., 4] → [...], in [0, 2].

    Source: Rezatofighi et al., "Generalized intersection over union", CVPR 2019; release ``giou_loss``.
    """
    pred, target = at_least_float32(pred), at_least_float32(target)
    iou, union = overlap(pred, target)
    size = torch.maximum(pred[..., 2:], target[..., 2:]) - torch.minimum(pred[..., :2], target[..., :2])
    size = size.relu()
    hull = (size[..., 0] * size[..., 1]).clamp(min=eps)
    return 1 - (iou - (hull - union) / hull)


def check_coupling(coupling: str) -> None:
    """Raises a ValueError where `dynamic_target` has no such coupling."""
    if coupling not in ("on", "off", "iou-only"):
        raise DataError(f"coupling is 'on', 'off' or 'iou-only', got {coupling!r}")


def dynamic_target(label: Tensor, iou: Tensor, coupling: str = "on") -> Tensor:
    """What the classification is taught at a positive point: the dynamic label y_d.

    coupling "on": static label · IoU; "off": the static label; "iou-only": the IoU (the ablation that fails).
    """
    check_coupling(coupling)
    if coupling == "on":
        return label * iou
    return label if coupling == "off" else iou
