"""One readable training loop: progress, a JSON-lines log, checkpoints that continue to the same weights.

In one process, or in several that torchrun starts: each learns from its part of every step's images.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from ..coco.evaluation import METRICS
from ..data import DetectionDataset, collate
from ..data.sampling import Augmented, Order, aspects, empty_item, with_boxes
from ..errors import DataError, NotFinite
from ..models import Detector, build, save
from ..recipes.recipe import Recipe
from .distributed import agree, averaged, evaluate_together, parallel, process_group, rank, wait, world
from .folder import LOG, MODEL, Records, read_log
from .folder import resume as resume_from
from .schedule import due, learning_rate, optimizer_of, plan, spacing, total_steps

__all__ = ["NotFinite", "TrainResult", "read_log", "train", "train_anew_or_on"]

StepHook = Callable[[int, Detector, dict[str, float]], None]


@dataclass(frozen=True)
class TrainResult:
    """model: trained, in evaluation mode.  log: rows as written to log.jsonl.  out: folder or None."""

    model: Detector
    log: list[dict[str, Any]]
    out: Path | None


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
    accumulate: int = 1,
    resume: bool = False,
    stop_after: int | None = None,
    eval_every: float | None = None,
    checkpoint_every: float | None = None,
    log_every: int = 20,
    progress: bool = True,
    tensorboard: bool = False,
    on_step: StepHook | None = None,
) -> TrainResult:
    """Train a recipe on a data set.

    Under torchrun every process calls this; the recipe's `batch_size` is that of all together, and normalisers are
    averaged over them (batch norm is not: norm="train" sees each process' own images).

    Args:
        val: evaluated at the end, and each `eval_every` epochs; the best weights stay in best.safetensors.
        out: folder for log.jsonl, checkpoint.pt (to resume) and model.safetensors; None writes nothing. Of several
            processes the first writes; all read checkpoint.pt.
        seed: of weights, order and augmentation.
        device: by default a GPU if there is one.
        model: start from this detector instead of a new one (it keeps its classes).
        workers: processes that load images, for each training process.
        accumulate: parts in which each process works through its images of a step, to save memory. As between
            processes, gradients are averaged; each part is divided by its own normaliser.
        resume: go on from checkpoint.pt in `out`: same rates, same order, same weights as an unbroken run.
        stop_after: leave at this step with a checkpoint, as if interrupted.
        checkpoint_every: epochs; by default one, or 500 steps if those are more.
        tensorboard: write `out`/tensorboard, too.
        on_step: called with (step, model, losses) after each step (of the first process); it may look, not touch.
    Raises:
        NotFinite: a loss is NaN or infinite.
        DataError: an empty data set, a checkpoint of another recipe or seed.
    """
    dataset = taught(recipe, dataset)
    if val is not None and tuple(val.class_names) != tuple(dataset.class_names):
        raise DataError(
            f"{dataset.name} has the classes {', '.join(dataset.class_names)}, but {val.name}, to evaluate on, has "
            f"{', '.join(val.class_names)}: give files with the same categories"
        )
    if accumulate < 1:
        raise DataError(f"accumulate {accumulate}: at least 1, the number of parts of a step")
    with process_group(device) as device, contextlib.ExitStack() as left:
        torch.manual_seed(seed)
        if model is None:
            weights = "imagenet" if recipe.pretrained else None
            model = build(recipe, weights=weights, class_names=dataset.class_names)
        model.to(device).train()
        if recipe.channels_last:
            model.to(memory_format=torch.channels_last)
        optimizer = optimizer_of(model, recipe)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        scaler = torch.amp.GradScaler(device.type, enabled=recipe.amp == "fp16" and device.type == "cuda")
        half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(recipe.amp)
        autocast = torch.autocast(device.type, dtype=half, enabled=half is not None and device.type == "cuda")

        images, total, first = len(dataset), total_steps(recipe, len(dataset)), rank() == 0
        identity = {"recipe": json.loads(json.dumps(recipe.to_dict())), "seed": seed, "images": images}
        state = {"model": model, "optimizer": optimizer, "scaler": scaler}
        folder = None if out is None else Path(out)
        step = resume_from(folder, identity, device, **state) if resume and folder is not None else 0
        agree(step, "checkpoints")
        records = Records(folder if first else None, identity, tensorboard and first)
        about = {"torch": torch.__version__, "plan": plan(recipe, images, world(), accumulate), "total": total}
        records.start(step, about)

        order = Order(
            images, recipe.batch_size, step, total, seed, groups=aspects(dataset), part=rank(), parts=world()
        )
        loader = DataLoader(
            Augmented(dataset, recipe.flip, recipe.min_size),
            batch_sampler=order,
            collate_fn=_collate,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
        )
        every = checkpoint_every or spacing(recipe, images)
        shown = progress and first
        bar = tqdm(total=total, initial=step, desc=recipe.name, unit="step", disable=not shown, leave=False)
        left.callback(bar.close)  # also where a loss is not finite: what is said then has a line of its own
        network = parallel(model)
        window: dict[str, Tensor] = {}
        began, since, ids = time.perf_counter(), step, list[int]()
        for pictures, targets in loader:
            rate = learning_rate(recipe, step, total, images)
            for group in optimizer.param_groups:
                group["lr"] = rate * group["factor"]
            _reseed(seed, step, device)
            pictures = [picture.to(device, non_blocking=True) for picture in pictures]
            optimizer.zero_grad(set_to_none=True)
            parts: dict[str, Tensor] = {}
            for n in range(accumulate):
                piece = slice(*(len(pictures) * k // accumulate for k in (n, n + 1)))
                with _without_sync(network, n < accumulate - 1), autocast:
                    losses = _losses(network, pictures[piece], targets[piece], device, accumulate)
                    loss = torch.stack(tuple(losses.values())).sum()
                    scaler.scale(loss).backward()
                for key, value in {**losses, "loss": loss}.items():
                    parts[key] = parts[key] + value.detach() if n else value.detach()
            scaler.unscale_(optimizer)
            norm = nn.utils.clip_grad_norm_(parameters, recipe.clip or math.inf)
            # fp16 finds its scale by steps that overflow and are left out
            parts["grad_norm"] = norm.nan_to_num(0, 0, 0) if scaler.is_enabled() else norm
            step += 1
            ids = [int(t["image_id"]) for t in targets if "image_id" in t]
            if device.type == "cpu":
                _check_finite(parts, step, ids, records)  # before the step, while the weights are good
            scaler.step(optimizer)
            scaler.update()
            window = {k: window.get(k, 0.0) + v for k, v in parts.items()}
            if on_step is not None and first:
                on_step(step, model, {k: float(v) for k, v in parts.items()})
            if step % log_every == 0 or step == total:
                mean = {k: v / (step - since) for k, v in averaged(window).items()}
                _check_finite(mean, step, ids, records)
                speed = recipe.batch_size * (step - since) / (time.perf_counter() - began)
                row = {"epoch": round(step * recipe.batch_size / images, 4), "lr": rate}
                row |= {k: round(v, 6) for k, v in mean.items()} | {"images_per_s": round(speed, 1)}
                row["seconds_left"] = round((total - step) * recipe.batch_size / speed)
                if device.type == "cuda":
                    row["memory_gb"] = round(torch.cuda.max_memory_allocated(device) / 1e9, 2)
                records.note({"step": step, **row})
                bar.set_postfix_str(_short(mean, speed), refresh=False)
                bar.update(step - bar.n)
                window, since, began = {}, step, time.perf_counter()
            evaluates = val is not None and (step == total or due(eval_every, step, recipe, images))
            if evaluates or step in (stop_after, total) or due(every, step, recipe, images):
                _check_finite(averaged(parts), step, ids, records)
                records.checkpoint(step, **state)
            if evaluates and val is not None:
                pause = time.perf_counter()
                _evaluate(model, val, step, records, seed)
                began += time.perf_counter() - pause
            if step == stop_after:
                break
        bar.close()
        if val is not None and len(order) == 0 and not _evaluated(folder, step):  # a finished run, resumed
            _evaluate(model, val, step, records, seed)
        model.eval()
        if first and folder is not None and step == total:
            save(model, folder / MODEL, metric=None if val is None else _metric(records, val, seed))
        wait()
        return TrainResult(model, records.rows, folder)


def taught(recipe: Recipe, dataset: DetectionDataset) -> DetectionDataset:
    """The images that a recipe trains on: all, or those with an annotation.

    Raises:
        DataError: there are none.
    """
    if not len(dataset):
        raise DataError(f"{dataset.name}: no images to train on")
    kept = dataset if recipe.empty_images else with_boxes(dataset)
    if not len(kept):
        raise DataError(
            f"{dataset.name}: none of its {len(dataset)} images has a box, and {recipe.name} leaves such images out: "
            "give it the right annotations, or empty_images=true"
        )
    return kept


def train_anew_or_on(recipe: Recipe, dataset: DetectionDataset, out: Path, **options: Any) -> Detector:
    """`train` from where the folder's run stopped; from the start where it is a run of another recipe, seed or data."""
    try:
        return train(recipe, dataset, out=out, resume=True, **options).model
    except DataError:
        return train(recipe, dataset, out=out, **options).model


def _evaluated(folder: Path | None, step: int) -> bool:
    """Whether the log in the folder, the same for all processes, has an evaluation at this step."""
    rows = [] if folder is None else read_log(folder / LOG)
    return any(row.get("event") == "evaluate" and row["step"] == step for row in rows)


def _collate(batch: list[tuple[Tensor, dict[str, Any]]]) -> tuple[list[Tensor], list[dict[str, Any]]]:
    return collate(batch) if batch else ([], [])


def _losses(
    network: nn.Module, pictures: list[Tensor], targets: list[dict[str, Any]], device: torch.device, accumulate: int
) -> dict[str, Tensor]:
    """Losses of a part of a step; without images those of nothing, since the other processes wait for this one."""
    if pictures:
        return {k: v / accumulate if accumulate > 1 else v for k, v in network(pictures, targets).items()}
    picture, target = empty_item()
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d) and m.training]
    for norm in norms:
        norm.eval()  # no image, no statistics
    losses = {k: v * 0 for k, v in network([picture.to(device)], [target]).items()}
    for norm in norms:
        norm.train()
    return losses


def _without_sync(network: nn.Module, more: bool) -> contextlib.AbstractContextManager[Any]:
    """Processes exchange gradients once a step, with its last part."""
    return network.no_sync() if more and isinstance(network, DistributedDataParallel) else contextlib.nullcontext()


def _reseed(seed: int, step: int, device: torch.device) -> None:
    """What chance does in the network at a step, such as drop path, is a function of seed, step and rank."""
    number = (seed * 1_000_003 + step) * 1024 + rank()
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        torch.cuda.manual_seed(number)


def _evaluate(model: Detector, val: DetectionDataset, step: int, records: Records, seed: int) -> None:
    numbers = {k: None if v != v else round(v, 5) for k, v in evaluate_together(model, val).items()}
    records.note({"step": step, "event": "evaluate", **numbers})
    records.best(model, _metric(records, val, seed))


def _metric(records: Records, val: DetectionDataset, seed: int) -> dict[str, Any]:
    """What the weights of the last evaluation keep about it."""
    row = records.rows[-1]
    return {"data": val.name, "steps": row["step"], "seed": seed, **{k: row[k] for k in METRICS}}


def _short(mean: dict[str, float], speed: float) -> str:
    parts = [f"{k.removeprefix('loss_')} {v:.3f}" for k, v in mean.items() if k.startswith("loss_")]
    return ", ".join([*parts, f"{speed:.0f} img/s"])


def _check_finite(parts: Mapping[str, Tensor | float], step: int, ids: list[int], records: Records) -> None:
    bad = [k for k, v in parts.items() if not math.isfinite(float(v))]
    if bad:
        kept = f" The last good checkpoint is {records.last_good}." if records.last_good else ""
        raise NotFinite(
            f"step {step}: {', '.join(bad)} is not finite (images {ids}). Lower the learning rate, lengthen the "
            f"warm-up, or clip gradients harder; look at these images' boxes if it comes back.{kept}"
        )
