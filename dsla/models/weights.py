"""Files of weights: safetensors that know what they are, and checkpoints of torch.save; tensors that fit a model.

Nothing is unpickled. The metadata of a safetensors file hold JSON texts: ``recipe``, ``class_names``, ``category_ids``
(COCO's, of the classes; files of before lack them, and count from 1), ``metric`` (whatever was measured, or null),
``normalisation`` and ``point_offset`` (also part of the recipe; for readers who only want these), ``format`` and
``sha256`` of the tensors.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..coco.problems import refuse
from ..errors import DataError
from ..files import put_in_place

FORMAT = "dsla-1"


def write(path: str | Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> Path:
    """Write tensors and what they are, with their hash. The file appears complete or not at all."""
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    stored = {**about, "format": FORMAT, "sha256": content_hash(tensors)}
    try:
        with put_in_place(path) as partial:
            save_file(tensors, partial, metadata={k: json.dumps(v) for k, v in stored.items()})
    except SafetensorError as error:  # a full disk, too
        raise DataError(f"{path}: cannot be written ({error})") from error
    return Path(path)


def shipped() -> dict[str, Path]:
    """Weights that come with the package, by the name of their recipe."""
    folder = Path(__file__).parent.parent / "weights"
    return {p.stem: p for p in sorted(folder.glob("*.safetensors"))}


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a file (or shipped weights, by name) says about itself, and its tensors. Raises as `load` does."""
    path, about = _located(path), read_about(path)
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise DataError(f"{path} is damaged: {error}") from error
    if content_hash(tensors) != about["sha256"]:
        raise DataError(f"{path} is damaged: its tensors do not have the stored hash. Fetch it again")
    return about, tensors


def read_about(path: str | Path) -> dict[str, Any]:
    """What a file says about itself; its tensors are not read. Raises as `load` does, but for damaged tensors."""
    path = _located(path)
    try:
        with safe_open(path, "pt") as file:
            about = {k: json.loads(v) for k, v in (file.metadata() or {}).items() if k in _KEYS | _LATER}
    except (SafetensorError, json.JSONDecodeError) as error:
        hint = "; `dsla convert` makes one of a checkpoint" if pickled(path) else ""
        raise DataError(f"{path} is not a safetensors file of this package, or damaged: {error}{hint}") from error
    missing = sorted(_KEYS - about.keys())
    if missing or about["format"] != FORMAT:
        what = f"no {', '.join(missing)}" if missing else f"format {about['format']!r}"
        raise DataError(f"{path} was not written by dsla.save of this version ({FORMAT}): {what} in it")
    kinds = {"recipe": dict, "class_names": list, "metric": dict | None}
    wrong = [k for k, kind in kinds.items() if not isinstance(about[k], kind)]
    if not wrong and not all(isinstance(name, str) for name in about["class_names"]):
        wrong = ["class_names"]
    ids = about.get("category_ids", about["class_names"])
    if not wrong and not (isinstance(ids, list) and len(ids) == len(about["class_names"]) and _are_ids(ids)):
        wrong = ["category_ids"]
    if wrong:
        raise DataError(f"{path}: its {wrong[0]} is {about[wrong[0]]!r:.60}, which dsla.save does not write")
    return about


def _located(path: str | Path) -> Path:
    """The file of a path or of shipped weights by name."""
    path = shipped().get(str(path), Path(path))
    if not path.is_file():
        there = sorted(file.name for file in path.glob("*.safetensors"))  # none if it is no folder
        inside = f", a folder with {', '.join(there)}: name one of them" if there else ""
        names = ", ".join(shipped()) or "none"
        raise DataError(f"no weights at {path.absolute()}{inside}; those that ship with the package: {names}")
    return path


def pickled(path: str | Path) -> bool:
    """Whether a file begins as torch.save's do, whatever its ending."""
    if not Path(path).is_file():
        return False
    with open(path, "rb") as file:
        return file.read(2) in (b"PK", b"\x80\x02")


def read_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State dict and what else is written beside it (mmdetection's ``meta``).

    Raises:
        DataError: no such file, not one of torch.save, or one with more than tensors and plain values.
    """
    if not Path(path).is_file():
        raise DataError(f"no checkpoint at {Path(path).absolute()}")
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a stranger's bytes make of a pickle
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = f"it holds {named[1]}, which could run code" if named else "it is no file of torch.save, or a cut one"
        raise DataError(
            f"{path}: not read, since {reason}. Where it was made, store its tensors alone: "
            "torch.save({'state_dict': model.state_dict()}, …)"
        ) from error
    about = stored.get("meta") if isinstance(stored, Mapping) else None
    state = stored
    while isinstance(state, Mapping) and not all(isinstance(v, Tensor) for v in state.values()):
        state = next((state[k] for k in _WRAPPERS if k in state), None)
    if not isinstance(state, Mapping) or not state or not all(isinstance(k, str) for k in state):
        raise DataError(f"{path}: neither a state dict nor a checkpoint with one (under {', '.join(_WRAPPERS)})")
    for name, value in state.items():
        if value.layout != torch.strided or value.untyped_storage().nbytes() < value.numel() * value.element_size():
            raise DataError(f"{path}: {name} claims {list(value.shape)} values, but fewer are stored")
    while any(all(name.startswith(prefix) for name in state) for prefix in _PREFIXES):
        state = {name.partition(".")[2]: value for name, value in state.items()}
    return dict(state), dict(about) if isinstance(about, Mapping) else {}


_WRAPPERS = ("state_dict", "model_state_dict", "model")  # under which trainers store a model
_PREFIXES = ("module.", "model.")  # of DataParallel, and of a trainer's own module


_KEYS = {"recipe", "class_names", "metric", "normalisation", "point_offset", "format", "sha256"}


_LATER = {"category_ids"}  # which files of before lack


def _are_ids(values: list[Any]) -> bool:
    plain = all(isinstance(value, int | str) and not isinstance(value, bool) for value in values)
    return plain and len(set(values)) == len(values)


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
    check_fit(model.state_dict(), tensors, source)
    model.load_state_dict(dict(tensors))


def check_fit(wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor], source: str) -> None:
    """Raises a DataError that lists the names and shapes that do not fit."""
    refuse(f"{source} does not fit the model", "names or shapes differ:", mismatches(wanted, tensors))


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
