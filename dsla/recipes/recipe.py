"""`Recipe`: everything that decides a run, as data. The named ones are in `dsla.recipes.scenes`."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

from ..errors import DataError


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A detector, what teaches it, and how it is trained. Unknown or misspelt fields are refused."""

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
    method: str = "dsla"  # a name of `dsla.models.build.METHODS`
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
    keep_padding: bool = False  # detections of points in the padding too, as the release
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
        for key, allowed in _CHOICES.items():
            if getattr(self, key) not in allowed:
                raise DataError(f"recipe {self.name}: {key}={getattr(self, key)!r}; choose one of {allowed}")
        for key in _POSITIVE:
            value = getattr(self, key)
            if value is not None and not 0 < value < math.inf:
                raise DataError(f"recipe {self.name}: {key}={value!r}; a number above 0 is needed")
        for key, (low, high) in _BETWEEN.items():
            if not low <= getattr(self, key) <= high:
                wanted = f"{low} or more" if high == math.inf else f"a number from {low} to {high}"
                raise DataError(f"recipe {self.name}: {key}={getattr(self, key)!r}; {wanted} is needed")
        if self.channels % self.groups:
            raise DataError(f"recipe {self.name}: channels={self.channels} is no multiple of groups={self.groups}")
        if not set(self.dcn_stages) <= {2, 3, 4, 5}:
            raise DataError(f"recipe {self.name}: dcn_stages={self.dcn_stages}; each is 2, 3, 4 or 5, for C2 to C5")
        if not all(side > 0 for side in self.min_size):
            raise DataError(f"recipe {self.name}: min_size={self.min_size}; sides above 0 are needed")
        levels = 3 if self.extra_levels == "none" else 5
        for key in ("strides", "ranges"):
            if len(getattr(self, key)) != levels:
                raise DataError(
                    f"recipe {self.name}: {len(getattr(self, key))} {key} for the {levels} levels of a pyramid with "
                    f"extra_levels={self.extra_levels!r}; give one for each level"
                )

    def replace(self, **changes: Any) -> Recipe:
        """A copy with some fields changed; values given as text are read by the field's type.

        Raises:
            DataError: no such field (with the nearest name), or text that its type cannot read.
        """
        hints = get_type_hints(Recipe)
        for key, value in changes.items():
            if key not in hints:
                near = difflib.get_close_matches(key, hints, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(hints))}"
                raise DataError(f"a recipe has no field {key!r}: {hint}")
            if isinstance(value, str):
                changes[key] = _read(key, value, hints[key])
            elif isinstance(value, list):
                changes[key] = _tuples(value)
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as stored beside the weights."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        if "name" not in values:
            raise DataError("not a recipe: it has no name")
        return cls(name=str(values["name"])).replace(**{k: v for k, v in values.items() if k != "name"})


_POSITIVE = ("channels", "groups", "batch_size", "epochs", "steps", "lr", "clip", "max_size", "max_detections", "top_k")
_BETWEEN: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("flip", "momentum", "drop_path", "warmup_from", "score_threshold", "nms_iou"), (0, 1)),
    **dict.fromkeys(("head_convs", "warmup_steps", "weight_decay", "cls_weight", "box_loss_weight"), (0, math.inf)),
    "frozen_stages": (-1, 4),
}
_CHOICES: dict[str, tuple[str | None, ...]] = {
    "backbone_style": ("pytorch", "caffe"),
    "norm": ("frozen", "eval", "train"),
    "extra_levels": ("output", "input", "none"),
    "rounding": ("down", "nearest"),
    "box_coding": ("exp", "exp_stride", "relu_stride"),
    "quality": (None, "centerness", "iou"),
    "quality_on": ("classification", "regression"),
    "coupling": ("on", "off", "iou-only"),
    "crowd": ("ignore", "background"),
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


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list | tuple) else value


def _read(key: str, text: str, kind: Any) -> Any:
    """Text from the shell → a field's value: numbers, true/false, none, commas between items."""
    if get_origin(kind) in (Union, types.UnionType):
        if text.lower() == "none":
            return None
        kind = next(k for k in get_args(kind) if k is not type(None))
    try:
        if kind is bool:
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[text.lower()]
        if get_origin(kind) is tuple:
            if text.lower() in ("", "none"):
                return ()
            item = get_args(kind)[0]
            if get_origin(item) is tuple:  # ranges=0-64,64-128 and options=topk:9,anchor_scale:4
                first, second = get_args(item)
                pairs = [part.split(":" if first is str else "-", 1) for part in text.split(",")]
                return tuple((first(a), second(b)) for a, b in pairs)
            return tuple(item(part) for part in text.split(","))
        return kind(text)
    except (KeyError, ValueError):
        raise DataError(f"{key}={text}: not a value of type {getattr(kind, '__name__', kind)}") from None
