"""Weights in one safetensors file that knows what it is: recipe, classes, metric, normalisation, points.

Nothing is unpickled. The metadata of the file hold JSON texts: ``recipe``, ``class_names``, ``metric``
(whatever was measured, or null), ``normalisation`` and ``point_offset`` (also part of the recipe; for
readers who only want these), ``format`` and ``sha256`` of the tensors.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import DataError
from ..recipes.recipe import Recipe
from .detector import Detector

FORMAT = "dsla-1"


def save(model: Detector, path: str | Path, metric: Mapping[str, Any] | None = None) -> Path:
    """Write a detector's weights and its recipe. The file appears complete or not at all.

    Args:
        metric: numbers to keep with the weights, such as ``{"AP": 0.36, "data": "scenes-val"}``.
    Raises:
        DataError: a model without a recipe, from which it could not be built again.
    """
    if model.recipe is None:
        raise DataError("this model has no recipe and could not be built again: make it with dsla.build")
    path = Path(path)
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    recipe = model.recipe
    about = {
        "recipe": recipe.to_dict(),
        "class_names": list(model.class_names),
        "metric": None if metric is None else dict(metric),
        "normalisation": {k: getattr(recipe, k) for k in ("mean", "std", "bgr", "pixel_scale")},
        "point_offset": recipe.offset,
        "format": FORMAT,
        "sha256": content_hash(tensors),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file(tensors, partial, metadata={k: json.dumps(v) for k, v in about.items()})
        umask = os.umask(0)
        os.umask(umask)
        partial.chmod(0o666 & ~umask)  # safetensors makes files that only their owner may read
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def load(path: str | Path, device: torch.device | str = "cpu") -> Detector:
    """The detector of a file of `save`, or of weights that ship with the package by name, in evaluation mode.

    Raises:
        DataError: no such file, not such a file, a damaged one, or tensors that do not fit its recipe.
    """
    from .build import build

    about, tensors = read(path)
    recipe = Recipe.from_dict(about["recipe"])
    model = build(recipe, class_names=about["class_names"])
    fit(model, tensors, str(path))
    return model.to(device).eval()


def load_tensors(model: Detector, path: str | Path) -> None:
    """Put the tensors of a file of `save` into a model whose recipe may differ where no tensor does."""
    fit(model, read(path)[1], str(path))


def adopt(model: Detector, path: str | Path) -> list[str]:
    """Start a model from weights of another one, say for other classes: take the tensors that fit.

    path: a file of `save`; or a state dict of the backbone alone under torchvision's names, as torch.save wrote it,
        with or without the classifier (caffe's ResNets of the release are such): of that every tensor must fit.
    Returns one line for each that did not.
    Raises:
        DataError: neither, or none of its tensors fits.
    """
    own = model.state_dict()
    if Path(path).suffix in (".pth", ".pt", ".bin"):
        from .checkpoint import read_checkpoint

        given = {k: v for k, v in read_checkpoint(path)[0].items() if not k.startswith(("fc.", "head."))}
        wanted = {k.removeprefix("backbone."): v for k, v in own.items() if k.startswith("backbone.")}
        new = {k for k in wanted if "conv_offset" in k or k.startswith("norms.")}  # ImageNet's networks have none
        fit(model.backbone, {k: wanted[k] for k in new} | given, str(path))
        return []
    tensors = read(path)[1]
    fitting = {k: v for k, v in tensors.items() if k in own and own[k].shape == v.shape}
    if not fitting:
        raise DataError(f"{path}: no tensor fits the model; weights of the same backbone are needed")
    model.load_state_dict(fitting, strict=False)
    return mismatches(own, tensors)


def shipped() -> dict[str, Path]:
    """Weights that come with the package, by the name of their recipe."""
    folder = Path(__file__).parent.parent / "weights"
    return {p.stem: p for p in sorted(folder.glob("*.safetensors"))}


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a file (or shipped weights, by name) says about itself, and its tensors. Raises as `load` does."""
    path = shipped().get(str(path), Path(path))
    if not path.is_file():
        known = ", ".join(shipped()) or "none"
        raise DataError(f"no weights at {path.absolute()}; those that ship with the package: {known}")
    try:
        with safe_open(path, "pt") as file:
            about = {k: json.loads(v) for k, v in (file.metadata() or {}).items() if k in _KEYS}
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118, not a dict
    except (SafetensorError, json.JSONDecodeError) as error:
        hint = "; `dsla convert` makes one of a checkpoint" if Path(path).suffix in (".pth", ".pt") else ""
        raise DataError(f"{path} is not a safetensors file of this package, or damaged: {error}{hint}") from error
    missing = sorted(_KEYS - about.keys())
    if missing or about["format"] != FORMAT:
        what = f"no {', '.join(missing)}" if missing else f"format {about['format']!r}"
        raise DataError(f"{path} was not written by dsla.save of this version ({FORMAT}): {what} in it")
    if content_hash(tensors) != about["sha256"]:
        raise DataError(f"{path} is damaged: its tensors do not have the stored hash. Fetch it again")
    return about, tensors


_KEYS = {"recipe", "class_names", "metric", "normalisation", "point_offset", "format", "sha256"}


def content_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and bits, whatever the order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        digest.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def fit(model: torch.nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Load tensors into a model of exactly these names and shapes.

    Raises:
        DataError: listing the names and shapes that do not fit.
    """
    wrong = mismatches(model.state_dict(), tensors)
    if wrong:
        shown = "\n  ".join(wrong[:20] + ([f"… and {len(wrong) - 20} more"] if len(wrong) > 20 else []))
        raise DataError(f"{source} does not fit the model:\n  {shown}")
    model.load_state_dict(dict(tensors))


def mismatches(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    """One line for each name that is missing, left over, or of another shape.

    Counters of batches are passed over: frozen norms have none, and nothing reads them.
    """
    wanted, given = ({k: v for k, v in d.items() if "num_batches" not in k} for d in (wanted, given))
    lines = [f"missing: {k} {list(v.shape)}" for k, v in wanted.items() if k not in given]
    lines += [f"unexpected: {k} {list(v.shape)}" for k, v in given.items() if k not in wanted]
    lines += [
        f"shape: {k} is {list(given[k].shape)}, the model has {list(v.shape)}"
        for k, v in wanted.items()
        if k in given and given[k].shape != v.shape
    ]
    return lines
