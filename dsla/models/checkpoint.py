"""A checkpoint of mmdetection or torchvision → a file of `dsla.save`, with the recipe that its tensors fit.

What translated tensors are, a recipe must say: a caffe-style backbone reads BGR bytes, points of the DSLA release have
offset 0.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection import FCOS_ResNet50_FPN_Weights

from ..coco.problems import refuse
from ..errors import DataError
from ..files import read_toml
from ..recipes import COCO_RECIPES, Recipe
from ..recipes import recipe as named
from .build import outline
from .detector import Detector
from .saving import detector_of, save
from .weights import mismatches, read_checkpoint

_RULES = read_toml(__file__, "names")
_NEEDED = ("head.class_logits.weight", "pyramid.inner_blocks.0.0.weight")


@dataclass(frozen=True)
class Conversion:
    """model: with the checkpoint's weights, in evaluation mode.  others: names of further recipes of the same
    tensors, which differ in what tensors cannot tell, such as how boxes are decoded.  path: what was written.
    """

    model: Detector
    others: tuple[str, ...]
    path: Path | None


def convert(
    checkpoint: str | Path,
    out: str | Path | None = None,
    recipe: Recipe | str | None = None,
    class_names: Sequence[str] | None = None,
    *,
    overwrite: bool = False,
) -> Conversion:
    """Translate a checkpoint of mmdetection (DSLA, FCOS) or a state dict of torchvision's FCOS.

    Args:
        checkpoint: file of torch.save, read with ``weights_only``: nothing in it is executed.
        out: safetensors file to write, with recipe, normalisation and point offset inside.
        recipe: what the tensors are; None takes the first of COCO's recipes that they fit. Whether P6 comes
            from P5 or C5 the tensor's shape says in either case.
        class_names: of the outputs; None takes the checkpoint's own, else COCO's where there are 80.
        overwrite: replace `out` if it is there.
    Raises:
        DataError: a file that cannot be read so; names or shapes that do not fit, listed.
    """
    given = named(recipe) if isinstance(recipe, str) else recipe
    state, about = read_checkpoint(checkpoint)
    torchvision = any(k.startswith("backbone.body.") for k in state)
    try:
        tensors = from_torchvision_fcos(state) if torchvision else from_mmdetection(state)
    except (RuntimeError, IndexError) as error:
        raise DataError(f"{checkpoint}: tensors of shapes that no such model has ({error})") from error
    if missing := [k for k in _NEEDED if k not in tensors or tensors[k].ndim != 4]:
        raise DataError(f"{checkpoint}: not a detector of pyramid and head: no convolution {missing[0]} in it")
    if torchvision and len(tensors["head.class_logits.weight"]) == 91:
        tensors |= {k: v[list(_coco())] for k, v in tensors.items() if k.startswith("head.class_logits.")}
    count = len(tensors["head.class_logits.weight"])
    wrong = {one: len(mismatches(outline(one, count), tensors)) for one in _candidates(given, tensors)}
    nearest, *others = sorted(wrong, key=lambda one: wrong[one])
    if wrong[nearest] and recipe is None:
        checkpoint = f"{checkpoint} fits no recipe; against the nearest, {nearest.name}: it"
    model = detector_of(nearest, class_names or _class_names(about, count), tensors, str(checkpoint))
    if model.class_names == tuple(_coco().values()):
        model.category_ids = tuple(_coco())
    path = None if out is None else save(model, out, overwrite=overwrite)
    return Conversion(model, tuple(one.name for one in others if not wrong[one]), path)


def _candidates(given: Recipe | None, tensors: Mapping[str, Tensor]) -> list[Recipe]:
    """The recipe that was given, or all of COCO's, with P6 from where the tensor says."""
    recipes = list(COCO_RECIPES) if given is None else [given]
    p6 = tensors.get("pyramid.extra_blocks.p6.weight")
    laterals = [k for k in tensors if re.fullmatch(r"pyramid\.inner_blocks\.\d+\.0\.weight", k)]
    width, c5 = tensors[max(laterals)].shape[:2]
    if p6 is None or width == c5:
        return recipes
    source = "output" if p6.shape[1] == width else "input"
    return [r if r.extra_levels == "none" else r.replace(extra_levels=source) for r in recipes]


def _class_names(about: Mapping[str, Any], count: int) -> list[str]:
    """mmdetection 2 has them as CLASSES, 3 under dataset_meta."""
    meta = about.get("dataset_meta")
    for source in (about, meta if isinstance(meta, Mapping) else {}):
        for key in ("CLASSES", "classes"):
            names = source.get(key)
            if isinstance(names, list | tuple) and len(names) == count:
                return [str(name) for name in names]
    return list(_coco().values()) if count == 80 else [f"class {i}" for i in range(count)]


def _coco() -> dict[int, str]:
    """COCO's ids with their names: those of torchvision's 91 outputs that are categories."""
    names = enumerate(FCOS_ResNet50_FPN_Weights.COCO_V1.meta["categories"])
    return {i: name for i, name in names if name not in ("__background__", "N/A")}


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
    if scales := sorted(k for k in renamed if k.startswith("head.scales.")):
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
    what = f"names that are not of {source}; give weights of that model. With their shapes they are:"
    refuse("the state dict", f"{len(strangers)} {what}", strangers)
    return renamed


def _counted(name: str, match: re.Match[str]) -> str:
    """{3n+1} → 3 · first group + 1."""
    return re.sub(r"\{(\d*)n([+-]\d+)?\}", lambda p: str(int(p[1] or 1) * int(match[1]) + int(p[2] or 0)), name)
