"""State dicts of other code bases → the names of `Detector`. Names are translated, tensors stay as they are.

What the translated tensors are, a recipe must say: a caffe-style backbone reads BGR bytes, points of the
DSLA release have offset 0. `dsla.models.weights.fit` then says what does not fit, by name and shape.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..errors import DataError

# pattern → replacement; {3n} is three times the first group: a tower counts convolution, norm, ReLU
_MMDETECTION = (
    (r"backbone\.(.+)", r"backbone.\1"),
    (r"neck\.lateral_convs\.(\d+)\.conv\.(.+)", r"pyramid.inner_blocks.\1.0.\2"),
    (r"neck\.fpn_convs\.(\d+)\.conv\.(.+)", r"pyramid.layer_blocks.\1.0.\2"),
    (r"bbox_head\.cls_convs\.(\d+)\.conv\.(.+)", r"head.class_tower.{3n}.\2"),
    (r"bbox_head\.cls_convs\.(\d+)\.gn\.(.+)", r"head.class_tower.{3n+1}.\2"),
    (r"bbox_head\.reg_convs\.(\d+)\.conv\.(.+)", r"head.box_tower.{3n}.\2"),
    (r"bbox_head\.reg_convs\.(\d+)\.gn\.(.+)", r"head.box_tower.{3n+1}.\2"),
    (r"bbox_head\.conv_cls\.(.+)", r"head.class_logits.\1"),
    (r"bbox_head\.conv_reg\.(.+)", r"head.box.\1"),
    (r"bbox_head\.conv_centerness\.(.+)", r"head.quality.\1"),
    (r"bbox_head\.scales\.(\d+)\.scale", r"head.scales.\1"),
)
_TORCHVISION = (
    (r"backbone\.body\.(.+)", r"backbone.\1"),
    (r"backbone\.fpn\.(.+)", r"pyramid.\1"),
    (r"head\.classification_head\.conv\.(.+)", r"head.class_tower.\1"),
    (r"head\.classification_head\.cls_logits\.(.+)", r"head.class_logits.\1"),
    (r"head\.regression_head\.conv\.(.+)", r"head.box_tower.\1"),
    (r"head\.regression_head\.bbox_reg\.(.+)", r"head.box.\1"),
    (r"head\.regression_head\.bbox_ctrness\.(.+)", r"head.quality.\1"),
)


def from_mmdetection(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of mmdetection 2.x (DSLA's release, FCOS; ResNet, FPN) → ours.

    Raises:
        DataError: listing the names, with their shapes, that are of no such model.
    """
    renamed = _rename(state_dict, _MMDETECTION, "an mmdetection detector (DSLA or FCOS on ResNet and FPN)")
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
    return _rename(state_dict, _TORCHVISION, "torchvision's fcos_resnet50_fpn")


def _rename(
    state_dict: Mapping[str, Tensor], rules: Sequence[tuple[str, str]], source: str
) -> dict[str, Tensor]:
    renamed, unknown = {}, []
    for name, value in state_dict.items():
        for pattern, replacement in rules:
            match = re.fullmatch(pattern, name)
            if match:
                new = match.expand(replacement)
                if "{3n" in new:
                    new = new.replace("{3n}", str(3 * int(match[1]))).replace("{3n+1}", str(3 * int(match[1]) + 1))
                renamed[new] = value
                break
        else:
            unknown.append(f"{name} {list(value.shape)}")
    if unknown:
        shown = "\n  ".join(unknown[:20] + ([f"… and {len(unknown) - 20} more"] if len(unknown) > 20 else []))
        raise DataError(f"{len(unknown)} names that are not of {source}:\n  {shown}")
    return renamed
