"""State dicts of other code bases → the names of `Detector`, and their files → files of `dsla.save`.

What the translated tensors are, a recipe must say: a caffe-style backbone reads BGR bytes, points of the
DSLA release have offset 0. `dsla.models.weights.fit` then says what does not fit, by name and shape.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import DataError
from ..files import read_toml
from .weights import listed

_RULES = read_toml(__file__, "names")


def from_mmdetection(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of mmdetection 2.x (DSLA's release, FCOS; ResNet, ResNeXt, Swin; FPN) → ours.

    Raises:
        DataError: listing the names, with their shapes, that are of no such model.
    """
    renamed = _rename(state_dict, "mmdetection", "an mmdetection detector (DSLA or FCOS on ResNet, ResNeXt or Swin)")
    # extra levels are further entries of one list there: after the laterals' own come P6 and P7
    laterals = sum(re.fullmatch(r"pyramid\.inner_blocks\.\d+\.0\.weight", k) is not None for k in renamed)
    for i, level in enumerate(("p6", "p7")):
        for part in ("weight", "bias"):
            name = f"pyramid.layer_blocks.{laterals + i}.0.{part}"
            if name in renamed:
                renamed[f"pyramid.extra_blocks.{level}.{part}"] = renamed.pop(name)
    scales = [k for k in renamed if k.startswith("head.scales.")]
    if scales:
        scales.sort(key=lambda k: int(k.rsplit(".", 1)[1]))
        renamed["head.scales"] = torch.stack([renamed.pop(k) for k in scales])
    for name, value in renamed.items():
        if name.endswith(".attn.relative_position_index"):
            renamed[name] = value.flatten()
        elif re.fullmatch(r"backbone\.features\.[246]\.(reduction|norm)\..+", name):
            # merged are 2×2 positions: mmdetection has them innermost, row by row; Swin and torchvision outermost,
            # column by column
            renamed[name] = value.unflatten(-1, (-1, 4)).transpose(-1, -2)[..., [0, 2, 1, 3], :].flatten(-2)
    return renamed


def from_torchvision_fcos(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of ``torchvision.models.detection.fcos_resnet50_fpn`` → ours.

    Its conventions as a recipe: points at offset 0 (its anchors are centred on j·s), ranges 0–64 … 512–∞ with
    centre sampling 1.5, ``relu_stride`` without scales, biases in the towers, P6 from the output P5,
    centerness on the regression tower, GIoU not weighted, and at inference ``sqrt``, 0.2, "pairs". Its points
    are spaced by ⌊image / map⌋, which equals the stride only where the padded image is a multiple of it: sizes
    divisible by 128 give the same numbers, others differ at P6 and P7.

    Raises:
        DataError: listing the names, with their shapes, that are of no such model.
    """
    return _rename(state_dict, "torchvision", "torchvision's fcos_resnet50_fpn")


def _rename(state_dict: Mapping[str, Tensor], rules: str, source: str) -> dict[str, Tensor]:
    renamed, strangers = {}, []
    for name, value in state_dict.items():
        fits = ((match, new) for pattern, new in _RULES[rules].items() if (match := re.fullmatch(pattern, name)))
        match, new = next(fits, (None, ""))
        if match is None:
            strangers.append(f"{name} {list(value.shape)}")
        else:
            renamed[_counted(match.expand(new), match)] = value
    if strangers:
        raise DataError(f"{len(strangers)} names that are not of {source}:\n  {listed(strangers)}")
    return renamed


def _counted(name: str, match: re.Match[str]) -> str:
    """{3n+1} → 3 · first group + 1."""
    return re.sub(r"\{(\d*)n([+-]\d+)?\}", lambda p: str(int(p[1] or 1) * int(match[1]) + int(p[2] or 0)), name)
