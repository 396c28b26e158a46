"""``dsla predict``: detections on a person's own images, as pictures and as a COCO results file."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from .arguments import fraction, plugin_option

if TYPE_CHECKING:
    from ..models import Detector

ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


def options(p: ArgumentParser) -> None:
    p.add_argument("images", nargs="+", metavar="IMAGE", help="files or folders")
    p.add_argument("--weights", default="scenes-dsla", help="file or shipped name (default: %(default)s)")
    p.add_argument("--out", default="predictions", help="folder of the pictures (default: %(default)s)")
    p.add_argument("--score", type=fraction, default=0.3, help="draw detections from this score on (default: 0.3)")
    p.add_argument("--device", help="cpu, cuda, cuda:1 … (default: a GPU if there is one)")
    plugin_option(p)


def run(args: Namespace) -> None:
    images = find_images(args.images)
    from ..models import load
    from ..models.evaluation import usable

    rows = predict_files(load(args.weights, usable(args.device)), images, args.out, draw_from=args.score)
    for row in rows:
        print(f"{row['file']}: {row['detections']} detections, {row['drawn']} drawn → {row['picture']}")
    print(f"all detections: {Path(args.out) / 'detections.json'}")


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """Files as given, and the images in folders, sorted by name.

    Raises:
        DataError: a path that does not exist, or nothing to predict on.
    """
    images: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            images += sorted(p for p in path.iterdir() if p.suffix.lower() in ENDINGS)
        elif path.is_file():
            images.append(path)
        else:
            raise DataError(f"{path.absolute()}: no such image or folder")
    if not images:
        raise DataError(f"no images in {', '.join(map(str, paths)) or 'an empty list'}; endings {sorted(ENDINGS)}")
    return images


def predict_files(
    model: Detector, paths: Iterable[str | Path], out: str | Path, *, draw_from: float = 0.3
) -> list[dict[str, Any]]:
    """Predict on files, draw what scores at least `draw_from`, and write ``detections.json``.

    Returns one row an image: file, picture, detections, drawn. The JSON is in COCO's results format, with
    `file_name` besides; `image_id` counts the files from 1, `category_id` is the label + 1, `category` its name.
    """
    from ..data import load_image
    from ..models.prediction import predict
    from ..plots.draw import draw_detections

    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    rows, results = [], []
    names = model.class_names
    taken: set[str] = set()
    for number, path in enumerate(find_images(paths), 1):
        image = load_image(path)
        (detections,) = predict(model, [image])
        drawn = detections["scores"] >= draw_from
        name = path.stem if path.stem not in taken else f"{path.stem}-{number}"
        taken.add(name)
        picture = folder / f"{name}.png"
        draw_detections(image, {k: v[drawn] for k, v in detections.items()}, names).savefig(picture)
        for box, score, label in zip(*(detections[k].tolist() for k in ("boxes", "scores", "labels")), strict=True):
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
        rows.append({"file": str(path), "picture": str(picture), "detections": len(drawn), "drawn": int(drawn.sum())})
    (folder / "detections.json").write_text(json.dumps(results), encoding="utf-8")
    return rows
