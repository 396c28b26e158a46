"""One readable training loop: progress, a JSON-lines log, checkpoints that continue to the same weights."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from tqdm.auto import tqdm

from .config import Recipe
from .data import DetectionDataset, as_tv_tensors, collate
from .data.loading import from_tv_tensors
from .errors import DataError
from .evaluation import METRICS, evaluate
from .models import Detector, build, save

StepHook = Callable[[int, Detector, dict[str, float]], None]


class NotFinite(RuntimeError):
    """A loss became NaN or infinite. Says at which step and which part; the last good checkpoint stays."""


@dataclass(frozen=True)
class TrainResult:
    """model: trained, in evaluation mode.  log: rows as written to log.jsonl.  out: folder or None."""

    model: Detector
    log: list[dict[str, Any]]
    out: Path | None


def learning_rate(recipe: Recipe, step: int, total: int, images: int) -> float:
    """Rate of a step (from 0): a function of the step alone, so that resuming cannot get it wrong.

    images: in the training set, which turns the milestones' epochs into steps.
    """
    rate = recipe.lr
    if recipe.schedule == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * step / total))
    else:
        epoch = step * recipe.batch_size / max(images, 1)
        rate *= 0.1 ** sum(epoch >= m for m in recipe.milestones)
    if step < recipe.warmup_steps:
        share = step / recipe.warmup_steps if recipe.warmup == "linear" else 0.0
        rate *= recipe.warmup_from + (1 - recipe.warmup_from) * share
    return rate


def optimizer_of(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD or AdamW with the recipe's rules for biases and norms; each group keeps its factor of the rate."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            norm = isinstance(module, nn.GroupNorm | nn.BatchNorm2d | nn.LayerNorm)
            bias = name == "bias" and not norm
            decays = recipe.norm_decay if norm else recipe.bias_decay if bias else True
            key = (recipe.bias_lr_factor if bias else 1.0, recipe.weight_decay if decays else 0.0)
            groups.setdefault(key, []).append(parameter)
    settings = [{"params": p, "weight_decay": wd, "factor": f, "lr": 0.0} for (f, wd), p in groups.items()]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(settings)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(settings, momentum=recipe.momentum)
    raise DataError(f"optimizer is 'sgd' or 'adamw', got {recipe.optimizer!r}")


class Order:
    """Which images make which step: a function of the seed alone. Batches of (index, seed of the item)."""

    def __init__(self, images: int, batch_size: int, start: int, total: int, seed: int) -> None:
        self.images, self.batch_size, self.start, self.total, self.seed = images, batch_size, start, total, seed

    def __len__(self) -> int:
        return self.total - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, order = -1, torch.empty(0)
        for step in range(self.start, self.total):
            batch = []
            for n in range(step * self.batch_size, (step + 1) * self.batch_size):
                if n // self.images != epoch:
                    epoch = n // self.images
                    order = torch.randperm(self.images, generator=torch.Generator().manual_seed(self.seed + epoch))
                batch.append((int(order[n % self.images]), self.seed * 1_000_003 + n))
            yield batch


class Augmented(Dataset[tuple[Tensor, dict[str, Any]]]):
    """A data set with the recipe's random transforms, seeded for each item: the same with any workers."""

    def __init__(self, dataset: DetectionDataset, recipe: Recipe) -> None:
        self.dataset, self.transform = dataset, v2.RandomHorizontalFlip(recipe.flip)

    def __getitem__(self, item: tuple[int, int]) -> tuple[Tensor, dict[str, Any]]:
        index, seed = item
        image, target = self.dataset[index]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # `torch.manual_seed` also tells every GPU, a millisecond each
            return from_tv_tensors(*self.transform(*as_tv_tensors(image, target)))


def train(
    recipe: Recipe,
    dataset: DetectionDataset,
    *,
    val: DetectionDataset | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    model: Detector | None = None,
    workers: int = 0,
    resume: bool = False,
    stop_after: int | None = None,
    eval_every: float | None = None,
    log_every: int = 20,
    progress: bool = True,
    on_step: StepHook | None = None,
) -> TrainResult:
    """Train a recipe on a data set.

    Args:
        val: evaluated at the end, and each `eval_every` epochs.
        out: folder for log.jsonl, checkpoint.pt (to resume) and model.safetensors; None writes nothing.
        seed: of weights, order and augmentation.
        device: by default a GPU if there is one.
        model: start from this detector instead of a new one (it keeps its classes).
        workers: processes that load images.
        resume: go on from checkpoint.pt in `out`: same rates, same order, same weights as an unbroken run.
        stop_after: leave at this step with a checkpoint, as if interrupted.
        on_step: called with (step, model, losses) after each step; it may look, not touch.
    Raises:
        NotFinite: a loss is NaN or infinite.
        DataError: an empty data set, a checkpoint of another recipe or seed.
    """
    if not len(dataset):
        raise DataError(f"{dataset.name}: no images to train on")
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    folder = Path(out) if out is not None else None
    total = recipe.steps or math.ceil((recipe.epochs or 1) * len(dataset) / recipe.batch_size)
    torch.manual_seed(seed)
    if model is None:
        weights = "imagenet" if recipe.pretrained else None
        model = build(recipe, weights=weights, class_names=dataset.class_names)
    model.to(device).train()
    if recipe.channels_last:
        model.to(memory_format=torch.channels_last)
    optimizer = optimizer_of(model, recipe)
    start, rows = 0, []
    identity = {"recipe": json.loads(json.dumps(recipe.to_dict())), "seed": seed, "images": len(dataset)}
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        if resume and (folder / "checkpoint.pt").exists():
            start = _resume(folder, model, optimizer, identity, device)
            rows = [r for r in read_log(folder / "log.jsonl") if r["step"] <= start]
        _write_log(folder, rows or [{"step": 0, "event": "start", "torch": torch.__version__, **identity}])
    rows = rows or [{"step": 0, "event": "start", **identity}]

    def note(row: dict[str, Any]) -> None:
        rows.append(row)
        if folder is not None:
            with (folder / "log.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def checkpoint(step: int) -> None:
        if folder is not None:
            state = {"step": step, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
            _atomically(folder / "checkpoint.pt", {**state, "identity": identity, "rng": torch.get_rng_state()})

    order = Order(len(dataset), recipe.batch_size, start, total, seed)
    loader = DataLoader(
        Augmented(dataset, recipe),
        batch_sampler=order,
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    scaler = torch.amp.GradScaler(device.type, enabled=recipe.amp == "fp16" and device.type == "cuda")
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(recipe.amp)
    autocast = torch.autocast(device.type, dtype=half, enabled=half is not None and device.type == "cuda")
    evaluated = float(start * recipe.batch_size // len(dataset)) if eval_every else 0.0
    bar = tqdm(total=total, initial=start, desc=recipe.name, unit="step", disable=not progress, leave=False)
    window: dict[str, Tensor] = {}
    began, step, since = time.perf_counter(), start, start
    for images, targets in loader:
        rate = learning_rate(recipe, step, total, len(dataset))
        for group in optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        images = [image.to(device, non_blocking=True) for image in images]
        with autocast:
            losses = model(images, targets)
        loss = torch.stack(tuple(losses.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, recipe.clip or math.inf)
        parts = {**{k: v.detach() for k, v in losses.items()}, "loss": loss.detach(), "grad_norm": norm}
        if device.type == "cpu":
            _check_finite(parts, step, targets, folder)  # before the step, while the weights are good
        scaler.step(optimizer)
        scaler.update()
        step += 1
        window = {k: window.get(k, 0.0) + v for k, v in parts.items()}
        if on_step is not None:
            on_step(step, model, {k: float(v) for k, v in parts.items()})
        if step % log_every == 0 or step == total:
            _check_finite(window, step, targets, folder)
            seconds = time.perf_counter() - began
            mean = {k: round(float(v) / (step - since), 6) for k, v in window.items()}
            speed = recipe.batch_size * (step - since) / seconds
            epoch = round(step * recipe.batch_size / len(dataset), 4)
            note({"step": step, "epoch": epoch, "lr": rate, **mean, "images_per_s": round(speed, 1)})
            bar.set_postfix_str(_short(mean, speed), refresh=False)
            bar.update(step - bar.n)
            window, since, began = {}, step, time.perf_counter()
        done = step * recipe.batch_size / len(dataset)
        if eval_every and val is not None and step < total and done >= evaluated + eval_every:
            evaluated += eval_every
            checkpoint(step)
            note(_evaluate(model, val, step))
            began = time.perf_counter()
        if step == stop_after:
            checkpoint(step)
            bar.close()
            return TrainResult(model.eval(), rows, folder)
    bar.close()
    checkpoint(total)
    model.eval()
    metric = None
    if val is not None:
        note(_evaluate(model, val, total))
        metric = {"data": val.name, "steps": total, "seed": seed, **{k: rows[-1][k] for k in METRICS}}
    if folder is not None:
        save(model, folder / "model.safetensors", metric=metric)
    return TrainResult(model, rows, folder)


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """Rows of a log.jsonl."""
    with Path(path).open(encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def _write_log(folder: Path, rows: list[dict[str, Any]]) -> None:
    (folder / "log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")


def _evaluate(model: Detector, val: DetectionDataset, step: int) -> dict[str, Any]:
    numbers = evaluate(model, val)
    return {"step": step, "event": "evaluate", **{k: None if v != v else round(v, 5) for k, v in numbers.items()}}


def _short(mean: dict[str, float], speed: float) -> str:
    parts = [f"{k.removeprefix('loss_')} {v:.3f}" for k, v in mean.items() if k.startswith("loss_")]
    return ", ".join([*parts, f"{speed:.0f} img/s"])


def _check_finite(
    parts: dict[str, Tensor], step: int, targets: list[dict[str, Any]], folder: Path | None
) -> None:
    bad = [k for k, v in parts.items() if not math.isfinite(float(v))]
    if bad:
        ids = [int(t["image_id"]) for t in targets if "image_id" in t]
        kept = "" if folder is None or not (folder / "checkpoint.pt").exists() else (
            f" The last good checkpoint is {folder / 'checkpoint.pt'}."
        )
        raise NotFinite(
            f"step {step}: {', '.join(bad)} is not finite (images {ids}). Lower the learning rate, lengthen the "
            f"warm-up, or clip gradients harder; look at these images' boxes if it comes back.{kept}"
        )


def _atomically(path: Path, state: dict[str, Any]) -> None:
    """Tensors and plain values only, so that ``torch.load(weights_only=True)`` reads it back."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


def _resume(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, identity: dict[str, Any], device: torch.device
) -> int:
    path = folder / "checkpoint.pt"
    state = torch.load(path, map_location=device, weights_only=True)
    for key, value in identity.items():
        if state["identity"][key] != value:
            raise DataError(f"{path}: of another {key}; resume with the same one, or choose another folder")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["rng"].cpu())
    return int(state["step"])
