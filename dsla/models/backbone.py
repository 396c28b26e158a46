"""What backbones have in common, the smallest of them, and the feature pyramid: image batch → C3, C4, C5 → P3…

The networks are torchvision's wherever they serve, so that its names and ImageNet weights fit: ResNets in
`resnet.py`, Swin in `swin.py`. `SmallNet` is the backbone of the embedded scenes, small enough for a CPU.
"""

from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights
from torchvision.models.resnet import BasicBlock
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from ..errors import DataError
from ..recipes.recipe import checked

B = TypeVar("B", bound="Backbone")


class Backbone(nn.Module):
    """[B, 3, H, W] → dict of c3, c4, c5 at strides 8, 16, 32; their channels are `out_channels`.

    What `hold` fixes stays fixed, also after ``model.train()``.
    """

    out_channels: list[int]
    _norm, _frozen_stages = "train", -1

    def parts(self) -> list[nn.Module]:
        """The parts that `frozen_stages` counts, from the stem on."""
        return []

    def hold(self, norm: str, frozen_stages: int) -> None:
        """Fix what is not to be trained.

        Args:
            norm: "frozen" fixes batch norm altogether; "eval" learns its weight and bias but keeps the stored
                statistics; "train" is ordinary batch norm.
            frozen_stages: 0 freezes the stem, n also the first n stages; −1 nothing.
        """
        self._norm, self._frozen_stages = norm, frozen_stages
        for stage in self.parts()[: frozen_stages + 1]:
            stage.requires_grad_(False)
        if norm == "frozen":
            for module in self._batch_norms():
                module.requires_grad_(False)
        self.train(self.training)

    def train(self: B, mode: bool = True) -> B:
        super().train(mode)
        for stage in self.parts()[: self._frozen_stages + 1]:
            stage.eval()
        if self._norm != "train":
            for module in self._batch_norms():
                module.eval()
        return self

    def _batch_norms(self) -> list[nn.Module]:
        return [m for m in self.modules() if isinstance(m, nn.BatchNorm2d)]


def imagenet(name: str) -> dict[str, Tensor]:
    """torchvision's ImageNet weights of one of its networks, which the first use downloads.

    Raises:
        DataError: neither stored nor within reach; says what to do.
    """
    entry = get_model_weights(name).IMAGENET1K_V1
    try:
        return dict(entry.get_state_dict(progress=False, check_hash=True))
    except (OSError, RuntimeError) as error:  # what came is not what it should be, as from a proxy
        raise DataError(
            f"the ImageNet weights of {name} could not be downloaded ({error}). Fetch {entry.url} elsewhere and "
            f"place it in {torch.hub.get_dir()}/checkpoints, or set pretrained=false"
        ) from error


class SmallNet(Backbone):
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
        return dict(zip(("c3", "c4", "c5"), maps[-3:], strict=True))


def pyramid(in_channels: list[int], channels: int, extra_levels: str = "none") -> FeaturePyramidNetwork:
    """FPN without norms: P3, P4, P5 and, unless `extra_levels` is "none", P6 and P7.

    P6 is a stride-2 convolution of P5 ("output", as the published weights were trained) or of C5 ("input"),
    P7 the same of ReLU(P6).
    """
    extra = None
    if checked("extra_levels", extra_levels) != "none":
        extra = LastLevelP6P7(channels if extra_levels == "output" else in_channels[-1], channels)
        extra.use_P5 = extra_levels == "output"  # torchvision guesses it from the channels
    return FeaturePyramidNetwork(in_channels, channels, extra_blocks=extra)
