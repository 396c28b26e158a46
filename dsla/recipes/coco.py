"""The published runs on COCO as data, and the baselines beside them. `dsla.recipes.scenes` holds all by name.

They follow the training logs of the release, not its configuration files, which disagree with them (the logs
gave the numbers); where they do, docs/recipes.md says. Its run of ResNeXt-101 has no log: the file is followed.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from .recipe import Recipe

_CAFFE: dict[str, Any] = {
    "backbone_style": "caffe",
    "bgr": True,
    "pixel_scale": 255.0,
    "mean": (102.9801, 115.9465, 122.7717),
    "std": (1.0, 1.0, 1.0),
}
_TORCHVISION: dict[str, Any] = {
    "backbone_style": "pytorch",
    "bgr": False,
    "pixel_scale": 1.0,
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
}
_BIAS_RULE: dict[str, Any] = {"bias_lr_factor": 2.0, "bias_decay": False}
_2X: dict[str, Any] = {"min_size": (640, 800), "epochs": 24, "milestones": (16.0, 22.0)}

_MMDETECTION: dict[str, Any] = {"rounding": "nearest", "empty_images": False}

R50_1X = Recipe(
    name="r50-1x",
    box_loss="iou",
    cls_weight=2.0,
    crowd="background",
    padding="background",
    **_CAFFE,
    **_BIAS_RULE,
    **_MMDETECTION,
)
# The same run from torchvision's ImageNet weights: those of the release, caffe's, are not torchvision's to give.
R50_1X_TORCHVISION = R50_1X.replace(name="r50-1x-torchvision", **_TORCHVISION)

# The paper's way from FCOS to DSLA, one step at a time, and its sweep of γ.
ABLATION = (
    R50_1X.replace(name="r50-1x-merged", core_zone=False, relaxation=0.0, coupling="off"),
    R50_1X.replace(name="r50-1x-core", relaxation=0.0, coupling="off"),
    R50_1X.replace(name="r50-1x-static", coupling="off"),
    R50_1X.replace(name="r50-1x-iou-only", coupling="iou-only"),
    *(R50_1X.replace(name=f"r50-1x-gamma-{g:g}", relaxation=g) for g in (0.1, 0.3, 0.4)),
)

R101_DCN_2X = R50_1X.replace(
    name="r101-dcn-2x",
    backbone="resnet101",
    norm="eval",
    dcn_stages=(3, 4, 5),
    dcn_head=True,
    conv_bias=True,
    box_coding="relu_stride",
    center_sampling=1.5,
    cls_weight=1.0,
    box_loss="giou",
    lr=0.02,
    warmup="linear",
    warmup_steps=1000,
    warmup_from=0.001,
    clip=None,
    **_TORCHVISION,
    **_2X,
)
X101_DCN_2X = R101_DCN_2X.replace(name="x101-64x4d-dcn-2x", backbone="resnext101_64x4d", dcn_stages=(4, 5))
SWIN_S_DCN_3X = dataclasses.replace(
    R101_DCN_2X,
    name="swin-s-dcn-3x",
    backbone="swin_s",
    frozen_stages=-1,
    norm="train",  # not used, as there is no batch norm in it; runs that are stored say so
    dcn_stages=(),
    drop_path=0.2,
    optimizer="adamw",
    lr=1e-4,
    weight_decay=0.05,
    norm_decay=False,
    bias_lr_factor=1.0,
    bias_decay=True,
    epochs=36,
    milestones=(27.0, 33.0),
)
R101_2X = R101_DCN_2X.replace(name="r101-2x", dcn_stages=(), dcn_head=False)

_FCOS: dict[str, Any] = {
    "method": "fcos",
    "offset": 0.5,
    "quality": "centerness",
    "cls_weight": 1.0,
    "box_weighting": "centerness",
    "top_k_over": "pairs",
    "select_by": "class",
    "nms_iou": 0.5,
}
FCOS_R50_1X = R50_1X.replace(name="fcos-r50-1x", **_FCOS)
FCOSV2_R50_1X = FCOS_R50_1X.replace(
    name="fcosv2-r50-1x",
    nms_iou=0.6,  # of the configuration with these tricks; mmdetection's plain FCOS has 0.5
    center_sampling=1.5,
    box_coding="relu_stride",
    quality_on="regression",
    box_loss="giou",
    conv_bias=True,
)
TORCHVISION_FCOS = FCOS_R50_1X.replace(
    name="torchvision-fcos-r50",
    **_TORCHVISION,
    rounding="down",
    offset=0.0,  # torchvision's anchors are centred on j·s
    select_by="score",
    conv_bias=True,
    box_coding="relu_stride",
    box_scales=False,
    quality_on="regression",
    center_sampling=1.5,
    box_loss="giou",
    box_weighting="none",
    nms_iou=0.6,
    score="sqrt",
    score_threshold=0.2,
)

COCO_RECIPES = (
    R50_1X,
    R50_1X_TORCHVISION,
    *ABLATION,
    R101_DCN_2X,
    X101_DCN_2X,
    SWIN_S_DCN_3X,
    R101_2X,
    FCOS_R50_1X,
    FCOSV2_R50_1X,
    FCOS_R50_1X.replace(name="fcos-iou-r50-1x", quality="iou"),
    # mmdetection's FCOS with deeper backbones
    FCOS_R50_1X.replace(name="fcos-r101-2x", backbone="resnet101", **_2X),
    FCOS_R50_1X.replace(
        name="fcos-x101-64x4d-2x", backbone="resnext101_64x4d", norm="eval", **_TORCHVISION, **_2X
    ),
    R101_2X.replace(name="fcosv2-r101-2x", quality_on="regression", **{**_FCOS, "nms_iou": 0.6}),
    TORCHVISION_FCOS,
)
