"""ResNet and ResNeXt as detectors use them: caffe or pytorch style, frozen parts, deformable stages."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet as torchvision_resnet
from torchvision.models.resnet import ResNet
from torchvision.ops import FrozenBatchNorm2d

from ..errors import DataError, unknown
from ..recipes.recipe import checked
from .backbone import Backbone, imagenet
from .deform import DeformConv

# torchvision's name → blocks of each stage, and the options of its ResNet
NETWORKS: dict[str, tuple[list[int], dict[str, int]]] = {
    "resnet50": ([3, 4, 6, 3], {}),
    "resnet101": ([3, 4, 23, 3], {}),
    "resnext101_64x4d": ([3, 4, 23, 3], {"groups": 64, "width_per_group": 4}),
}


class Bottleneck(torchvision_resnet.Bottleneck):
    """torchvision's bottleneck; norms whose statistics are fixed are part of their convolution."""

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(convolved(self.conv1, self.bn1, x))
        out = self.relu(convolved(self.conv2, self.bn2, out))
        out = convolved(self.conv3, self.bn3, out)
        out += x if self.downsample is None else convolved(self.downsample[0], self.downsample[1], x)
        return self.relu(out)


def convolved(conv: Any, norm: Any, x: Tensor) -> Tensor:
    """norm(conv(x)), in one operation where the statistics are fixed.

    A batch norm is a factor and a bias of each channel then: the factor goes into the weights, which are few beside the
    map that would be read and written once or twice more.
    """
    fixed = isinstance(norm, FrozenBatchNorm2d | nn.BatchNorm2d) and not norm.training
    if not (fixed and isinstance(conv, nn.Conv2d)):
        return norm(conv(x))
    mean, variance = norm.running_mean, norm.running_var
    factor = norm.weight * (variance + norm.eps).rsqrt()
    weight = conv.weight * factor.view(-1, 1, 1, 1)
    return F.conv2d(x, weight, norm.bias - mean * factor, conv.stride, conv.padding, conv.dilation, conv.groups)


class ResNetFeatures(Backbone, ResNet):
    """torchvision's ResNet without its classifier: [B, 3, H, W] → c3, c4, c5 at strides 8, 16, 32.

    Args:
        name: one of `NETWORKS`.
        style: where a stage halves the map: "pytorch" on the 3×3 convolution, "caffe" on the first 1×1.
        norm, frozen_stages: as `Backbone.hold` has them.
        dcn_stages: in these, of C2…C5 by number, the 3×3 convolutions are deformable.
        weights: "imagenet" takes torchvision's, which the first use downloads.
    Raises:
        ValueError: unknown options.
        DataError: ImageNet weights for a network that they do not fit, or neither stored nor within reach.
    """

    if TYPE_CHECKING:  # torchvision's parts, without their types

        def __getattr__(self, name: str) -> Any: ...

    def __init__(
        self,
        name: str = "resnet50",
        style: str = "pytorch",
        frozen_stages: int = -1,
        norm: str = "frozen",
        dcn_stages: Sequence[int] = (),
        weights: str | None = None,
    ) -> None:
        style, norm = checked("backbone_style", style), checked("norm", norm)
        if not set(dcn_stages) <= {2, 3, 4, 5}:
            raise ValueError(f"dcn_stages are of 2…5, for C2…C5; got {tuple(dcn_stages)}")
        if weights is not None and (weights, style) != ("imagenet", "pytorch"):
            raise DataError(
                "the only weights there are, torchvision's 'imagenet', fit style 'pytorch'; got "
                f"{weights!r}, {style!r}. Give caffe's by --weights FILE.pth (a state dict, such as OpenMMLab's "
                "resnet50_msra), take a recipe whose name ends in -torchvision, or start from random ones "
                "(pretrained=false)"
            )
        if name not in NETWORKS:
            raise unknown("ResNet", name, NETWORKS)
        blocks, options = NETWORKS[name]
        norm_layer = FrozenBatchNorm2d if norm == "frozen" else nn.BatchNorm2d
        super().__init__(Bottleneck, blocks, norm_layer=norm_layer, **options)
        del self.fc, self.avgpool
        self.out_channels = [stage[-1].conv3.out_channels for stage in (self.layer2, self.layer3, self.layer4)]
        if style == "caffe":
            for stage in (self.layer2, self.layer3, self.layer4):
                first: Any = stage[0]
                first.conv1.stride, first.conv2.stride = first.conv2.stride, first.conv1.stride
        for number in dcn_stages:
            for block in self.parts()[number - 1]:
                block.conv2 = _deformable(block.conv2)
        if weights is not None:
            state = {k: v for k, v in imagenet(name).items() if not k.startswith("fc.")}
            state |= {k: v for k, v in self.state_dict().items() if "conv_offset" in k}  # those start at 0
            self.load_state_dict(state)
        self.hold(norm, frozen_stages)

    def parts(self) -> list[Any]:
        return [nn.ModuleList([self.conv1, self.bn1]), self.layer1, self.layer2, self.layer3, self.layer4]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.layer1(self.maxpool(self.relu(convolved(self.conv1, self.bn1, x))))
        c3 = self.layer2(x)
        c4 = self.layer3(c3)
        return {"c3": c3, "c4": c4, "c5": self.layer4(c4)}


def _deformable(conv: nn.Conv2d) -> DeformConv:
    """The same convolution, of the same weights, with places that it predicts."""
    new = DeformConv(conv.in_channels, conv.out_channels, False, conv.stride[0], conv.groups)
    new.weight = conv.weight
    return new
