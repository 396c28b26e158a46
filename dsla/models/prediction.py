"""Detections on pictures of a person's own."""

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from ..data.pictures import image_tensor
from ..data.scenes import Scenes
from ..errors import DataError
from .detector import Detector
from .evaluation import check_model, device_of, evaluation_mode


def limits(model: Detector) -> str | None:
    """What to say of a model that knows no photographs, since it was trained on the embedded scenes."""
    if tuple(model.class_names) != Scenes.class_names:
        return None
    return (
        f"this model knows drawn scenes only ({', '.join(Scenes.class_names)}): what it detects in photographs means "
        "nothing. Train one on pictures like yours: dsla train --help"
    )


def predict(model: Detector, images: Any) -> list[dict[str, Any]]:
    """Detections of each image, on the CPU.

    Args:
        model: is left in the mode that it is in.
        images: pictures as `data.pictures.image_tensor` takes them, nested lists excepted (a tensor [3, H, W] is taken
            as it is, floats in 0…1 or bytes), one such picture, or a data set.
    Returns:
        One dict an image: boxes [D, 4] xyxy in pixels of the image, scores [D] descending, labels [D] in 0…C−1; and
        image_id where it comes from a data set.
    Raises:
        DataError: what is no picture.
    """
    check_model(model)
    single = isinstance(images, (str, Path, Image.Image)) or getattr(images, "ndim", 4) in (2, 3)
    images = [images] if single else images
    if (text := limits(model)) and not hasattr(images, "image_id"):
        images = list(images)
        if not all(isinstance(image, Tensor) for image in images):
            warnings.warn(text, stacklevel=2)
    return list(detections(model, images))


def detections(model: Detector, images: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """As `predict`, image after image, without a word about what the model knows."""
    device = device_of(model)
    for image in images:
        image_id = {}
        if isinstance(image, tuple):  # of a data set
            image, target = image
            image_id = {k: target[k] for k in ("image_id",) if k in target}
        if isinstance(image, list):
            raise DataError("nested lists may be one picture or several: give arrays, numpy.asarray(PICTURE)")
        ready = isinstance(image, Tensor) and image.ndim == 3 and len(image) == 3
        tensor = image if ready else image_tensor(image)
        with evaluation_mode(model):
            (columns,) = model([tensor.to(device)])
        yield {**{k: v.cpu() for k, v in columns.items()}, **image_id}
