"""Swin Transformer S as a backbone: torchvision's, with a layer norm on each map, as mmdetection has it."""

from functools import partial

from torch import Tensor, nn
from torchvision.models.swin_transformer import SwinTransformer

from .backbone import Backbone, imagenet


class SwinFeatures(Backbone, SwinTransformer):
    """Swin-S without its classifier: [B, 3, H, W] → c3, c4, c5 of 192, 384, 768 channels.

    Liu et al., "Swin Transformer", ICCV 2021. Sides that are no multiples of a window are padded within. On maps no
    larger than a window, of images up to 224 pixels, torchvision does not shift windows, where mmdetection does.

    Args:
        drop_path: stochastic depth of the last block; it grows from 0 at the first.
        frozen_stages: as `Backbone.hold` has them.
        weights: "imagenet" takes torchvision's, but for the norms of the maps, which are new.
    Raises:
        DataError: ImageNet weights are neither stored nor within reach.
    """

    features: nn.Sequential

    def __init__(self, drop_path: float = 0.2, frozen_stages: int = -1, weights: str | None = None) -> None:
        super().__init__(
            patch_size=[4, 4],
            embed_dim=96,
            depths=[2, 2, 18, 2],
            num_heads=[3, 6, 12, 24],
            window_size=[7, 7],
            stochastic_depth_prob=drop_path,
            norm_layer=partial(nn.LayerNorm, eps=1e-5),
        )
        del self.norm, self.permute, self.avgpool, self.flatten, self.head
        self.out_channels = [192, 384, 768]
        self.norms = nn.ModuleList(nn.LayerNorm(c) for c in self.out_channels)
        if weights is not None:
            new = {k: v for k, v in self.state_dict().items() if k.startswith("norms.")}
            self.load_state_dict(new | {k: v for k, v in imagenet("swin_s").items() if k.startswith("features.")})
        self.hold("train", frozen_stages)

    def parts(self) -> list[nn.Module]:
        first, *rest = self.features
        return [first, rest[0], *(nn.ModuleList(rest[i : i + 2]) for i in (1, 3, 5))]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = []
        for place, part in enumerate(self.features):  # patches, blocks, merging, blocks, …; channels last
            x = part(x)
            if place in (3, 5, 7):
                maps.append(self.norms[place // 2 - 1](x).permute(0, 3, 1, 2).contiguous())
        return dict(zip(("c3", "c4", "c5"), maps, strict=True))
