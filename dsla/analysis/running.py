"""Our models as a source: what they detect, what enters NMS, and what their head says, image after image."""

from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ..assigners import Assigner, Assignment
from ..coco.columns import plain_id
from ..errors import DataError
from ..models.evaluation import batches, evaluation_mode
from .tables import Table


def run_raw(model: Any, dataset: Any, **running: Any) -> Iterator[tuple[Any, list[Tensor], list[int]]]:
    """Per batch `model.forward_raw(images, targets)`, the images, and their ids; in evaluation mode.

    running: as `models.evaluation.batches` has it.
    """
    for images, targets in batches(model, dataset, **running):
        moved = [{k: v.to(images[0].device) if isinstance(v, Tensor) else v for k, v in t.items()} for t in targets]
        # Not around the loop: between two batches of a generator the caller's code runs.
        with evaluation_mode(model):
            raw = model.forward_raw(images, moved)
        yield raw, images, [plain_id(target["image_id"]) for target in targets]


def run(model: Any, dataset: Any, *, before_nms: bool = False, **running: Any) -> Iterator[dict[str, Any]]:
    """Per image boxes [D,4], scores [D], labels [D] and image_id: detections, or what enters NMS (`candidates`)."""
    for raw, images, ids in run_raw(model, dataset, **running):
        with torch.inference_mode():
            taught = model.assign(raw) if before_nms and model.assigner is not None else None
        for image in candidates(model, raw, images, ids, taught):
            yield image if before_nms else suppressed(model, image)


def candidates(
    model: Any, raw: Any, images: list[Tensor], ids: list[int], taught: Assignment | None, ask: Any = None
) -> list[dict[str, Any]]:
    """What enters NMS in each image of a batch: it has passed the model's score threshold and top-k.

    Args:
        model: a detector.
        raw: what its head says.
        images: [3,H,W] each, as they came.
        ids: of the images.
        taught: its assignment; with it each candidate carries label [D], the static label of its point for its class.
        ask: another `Postprocess` than the model's.
    """
    with torch.inference_mode():
        sizes = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
        per_image = (ask or model.postprocess).candidates(raw.outputs, raw.image_sizes, sizes)
        if taught is not None:
            for category, label, image in zip(taught.category, taught.label, per_image, strict=True):
                image["label"] = label[image["points"]] * (category[image["points"]] == image["labels"])
    return [{**image, "image_id": image_id} for image_id, image in zip(ids, per_image, strict=True)]


def suppressed(model: Any, image: dict[str, Any]) -> dict[str, Any]:
    """The detections among the candidates of an image."""
    with torch.inference_mode():
        kept = model.postprocess.suppress({k: v for k, v in image.items() if k != "image_id"})
    return {**kept, "image_id": image["image_id"]}


def assign(assigner: Assigner, raw: Any) -> Assignment:
    """Another assigner than the model's own, on the points, objects and crowds of a batch."""
    return assigner(
        raw.outputs.grid,
        boxes=[target["boxes"] for target in raw.targets],
        labels=[target["labels"] for target in raw.targets],
        predictions=raw.outputs,
        ignore=[target.get("crowd_boxes", target["boxes"][:0]) for target in raw.targets],
        image_sizes=raw.image_sizes,
    )


def over(model: Any, dataset: Any, analysis: Callable[..., Table], **running: Any) -> Table:
    """Tables of an analysis of points, ``analysis(raw, **seen_by(…))``, batch after batch, joined over the data set."""
    batches = run_raw(model, dataset, **running)
    return joined([analysis(raw, **seen_by(model, raw, ids, model.assign(raw))) for raw, _, ids in batches])


def seen_by(model: Any, raw: Any, ids: list[int], assignment: Assignment) -> dict[str, Any]:
    """What analyses of points are given of a batch beside it: the model's own assignment, its scores, ids."""
    return {"own": assignment, "scores": model.postprocess.scores(raw.outputs), "image_ids": ids}


def joined(parts: list[Table]) -> Table:
    """The tables of all batches as one."""
    if not parts:
        raise DataError("the data set has no images")
    table = Table(pd.concat(parts, ignore_index=True))
    table.attrs = parts[0].attrs
    return table
