"""What a run leaves in its folder: log.jsonl, checkpoint.pt, best.safetensors, model.safetensors."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..coco.results import add_line, read_lines, write_lines
from ..errors import DataError
from ..models import Detector, save
from ..recipes.recipe import Recipe

CHECKPOINT, LOG, BEST, MODEL = "checkpoint.pt", "log.jsonl", "best.safetensors", "model.safetensors"


class Records:
    """Rows of the log, and files if there is a folder. Every file is complete or as it was before.

    Args:
        folder: None keeps rows in memory only.
        identity: what a checkpoint must share to be resumed: recipe, seed, images.
        tensorboard: write each row for TensorBoard, too, into the folder's `tensorboard`.
    """

    def __init__(self, folder: Path | None, identity: Mapping[str, Any], tensorboard: bool = False) -> None:
        self.folder, self.identity, self.rows = folder, dict(identity), list[dict[str, Any]]()
        self.writer = None
        if tensorboard:
            self.writer = _tensorboard(folder)

    def start(self, step: int, first: Mapping[str, Any]) -> None:
        """Begin the log, or cut an old one to the rows up to the step that a run resumes from."""
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            if step:
                self.rows = [r for r in read_log(self.folder / LOG) if r["step"] <= step]
        self.rows = self.rows or [{"step": 0, "event": "start", **first, **self.identity}]
        if self.folder is not None:
            write_lines(self.folder / LOG, self.rows)

    def note(self, row: dict[str, Any]) -> None:
        """Add a row; it is in the file when this returns."""
        self.rows.append(row)
        if self.folder is not None:
            add_line(self.folder / LOG, row)
        if self.writer is not None:
            kind = "evaluation" if row.get("event") == "evaluate" else "training"
            for key, value in row.items():
                if key not in ("step", "event") and isinstance(value, int | float):
                    self.writer.add_scalar(f"{kind}/{key}", value, row["step"])
            self.writer.flush()

    def best(self, model: Detector, metric: Mapping[str, Any]) -> None:
        """Keep the weights if their AP is the highest so far."""
        before = [r["AP"] for r in self.rows[:-1] if r.get("event") == "evaluate" and r["AP"] is not None]
        if self.folder is not None and metric["AP"] is not None and metric["AP"] > max(before, default=-1.0):
            save(model, self.folder / BEST, metric=metric)

    def checkpoint(self, step: int, **parts: Any) -> None:
        """Write checkpoint.pt: state dicts of the parts, tensors and plain values only (read with `weights_only`)."""
        if self.folder is not None:
            state = {"step": step, "identity": self.identity, **{k: v.state_dict() for k, v in parts.items()}}
            part = self.folder / f"{CHECKPOINT}.part"
            torch.save(state, part)
            os.replace(part, self.folder / CHECKPOINT)

    @property
    def last_good(self) -> Path | None:
        """checkpoint.pt if there is one."""
        path = None if self.folder is None else self.folder / CHECKPOINT
        return path if path is not None and path.exists() else None


def resume(folder: Path, identity: Mapping[str, Any], device: torch.device, **parts: Any) -> int:
    """Brings the parts to the state of the folder's checkpoint; its step, or 0 where there is none.

    Raises:
        DataError: a checkpoint of another recipe, seed or number of images.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return 0
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        found, step = state["identity"], int(state["step"])
    except (pickle.UnpicklingError, RuntimeError, EOFError, TypeError, KeyError) as error:
        raise DataError(
            f"{path}: no checkpoint of a run, or a damaged one ({type(error).__name__}); remove it to begin anew"
        ) from error
    for key, value in identity.items():
        numbers = f"{found.get(key)} there, {value} here" * (found.get(key) != value)
        what = _differing(found.get(key, {"name": ""}), value) if key == "recipe" else numbers
        if what:
            raise DataError(f"{path}: of another {key} ({what}); resume with the same one, or choose another folder")
    for name, part in parts.items():
        if state.get(name):
            part.load_state_dict(state[name])
    return step


def _differing(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """The fields in which two recipes differ, with both values; "" where they are the same."""
    fields = [Recipe.from_dict(r).to_dict() for r in (there, here)]
    return ", ".join(f"{k}: {v} there, {fields[1][k]} here" for k, v in fields[0].items() if fields[1][k] != v)


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """Rows of a log.jsonl, also of one that is being written; none where there is no file."""
    return read_lines(path)


def _tensorboard(folder: Path | None) -> Any:
    if folder is None:
        raise DataError("TensorBoard's files need a folder: give `out`")
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise DataError(f'TensorBoard is not installed ({error}): pip install "dsla[tensorboard]"') from error
    return SummaryWriter(str(folder / "tensorboard"))

