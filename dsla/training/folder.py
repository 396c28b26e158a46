"""What a run leaves in its folder: log.jsonl, checkpoint.pt, best.safetensors, model.safetensors."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch

from ..data import DetectionDataset
from ..data.sampling import VERSION
from ..errors import DataError
from ..files import add_line, put_in_place, write_lines
from ..files import read_lines as read_log
from ..models import Detector, save
from ..models.weights import read_about
from ..recipes import RECIPES
from ..recipes.recipe import Recipe

CHECKPOINT, LOG, BEST, MODEL = "checkpoint.pt", "log.jsonl", "best.safetensors", "model.safetensors"


@dataclass
class Start:
    """Where a run begins.

    Attributes:
        step: of the checkpoint, 0 without one.
        order: version of `dsla.data.sampling.Order`.
        window: sums of what the log has not yet the mean of, by name.
        since: the last step that the log has.
    """

    step: int = 0
    order: int = VERSION
    window: dict[str, float] = field(default_factory=dict)
    since: int = 0


class OtherRun(DataError):
    """The folder holds a run of another recipe, seed or data."""


class Records:
    """Rows of the log, and files if there is a folder. Every file is complete or as it was before.

    Args:
        folder: None keeps rows in memory only.
        identity: what a checkpoint must share to be resumed: recipe, seed, number of images, fingerprint of the data.
        tensorboard: write each row for TensorBoard, too, into the folder's `tensorboard`.
    """

    def __init__(self, folder: Path | None, identity: Mapping[str, Any], tensorboard: bool = False) -> None:
        self.folder, self.identity, self.rows = folder, dict(identity), list[dict[str, Any]]()
        self.writer = _tensorboard(folder) if tensorboard else None

    def start(self, start: Start, first: Mapping[str, Any]) -> None:
        """Begin the log, or cut an old one to the rows up to the step that a run resumes from."""
        if self.folder is not None and start.step:
            self.rows = [r for r in read_log(self.folder / LOG, "step") if r["step"] <= start.step]
        self.rows = self.rows or [{"step": 0, "event": "start", **first, **self.identity, "order": start.order}]
        if self.folder is not None:
            for path in [p for n in (CHECKPOINT, LOG, BEST, MODEL) for p in self.folder.glob(f".{n}.*.part")]:
                path.unlink()  # of one that was killed while it wrote
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
        """Keep the weights if their AP on these data is the highest of all attempts of the run."""
        if self.folder is None or metric["AP"] is None:
            return
        path = self.folder / BEST
        kept = (read_about(path)["metric"] if path.exists() else None) or {"AP": -1.0}
        same = all(kept.get(k, metric[k]) == metric[k] for k in ("data", "fingerprint"))
        if not same or metric["AP"] > kept["AP"]:
            save(model, path, metric=metric, overwrite=True)

    def checkpoint(self, start: Start, parts: Mapping[str, Any]) -> None:
        """Write checkpoint.pt: state dicts of the parts, tensors and plain values only (read with `weights_only`).

        Raises:
            OSError: it cannot be written; the one before stays.
        """
        if self.folder is None:
            return
        state = {**vars(start), "identity": self.identity, **{name: part.state_dict() for name, part in parts.items()}}
        path = self.folder / CHECKPOINT
        try:
            with put_in_place(path) as partial, partial.open("wb") as file:  # torch's own say no reason
                torch.save(state, file)
        except (OSError, RuntimeError) as error:  # torch's own writer has RuntimeErrors for a full disk
            kept = f"the last good one stays: {path}" if path.exists() else "there is none before it"
            reasons = (e.strerror for e in (error, error.__context__) if isinstance(e, OSError) and e.strerror)
            reason = next(reasons, str(error).splitlines()[0])
            raise OSError(
                f"the checkpoint of step {start.step} could not be written to {self.folder} ({reason}); {kept}. Make "
                "room on the disk and go on with resume=True (--resume)"
            ) from error


def check_unused(folder: Path, resume: bool) -> None:
    """Nothing of a run is replaced: raises a DataError that says what to do instead."""
    files = [name for name in (CHECKPOINT, MODEL, BEST, LOG) if (folder / name).exists()]
    if files and not resume:
        raise DataError(
            f"{folder} holds a run already ({', '.join(files)}): go on with it by resume=True (--resume), or give "
            "another folder as out (--out)"
        )
    if resume and CHECKPOINT not in files and {MODEL, BEST} & set(files):
        raise DataError(f"{folder} holds weights of a run, but no {CHECKPOINT} to go on from: give another folder")


def resume_from(folder: Path, identity: Mapping[str, Any], device: torch.device, parts: Mapping[str, Any]) -> Start:
    """Brings the parts to the state of the folder's checkpoint, if there is one.

    Raises:
        OtherRun: a checkpoint of another recipe, seed or data.
        DataError: one that is damaged, or where a part is missing.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        for row in read_log(folder / LOG, "step")[:1]:
            _check_same(row, identity, folder / LOG)
        return Start()
    try:
        with ZipFile(path) as archive:  # torch.load looks at no checksum, and reads nothing of what is marked a folder
            for stored in archive.infolist():
                archive.read(stored)  # raises where the checksum is another
                if stored.external_attr:
                    raise ValueError(f"{stored.filename} in it is marked as a folder")
        state = torch.load(path, map_location=device, weights_only=True)
        there, step = dict(state["identity"]), int(state["step"])
        if missing := [name for name in parts if not isinstance(state.get(name), Mapping)]:
            raise ValueError(f"no {missing[0]} in it")
    except Exception as error:  # whatever flipped bits make of a pickle
        reason = str(error).splitlines()[0] if isinstance(error, ValueError) and str(error) else type(error).__name__
        raise DataError(
            f"{path}: no checkpoint of a run, or a damaged one ({reason}); remove it to begin anew"
        ) from error
    _check_same(there, identity, path)
    for name, part in parts.items():
        if state[name]:
            part.load_state_dict(state[name])
    return Start(step, state.get("order", 1), dict(state.get("window", {})), state.get("since", step))


def default_folder(recipe: Recipe, dataset: DetectionDataset, seed: int) -> Path:
    """runs/RECIPE-DATA-SEED; another one for a recipe with changed fields, by their hash."""
    parts = [recipe.name, re.sub(r"[^\w.-]+", "-", dataset.name), str(seed)]
    if recipe != RECIPES.get(recipe.name):
        text = json.dumps(recipe.to_dict(), sort_keys=True)
        parts.append(hashlib.sha256(text.encode()).hexdigest()[:6])
    return Path("runs", "-".join(parts))


def _check_same(there: Mapping[str, Any], here: Mapping[str, Any], path: Path) -> None:
    for key, value in here.items():
        if key == "data":  # runs of before do not have it
            if there.get(key, value) != value:
                raise OtherRun(f"{path}: of other images or annotations, though as many; give those, or another folder")
            continue
        numbers = f"{there.get(key)} there, {value} here" * (there.get(key) != value)
        what = _differing(there.get(key, {"name": ""}), value) if key == "recipe" else numbers
        if what:
            raise OtherRun(f"{path}: of another {key} ({what}); resume with the same one, or choose another folder")


def _differing(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """The fields in which two recipes differ, with both values; "" where they are the same."""
    fields = [Recipe.from_dict(r).to_dict() for r in (there, here)]
    return ", ".join(f"{k}: {v} there, {fields[1][k]} here" for k, v in fields[0].items() if fields[1][k] != v)


def _tensorboard(folder: Path | None) -> Any:
    if folder is None:
        raise DataError("TensorBoard's files need a folder: give `out`")
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise DataError(f'TensorBoard is not installed ({error}): pip install "dsla[tensorboard]"') from error
    return SummaryWriter(str(folder / "tensorboard"))
