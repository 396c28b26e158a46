"""A model runs over a data set: in evaluation mode, on a device, batch after batch; `evaluate` asks for its AP."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from ..coco.columns import plain_id
from ..coco.detections import Results
from ..coco.engines import check_engine
from ..coco.evaluation import evaluate_detections
from ..coco.ground_truth import GroundTruth
from ..coco.matching import CAPS
from ..coco.problems import some
from ..data.loading import to_coco_results, unmoved
from ..data.sources import refuse_path
from ..errors import DataError, within

Progress = Callable[[int, int], None]  # called with (images done, images in all)


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """`model.eval()` without gradients; once no thread looks at it any more, each module is in the mode it was in."""
    with _lock:
        lookers, modes = _looked_at.get(model) or (0, [(module, module.training) for module in model.modules()])
        _looked_at[model] = lookers + 1, modes
        model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        with _lock:
            lookers, modes = _looked_at.pop(model)
            if lookers > 1:
                _looked_at[model] = lookers - 1, modes
            else:
                for module, mode in modes:
                    module.training = mode


_lock = threading.Lock()
_looked_at: dict[nn.Module, tuple[int, list[tuple[nn.Module, bool]]]] = {}  # by how many threads; the modes before


def batches(
    model: nn.Module,
    dataset: Any,
    batch_size: int = 8,
    max_images: int | None = None,
    device: Any = None,
    progress: Progress | None = None,
) -> Iterator[tuple[list[Tensor], list[dict[str, Any]]]]:
    """Batches of (images on the device, targets) in the data set's order, for a model that goes to the device.

    Args:
        model: that will look at them.
        dataset: of samples (image, target).
        batch_size: images at a time.
        max_images: only the first ones.
        device: by default where the model is.
        progress: called with (images done, images in all) after each batch.

    Raises:
        DataError: fewer than one image, in all or at a time; the model was made for other classes; or the data set's
            transforms move boxes.
    """
    within(batch_size=batch_size, max_images=max_images)
    device = device_of(model, device)
    check_classes(model, dataset)
    model.to(device)
    total = len(dataset) if max_images is None else int(min(max_images, len(dataset)))
    batch_size = int(batch_size)
    for start in range(0, total, batch_size):
        samples = [unmoved(dataset, i) for i in range(start, min(start + batch_size, total))]
        yield [image.to(device) for image, _ in samples], [target for _, target in samples]
        if progress is not None:
            progress(start + len(samples), total)


def usable(device: torch.device | str | int | None = None) -> torch.device:
    """The device of this name; by default a GPU if there is one.

    Raises:
        DataError: there is none, or no such GPU here.
    """
    here = torch.cuda.is_available()
    try:
        chosen = torch.device(("cuda" if here else "cpu") if device in (None, "") else device)
    except (RuntimeError, TypeError) as error:
        raise DataError(f"no device {device!r}: there are cpu, cuda, cuda:1, …") from error
    count = torch.cuda.device_count() if here else 0
    if chosen.type == "cuda" and (chosen.index or 0) >= count:
        raise DataError(f"device {device}: no such GPU; PyTorch finds {count}, counted from 0; cpu is always there")
    if chosen.type not in ("cpu", "cuda"):
        try:
            torch.empty(0, device=chosen)
        except (RuntimeError, AssertionError, ImportError) as error:  # each kind of device has its own
            raise DataError(f"device {device}: PyTorch has none here; cpu is always there") from error
    return chosen


def check_model(model: Any) -> None:
    """Raises a DataError where something else stands in a model's place."""
    if not isinstance(model, nn.Module):
        raise DataError(f"a model is needed, got a {type(model).__name__}: dsla.load(FILE) gives one; mind the order")


def device_of(model: nn.Module, device: Any = None) -> torch.device:
    """The given device, or the one that the model is on. Raises as `check_model` and `usable` do."""
    check_model(model)
    if device is not None:
        return usable(device)
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def predict_dataset(model: nn.Module, dataset: Any, **running: Any) -> list[dict[str, Any]]:
    """The model's detections as COCO results rows (the data set's own image and category ids).

    running: as `batches` has it.
    """
    return _predicted(model, dataset, **running)[1]


def _predicted(model: nn.Module, dataset: Any, **running: Any) -> tuple[list[Any], list[dict[str, Any]]]:
    """Ids of the images that were looked at, and the rows."""
    check_model(model)
    ids, rows = list[Any](), list[dict[str, Any]]()
    with evaluation_mode(model):
        for images, targets in batches(model, dataset, **running):
            part = [plain_id(target["image_id"]) for target in targets]
            ids += part
            rows += to_coco_results(dataset, part, model(images))
    return ids, rows


def check_classes(source: Any, dataset: Any) -> None:
    """Raises DataError where classes of a model, or of what it learns from, are not those of a data set.

    Classes without names only need to be as many.
    """
    refuse_path(dataset)
    ours, theirs = (tuple(getattr(side, "class_names", None) or ()) for side in (source, dataset))
    unnamed = tuple(f"class {i}" for i in range(len(theirs)))
    if ours and theirs and ours not in (theirs, unnamed):
        who, where = getattr(source, "name", "the model"), getattr(dataset, "name", "the data set")
        where = getattr(dataset, "annotation_json", where)  # the file, where there is one
        raise DataError(
            f"{who} knows the classes {some(ours)}, but {where} has {some(theirs)}: give data, or a model, with the "
            "same classes in the same order"
        )


def evaluate(
    model: nn.Module,
    dataset: Any,
    *,
    batch_size: int = 8,
    device: Any = None,
    max_images: int | None = None,
    progress: Progress | None = None,
    engine: str = "numpy",
    max_detections: int = CAPS[-1],
) -> pd.Series:
    """The 12 COCO numbers of a model on a data set (its first `max_images` images).

    Args:
        model: called in evaluation mode with a list of [3,H,W] images, returns a list of detection dicts.
        dataset: the package's data sets, or anything with `ground_truth()`, `category_ids`, and samples of
            (image, target with `image_id`); its classes are those of the model.
        batch_size: images at a time.
        device: to run on, by default where the model is.
        max_images: only the first ones; the notes say so.
        progress: called with (images done, images in all) after each batch.
        engine, max_detections: as in `evaluate_detections`.

    Returns:
        Series of METRICS, 0…1, NaN where undefined; its `attrs` hold per_class (category id → row), notes, n_images
        and max_detections.

    Raises:
        DataError: the model was made for other classes, the data set's transforms move boxes, or a number or a device
            that there is not.
        ValueError: no such engine.
    """
    check_model(model)
    check_engine(engine)
    within(max_detections=max_detections)
    running = {"batch_size": batch_size, "device": device, "max_images": max_images, "progress": progress}
    ids, rows = _predicted(model, dataset, **running)
    truth = GroundTruth.of(dataset)
    notes: tuple[str, ...] = ()
    if max_images is not None and max_images < len(truth):
        looked_at = set(ids)
        places = [i for i, name in enumerate(truth.image_ids.tolist()) if name in looked_at]
        truth, total = truth.part(places), len(truth)
        notes = (f"{len(truth)} of {total} images",)
    results = Results.of(rows, truth, guess=False)
    evaluation = evaluate_detections(truth, results, engine=engine, max_detections=max_detections)
    return replace(evaluation, notes=notes + evaluation.notes).to_series()
