"""ResNets that are small enough for tests: published ones have a stem of 64 channels, these of fewer."""

from __future__ import annotations

from torch import nn

from dsla.models.resnet import ResNetFeatures


def narrow(base_channels: int, **options) -> ResNetFeatures:
    """A ResNet-50 with a stem of so many channels; all others in proportion."""

    class Narrow(ResNetFeatures):
        def _make_layer(self, block, planes, *args, **kwargs):
            if planes == 64:  # first stage: the stem is there, at the usual width
                self.inplanes = base_channels
                self.conv1 = nn.Conv2d(3, base_channels, 7, stride=2, padding=3, bias=False)
                self.bn1 = self._norm_layer(base_channels)
            return super()._make_layer(block, planes * base_channels // 64, *args, **kwargs)

    return Narrow("resnet50", **options)
