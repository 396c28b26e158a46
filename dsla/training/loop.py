"""One readable training loop: progress, a JSON-lines log, checkpoints that continue to the same weights.

In one process, or in several that torchrun starts: each learns from its part of every step's images.
"""

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..coco.columns import plain_id
from ..coco.evaluation import METRICS
from ..coco.problems import some
from ..data import DetectionDataset
from ..data.loading import check_unmoved
from ..data.sampling import Order, aspects, with_boxes
from ..data.sources import refuse_path
from ..errors import DataError, NotFinite, within
from ..files import locked, plain
from ..models import Detector, build, save
from ..models.build import check_recipe
from ..models.evaluation import check_classes, check_model
from ..recipes.recipe import Recipe
from .folder import CHECKPOINT, LOG, MODEL, OtherRun, Records, Start, check_unused, read_log, resume_from
from .loading import batches_of
from .processes import agree, averaged, evaluate_together, everyones, first_does, process_group, rank, wait, world
from .schedule import due, plan, spacing, total_steps
from .step import Step
from .stopping import Signals

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
    compiled: bool = False,
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

    Ctrl-C and SIGTERM end it after a step, with a checkpoint; of several processes, after the next step that is logged.

    Args:
        recipe: detector, labels and schedule.
        dataset: to learn from.
        val: evaluated at the end, and each `eval_every` epochs; the best weights stay in best.safetensors.
        out: folder for log.jsonl, checkpoint.pt (to resume) and model.safetensors; None writes nothing. One that
            holds a run is refused, unless it is resumed. Of several processes the first writes; all read
            checkpoint.pt.
        seed: of weights, order and augmentation.
        device: by default a GPU if there is one.
        model: start from this detector instead of a new one; it is of the same classes, and of a recipe that differs
            in nothing but the schedule and what is done to images. Afterwards it is one of this recipe.
        workers: processes that load images, for each training process.
        accumulate: parts in which each process works through its images of a step, to save memory. As between
            processes, gradients are averaged; each part is divided by its own normaliser.
        compiled: the network goes through `torch.compile`: minutes at the start, a good deal less for each step on a
            GPU. Its sums are rounded otherwise.
        resume: go on from checkpoint.pt in `out`: same rates, same order, same weights as an unbroken run.
        stop_after: leave at this step with a checkpoint, as if interrupted; at once where the run is there already.
        eval_every: epochs, above 0; by default at the end alone.
        checkpoint_every: epochs, above 0; by default one, or 500 steps if those are more.
        log_every: steps from row to row of the log, each with their means.
        progress: show a bar.
        tensorboard: write `out`/tensorboard, too.
        on_step: called with (step, model, losses) after each step (of the first process); it may look, not touch.
    Raises:
        NotFinite: a loss is NaN or infinite.
        Stopped: a signal came; a KeyboardInterrupt that says where the checkpoint is.
        DataError: an empty data set, one whose category_ids are not one a class, a folder in use or with a run in it, a
            checkpoint of another recipe or seed, a model of another recipe or other classes, a `val` whose
            transforms move boxes, or a number that means nothing.
    """
    within(log_every=log_every, eval_every=eval_every, checkpoint_every=checkpoint_every, stop_after=stop_after)
    within(seed=seed, workers=workers, accumulate=accumulate)
    seed, workers, accumulate = int(seed), int(workers), int(accumulate)
    dataset = taught(recipe, dataset)
    if val is not None:
        check_classes(dataset, val)
        check_unmoved(val)
    if model is not None:
        check_model(model)
        check_classes(model, dataset)
        check_recipe(model, recipe)
        if out is not None and model.recipe is None:
            raise DataError(f"this model has no recipe, so that {out} could not hold its weights: dsla.build makes one")
    category_ids = tuple(map(plain_id, getattr(dataset, "category_ids", ())))
    if len(set(category_ids)) != len(dataset.class_names):
        raise DataError(f"{dataset.name}: {len(dataset.class_names)} classes, but category_ids ({some(category_ids)})")
    folder = None if out is None else Path(out)
    with process_group(device) as device, contextlib.ExitStack() as left:
        first = rank() == 0
        if not 1 <= accumulate <= (share := max(recipe.batch_size // world(), 1)):
            raise DataError(f"accumulate {accumulate}: parts of a step, from 1 to its {share} images in each process")
        if folder is not None:

            def claim() -> None:
                left.enter_context(locked(folder))
                check_unused(folder, resume)

            first_does(claim)
        torch.manual_seed(seed)
        checkpoint = None if folder is None else folder / CHECKPOINT
        if model is None:  # a checkpoint has all weights; those of ImageNet are not everywhere, caffe's nowhere
            weights = "imagenet" if recipe.pretrained and not (resume and checkpoint and checkpoint.exists()) else None
            model = build(recipe, weights=weights, class_names=dataset.class_names)
        elif model.recipe is not None:
            model.recipe = recipe  # what is saved with its weights is what the log says
            model.class_names = tuple(dataset.class_names)  # the same, or none so far
        model.category_ids = category_ids
        model.to(device).train()
        if recipe.channels_last:
            model.to(memory_format=torch.channels_last)
        if compiled:
            vars(model)["network"] = torch.compile(model.network)
            left.callback(vars(model).pop, "network")  # a detector that is saved or sent elsewhere is an ordinary one
        images, total = len(dataset), total_steps(recipe, len(dataset))
        teach = Step(model, recipe, device, seed, images, total, accumulate, checkpoint)
        identity = {"recipe": plain(recipe.to_dict()), "seed": seed, "images": images, "data": dataset.fingerprint()}
        start = resume_from(folder, identity, device, teach.parts) if resume and folder is not None else Start()
        agree(start.step, "checkpoints")
        records = Records(folder if first else None, identity, tensorboard and first)
        about = {"torch": torch.__version__, "plan": plan(recipe, images, world(), accumulate), "total": total}
        records.start(start, about)

        def evaluates(step: int) -> bool:
            return val is not None and step > 0 and (step == total or due(eval_every, step, recipe, images))

        def evaluate(step: int) -> None:
            assert val is not None
            numbers = {k: None if v != v else round(v, 5) for k, v in evaluate_together(model, val).items()}
            row = {"step": step, "event": "evaluate", "data": val.name, "fingerprint": val.fingerprint(), **numbers}
            records.best(model, _metric(row, seed))  # first: what the log has is done
            records.note(row)

        step, since, window = start.step, start.since, dict[str, Tensor | float](start.window)
        last = total if stop_after is None else int(min(max(stop_after, step), total))
        if step and evaluates(step) and not _evaluated(folder, step, val):  # it was stopped before that
            evaluate(step)
        order = Order(images, recipe.batch_size, step, last, seed, aspects(dataset), rank(), world(), start.order)
        every = checkpoint_every or spacing(recipe, images)
        silent = not (progress and first)
        bar = tqdm(total=total, initial=step, desc=recipe.name, unit="step", disable=silent, leave=False)
        left.callback(bar.close)  # also where a loss is not finite: what is said then has a line of its own
        signals = left.enter_context(Signals())
        goes_on = "nothing is written without a folder (out)"
        if checkpoint is not None:
            goes_on = f"go on from {checkpoint} with resume=True (--resume)"
        began, timed = time.perf_counter(), step
        for pictures, targets in left.enter_context(batches_of(dataset, recipe, order, workers, device)):
            losses = teach(step, pictures, targets)
            step += 1
            window = {k: window.get(k, 0.0) + v for k, v in losses.items()}
            if on_step is not None and first:
                on_step(step, model, {k: float(v) for k, v in losses.items()})
            logs = step % log_every == 0 or step == total
            if logs:
                mean = {k: v / (step - since) for k, v in averaged(window).items()}
                teach.check_finite(mean, step)
                speed = recipe.batch_size * (step - timed) / (time.perf_counter() - began)
                row = {"epoch": round(step * recipe.batch_size / images, 4), "lr": teach.rate}
                row |= {k: round(v, 6) for k, v in mean.items()} | {"images_per_s": round(speed, 1)}
                row["seconds_left"] = round((total - step) * recipe.batch_size / speed)
                if device.type == "cuda":
                    row["memory_gb"] = round(torch.cuda.max_memory_allocated(device) / 1e9, 2)
                records.note({"step": step, **row})
                bar.set_postfix_str(_short(mean, speed), refresh=False)
                bar.update(step - bar.n)
                window, since, began, timed = {}, step, time.perf_counter(), step
            stops = any(everyones(signals.noted)) if logs and world() > 1 else world() == 1 and signals.noted > 0
            if evaluates(step) or stops or step == last or due(every, step, recipe, images):
                teach.check_finite(averaged(losses), step)
                sums = averaged(window) if window else {}
                records.checkpoint(Start(step, start.order, sums, since), teach.parts)
                window = dict(sums)
            signals.message = f"stopped after step {step} of {total}; {goes_on}"
            if stops:
                signals.stop()
            if evaluates(step):
                pause, signals.at_once = time.perf_counter(), world() == 1
                evaluate(step)
                began, signals.at_once = began + time.perf_counter() - pause, False
        model.eval()
        if first and folder is not None and step == total:
            metric = None if val is None else _metric(records.rows[-1], seed)
            save(model, folder / MODEL, metric, overwrite=True)
        wait()
        return TrainResult(model, records.rows, folder)


def taught(recipe: Recipe, dataset: DetectionDataset) -> DetectionDataset:
    """The images that a recipe trains on: all, or those with an annotation.

    Raises:
        DataError: there are none; or a name or a path stands in the place of one of the two.
    """
    if not isinstance(recipe, Recipe):
        raise DataError(f"a recipe comes first, got a {type(recipe).__name__}: dsla.recipe(NAME) gives one")
    refuse_path(dataset)
    if not len(dataset):
        raise DataError(f"{dataset.name}: no images to train on")
    kept = dataset if recipe.empty_images else with_boxes(dataset)
    if not len(kept):
        raise DataError(
            f"{dataset.name}: none of its {len(dataset)} images has a box, and {recipe.name} leaves such images out: "
            "give it the right annotations, or empty_images=true"
        )
    return kept


def train_anew_or_on(recipe: Recipe, dataset: DetectionDataset, out: Path, **options: Any) -> TrainResult:
    """`train` from where the folder's run stopped; where it is a run of another recipe, seed or data, in one beside it.

    Raises:
        DataError: as `train` does; a damaged checkpoint is not trained over.
    """
    for number in count(1):
        folder = out if number == 1 else out.with_name(f"{out.name}-{number}")
        with contextlib.suppress(OtherRun):
            return train(recipe, dataset, out=folder, resume=True, **options)
    raise AssertionError("unreachable")


def _evaluated(folder: Path | None, step: int, val: DetectionDataset | None) -> bool:
    """Whether the log in the folder, the same for all processes, ends with an evaluation at this step on these data."""
    rows = [] if folder is None else read_log(folder / LOG, "step")
    if not rows or val is None or rows[-1].get("event") != "evaluate" or rows[-1]["step"] != step:
        return False
    return rows[-1].get("fingerprint", val.fingerprint()) == val.fingerprint()  # logs of before lack it


def _metric(row: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """What weights keep about an evaluation, a row of the log."""
    about = {k: row[k] for k in ("data", "fingerprint") if k in row}
    return {**about, "steps": row["step"], "seed": seed, **{k: row[k] for k in METRICS}}


def _short(mean: dict[str, float], speed: float) -> str:
    parts = [f"{k.removeprefix('loss_')} {v:.3f}" for k, v in mean.items() if k.startswith("loss_")]
    return ", ".join([*parts, f"{speed:.0f} img/s"])
