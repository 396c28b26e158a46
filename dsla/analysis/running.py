"""Our models as a source of detections: thin adapters, one image or one batch after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..assigners import FCOS
from ..errors import DataError
from ..evaluation import Progress, batches, device_of, evaluation_mode
from ..geometry import HeadOutputs
from .tables import Truth


def run(
    model: nn.Module,
    dataset: Any,
    *,
    before_nms: bool = False,
    batch_size: int = 8,
    device: Any = None,
    max_images: int | None = None,
    progress: Progress | None = None,
) -> Iterator[dict[str, Any]]:
    """Per image a dict of boxes [D,4], scores [D], labels [D] and image_id: detections, or candidates before NMS."""
    device = device_of(model, device)
    model.to(device)
    for images, targets in batches(dataset, batch_size, max_images, device, progress):
        # Not around the loop: between two images of a generator the caller's code runs.
        with evaluation_mode(model):
            outputs = model.candidates(images) if before_nms else model(images)
        for target, found in zip(targets, outputs, strict=True):
            yield {**found, "image_id": int(target["image_id"])}


def sources(detections: Any, truth: Any, *, before_nms: bool = False, **running: Any) -> tuple[Any, Truth]:
    """Detections (a model is run) and ground truth, ready for `tables.stream`."""
    if not isinstance(detections, nn.Module):
        if running:
            raise ValueError(f"{', '.join(running)}: only for a model, but detections are given")
        return detections, Truth.of(truth)
    if not hasattr(truth, "ground_truth"):
        raise DataError("a model needs a data set to run on, as the second argument")
    return run(detections, truth, before_nms=before_nms, **running), Truth.of(
        truth, running.get("max_images")
    )
