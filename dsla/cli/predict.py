"""Detections on a person's own images: as pictures and as a COCO results file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ..data import load_image
from ..errors import DataError
from ..models import Detector
from ..models.evaluation import device_of, evaluation_mode, usable

ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """Files as given, and the images in folders, sorted by name.

    Raises:
        DataError: a path that does not exist, or nothing to predict on.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found += sorted(p for p in path.iterdir() if p.suffix.lower() in ENDINGS)
        elif path.is_file():
            found.append(path)
        else:
            raise DataError(f"{path.absolute()}: no such image or folder")
    if not found:
        raise DataError(f"no images in {', '.join(map(str, paths)) or 'an empty list'}; endings {sorted(ENDINGS)}")
    return found


def predict(model: Detector, images: Sequence[str | Path | Tensor]) -> list[dict[str, Tensor]]:
    """Detections of each image (a path, or a float tensor [3, H, W] in 0…1), one dict an image.

    boxes [D, 4] xyxy in pixels of the image, scores [D] descending, labels [D] in 0…C−1; on the CPU.
    """
    device, results = device_of(model), []
    with evaluation_mode(model):
        for image in images:
            tensor = image if isinstance(image, Tensor) else load_image(image)
            (found,) = model([tensor.to(device)])
            results.append({k: v.cpu() for k, v in found.items()})
    return results


def predict_files(
    model: Detector, paths: Iterable[str | Path], out: str | Path, *, draw_from: float = 0.3
) -> list[dict[str, Any]]:
    """Predict on files, draw what scores at least `draw_from`, and write ``detections.json``.

    Returns one row an image: file, picture, detections, drawn. The JSON is in COCO's results format, with
    `file_name` besides; `image_id` counts the files from 1, `category_id` is the label + 1, `category` its name.
    """
    from ..plots.draw import draw_detections

    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    rows, results = [], []
    names = model.class_names
    taken: set[str] = set()
    for number, path in enumerate(find_images(paths), 1):
        image = load_image(path)
        (found,) = predict(model, [image])
        shown = found["scores"] >= draw_from
        name = path.stem if path.stem not in taken else f"{path.stem}-{number}"
        taken.add(name)
        picture = folder / f"{name}.png"
        draw_detections(image, {k: v[shown] for k, v in found.items()}, names).savefig(picture)
        for box, score, label in zip(*(found[k].tolist() for k in ("boxes", "scores", "labels")), strict=True):
            x1, y1, x2, y2 = box
            results.append(
                {
                    "image_id": number,
                    "file_name": str(path),
                    "category_id": label + 1,
                    "category": names[label],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": score,
                }
            )
        rows.append({"file": str(path), "picture": str(picture), "detections": len(shown), "drawn": int(shown.sum())})
    (folder / "detections.json").write_text(json.dumps(results), encoding="utf-8")
    return rows


def load_model(name: str | Path, device: str | None = None) -> Detector:
    """`dsla.load`, on a GPU if there is one."""
    from ..models import load

    return load(name, usable(device))
