"""The head: how raw outputs become pixels, and what it starts from."""

import math

import pytest
import torch
from torch import nn

from dsla.models import Head
from dsla.models.deform import DeformConv
from dsla.models.head import MAX_DISTANCE, GroupNorm, decode


def small_head(**options):
    return Head(3, 8, 8, 1, (8, 16), groups=2, **options)


def maps(batch=2):
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(batch, 8, *shape, generator=generator) for shape in ((4, 6), (2, 3))]


@pytest.mark.parametrize(
    ("coding", "expected"),
    [
        ("exp", [math.exp(-1), 1.0, math.e, math.exp(2)]),
        ("exp_stride", [8 * math.exp(-1), 8.0, 8 * math.e, 8 * math.exp(2)]),
        ("relu_stride", [0.0, 0.0, 8.0, 16.0]),
    ],
)
def test_codings(coding, expected):
    raw = torch.tensor([[[-1.0, 0.0, 1.0, 2.0]]])
    torch.testing.assert_close(decode(raw, torch.tensor([[8.0]]), coding), torch.tensor([[expected]]))


@pytest.mark.parametrize("coding", ["exp", "exp_stride", "relu_stride"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_codings_stay_finite(coding, dtype):
    largest = torch.finfo(dtype).max
    raw = torch.tensor([[[-largest, 12.0, 100.0, largest]]], dtype=dtype, requires_grad=True)
    distances = decode(raw, torch.tensor([[128.0]]), coding)
    assert distances.dtype == torch.float32
    assert distances[..., 0] == 0
    assert float(distances.detach().max()) == pytest.approx(MAX_DISTANCE)
    distances.clamp(min=1).log().sum().backward()  # as losses do, relative to size
    assert raw.grad.isfinite().all()


def test_points_run_level_by_level_row_by_row():
    head, features = small_head(quality="iou", offset=0.5), maps()
    out = head(features)
    assert out.grid.shapes == ((4, 6), (2, 3))
    assert out.grid.offset == 0.5
    assert out.logits.shape == (2, 30, 3)
    assert out.quality.shape == (2, 30)
    with torch.no_grad():
        plain = head.class_logits(head.class_tower(features[1]))
    torch.testing.assert_close(out.logits[1, 24 + 1 * 3 + 2], plain[1, :, 1, 2])


def test_scales_act_on_their_level():
    head = small_head(box_coding="relu_stride", box_bias=1.0)
    before = head(maps()).distances
    with torch.no_grad():
        head.scales[1] = 2.0
    after = head(maps()).distances
    torch.testing.assert_close(after[:, :24], before[:, :24])
    torch.testing.assert_close(after[:, 24:], 2 * before[:, 24:])
    assert small_head(scales=False).scales is None


@pytest.mark.parametrize("tower", ["classification", "regression"])
def test_quality_reads_its_tower(tower):
    head = small_head(quality="centerness", quality_on=tower)
    head(maps()).quality.sum().backward()
    assert (head.class_tower[0].weight.grad is not None) == (tower == "classification")
    assert (head.box_tower[0].weight.grad is not None) == (tower == "regression")


def test_start():
    """Every class starts near the prior, distances near what box_bias says."""
    out = small_head(prior=0.01, box_bias=0.7, box_coding="exp_stride")(maps())
    assert out.logits.sigmoid().mean().item() == pytest.approx(0.01, rel=0.05)
    assert (out.distances / out.grid.stride[:, None]).log().mean().item() == pytest.approx(0.7, rel=0.1)


def test_deformable_convolution_starts_as_half_a_convolution():
    torch.manual_seed(0)
    deformable = DeformConv(4, 5, bias=False, modulated=True)
    plain = nn.functional.conv2d(x := torch.rand(2, 4, 6, 7), deformable.weight, padding=1)
    torch.testing.assert_close(deformable(x), plain / 2, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("wrong", [{"box_coding": "log"}, {"quality": "objectness"}, {"quality_on": "both"}])
def test_unknown_options(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong.values()))):
        small_head(**wrong)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_norms_of_half_precision_stay_half_and_near_those_of_float32(dtype):
    torch.manual_seed(0)
    norm, x = GroupNorm(4, 16), torch.randn(2, 16, 9, 7) * 3 + 1
    nn.init.normal_(norm.weight, 1, 0.2)
    rounding = torch.finfo(dtype).eps
    whole = nn.GroupNorm.forward(norm, x)
    assert torch.equal(norm(x), whole)
    inputs = x.to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype):
        out = norm(inputs)
    assert out.dtype == dtype
    assert (out.float() - whole).norm() < 2 * rounding * whole.norm()
    upstream = torch.randn_like(whole)
    (gradient,) = torch.autograd.grad(out, inputs, upstream.to(dtype))
    exact = x.requires_grad_()
    (expected,) = torch.autograd.grad(nn.GroupNorm.forward(norm, exact), exact, upstream)
    assert (gradient.float() - expected).norm() < 4 * rounding * expected.norm()
