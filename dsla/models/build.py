"""From a recipe to a detector: the one place where a recipe's fields become parts, each written out by name."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..assigners import Assigner, method
from ..coco.problems import some
from ..errors import DataError, within
from ..recipes import Recipe
from ..recipes import recipe as named
from .backbone import Backbone, SmallNet, pyramid
from .criteria import Criterion, DSLACriterion, FCOSCriterion
from .detector import Detector
from .efficientnet import EfficientNetLite
from .head import Head
from .postprocess import Postprocess
from .resnet import NETWORKS, ResNetFeatures
from .swin import SwinFeatures
from .transform import Transform
from .weights import fit, read

OF_THE_RUN = {
    *("name", "pretrained", "flip", "empty_images", "batch_size", "epochs", "steps", "optimizer", "lr", "momentum"),
    *("weight_decay", "bias_lr_factor", "bias_decay", "norm_decay", "schedule", "milestones", "warmup_steps"),
    *("warmup_from", "warmup", "clip", "channels_last", "amp"),
}
"""Fields of recipes that training reads; `build` makes a detector of the others."""


def build(
    recipe: Recipe | str,
    num_classes: int | None = None,
    weights: str | Path | None = None,
    class_names: Sequence[str] | None = None,
) -> Detector:
    """The detector of a recipe, or of a recipe's name.

    Args:
        recipe: what to build.
        num_classes: C; may be left out where `class_names` are given.
        weights: None for random ones; "imagenet" for a backbone trained on ImageNet, which the first use
            downloads; or a file of `dsla.save`, whose tensors must fit.
        class_names: of labels 0…C−1.
    Raises:
        DataError: unknown recipe or method; no number of classes, or one beyond any use; weights that do not fit.
    """
    if isinstance(recipe, str):
        recipe = named(recipe)
    if isinstance(class_names, str) or not all(isinstance(name, str) for name in class_names or ()):
        raise DataError(f"class names are a list of texts, got {class_names!r:.80}")
    if num_classes is None:
        if class_names is None:
            raise DataError("how many classes? Give num_classes or class_names")
        num_classes = len(class_names)
    within(num_classes=num_classes)
    num_classes = int(num_classes)
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
            score_threshold=recipe.score_threshold,
            nms_iou=recipe.nms_iou,
            top_k=recipe.top_k,
            max_detections=recipe.max_detections,
            top_k_over=recipe.top_k_over,
            score=recipe.score,
            select_by=recipe.select_by,
            keep_padding=recipe.padding != "ignore",
        ),
        crowd=recipe.crowd,
        padding=recipe.padding,
        class_names=class_names,
        recipe=recipe,
    )
    if weights is not None and weights != "imagenet":
        fit(model, read(weights)[1], str(weights))
    return model


def check_recipe(model: Detector, recipe: Recipe) -> None:
    """Raises a DataError where a recipe would build another detector than this one; fields of the run may differ."""
    if model.recipe is None:
        return
    there, here = model.recipe.to_dict(), recipe.to_dict()
    differing = [f"{k}: {there[k]} there, {here[k]} here" for k in here if k not in OF_THE_RUN and there[k] != here[k]]
    if differing:
        raise DataError(
            f"the model was built from another recipe than {recipe.name} ({some(differing)}): train it by "
            "model.recipe.replace(…), with other fields of the schedule; or let a new model of this recipe start from "
            "its weights, as far as they fit: dsla.models.saving.adopt(model, FILE) (--weights FILE)"
        )


def outline(recipe: Recipe, num_classes: int) -> dict[str, Tensor]:
    """Names and shapes of the tensors that `build` makes, without their memory."""
    with torch.device("meta"):
        return build(recipe, num_classes).state_dict()


def backbone(recipe: Recipe, weights: str | None = None) -> Backbone:
    """The backbone of a recipe: maps c3, c4, c5, and their channels as ``out_channels``.

    Args:
        recipe: its fields of the backbone are read.
        weights: None or "imagenet".
    Raises:
        DataError: the backbone has no ImageNet weights, or needs a package that is not installed.
    """
    if recipe.backbone in NETWORKS:
        return ResNetFeatures(
            recipe.backbone, recipe.backbone_style, recipe.frozen_stages, recipe.norm, recipe.dcn_stages, weights
        )
    if recipe.backbone == "swin_s":
        return SwinFeatures(recipe.drop_path, recipe.frozen_stages, weights)
    if recipe.backbone == "efficientnet_lite0":
        return EfficientNetLite(recipe.norm, recipe.frozen_stages, recipe.drop_path, weights)
    if weights is not None:
        raise DataError("the small backbone has no ImageNet weights: set pretrained to false")
    return SmallNet()


def assigner(recipe: Recipe) -> Assigner:
    """Who teaches which point, as the recipe says.

    Raises:
        DataError: options or ranges that the method does not take.
    """
    entry = method(recipe.method)
    fields = {name: getattr(recipe, name) for name in entry.fields}
    try:
        return entry.assigner(recipe.ranges, **fields, **dict(recipe.options))
    except (TypeError, ValueError) as error:
        raise DataError(f"recipe {recipe.name}: {error}") from error


def criterion(recipe: Recipe) -> Criterion:
    """What an assignment makes of the outputs, as the recipe says."""
    weights = recipe.cls_weight, recipe.box_loss, recipe.box_loss_weight
    if method(recipe.method).criterion == "dsla":
        return DSLACriterion(recipe.coupling or "off", *weights)
    return FCOSCriterion(recipe.quality, recipe.box_weighting, *weights)
