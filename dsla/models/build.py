"""From a recipe to a detector: the one place that knows which field of a recipe makes which part."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

from ..assigners import Assigner, method
from ..errors import DataError
from ..recipes import Recipe
from ..recipes import recipe as named
from .backbone import Backbone, SmallNet, pyramid
from .criteria import CRITERIA, Criterion
from .detector import Detector
from .efficientnet import EfficientNetLite
from .head import Head
from .postprocess import Postprocess
from .resnet import NETWORKS, ResNetFeatures, resnet
from .swin import swin_s
from .transform import Transform
from .weights import fit, read

T = TypeVar("T")

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
    entry = method(recipe.method)
    options = {name: getattr(recipe, name) for name in entry.fields} | dict(recipe.options)
    try:
        return entry.assigner(recipe.ranges, **options)
    except (TypeError, ValueError) as error:
        raise DataError(f"recipe {recipe.name}: {error}") from error


def criterion(recipe: Recipe) -> Criterion:
    """What an assignment makes of the outputs, as the recipe says."""
    return _take(CRITERIA[method(recipe.method).criterion], recipe)


def _take(kind: Callable[..., T], recipe: Recipe, **renamed: object) -> T:
    """An instance whose arguments are the recipe's fields of the same name."""
    wanted = inspect.signature(kind).parameters
    return kind(**{k: getattr(recipe, k) for k in wanted if hasattr(recipe, k)}, **renamed)
