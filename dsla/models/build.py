"""From a recipe to a detector: the one place that knows which field of a recipe makes which part."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from ..assigners import ATSS, DSLA, FCOS, Assigner, FoveaBox, MaxIoU, SimOTA, TaskAligned
from ..errors import DataError
from ..recipes import Recipe
from ..recipes import recipe as named
from .backbone import Backbone, SmallNet, pyramid
from .criteria import Criterion, DSLACriterion, FCOSCriterion
from .detector import Detector
from .efficientnet import EfficientNetLite
from .head import Head
from .postprocess import Postprocess
from .resnet import NETWORKS, ResNetFeatures, resnet
from .swin import swin_s
from .transform import Transform
from .weights import fit, read

T = TypeVar("T")

Maker = tuple[Callable[[Recipe], Assigner], type[DSLACriterion] | type[FCOSCriterion]]

# Who teaches, and the losses that its labels ask for: quality focal loss for soft ones, focal loss for hard ones.
METHODS: dict[str, Maker] = {
    "dsla": (lambda r: _take(DSLA, r, regress_ranges=r.ranges), DSLACriterion),
    "fcos": (lambda r: _take(FCOS, r, regress_ranges=r.ranges), FCOSCriterion),
    "atss": (lambda r: ATSS(**options_of(r)), FCOSCriterion),
    "simota": (lambda r: SimOTA(**options_of(r)), FCOSCriterion),
    "tal": (lambda r: TaskAligned(**options_of(r)), DSLACriterion),
    "max-iou": (lambda r: MaxIoU(**options_of(r)), FCOSCriterion),
    "fovea": (lambda r: FoveaBox(scale_ranges(r), **options_of(r)), FCOSCriterion),
    "fovea-dsla": (lambda r: FoveaBox(scale_ranges(r), smooth=True, **options_of(r)), DSLACriterion),
    # ATSS's points and the IoU as the target through coupling "iou-only", so that boxes weigh 1 and not their IoU:
    # a point whose box misses would else learn nothing. `dsla.assigners.QualityLabel` shows the same targets.
    "gfl": (lambda r: ATSS(**options_of(r)), DSLACriterion),
}


def _small(recipe: Recipe, weights: str | None) -> SmallNet:
    if weights is not None:
        raise DataError("the small backbone has no ImageNet weights: set pretrained to false")
    return SmallNet()


def _resnet(recipe: Recipe, weights: str | None) -> ResNetFeatures:
    return resnet(
        recipe.backbone,
        weights=weights,
        style=recipe.backbone_style,
        frozen_stages=recipe.frozen_stages,
        norm=recipe.norm,
        dcn_stages=recipe.dcn_stages,
    )


BACKBONES: dict[str, Callable[[Recipe, str | None], Backbone]] = {
    "small": _small,
    **dict.fromkeys(NETWORKS, _resnet),
    "swin_s": lambda r, w: swin_s(drop_path=r.drop_path, frozen_stages=r.frozen_stages, weights=w),
    "efficientnet_lite0": lambda r, w: EfficientNetLite(r.norm, r.frozen_stages, r.drop_path, w),
}


def scale_ranges(recipe: Recipe) -> list[tuple[float, float]]:
    """FoveaBox's overlapping ranges of √(width · height) that belong to regression ranges of max(l, t, r, b).

    A box of side a has m from a/2 to a, so a level (low, high) begins at boxes of low/2: with the ranges of P3…P7
    these are FoveaBox's own, but for its ends.
    """
    return [(low / 2, high) for low, high in recipe.ranges]


def build(
    recipe: Recipe | str,
    num_classes: int | None = None,
    weights: str | Path | None = None,
    class_names: Sequence[str] | None = None,
) -> Detector:
    """The detector of a recipe, or of a recipe's name.

    Args:
        num_classes: C; may be left out where `class_names` are given.
        weights: None for random ones; "imagenet" for a backbone trained on ImageNet, which the first use
            downloads; or a file of `dsla.save`, whose tensors must fit.
    Raises:
        DataError: unknown recipe, method or backbone; no number of classes; weights that do not fit.
    """
    if isinstance(recipe, str):
        recipe = named(recipe)
    if num_classes is None:
        if class_names is None:
            raise DataError("how many classes? Give num_classes or class_names")
        num_classes = len(class_names)
    net = backbone(recipe, "imagenet" if weights == "imagenet" else None)
    model = Detector(
        net,
        pyramid(net.out_channels, recipe.channels, recipe.extra_levels),
        Head(
            num_classes,
            recipe.channels,
            recipe.channels,
            recipe.head_convs,
            recipe.strides,
            offset=recipe.offset,
            groups=recipe.groups,
            conv_bias=recipe.conv_bias,
            box_coding=recipe.box_coding,
            scales=recipe.box_scales,
            quality=recipe.quality,
            quality_on=recipe.quality_on,
            dcn_last=recipe.dcn_head,
            box_bias=recipe.box_bias,
        ),
        assigner=assigner(recipe),
        criterion=criterion(recipe),
        transform=Transform(
            recipe.min_size,
            recipe.max_size,
            recipe.mean,
            recipe.std,
            recipe.bgr,
            recipe.pixel_scale,
            rounding=recipe.rounding,
        ),
        postprocess=Postprocess(
            **{f.name: getattr(recipe, f.name) for f in fields(Postprocess) if hasattr(recipe, f.name)}
        ),
        crowd=recipe.crowd,
        class_names=class_names,
        recipe=recipe,
    )
    if weights is not None and weights != "imagenet":
        fit(model, read(weights)[1], str(weights))
    return model


def backbone(recipe: Recipe, weights: str | None = None) -> Backbone:
    """The backbone of a recipe: maps c3, c4, c5, and their channels as ``out_channels``."""
    if recipe.backbone not in BACKBONES:
        raise DataError(f"no backbone {recipe.backbone!r}: there are {', '.join(BACKBONES)}")
    if recipe.backbone not in NETWORKS and (recipe.dcn_stages or recipe.backbone_style != "pytorch"):
        raise DataError(f"recipe {recipe.name}: dcn_stages and backbone_style are of ResNets, not {recipe.backbone}")
    return BACKBONES[recipe.backbone](recipe, weights)


def assigner(recipe: Recipe) -> Assigner:
    """Who teaches which point, as the recipe says."""
    try:
        return _method(recipe)[0](recipe)
    except (TypeError, ValueError) as error:
        raise DataError(f"recipe {recipe.name}: {error}") from error


def criterion(recipe: Recipe) -> Criterion:
    """What an assignment makes of the outputs, as the recipe says."""
    kind: Callable[..., Criterion] = _method(recipe)[1]
    return _take(kind, recipe)


def options_of(recipe: Recipe) -> dict[str, Any]:
    """The method's own options; whole numbers as int, which is what counts are."""
    return {k: int(v) if float(v).is_integer() else v for k, v in recipe.options}


def _method(recipe: Recipe) -> Maker:
    if recipe.method not in METHODS:
        raise DataError(f"no method {recipe.method!r}: there are {', '.join(METHODS)}")
    return METHODS[recipe.method]


def _take(kind: Callable[..., T], recipe: Recipe, **renamed: object) -> T:
    """An instance whose arguments are the recipe's fields of the same name."""
    wanted = inspect.signature(kind).parameters
    return kind(**{k: getattr(recipe, k) for k in wanted if hasattr(recipe, k)}, **renamed)
