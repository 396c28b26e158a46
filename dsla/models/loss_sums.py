"""Classification losses of a whole batch in little memory: the sums of `dsla.losses`' elementwise forms.

A point has one class at most, so nearly all of the [B, P, C] targets are 0. What background costs is summed in pieces
that fit a cache, and corrected at the one class of each positive point; the backward pass does the same once more
into the gradient. Neither keeps anything of the logits' size beside the logits and their gradient.

Held equal to the sums of `quality_focal_loss` and `focal_loss` by tests/models/test_loss_sums.py.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..geometry import at_least_float32
from ..losses import focal_loss, quality_focal_loss

PIECE = {"cpu": 2**16, "cuda": 2**22}  # logits looked at in one go: of a core's cache, and enough to fill a card

Loss = Callable[[Tensor, Tensor], Tensor]


def quality_focal_sum(logits: Tensor, target: Tensor, category: Tensor, ignored: Tensor, beta: float = 2.0) -> Tensor:
    """Σ of `quality_focal_loss` over points and classes.

    Args:
        logits: [B, P, C].
        target: [B, P] of each point's class; all its other targets are 0.
        category: [B, P] that class, −1 at background.
        ignored: [B, P] bool: points that count nothing, none of them with a class.
    """
    return _Sum.apply(logits, target, category, ignored, partial(quality_focal_loss, beta=beta), beta, 1.0)


def focal_sum(
    logits: Tensor, target: Tensor, category: Tensor, ignored: Tensor, alpha: float = 0.25, gamma: float = 2.0
) -> Tensor:
    """Σ of `focal_loss` over points and classes; arguments as in `quality_focal_sum`."""
    loss = partial(focal_loss, alpha=alpha, gamma=gamma)
    return _Sum.apply(logits, target, category, ignored, loss, gamma, 1 - alpha)


class _Sum(torch.autograd.Function):
    """Background costs factor · σ^power · softplus(logit), a class of a positive `loss(logit, target)`."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        target: Tensor,
        category: Tensor,
        ignored: Tensor,
        loss: Loss,
        power: float,
        factor: float,
    ) -> Tensor:
        ctx.save_for_backward(logits, target, category, ignored)
        ctx.loss, ctx.power, ctx.factor = loss, power, factor
        with torch.autocast(logits.device.type, enabled=False):
            rows = [_background(x, power)[0].sum(-1) for x in _pieces(logits)]
            background = (torch.cat(rows) * factor).view(target.shape)
            x = _of_class(logits, category)
            correction = loss(x, target.to(x.dtype)) - factor * _background(x, power)[0]
            points = background + correction.where(category >= 0, 0)
            return points.masked_fill(ignored, 0).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        logits, target, category, ignored = ctx.saved_tensors
        with torch.autocast(logits.device.type, enabled=False):
            gradient = torch.empty_like(logits, memory_format=torch.contiguous_format)
            share = ((ctx.factor * upstream).expand(ignored.shape).masked_fill(ignored, 0)).reshape(-1, 1)
            first = 0
            for x in _pieces(logits):
                value, p = _background(x, ctx.power)  # σ^k·softplus → σ^k·(k·(1 − σ)·softplus + σ)
                slope = value.mul_(1 - p).mul_(ctx.power).add_(p.pow(ctx.power + 1)).mul_(share[first : first + len(x)])
                gradient.view(-1, logits.shape[-1])[first : first + len(x)] = slope
                first += len(x)
            with torch.enable_grad():
                x = _of_class(logits, category).requires_grad_()
                (slope,) = torch.autograd.grad(ctx.loss(x, target.to(x.dtype)).sum(), x)
            at, positive = category.clamp(min=0)[..., None], (category >= 0)[..., None]
            here = torch.where(positive, (slope * upstream)[..., None].to(gradient.dtype), gradient.gather(-1, at))
            return gradient.scatter_(-1, at, here), *[None] * 6


def _background(x: Tensor, power: float) -> tuple[Tensor, Tensor]:
    """σ^power · softplus(x), and σ."""
    p = x.sigmoid()
    return p.pow(power).mul_(F.softplus(x)), p


def _pieces(logits: Tensor) -> Iterator[Tensor]:
    """[B, P, C] → [n, C] each, read in at least float32 as they are come to."""
    rows = logits.detach().reshape(-1, logits.shape[-1])
    count = max(1, PIECE.get(logits.device.type, PIECE["cuda"]) // rows.shape[-1])
    return (at_least_float32(piece) for piece in rows.split(count))


def _of_class(logits: Tensor, category: Tensor) -> Tensor:
    """[B, P] logit of each point's class, of the first one at background."""
    return at_least_float32(logits.detach().gather(-1, category.clamp(min=0)[..., None])[..., 0])
