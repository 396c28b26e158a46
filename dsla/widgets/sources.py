"""What the views of detections share: a data set, sources of detections by name, and what files are called."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ..analysis.detectors import names_of
from ..coco.ground_truth import GroundTruth
from ..errors import DataError
from ..models.evaluation import check_classes


def in_order(dataset: Any, detections: Any) -> tuple[Any, dict[str, Any]]:
    """(data set, name → source of detections), also where they were given the other way round.

    Raises:
        DataError: neither is a data set, the data set has no images, there are no detections, or a detector was made
            for other classes.
    """
    if not is_dataset(dataset):
        dataset, detections = detections, dataset
    if not is_dataset(dataset):
        kinds = " and ".join(type(value).__name__ for value in (detections, dataset))
        raise DataError(f"a data set comes first, then detections: got {kinds}")
    if not len(dataset):
        raise DataError(f"{getattr(dataset, 'name', 'the data set')} has no images to show")
    name = getattr(getattr(detections, "recipe", None), "name", "detections")
    if isinstance(detections, str | Path):
        (name,) = names_of([detections])
    sources = detections if isinstance(detections, Mapping) else {name: detections}
    if not sources:
        raise DataError("no detections to show")
    for source in sources.values():
        if isinstance(source, nn.Module):
            check_classes(source, dataset)
    return dataset, {str(name): source for name, source in sources.items()}


def titles(truth: GroundTruth) -> list[str]:
    """What to call each image: its id, and its file where the data set says it."""
    pairs = zip(truth.image_ids.tolist(), truth.file_names, strict=True)
    return [f"image {i} · {f}" if f else f"image {i}" for i, f in pairs]


def is_dataset(value: Any) -> bool:
    return hasattr(value, "class_names") and hasattr(value, "__getitem__") and not isinstance(value, nn.Module)
