"""`Recipe`: everything that decides a run, as data. The named ones are in `dsla.recipes.scenes`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from ..assigners.registry import method
from ..errors import DataError, unknown
from .uses import BACKBONES, unused
from .values import read, typed


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A detector, what teaches it, and how it is trained.

    A value of another type or beyond any sense is refused, as are unknown or misspelt fields; what is typed into
    `replace`, also where the recipe that comes of it does not use it.

    Raises:
        DataError: naming the recipe, the field, its value and what is possible.
    """

    name: str

    # network
    backbone: str = "resnet50"  # "resnet101", "resnext101_64x4d", "swin_s", "efficientnet_lite0", "small"
    backbone_style: str = "pytorch"  # "caffe" puts the stride of a bottleneck on its 1×1 convolution
    pretrained: bool = True  # ImageNet weights where training starts without weights of its own
    frozen_stages: int = 1  # conv1 and so many stages are not trained; −1 trains all
    norm: str = "frozen"  # batch normalisation: "frozen" statistics and affine, "eval" statistics, "train"
    dcn_stages: tuple[int, ...] = ()  # of C2…C5 in a ResNet, those with deformable 3×3 convolutions: (3, 4, 5)
    drop_path: float = 0.0  # stochastic depth of the last block in Swin and EfficientNet
    channels: int = 256  # of the pyramid and the head
    head_convs: int = 4  # convolutions in each tower
    groups: int = 32  # of the head's group normalisation
    conv_bias: bool = False  # bias in front of group normalisation
    dcn_head: bool = False  # modulated deformable last convolution in each tower
    strides: tuple[int, ...] = (8, 16, 32, 64, 128)
    offset: float = 0.0  # of points in cells: 0 as the DSLA release, 0.5 as mmdetection's FCOS
    extra_levels: str = "output"  # P6 from P5's "output", from the "input" C5, or "none"
    box_coding: str = "exp"  # distance = exp (pixels), "exp_stride", or "relu_stride" (norm_on_bbox)
    box_scales: bool = True  # one learnable scale for each level
    box_bias: float = 0.0  # initial bias of the distances' convolution
    quality: str | None = None  # branch: "centerness", "iou" or None
    quality_on: str = "classification"  # tower it stands on, or "regression"

    # what teaches it
    method: str = "dsla"  # a name in `dsla.assigners.METHODS`
    options: tuple[tuple[str, float], ...] = ()  # of methods other than DSLA and FCOS: (("topk", 9),)
    ranges: tuple[tuple[float, float], ...] = ((0, 64), (64, 128), (128, 256), (256, 512), (512, 1e8))
    relaxation: float = 0.2  # γ
    truncate: bool = True  # relaxed ends through int(), as the release
    core_zone: bool = True
    center_sampling: float | None = None  # radius in strides
    coupling: str = "on"  # dynamic label: "on", "off", "iou-only"
    crowd: str = "ignore"  # points in crowds: "ignore", or "background" as the release
    cls_weight: float = 1.0
    box_loss: str = "giou"  # or "iou": −log IoU
    box_loss_weight: float = 1.0
    box_weighting: str = "label"  # a positive's share of the box loss: "label", "centerness", "none"

    # images
    min_size: tuple[int, ...] = (800,)  # short side, pixels; one is chosen per image in training
    max_size: int = 1333
    rounding: str = "down"  # of the resized sides: as torchvision; "nearest" as mmdetection
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # in channel order of the network
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    bgr: bool = False  # channel order of the network
    pixel_scale: float = 1.0  # 255 for networks that were trained on bytes
    flip: float = 0.5  # probability of a horizontal flip in training
    empty_images: bool = True  # train on images without any box, too; false leaves them out, as mmdetection

    # inference
    score: str = "product"  # class and quality: "product", or "sqrt" of it as torchvision
    score_threshold: float = 0.05
    nms_iou: float = 0.6
    top_k: int = 1000  # candidates a level
    top_k_over: str = "points"  # or "pairs" of point and class
    select_by: str = "score"  # what threshold and top-k look at, or the "class" probability alone
    padding: str = "ignore"  # points there: taught as "background", and they detect; "detect" alone; or neither
    max_detections: int = 100

    # training
    batch_size: int = 16
    epochs: float | None = 12  # or `steps`
    steps: int | None = None
    optimizer: str = "sgd"  # or "adamw"
    lr: float = 0.01  # at batch_size images a step; `dsla train --batch-size` scales it linearly
    momentum: float = 0.9
    weight_decay: float = 1e-4
    bias_lr_factor: float = 1.0  # 2 with no bias decay in the published runs
    bias_decay: bool = True
    norm_decay: bool = True
    schedule: str = "step"  # or "cosine"
    milestones: tuple[float, ...] = (8, 11)  # epochs after which the rate falls to a tenth
    warmup_steps: int = 500
    warmup_from: float = 1 / 3  # share of the rate at the first step
    warmup: str = "constant"  # or "linear"
    clip: float | None = 35.0  # norm of all gradients
    channels_last: bool = True
    amp: str = "none"  # autocast on a GPU: "bf16", "fp16"

    def __post_init__(self) -> None:
        for key, kind in _TYPES.items():
            value = getattr(self, key)
            try:
                object.__setattr__(self, key, typed(value, kind))
            except ValueError as error:
                raise DataError(f"recipe {self.name}: {key}={value!r}: {error}") from None
        for key, allowed in _CHOICES.items():
            if getattr(self, key) not in allowed:
                raise DataError(f"recipe {self.name}: {key}={getattr(self, key)!r}; choose one of {allowed}")
        for key, (low, high) in _LIMITS.items():
            value = getattr(self, key)
            numbers = value if isinstance(value, tuple) else (value,)
            if not all(low <= number <= high for number in numbers if number is not None):
                raise DataError(f"recipe {self.name}: {key}={value!r}; from {low:g} to {high:g} is possible")
        if self.epochs is None and self.steps is None:
            raise DataError(f"recipe {self.name}: neither epochs nor steps; one of them says how long it trains")
        if self.channels % self.groups:
            raise DataError(f"recipe {self.name}: channels={self.channels} is no multiple of groups={self.groups}")
        if not self.min_size:
            raise DataError(f"recipe {self.name}: no min_size; one short side or several are needed")
        levels = 3 if self.extra_levels == "none" else 5
        for key in ("strides", "ranges"):
            if len(getattr(self, key)) != levels:
                raise DataError(
                    f"recipe {self.name}: {len(getattr(self, key))} {key} for the {levels} levels of a pyramid with "
                    f"extra_levels={self.extra_levels!r}; give one for each level"
                )

    def replace(self, **changes: Any) -> Recipe:
        """A copy with some fields changed; values given as text are read by the field's type.

        `epochs` takes the place of `steps`, and the reverse. A method that does not train the quality branch, or
        does not have an option, comes without it.

        Raises:
            DataError: no such field (with the nearest name), text that its type cannot read, or a field that the
                recipe would not use, with the reason.
        """
        for key, value in changes.items():
            if key not in _TYPES:
                raise unknown("field of recipes", key, _TYPES)
            if isinstance(value, str):
                changes[key] = read(key, value, _TYPES[key])
        durations = [k for k in ("epochs", "steps") if changes.get(k) is not None]
        if len(durations) == 2:
            raise DataError(f"epochs={changes['epochs']} and steps={changes['steps']}: give one, it clears the other")
        if durations:
            changes.setdefault("steps" if durations == ["epochs"] else "epochs", None)
        copy = dataclasses.replace(self, **changes)
        idle = unused(copy)
        for key in changes:
            if key in idle:
                raise DataError(f"recipe {self.name}: {key}={changes[key]!r} would do nothing: {idle[key]}")
        if "options" in changes:
            try:
                method(copy.method).read(dict(copy.options))
            except DataError as error:
                raise DataError(f"recipe {self.name}: {error}") from None
        left: dict[str, Any] = {}
        if "quality" in idle:  # a branch that nothing trains would multiply the scores
            left["quality"] = None
        if "options" not in changes:
            options = {o.name for o in method(copy.method).options}
            left["options"] = tuple((k, v) for k, v in copy.options if k in options)
        return dataclasses.replace(copy, **left)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as stored beside the weights."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """The recipe of stored values, also where it holds fields that it does not use.

        Raises:
            DataError: no recipe; a field that there is not, or a value of another type.
        """
        if not isinstance(values, Mapping) or "name" not in values:
            raise DataError("not a recipe: it has no name")
        stored = dict(values)
        if "keep_padding" in stored:  # before `padding`
            stored["padding"] = "detect" if stored.pop("keep_padding") else "ignore"
        if stored.get("steps") is not None:
            stored["epochs"] = None  # steps held where both were given
        for key in stored:
            if key not in _TYPES:
                raise unknown("field of recipes", key, _TYPES)
        return cls(**stored)


_TYPES: dict[str, Any] = get_type_hints(Recipe)
_LIMITS: dict[str, tuple[float, float]] = {  # both included; of each item where a field has several
    **dict.fromkeys(("flip", "momentum", "drop_path", "warmup_from", "score_threshold", "nms_iou", "offset"), (0, 1)),
    **dict.fromkeys(("min_size", "max_size", "strides"), (1, 65_536)),
    **dict.fromkeys(("top_k", "max_detections", "batch_size"), (1, 1_000_000)),
    **dict.fromkeys(("cls_weight", "box_loss_weight", "weight_decay", "bias_lr_factor"), (0, 1e6)),
    **dict.fromkeys(("std", "pixel_scale", "clip", "epochs"), (1e-6, 1e6)),
    **dict.fromkeys(("channels", "groups"), (1, 4096)),
    "head_convs": (0, 32),
    "frozen_stages": (-1, 4),
    "dcn_stages": (2, 5),
    "mean": (-1e6, 1e6),
    "box_bias": (-100, 100),
    "lr": (1e-30, 1e30),
    "steps": (1, 1_000_000_000),
    "warmup_steps": (0, 1_000_000_000),
    "milestones": (0, 1e6),
}
_CHOICES: dict[str, tuple[str | None, ...]] = {
    "backbone": tuple(BACKBONES),
    "backbone_style": ("pytorch", "caffe"),
    "norm": ("frozen", "eval", "train"),
    "extra_levels": ("output", "input", "none"),
    "rounding": ("down", "nearest"),
    "box_coding": ("exp", "exp_stride", "relu_stride"),
    "quality": (None, "centerness", "iou"),
    "quality_on": ("classification", "regression"),
    "coupling": ("on", "off", "iou-only"),
    "crowd": ("ignore", "background"),
    "padding": ("ignore", "detect", "background"),
    "box_loss": ("giou", "iou", "iou-linear"),
    "box_weighting": ("label", "centerness", "none"),
    "score": ("product", "sqrt"),
    "top_k_over": ("points", "pairs"),
    "select_by": ("score", "class"),
    "optimizer": ("sgd", "adamw"),
    "schedule": ("step", "cosine"),
    "warmup": ("constant", "linear"),
    "amp": ("none", "bf16", "fp16"),
}
