"""What is wrong with COCO files and their images, before anything is trained or evaluated on them."""

import codecs
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..coco.detections import Results
from ..coco.engines import SIZES, size_names
from ..coco.foreign import holds_results
from ..coco.ground_truth import GroundTruth
from ..coco.problems import Problems, many, some
from ..coco.reading import head_of
from ..errors import DataError
from ..files import require_folder
from .coco import CocoDataset

MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def check(
    files: Sequence[str | Path], images: str | Path | None = None, progress: Callable[[int, int], None] | None = None
) -> list[Problems]:
    """Reads COCO ground truths and results as everything else does, and reports instead of warning or raising.

    Args:
        files: ground truths, and results, which are held against the first ground truth among the files.
        images: folder of the images of the ground truths; every file in it that they name is read whole.
        progress: called with (images read, images in all).
    Raises:
        DataError: `images` is no folder.
    """
    if images is not None:
        require_folder(images)
    reports, first = list[Problems](), None
    for file in sorted(files, key=are_results):
        try:
            if not are_results(file):
                truth = GroundTruth.of(file, warn=False)
                if images is not None:
                    _check_pictures(CocoDataset(images, truth), progress)
                first, problems = first or truth, truth.problems
                problems.summary = _about(truth)
            elif first is None:
                lack = "give one that can be used" if reports else "give its file, too"
                raise DataError(f"{file}: results are checked against a ground truth; {lack}")
            else:
                results = Results.of(file, first, warn=False)
                problems = results.problems
                problems.summary = _about_results(results)
        except DataError as error:
            problems = Problems(str(file), str(error))
        reports.append(problems)
    return reports


def are_results(file: str | Path) -> bool:
    """Whether the file begins as a list, or as lines of rows with scores. A file that cannot be read is none.

    Annotations may have scores, too, as pseudo-labels do.
    """
    if Path(file).is_dir():
        return holds_results(file)
    head = head_of(Path(file))
    for mark in MARKS:
        head = head.removeprefix(mark)
    line = head.replace(b"\0", b"").lstrip().split(b"\n")[0]
    return line.startswith(b"[") or (line.startswith(b"{") and b'"score"' in line and b'"annotations"' not in line)


def _check_pictures(dataset: CocoDataset, progress: Callable[[int, int], None] | None) -> None:
    """Adds those that cannot be read to the problems."""
    unreadable, words = [], ""
    for i in range(len(dataset)):
        try:
            dataset.load(i)
        except DataError as error:
            unreadable.append(dataset.image_id(i))
            words = words or str(error)
        if progress is not None:
            progress(i + 1, len(dataset))
    dataset.problems.add("unreadable-file", unreadable, words)


def _about(truth: GroundTruth) -> str:
    objects = ~truth.crowd
    counts = np.bincount(truth.category[objects], minlength=len(truth.category_ids))
    size = size_names(truth.area[objects])
    sizes = ", ".join(f"{(size == name).sum()} {name}" for name in SIZES)
    classes = [f"{name} {n}" for name, n in zip(truth.category_names, counts.tolist(), strict=True)]
    return (
        f"{many(len(truth), 'image')} ({len(truth) - len(np.unique(truth.image))} without a box), "
        f"{many(int(objects.sum()), 'object')} ({sizes}), {many(int(truth.crowd.sum()), 'crowd')}, "
        f"{many(len(classes), 'class')}: {some(classes, 10)}"
    )


def _about_results(results: Results) -> str:
    about = f"{many(len(results), 'detection')} on {len(np.unique(results.image))} of {len(results.truth)} images"
    return about + (f", scores {results.score.min():.3g}…{results.score.max():.3g}" if len(results) else "")
