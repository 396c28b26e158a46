"""`Recipe`: everything that decides a run, as data. The named ones are in `dsla.recipes.named`."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_type_hints

from ..assigners.entry import Coupling, checked_ranges
from ..assigners.registry import METHODS, method
from ..errors import DataError, unknown
from ..files import read_toml
from .values import read, typed

TABLES = read_toml(__file__, "fields")
BACKBONES: dict[str, list[str]] = TABLES["backbones"]
"""Each backbone, with those fields of recipes that it uses and not all backbones do."""


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
    backbone_style: Literal["pytorch", "caffe"] = "pytorch"  # "caffe" strides on a bottleneck's 1×1 convolution
    pretrained: bool = True  # ImageNet weights where training starts without weights of its own
    frozen_stages: int = 1  # conv1 and so many stages are not trained; −1 trains all
    norm: Literal["frozen", "eval", "train"] = "frozen"  # of batches: "frozen" statistics and affine, "eval" statistics
    dcn_stages: tuple[int, ...] = ()  # of C2…C5 in a ResNet, those with deformable 3×3 convolutions: (3, 4, 5)
    drop_path: float = 0.0  # stochastic depth of the last block in Swin and EfficientNet
    channels: int = 256  # of the pyramid and the head
    head_convs: int = 4  # convolutions in each tower
    groups: int = 32  # of the head's group normalisation
    conv_bias: bool = False  # bias in front of group normalisation
    dcn_head: bool = False  # modulated deformable last convolution in each tower
    strides: tuple[int, ...] = (8, 16, 32, 64, 128)
    offset: float = 0.0  # of points in cells: 0 as the DSLA release, 0.5 as mmdetection's FCOS
    extra_levels: Literal["output", "input", "none"] = "output"  # P6 from P5's "output", from the "input" C5
    box_coding: Literal["exp", "exp_stride", "relu_stride"] = "exp"  # to distances; "relu_stride" is norm_on_bbox
    box_scales: bool = True  # one learnable scale for each level
    box_bias: float = 0.0  # initial bias of the distances' convolution
    quality: Literal["centerness", "iou"] | None = None  # what a branch of its own is taught
    quality_on: Literal["classification", "regression"] = "classification"  # tower it stands on

    # what teaches it
    method: str = "dsla"  # a name in `dsla.assigners.METHODS`
    options: tuple[tuple[str, Any], ...] = ()  # of methods other than DSLA and FCOS: (("topk", 9),)
    ranges: tuple[tuple[float, float], ...] = ((0, 64), (64, 128), (128, 256), (256, 512), (512, 1e8))
    relaxation: float = 0.2  # γ
    truncate: bool = True  # relaxed ends through int(), as the release
    core_zone: bool = True
    center_sampling: float | None = None  # radius in strides
    coupling: Coupling | None = None  # of label and IoU; by default the method's own
    crowd: Literal["ignore", "background"] = "ignore"  # points in crowds; "background" as the release
    cls_weight: float = 1.0
    box_loss: Literal["giou", "iou", "iou-linear"] = "giou"  # "iou": −log IoU
    box_loss_weight: float = 1.0
    box_weighting: Literal["label", "centerness", "none"] = "label"  # a positive's share of the box loss

    # images
    min_size: tuple[int, ...] = (800,)  # short side, pixels; one is chosen per image in training
    max_size: int = 1333
    rounding: Literal["down", "nearest"] = "down"  # of the resized sides: as torchvision; "nearest" as mmdetection
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # in channel order of the network
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    bgr: bool = False  # channel order of the network
    pixel_scale: float = 1.0  # 255 for networks that were trained on bytes
    flip: float = 0.5  # probability of a horizontal flip in training
    empty_images: bool = True  # train on images without any box, too; false leaves them out, as mmdetection

    # inference
    score: Literal["product", "sqrt"] = "product"  # of class and quality; its root as torchvision
    score_threshold: float = 0.05
    nms_iou: float = 0.6
    top_k: int = 1000  # candidates a level
    top_k_over: Literal["points", "pairs"] = "points"  # "pairs" of point and class
    select_by: Literal["score", "class"] = "score"  # what threshold and top-k look at; the "class" probability alone
    padding: Literal["ignore", "detect", "background"] = "ignore"  # points there: taught as "background", and they
    # detect; "detect" alone; or neither
    max_detections: int = 100

    # training
    batch_size: int = 16
    epochs: float | None = 12  # or `steps`, which hold where both are given
    steps: int | None = None
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.01  # at batch_size images a step; `dsla train --batch-size` scales it linearly
    momentum: float = 0.9
    weight_decay: float = 1e-4
    bias_lr_factor: float = 1.0  # 2 with no bias decay in the published runs
    bias_decay: bool = True
    norm_decay: bool = True
    schedule: Literal["step", "cosine"] = "step"
    milestones: tuple[float, ...] = (8, 11)  # epochs after which the rate falls to a tenth
    warmup_steps: int = 500
    warmup_from: float = 1 / 3  # share of the rate at the first step
    warmup: Literal["constant", "linear"] = "constant"
    clip: float | None = 35.0  # norm of all gradients
    channels_last: bool = True
    amp: Literal["none", "bf16", "fp16"] = "none"  # autocast on a GPU

    def __post_init__(self) -> None:
        for key in _TYPES:
            try:
                object.__setattr__(self, key, checked(key, getattr(self, key)))
            except ValueError as error:
                raise DataError(f"recipe {self.name}: {error}") from None
        entry = METHODS.get(self.method)  # None: of a stored recipe, whose author's method may come later
        try:
            checked_ranges(self.ranges, entry.ranges if entry else None)
        except DataError as error:
            raise DataError(f"recipe {self.name}: ranges: {error}") from None
        if self.coupling is None or (entry is not None and "coupling" not in entry.uses):
            object.__setattr__(self, "coupling", (entry or method(self.method)).coupling)
        if entry is not None:
            read = {option.name: option.read for option in entry.options}
            object.__setattr__(self, "options", tuple((k, read[k](v) if k in read else v) for k, v in self.options))
        if self.steps is not None:
            object.__setattr__(self, "epochs", None)
        levels = 3 if self.extra_levels == "none" else 5
        maps, given = tuple(8 << level for level in range(levels)), {"strides": self.strides, "ranges": self.ranges}
        pyramid = f"for the {levels} levels of a pyramid with extra_levels={self.extra_levels!r}; give one a level"
        names = [name for name, _ in self.options]
        again = ", ".join(sorted({name for name in names if names.count(name) > 1}))
        wrong = {
            f"options={self.options} has {again} several times; give each option once": again,
            f"backbone={self.backbone!r}; choose one of {tuple(BACKBONES)}": self.backbone not in BACKBONES,
            "neither epochs nor steps; one of them says how long it trains": (self.epochs, self.steps) == (None, None),
            f"channels={self.channels} is no multiple of groups={self.groups}": self.channels % self.groups,
            "no min_size; one short side or several are needed": not self.min_size,
            **{f"{len(values)} {key} {pyramid}": len(values) != levels for key, values in given.items()},
            f"strides={self.strides}; every backbone's pyramid has maps of {maps}": self.strides != maps,
        }
        if problem := next((text for text, holds in wrong.items() if holds), None):
            raise DataError(f"recipe {self.name}: {problem}")

    def replace(self, **changes: Any) -> "Recipe":
        """A copy with some fields changed; values given as text are read by the field's type.

        `epochs` takes the place of `steps`, and the reverse. Another method comes with its own coupling, and without
        a quality branch that it does not train or an option that it does not have, where the changes do not say.

        Raises:
            DataError: no such field (with the nearest name), text that its type cannot read, or a field that the
                recipe would not use, with the reason.
        """
        changes = read_fields(changes)
        if None not in (changes.get("epochs"), changes.get("steps")):
            raise DataError(f"epochs={changes['epochs']} and steps={changes['steps']}: give one, it clears the other")
        follow = {} if changes.get("epochs") is None else {"steps": None}
        if "method" in changes:
            changes["method"] = method(changes["method"]).name
            follow |= {} if changes["method"] == self.method else {"coupling": None}
        copy = dataclasses.replace(self, **(follow | changes))
        idle = unused(copy)
        if (key := next(filter(idle.get, changes), None)) is not None:
            raise DataError(f"recipe {self.name}: {key}={changes[key]!r} would do nothing: {idle[key]}")
        entry = method(copy.method)
        values = {key: changes[key] for key in entry.fields if key in changes}
        try:
            entry.read(values | dict(copy.options if "options" in changes else ()))
        except DataError as error:
            raise DataError(f"recipe {self.name}: {error}") from None
        allowed = {option.name for option in entry.options}
        kept = tuple((k, v) for k, v in copy.options if "options" in changes or k in allowed)
        quality = None if "quality" in idle else copy.quality  # a branch that nothing trains would multiply the scores
        return dataclasses.replace(copy, options=kept, quality=quality)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as stored beside the weights."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Recipe":
        """The recipe of stored values, also where it holds fields that it does not use.

        Raises:
            DataError: no recipe; a field that there is not, or a value of another type.
        """
        if not isinstance(values, Mapping) or "name" not in values:
            raise DataError("not a recipe: it has no name")
        stored = dict(values)
        if "keep_padding" in stored:  # before `padding`
            stored["padding"] = "detect" if stored.pop("keep_padding") else "ignore"
        _check_names(stored)
        return cls(**stored)


def unused(recipe: Any) -> dict[str, str]:
    """Fields of the recipe that decide nothing in it, each with the reason.

    Raises:
        DataError: no such method.
    """
    idle = [rule for rule in TABLES["idle"] if getattr(recipe, rule["where"]) == rule.get("is")]
    reasons = {field: rule["reason"] for rule in idle for field in rule["fields"]}
    method(recipe.method)  # refuses one that there is not
    methods = {name: entry.uses for name, entry in METHODS.items()}
    tables: Any = (("backbone", recipe.backbone, BACKBONES), ("method", recipe.method, methods))
    for kind, name, uses in tables:
        for field in {field for fields in uses.values() for field in fields} - {*uses[name]}:
            users = ", ".join(other for other, fields in uses.items() if field in fields)
            reasons[field] = f"{kind} {name} does not use it; of {users}"
    return reasons


def read_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields by name, text among them read by the field's type.

    Raises:
        DataError: no such field (with the nearest name), or text that its type cannot read.
    """
    _check_names(fields)
    return {key: read(key, v, _TYPES[key]) if isinstance(v, str) else v for key, v in fields.items()}


def checked(key: str, value: Any) -> Any:
    """What a field has of a value, lists as tuples; the parts of a detector ask this of their options, too.

    Raises:
        ValueError: a value that the field cannot have; names both, and says what is needed.
    """
    try:
        value = typed(value, _TYPES[key])
    except ValueError as error:
        raise ValueError(f"{key}={value!r}: {error}") from None
    (low, high), numbers = _LIMITS.get(key, (0, 0)), value if isinstance(value, tuple) else (value,)
    if key in _LIMITS and not all(low <= number <= high for number in numbers if number is not None):
        raise ValueError(f"{key}={value!r}; from {low:g} to {high:g} is possible")
    return value


def _check_names(fields: Mapping[str, Any]) -> None:
    for key in fields:
        if key not in _TYPES:
            raise unknown("field of recipes", key, _TYPES, f"; a method's option is set by options={key}:VALUE")


_TYPES: dict[str, Any] = get_type_hints(Recipe)
_LIMITS: dict[str, tuple[float, float]] = TABLES["limits"]
