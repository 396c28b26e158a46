"""Backbones and the feature pyramid: image batch → C3, C4, C5 → P3…

ResNets are torchvision's, so that its names and ImageNet weights fit; `SmallNet` is the backbone of the
embedded scenes, small enough for a CPU.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.ops import FeaturePyramidNetwork, FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from ..errors import DataError

_LAYERS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
NORMS = ("frozen", "eval", "train")


class ResNetFeatures(ResNet):
    """torchvision's ResNet without its classifier: [B, 3, H, W] → c3, c4, c5 at strides 8, 16, 32.

    Args:
        depth: 50 or 101.
        style: where a stage halves the map: "pytorch" on the 3×3 convolution, "caffe" on the first 1×1.
        base_channels: width of the stem; 64 in every published model.
        frozen_stages: 0 freezes the stem, n also the first n stages; −1 nothing.
        norm: "frozen" fixes batch norm altogether; "eval" learns its weight and bias but keeps the stored
            statistics, also after ``model.train()``; "train" is ordinary batch norm.
    """

    def __init__(
        self,
        depth: int = 50,
        style: str = "pytorch",
        base_channels: int = 64,
        frozen_stages: int = -1,
        norm: str = "frozen",
    ) -> None:
        if depth not in _LAYERS or style not in ("pytorch", "caffe") or norm not in NORMS:
            raise ValueError(
                f"depth is one of {tuple(_LAYERS)}, style 'pytorch' or 'caffe', norm one of {NORMS}; "
                f"got {depth}, {style!r}, {norm!r}"
            )
        self._base, self._norm, self._frozen_stages = base_channels, norm, frozen_stages
        norm_layer = FrozenBatchNorm2d if norm == "frozen" else nn.BatchNorm2d
        super().__init__(Bottleneck, list(_LAYERS[depth]), norm_layer=norm_layer)
        del self.fc, self.avgpool
        self.out_channels = [base_channels * 4 * 2**i for i in (1, 2, 3)]
        if style == "caffe":
            for stage in (self.layer2, self.layer3, self.layer4):
                stage[0].conv1.stride, stage[0].conv2.stride = stage[0].conv2.stride, stage[0].conv1.stride
        for module in self._frozen():
            module.requires_grad_(False)

    def _make_layer(self, block: type, planes: int, *args: int, **kwargs: int) -> nn.Sequential:
        if planes == 64 and self._base != 64:  # first stage: the stem is there, at the usual width
            self.inplanes = self._base
            self.conv1 = nn.Conv2d(3, self._base, 7, stride=2, padding=3, bias=False)
            self.bn1 = self._norm_layer(self._base)
        return super()._make_layer(block, planes * self._base // 64, *args, **kwargs)

    def _frozen(self) -> list[nn.Module]:
        """The modules that `frozen_stages` names."""
        stages = [nn.ModuleList([self.conv1, self.bn1]), self.layer1, self.layer2, self.layer3, self.layer4]
        return stages[: self._frozen_stages + 1]

    def train(self, mode: bool = True) -> ResNetFeatures:
        super().train(mode)
        for part in [self] if self._norm == "eval" else self._frozen():
            for module in part.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(x)))))
        c3 = self.layer2(x)
        c4 = self.layer3(c3)
        return OrderedDict(c3=c3, c4=c4, c5=self.layer4(c4))


def resnet(
    depth: int,
    *,
    style: str = "pytorch",
    base_channels: int = 64,
    frozen_stages: int = -1,
    norm: str = "frozen",
    weights: str | None = None,
) -> ResNetFeatures:
    """A ResNet; ``weights="imagenet"`` takes torchvision's, which the first use downloads.

    Raises:
        ValueError: unknown options.
        DataError: ImageNet weights for a network that they do not fit, or neither stored nor within reach.
    """
    model = ResNetFeatures(depth, style, base_channels, frozen_stages, norm)
    if weights is None:
        return model
    if weights != "imagenet" or style != "pytorch" or base_channels != 64:
        raise DataError(
            "the only weights there are, torchvision's 'imagenet', fit style 'pytorch' and 64 base channels; "
            f"got {weights!r}, {style!r}, {base_channels}. Take a recipe whose name ends in -torchvision, start "
            "from weights of your own (--weights), or from random ones (pretrained=false)"
        )
    entry = get_model_weights(f"resnet{depth}").IMAGENET1K_V1
    try:
        state = entry.get_state_dict(progress=False, check_hash=True)
    except OSError as error:
        raise DataError(
            f"the ImageNet weights of ResNet-{depth} could not be downloaded ({error}). Fetch {entry.url} "
            f"elsewhere and place it in {torch.hub.get_dir()}/checkpoints, or set pretrained=false"
        ) from error
    model.load_state_dict({k: v for k, v in state.items() if not k.startswith("fc.")})
    return model


class SmallNet(nn.Module):
    """Five halvings of residual blocks, 16/32/48/64/96 channels: 0.26 M parameters, c3, c4, c5."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 48, 64, 96)) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, widths[0], 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
        )
        self.stages = nn.ModuleList()
        for a, b in pairwise(widths):
            shortcut = nn.Sequential(nn.Conv2d(a, b, 1, stride=2, bias=False), nn.BatchNorm2d(b))
            self.stages.append(BasicBlock(a, b, stride=2, downsample=shortcut))
        self.out_channels = list(widths[-3:])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = [self.stem(x)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return OrderedDict(zip(("c3", "c4", "c5"), maps[-3:], strict=True))


BACKBONES: dict[str, Callable[..., ResNetFeatures]] = {
    "resnet50": partial(resnet, 50),
    "resnet101": partial(resnet, 101),
}


def pyramid(in_channels: list[int], channels: int, extra_levels: str = "none") -> FeaturePyramidNetwork:
    """FPN without norms: P3, P4, P5 and, unless `extra_levels` is "none", P6 and P7.

    P6 is a stride-2 convolution of P5 ("output", as the published weights were trained) or of C5 ("input"),
    P7 the same of ReLU(P6).
    """
    if extra_levels not in ("none", "output", "input"):
        raise ValueError(f"extra_levels is 'none', 'output' or 'input', got {extra_levels!r}")
    extra = None
    if extra_levels != "none":
        extra = LastLevelP6P7(channels if extra_levels == "output" else in_channels[-1], channels)
        extra.use_P5 = extra_levels == "output"  # torchvision guesses it from the channels
    return FeaturePyramidNetwork(in_channels, channels, extra_blocks=extra)
