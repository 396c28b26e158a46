"""Detectors to files of weights and back."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..assigners import method
from ..coco.problems import some
from ..errors import DataError
from ..files import plain, refuse_existing
from ..recipes.recipe import Recipe
from .build import build, outline
from .detector import Detector
from .evaluation import usable
from .weights import check_fit, fit, mismatches, pickled, read, read_checkpoint, write

NORMALISATION = ("mean", "std", "bgr", "pixel_scale")
CONVENTIONS = (*NORMALISATION, "backbone_style", "offset", "box_coding")
"""Fields of recipes that tensors fit whatever they are, and mean something else by."""


def save(
    model: Detector, path: str | Path, metric: Mapping[str, Any] | None = None, *, overwrite: bool = False
) -> Path:
    """Write a detector's weights and its recipe. The file appears complete or not at all.

    Args:
        model: from a recipe.
        path: safetensors file to write.
        metric: numbers to keep with the weights, such as ``{"AP": 0.36, "data": "scenes-val"}``.
        overwrite: replace a file that is there.
    Raises:
        DataError: a model without a recipe, from which it could not be built again; or a file that is there.
    """
    refuse_existing([path], overwrite=overwrite)
    recipe = model.recipe
    if recipe is None:
        raise DataError("this model has no recipe and could not be built again: make it with dsla.build")
    about = {
        "recipe": recipe.to_dict(),
        "class_names": list(model.class_names),
        "category_ids": list(model.category_ids),
        "metric": None if metric is None else plain(dict(metric)),
        "normalisation": {k: getattr(recipe, k) for k in NORMALISATION},
        "point_offset": recipe.offset,
    }
    return write(path, model.state_dict(), about)


def load(path: str | Path, device: torch.device | str = "cpu") -> Detector:
    """The detector of a file of `save`, or of weights that ship with the package by name, in evaluation mode.

    Raises:
        DataError: no such file, not such a file, a damaged one, a method that is not registered, tensors that do not
            fit its recipe, or no such device.
    """
    device = usable(device)
    about, tensors = read(path)
    recipe = Recipe.from_dict(about["recipe"])
    return detector_of(recipe, about["class_names"], tensors, str(path), about.get("category_ids")).to(device)


def detector_of(
    recipe: Recipe,
    class_names: Sequence[str],
    tensors: Mapping[str, Tensor],
    source: str,
    category_ids: Sequence[Any] | None = None,
) -> Detector:
    """A stranger's detector in evaluation mode; what does not fit is refused before it takes any memory.

    Raises:
        DataError: a method that is not registered, or tensors that do not fit the recipe; names the source.
    """
    try:
        method(recipe.method)
    except DataError as error:
        raise DataError(
            f"{source}: made with a method of its author's, {recipe.method!r}: name the file that registers it by "
            "--plugin FILE.py (in Python: dsla.register first)"
        ) from error
    check_fit(outline(recipe, len(class_names)), tensors, source)
    model = build(recipe, class_names=class_names)
    fit(model, tensors, source)
    model.category_ids = tuple(category_ids or model.category_ids)
    if len(model.category_ids) != model.num_classes:
        raise DataError(f"{source}: {model.num_classes} classes, but category_ids ({some(model.category_ids)})")
    return model.eval()


def adopt(model: Detector, path: str | Path) -> list[str]:
    """Start a model from weights of another one, say for other classes: take the tensors that fit.

    Args:
        model: whose tensors are replaced.
        path: a file of `save`; or a state dict of the backbone alone under torchvision's names, as torch.save wrote
            it, with or without the classifier (caffe's ResNets of the release are such): of that every tensor must
            fit.
    Returns:
        One line for each of `CONVENTIONS` in which the file's recipe differs, then for each tensor that did not fit.
    Raises:
        DataError: neither, or nothing of its backbone fits.
    """
    state = model.state_dict()
    if pickled(path):
        given = {k: v for k, v in read_checkpoint(path)[0].items() if not k.startswith(("fc.", "head."))}
        backbone = {k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")}
        new = {k for k in backbone if "conv_offset" in k or k.startswith("norms.")}  # ImageNet's networks have none
        fit(model.backbone, {k: backbone[k] for k in new} | given, str(path))
        return []
    about, tensors = read(path)
    fitting = {k: v for k, v in tensors.items() if k in state and state[k].shape == v.shape}
    if not any(k.startswith("backbone.") and v.ndim > 1 for k, v in fitting.items()):
        raise DataError(f"{path}: nothing of its backbone fits the model; weights of the same backbone are needed")
    model.load_state_dict(fitting, strict=False)
    return [*_other_conventions(about["recipe"], model), *mismatches(state, tensors)]


def _other_conventions(recipe: Mapping[str, Any], model: Detector) -> list[str]:
    """A line for each thing that weights of this recipe take for granted and the model does otherwise."""
    if (here := getattr(model, "recipe", None)) is None:
        return []
    fields = plain(here.to_dict())
    pairs = [(k, recipe[k], fields[k]) for k in CONVENTIONS if k in recipe]
    return [f"{name} was {there}, is {now}" for name, there, now in pairs if there != now]
