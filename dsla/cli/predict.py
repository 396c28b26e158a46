"""Detect objects on images: a picture of each, and all detections as a COCO results file.

Example: dsla predict photo.jpg folder/ --weights scenes-dsla --out predictions
"""

import json
import os
import sys
import warnings
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path
from signal import SIGINT
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import DataError, DataWarning, Stopped

if TYPE_CHECKING:
    from ..data import CocoDataset
    from ..models import Detector

RESULTS = "detections.json"


class Picture(NamedTuple):
    """An image to predict on, its id in the results, its (height, width) if a file says it, where it is drawn."""

    path: Path
    image_id: int
    size: tuple[int, int] | None
    drawn: Path


def run(args: Namespace) -> int:
    paths, skipped = find_images(args.images)
    from ..data import CocoDataset
    from ..files import refuse_existing
    from ..models import load
    from ..models.evaluation import check_classes, usable
    from ..models.prediction import limits

    truth = CocoDataset(os.curdir, args.annotations) if args.annotations else None
    pictures = plan(paths, Path(args.out), truth)
    outputs = [Path(args.out) / RESULTS, *(p.drawn for p in pictures)]
    refuse_existing(outputs, inputs=[*paths, *filter(None, [args.annotations])], overwrite=args.overwrite)
    model = load(args.weights, usable(args.device))
    if truth is not None:
        check_classes(model, truth)
        model.class_names, model.category_ids = truth.class_names, truth.category_ids  # a model may have no names
    elif text := limits(model):
        print(f"note: {text}", file=sys.stderr)
    broken = predict_files(model, pictures, Path(args.out), args.score, args.value_range)
    if len(broken) < len(pictures):
        print(f"all detections: {Path(args.out) / RESULTS}")
    if skipped:
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(skipped.items()))
        print(f"not looked at in folders: {kinds}", file=sys.stderr)
    if broken:
        print(f"dsla predict: {len(broken)} of {len(pictures)} images left out:", *broken, sep="\n  ", file=sys.stderr)
    return int(bool(broken))


def find_images(paths: Sequence[str | Path]) -> tuple[list[Path], Counter[str]]:
    """Files as given, and the images in folders, sorted by name, each once; how many others lie there, by ending.

    Raises:
        DataError: one of the paths leads nowhere, or there is no image in all of them.
    """
    if missing := [path for path in map(Path, paths) if not (path.is_file() or path.is_dir())]:
        raise DataError(f"{missing[0].absolute()}: no such image or folder")
    from ..coco.heads import endings

    readable, images, skipped = endings(), list[Path](), Counter[str]()
    for path in map(Path, paths):
        for entry in sorted(path.iterdir()) if path.is_dir() else [path]:
            if entry is path or (entry.is_file() and entry.suffix.lower() in readable):
                images.append(entry)
            else:
                skipped["folder" if entry.is_dir() else entry.suffix.lower() or "without ending"] += 1
    if not images:
        raise DataError(f"no images in {', '.join(map(str, paths))}; endings {', '.join(sorted(readable))}")
    return list({os.path.abspath(p): p for p in images}.values()), skipped


def plan(paths: Sequence[Path], out: Path, truth: "CocoDataset | None" = None) -> list[Picture]:
    """What is drawn where, as many pictures as images; ids count from 1, or are those of `truth`.

    Images that `truth` does not list, such as those of another split in the same folder, are left out and said.

    Raises:
        DataError: `truth` lists none of them; a name of several of its images; two pictures of one.
    """
    from ..coco.columns import parts_of
    from ..coco.problems import some

    pictures, taken, seen, others = [], set(), dict[int, Path](), list[Path]()
    for number, path in enumerate(paths, 1):
        image_id, size = number, None
        if truth is not None:
            whole = os.path.abspath(path)
            place = truth.truth.place(whole)
            if place < 0 or parts_of(whole)[: len(file := parts_of(truth.truth.file_names[place]))] != file:
                others.append(path)
                continue
            if (other := seen.setdefault(place, path)) is not path:
                raise DataError(f"{path} and {other} are one image of {truth.annotation_json}; leave one of them out")
            image_id, size = truth.image_id(place), truth.image_size(place)
        names = chain([path.stem], (f"{path.stem}-{copy}" for copy in count(2)))
        name = next(n for n in names if n.casefold() not in taken)  # a.jpg and a.png, A.jpg, or one of another folder
        taken.add(name.casefold())
        pictures.append(Picture(path, image_id, size, out / f"{name}.png"))
    if truth is not None and others:
        if not pictures:
            raise DataError(
                f"{truth.annotation_json} lists none of these {len(paths)} images, as {others[0]}; give the file that "
                "does, or leave --annotations out"
            )
        text = f"{truth.annotation_json} lists {len(pictures)} of {len(paths)} images; left out: {some(others, 2)}"
        warnings.warn_explicit(text, DataWarning, "<dsla>", 1)
    return pictures


def predict_files(
    model: "Detector",
    pictures: Sequence[Picture],
    out: Path,
    draw_from: float = 0.3,
    value_range: tuple[float, float] | None = None,
) -> list[str]:
    """Predicts on images, draws what scores at least `draw_from`, and writes ``detections.json``.

    The JSON is in COCO's results format, with `file_name` and `category`, a class name, besides. Categories have the
    ids that the model knows. `value_range` is `dsla.data.pictures.to_pixels`'s.

    Returns:
        What is wrong with the images that could not be read, a line each; the others are complete.
    """
    from ..data import load_image, to_coco_results
    from ..files import put_in_place, write
    from ..models.prediction import detections
    from ..plots.draw import draw_detections

    names, broken, results = model.class_names, list[str](), list[dict[str, Any]]()
    ids: Any = SimpleNamespace(name="the images", category_ids=model.category_ids)
    try:
        for picture in pictures:
            try:
                image = load_image(picture.path, picture.size, value_range)
            except DataError as error:
                broken.append(str(error))
                continue
            (columns,) = detections(model, [image])
            drawn = columns["scores"] >= draw_from
            figure = draw_detections(image, {k: v[drawn] for k, v in columns.items()}, names)
            with put_in_place(picture.drawn) as partial:
                figure.savefig(partial, format="png")
            rows = to_coco_results(ids, [picture.image_id], [columns])
            for row, label in zip(rows, columns["labels"].tolist(), strict=True):
                results.append({**row, "file_name": str(picture.path), "category": names[label]})
            print(f"{picture.path}: {len(drawn)} detections, {int(drawn.sum())} drawn → {picture.drawn}", flush=True)
    except KeyboardInterrupt as stop:
        text = f"interrupted before {picture.path}; what was detected: {out / RESULTS}"
        raise Stopped(text, getattr(stop, "signal", SIGINT)) from None
    finally:
        if len(broken) < len(pictures):  # else there is nothing to keep, and nothing in the way of the next try
            write(out / RESULTS, json.dumps(results))
    return broken
