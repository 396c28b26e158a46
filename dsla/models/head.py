"""The head: two towers shared by all levels → class logits, distances in pixels, and maybe a quality."""

import math
from collections.abc import Sequence
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import DeformConv2d

from ..geometry import HeadOutputs, PointGrid
from ..recipes.recipe import checked
from .deform import DeformConv

MAX_DISTANCE = 1e6  # pixels; keeps what the exponential gives, and areas made of it, finite
RawOutputs = tuple[Tensor, Tensor, Tensor | None, list[tuple[int, int]]]


class GroupNorm(nn.GroupNorm):
    """A group norm that leaves half precision as it is, where autocast would bring whole maps to float32 and back.

    Its sums are float32 inside; in bfloat16 the gradients of a tower are off by 0.7 % instead of 0.5 %.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype not in (torch.bfloat16, torch.float16):
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return F.group_norm(x, self.num_groups, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


class Head(nn.Module):
    """Feature maps of L levels → `HeadOutputs`.

    Args:
        num_classes: C.  in_channels: of the pyramid.  channels: of the towers.  num_convs: in each tower.
        strides: pixels between the points of each level.  offset: of the points, in strides (`PointGrid`).
        groups: of the group norms.  conv_bias: biases in front of them.
        box_coding: distances in pixels from the raw output x and the level's scale a: "exp": exp(a·x);
            "exp_stride": exp(a·x)·stride; "relu_stride": relu(a·x)·stride (the release's ``norm_on_bbox``).
        scales: one learnable a for each level, else a = 1.
        quality: adds a branch of one logit a point, "centerness" or "iou"; the criterion teaches it.
        quality_on: the tower that carries it, "classification" or "regression".
        dcn_last: the last convolution of each tower is a modulated deformable one.
        box_bias: initial bias of the box output.  prior: initial score of every class.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        channels: int,
        num_convs: int,
        strides: Sequence[int],
        offset: float = 0.0,
        groups: int = 32,
        conv_bias: bool = False,
        box_coding: str = "exp",
        scales: bool = True,
        quality: str | None = None,
        quality_on: str = "classification",
        dcn_last: bool = False,
        box_bias: float = 0.0,
        prior: float = 0.01,
    ) -> None:
        super().__init__()
        self.num_classes, self.strides, self.offset = num_classes, tuple(strides), offset
        self.box_coding, self.quality_on = checked("box_coding", box_coding), checked("quality_on", quality_on)

        def tower() -> nn.Sequential:
            layers: list[nn.Module] = []
            for i in range(num_convs):
                width = in_channels if i == 0 else channels
                if dcn_last and i == num_convs - 1:
                    layers.append(DeformConv(width, channels, conv_bias, modulated=True))
                else:
                    layers.append(nn.Conv2d(width, channels, 3, padding=1, bias=conv_bias))
                layers += [GroupNorm(groups, channels), nn.ReLU(inplace=True)]
            return nn.Sequential(*layers)

        def output(size: int, bias: float) -> nn.Conv2d:
            conv = nn.Conv2d(channels if num_convs else in_channels, size, 3, padding=1)
            assert conv.bias is not None
            nn.init.constant_(conv.bias, bias)
            return conv

        self.class_tower, self.box_tower = tower(), tower()
        self.class_logits = output(num_classes, -math.log((1 - prior) / prior))
        self.box = output(4, box_bias)
        self.quality = output(1, 0.0) if checked("quality", quality) else None
        self.scales = nn.Parameter(torch.ones(len(self.strides))) if scales else None
        for name, module in self.named_modules():
            if isinstance(module, (nn.Conv2d, DeformConv2d)) and not name.endswith("conv_offset"):
                nn.init.normal_(module.weight, std=0.01)
                if "tower" in name and module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features: Sequence[Tensor]) -> HeadOutputs:
        """Maps [B, channels, h, w] of each level, finest first; any precision, distances come as float32."""
        return self.outputs(self.raw(features))

    def outputs(self, raw: RawOutputs) -> HeadOutputs:
        """What `raw` gives, with its points."""
        logits, distances, quality, shapes = raw
        grid = PointGrid.from_shapes(shapes, self.strides, self.offset, logits.device)
        return HeadOutputs(logits=logits, distances=distances, grid=grid, quality=quality)

    def raw(self, features: Sequence[Tensor]) -> RawOutputs:
        """Logits [B, P, C], distances [B, P, 4] in pixels, quality [B, P] or None, and the maps' shapes."""
        logits, distances, quality = [], [], []
        for level, x in enumerate(features):
            for_class, for_box = self.class_tower(x), self.box_tower(x)
            logits.append(_rows(self.class_logits(for_class)))
            box = _rows(self.box(for_box)).float()
            if self.scales is not None:
                box = box * self.scales[level].float()
            distances.append(decode(box, box.new_full((1,), float(self.strides[level])), self.box_coding))
            if self.quality is not None:
                quality.append(_rows(self.quality(for_box if self.quality_on == "regression" else for_class)))
        branch = torch.cat(quality, 1).squeeze(-1) if quality else None
        return torch.cat(logits, 1), torch.cat(distances, 1), branch, [(x.shape[-2], x.shape[-1]) for x in features]


def decode(raw: Tensor, stride: Tensor, coding: str) -> Tensor:
    """Scaled outputs [B, P, 4] and strides [P, 1] → distances in pixels, float32, at most `MAX_DISTANCE`.

    Exponents are cut before the exponential, so that neither the value nor its gradient overflows.
    """
    # shapes alone (the meta device) know no autocast
    with nullcontext() if raw.is_meta else torch.autocast(raw.device.type, enabled=False):
        raw = raw.float()
        if coding == "exp":
            return raw.clamp(max=math.log(MAX_DISTANCE)).exp()
        if coding == "exp_stride":
            return torch.minimum(raw, (MAX_DISTANCE / stride).log()).exp() * stride
        return (raw.relu() * stride).clamp(max=MAX_DISTANCE)


def _rows(x: Tensor) -> Tensor:
    """[B, N, h, w] → [B, h·w, N]."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)
