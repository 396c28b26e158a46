"""Sums in little memory against the sums of the plain elementwise losses, their definition."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dsla.losses import focal_loss, quality_focal_loss
from dsla.models import loss_sums
from dsla.models.loss_sums import focal_sum, quality_focal_sum

B, P, C = 3, 40, 7


def batch(seed=0, spread=3.0, dtype=torch.float64, classes=C, points=P):
    """Logits, targets, classes (a fifth positive, some of target 0 or 1) and ignored points."""
    g = torch.Generator().manual_seed(seed)
    logits = (torch.randn(B, points, classes, generator=g, dtype=torch.float64) * spread).to(dtype)
    category = torch.randint(0, classes, (B, points), generator=g).where(torch.rand(B, points, generator=g) < 0.2, -1)
    target = torch.rand(B, points, generator=g).round(decimals=1) * (category >= 0)
    ignored = (torch.rand(B, points, generator=g) < 0.2) & (category < 0)
    target = target.double() if dtype == torch.float64 else target.float()
    return logits.requires_grad_(), target, category, ignored


def plain(loss, logits, target, category, ignored):
    """The definition: every target written out."""
    targets = torch.zeros(logits.shape, dtype=target.dtype)
    targets.scatter_(-1, category.clamp(min=0)[..., None], (target * (category >= 0))[..., None])
    return loss(logits, targets).sum(-1).masked_fill(ignored, 0).sum()


KINDS = [
    *((quality_focal_sum, quality_focal_loss, {"beta": beta}) for beta in (2.0, 1.0, 1.5)),
    (focal_sum, focal_loss, {}),
    (focal_sum, focal_loss, {"alpha": 0.4, "gamma": 1.0}),
]


@pytest.mark.parametrize(("fast", "definition", "options"), KINDS)
@pytest.mark.parametrize("piece", [1, 3 * C, 10**6])
def test_value_and_gradient_are_those_of_the_definition(fast, definition, options, piece, monkeypatch):
    monkeypatch.setitem(loss_sums.PIECE, "cpu", piece)
    logits, target, category, ignored = batch()
    if definition is focal_loss:
        target = (target > 0).double()
    value = fast(logits, target, category, ignored, **options) * 0.7
    (gradient,) = torch.autograd.grad(value, logits)
    expected = plain(lambda x, y: definition(x, y, **options), logits, target, category, ignored) * 0.7
    (expected_gradient,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-9, atol=1e-14)
    assert (gradient[ignored] == 0).all()
    assert (gradient[category >= 0] != 0).any()


@pytest.mark.parametrize("fast", [quality_focal_sum, focal_sum])
def test_gradcheck(fast):
    logits, target, category, ignored = batch(1, spread=1.5, classes=3, points=6)
    assert torch.autograd.gradcheck(lambda x: fast(x, target, category, ignored), (logits,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("fast", "definition"), [(quality_focal_sum, quality_focal_loss), (focal_sum, focal_loss)])
def test_half_precision_is_read_in_float32(dtype, fast, definition):
    logits, target, category, ignored = batch(2, dtype=dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = fast(logits, target, category, ignored)
    (gradient,) = torch.autograd.grad(value, logits)
    expected = plain(definition, logits, target, category, ignored)
    (expected_gradient,) = torch.autograd.grad(expected, logits)
    assert value.dtype == torch.float32
    assert gradient.dtype == dtype
    torch.testing.assert_close(value, expected, rtol=2e-6, atol=0)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5 if dtype == torch.float32 else 1e-2, atol=1e-6)


def test_extreme_logits_stay_finite():
    logits, target, category, ignored = batch(3, spread=1e4, dtype=torch.float32)
    for fast in (quality_focal_sum, focal_sum):
        value = fast(logits, target, category, ignored)
        (gradient,) = torch.autograd.grad(value, logits)
        assert value.isfinite()
        assert gradient.isfinite().all()


def test_what_is_said_at_ignored_points_is_of_no_account():
    logits, target, category, ignored = batch(4, dtype=torch.float32)
    before = quality_focal_sum(logits, target, category, ignored)
    with torch.no_grad():
        logits[ignored] = 1e30
    assert torch.equal(quality_focal_sum(logits, target, category, ignored), before)


class _Largest(TorchDispatchMode):
    """Operations that made new storage of at least so many bytes."""

    def __init__(self, size):
        super().__init__()
        self.size, self.seen = size, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.untyped_storage().nbytes() >= self.size:
            before = {x.untyped_storage().data_ptr() for x in args if isinstance(x, torch.Tensor)}
            if out.untyped_storage().data_ptr() not in before:
                self.seen.append(str(func))
        return out


def test_nothing_of_the_logits_size_is_made_but_their_gradient(monkeypatch):
    monkeypatch.setitem(loss_sums.PIECE, "cpu", 100 * 80)
    logits, target, category, ignored = batch(5, dtype=torch.float32, classes=80, points=2000)
    size = logits.numel() * 4
    with _Largest(size // 4) as forward:
        value = quality_focal_sum(logits, target, category, ignored)
    assert forward.seen == []
    with _Largest(size // 4) as backward:
        value.backward()
    assert backward.seen == ["aten.empty_like.default"]
