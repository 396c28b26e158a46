"""Deformable 3×3 convolutions that predict where they look: torchvision's, with the predictor inside."""

from torch import Tensor, nn
from torchvision.ops import DeformConv2d


class DeformConv(DeformConv2d):
    """Deformable convolution (DCN v1) or, `modulated`, with a weight for each place as well (DCN v2), 3×3.

    Dai et al., "Deformable Convolutional Networks", ICCV 2017; Zhu et al., "Deformable ConvNets v2", CVPR 2019.
    The first starts as an ordinary convolution, the second as half of one. Names are mmcv's.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        bias: bool = False,
        stride: int = 1,
        groups: int = 1,
        modulated: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, 3, stride=stride, padding=1, groups=groups, bias=bias)
        offsets = 27 if modulated else 18  # 9 × (y, x), then 9 weights
        self.conv_offset = nn.Conv2d(in_channels, offsets, 3, stride=stride, padding=1)
        for value in self.conv_offset.parameters():
            nn.init.zeros_(value)

    def forward(self, x: Tensor) -> Tensor:
        where = self.conv_offset(x)
        if where.shape[1] == 18:
            return super().forward(x, where)
        return super().forward(x, where[:, :18], where[:, 18:].sigmoid())
