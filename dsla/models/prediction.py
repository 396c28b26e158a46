"""Detections on pictures of a person's own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from ..data.loading import load_image
from .detector import Detector
from .evaluation import device_of, evaluation_mode


def predict(model: Detector, images: Iterable[str | Path | Tensor]) -> list[dict[str, Tensor]]:
    """Detections of each image (a path, or a float tensor [3, H, W] in 0…1), one dict an image.

    boxes [D, 4] xyxy in pixels of the image, scores [D] descending, labels [D] in 0…C−1; on the CPU.
    """
    device, detections = device_of(model), []
    with evaluation_mode(model):
        for image in images:
            tensor = image if isinstance(image, Tensor) else load_image(image)
            detections += [{k: v.cpu() for k, v in d.items()} for d in model([tensor.to(device)])]
    return detections
