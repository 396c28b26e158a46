"""What every analysis takes and gives: ground truth and detections as tidy tables, chunk by chunk of images.

Sources of ground truth: a COCO json (path or dict), a data set of this package, a list of target dicts
(`boxes` [M,4] xyxy, `labels` [M], optionally `crowd_boxes` [K,4] and `image_id`), or what `coco.foreign` reads.

Sources of detections: COCO results (path or list of rows), or what `coco.foreign` reads; a table with
DETECTION_COLUMNS; an iterable with one dict of tensors an image (`boxes` [D,4], `scores` [D], `labels` [D], optionally
`image_id`; without it in the order of the images); or a model together with a data set. An iterable and a model are
read as a stream: no more than a chunk of images is in memory.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import wraps
from inspect import signature
from pathlib import Path
from types import NoneType
from typing import Any, ParamSpec

import numpy as np
import pandas as pd

from ..coco.columns import CORNERS as BOX
from ..coco.columns import array, comparable, plain_id, with_size
from ..coco.detections import Results, located
from ..coco.ground_truth import GroundTruth
from ..coco.problems import some
from ..errors import DataError
from ..files import read_toml

DETECTION_COLUMNS = ["image", "category", *BOX, "score"]
EXTRAS = ("label",)  # what a model adds to its candidates, see `running`
CHUNK = 256  # images that are looked at together
SHARE, COUNT = (lambda v: 0 <= v <= 1, "from 0 to 1"), (lambda v: v >= 1, "1 or more")
LIMITS: dict[str, tuple[Callable[[Any], bool], str]] = {  # of options that are given, and not None
    **dict.fromkeys(("iou_threshold", "laece_iou"), SHARE),
    **dict.fromkeys(("max_detections", "max_images", "batch_size"), COUNT),
    "nms_threshold": (lambda v: 0 < v <= 1, "above 0 and at most 1"),
    "score_threshold": (np.isfinite, "a finite number"),
    "resamples": (lambda v: v >= 0, "0 or more"),
    "level": (lambda v: 0 < v < 1, "above 0 and below 1"),
}

_DEFINITIONS: dict[str, dict[str, str]] = read_toml(__file__, "definitions")
_SUMMARIES: dict[str, Callable[[pd.DataFrame], pd.Series]] = {}


class Table(pd.DataFrame):
    """A DataFrame that remembers in its `attrs` which analysis made it, with which arguments."""

    @property
    def _constructor(self) -> "type[Table]":
        return Table

    def summary(self) -> pd.Series:
        """The few numbers of this analysis; see `dsla.analysis.summary`."""
        return summary(self)


def summary(frame: pd.DataFrame) -> pd.Series:
    """Summary of a table that one of the analyses made (or of selected rows of it).

    Returns:
        Series of numbers, NaN where undefined. `attrs["definitions"]` says in a sentence what each is,
        `attrs["reasons"]` why it is undefined, for those that are.
    """
    try:
        return _SUMMARIES[frame.attrs["analysis"]](frame)
    except KeyError:
        raise DataError(
            "not a table of dsla.analysis: attrs['analysis'] is none of "
            f"{', '.join(sorted(_SUMMARIES))}. Operations that drop `attrs` need them set again"
        ) from None


def within(**options: Any) -> None:
    """Raises DataError where an option is not within its `LIMITS`."""
    for name, (fits, words) in LIMITS.items():
        if options.get(name) is not None and not fits(options[name]):
            raise DataError(f"{name} is {words}, got {options[name]!r}")


P = ParamSpec("P")


def analysis(name: str, options: Callable[..., Any]) -> Callable[[Callable[P, Table]], Callable[P, Table]]:
    """For functions that make the table of an analysis: its `attrs` say the name, and every argument that has one.

    Args:
        name: of the analysis.
        options: the function to which `**options` are handed on; what they can be is in the signature, too.
    """

    def recorded(function: Callable[P, Table]) -> Callable[P, Table]:
        own = signature(function)
        arguments = dict(signature(options).parameters) | dict(own.parameters)
        more = [a for a in arguments.values() if a.kind is a.KEYWORD_ONLY]
        settings = {a.name: a.default for a in more}

        @wraps(function)
        def analyse(*args: P.args, **given: P.kwargs) -> Table:
            within(**given)
            table = function(*args, **given)
            plain = {k: v for k, v in given.items() if isinstance(v, (str, int, float, NoneType))}
            table.attrs = {"analysis": name} | settings | plain | table.attrs
            return table

        first = [a for a in own.parameters.values() if a.kind is a.POSITIONAL_OR_KEYWORD]
        last = [a for a in signature(options).parameters.values() if a.kind is a.VAR_KEYWORD]
        analyse.__signature__ = own.replace(parameters=[*first, *more, *last])  # type: ignore[attr-defined]
        return analyse

    return recorded


Measured = tuple[Mapping[str, Any], Mapping[str, str]]  # values and reasons of a summary, see `series`


def summarises(
    analysis: str, **settings: Any
) -> Callable[[Callable[..., Measured]], Callable[[pd.DataFrame], pd.Series]]:
    """Registers the summary of an analysis: a function of its table and settings that gives values and reasons.

    Args:
        analysis: its name, also in `definitions.toml`, which says what each number means.
        settings: of the analysis, for a table whose `attrs` do not say them.
    """

    def register(function: Callable[..., Measured]) -> Callable[[pd.DataFrame], pd.Series]:
        @wraps(function)
        def summarise(frame: pd.DataFrame) -> pd.Series:
            used = settings | frame.attrs
            measured = function(frame, **{name: used[name] for name in settings})
            return series(analysis, *measured, **used)

        _SUMMARIES[analysis] = summarise
        return summarise

    return register


def series(of: str, values: Mapping[str, Any], reasons: Mapping[str, str], **settings: Any) -> pd.Series:
    """Numbers with their definitions, and for those that are undefined the reasons, in `attrs`.

    Args:
        of: a table of `definitions.toml`.
        values: a number, or an array, whose mean is the number, undefined if it is empty.
        reasons: why a number is undefined, by its name; "" of all others.
        settings: of the analysis, which definitions speak of.
    """
    means = {name: float(np.asarray(v, dtype=float).mean()) if np.size(v) else np.nan for name, v in values.items()}
    numbers = pd.Series(means, dtype=float, name="value")
    numbers.attrs = {
        "definitions": {name: definition(of, name).format(**settings, part=name.rpartition("_")[2]) for name in means},
        "reasons": {name: reasons.get(name, reasons.get("", "")) for name, v in means.items() if np.isnan(v)},
    }
    return numbers


def definition(of: str, name: str) -> str:
    """What `definitions.toml` says of a number of an analysis, with the settings in braces."""
    return next(text for pattern, text in _DEFINITIONS[of].items() if fnmatchcase(name, pattern))


def truth_of(source: Any, max_images: int | None = None) -> GroundTruth:
    """Ground truth from any of the sources that the module names, or the first images of it.

    Labels of a network are a data set's own; without one they are taken in the order of the ids, as ours are.
    """
    truth = GroundTruth.of(source)
    labels = tuple(source.category_ids) if hasattr(source, "ground_truth") else truth.labels
    truth = replace(truth, labels=labels)  # its tables go with the analysis, and not with the data set
    return truth if max_images is None or max_images >= len(truth) else truth.part(range(max_images))


def frame_of(columns: Mapping[str, Any], **attrs: Any) -> Table:
    """A table from columns of tensors or arrays, with its attrs."""
    table = Table({name: array(values) for name, values in columns.items()})
    table.attrs = attrs
    return table


def stream(
    detections: Any, truth: GroundTruth, *, score_threshold: float = 0.0, chunk: int = CHUNK
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Detections and objects of `chunk` images after `chunk` images, in the order of the images.

    Both tables have a fresh index, their rows grouped by image, within an image in the order given; images
    are numbered by the column `image_index`. Detections below the score threshold are left out; `detection`
    is their number within the source (in the image, for dicts of tensors).

    Raises:
        DataError: detections of unknown images, more dicts than images, missing columns, values not finite.
    """
    place = {image: i for i, image in enumerate(truth.images)}
    objects = truth.objects.assign(image_index=truth.objects["image"].map(place).astype(np.int64))
    objects = objects.sort_values("image_index", kind="stable")
    for first, part in _parts(detections, truth, place, chunk):
        part = part[part["score"] >= score_threshold].sort_values("image_index", kind="stable")
        low, high = np.searchsorted(objects["image_index"], [first, first + chunk])
        yield part.reset_index(drop=True), objects.iloc[low:high].reset_index(drop=True)


def _parts(
    detections: Any, truth: GroundTruth, place: dict[Any, int], chunk: int
) -> Iterator[tuple[int, pd.DataFrame]]:
    """(index of the first image, detections of `chunk` images), not yet sorted."""
    if hasattr(detections, "ground_truth"):
        raise DataError("a data set stands where detections belong: give the arguments in their order")
    first = detections[0] if isinstance(detections, list) and detections else None
    streamed = isinstance(first, Mapping) and "boxes" in first
    if isinstance(detections, (str, Path, Mapping, list)) and not streamed:
        detections = Results.of(detections, truth)
    if isinstance(detections, Results):
        detections = detections.to_frame()
    if isinstance(detections, pd.DataFrame):
        table = _numbered(detections, place)
        if truth.labels is not None:  # target dicts do not say which classes there are
            located(table["category"], comparable(truth.category_ids), "a category_id", "the given table")
        order = np.argsort(table["image_index"].to_numpy(), kind="stable")
        starts = range(0, max(len(truth.images), 1), chunk)
        edges = np.searchsorted(table["image_index"].to_numpy()[order], [*starts, len(truth.images)])
        for i, first in enumerate(starts):
            yield first, table.iloc[order[edges[i] : edges[i + 1]]]
        return
    if isinstance(detections, list) and all("image_id" in image for image in detections):
        detections = sorted(detections, key=lambda image: place.get(plain_id(image["image_id"]), -1))
    parts: list[dict[str, np.ndarray]] = []
    first, index = 0, -1
    for image in detections:
        index, before = place.get(plain_id(image["image_id"]), -1) if "image_id" in image else index + 1, index
        if not before < index < len(truth.images):
            raise DataError(
                f"detections of image {image.get('image_id', index)} come after those of image number {before}, "
                f"but it is not among the {len(truth.images)} images of the ground truth, or stands before that"
            )
        while index >= first + chunk:
            yield first, _joined(parts, place)
            first, parts = first + chunk, []
        parts.append(_of_dict(image, truth, index))
    for start in range(first, max(len(truth.images), 1), chunk):
        yield start, _joined(parts, place)
        parts = []


def _of_dict(image: Mapping[str, Any], truth: GroundTruth, index: int) -> dict[str, np.ndarray]:
    """One image's tensors as columns. Besides the standard ones, `EXTRAS` are taken along where they are given."""
    labels, ids = array(image["labels"]).astype(np.int64), truth.labels
    if ids is not None and len(labels) and not 0 <= labels.min() <= labels.max() < len(ids):
        raise DataError(f"image {truth.images[index]}: a detection has a label outside 0…{len(ids) - 1}")
    columns = dict(zip(BOX, array(image["boxes"]).reshape(-1, 4).astype(float).T, strict=True))
    columns["category"] = labels if ids is None else np.array(ids)[labels]
    given = {"score": "scores"} | {name: name for name in EXTRAS if name in image}
    columns |= {name: array(image[key]).astype(float) for name, key in given.items()}
    if len({column.shape for column in columns.values()}) > 1:
        counts = ", ".join(f"{len(array(image[key]))} {key}" for key in ("boxes", "labels", *given.values()))
        raise DataError(f"image {truth.images[index]}: {counts}; each detection needs one of each")
    return columns | {"image": np.repeat(truth.images[index], len(labels)), "detection": np.arange(len(labels))}


def _numbered(table: pd.DataFrame, place: dict[Any, int]) -> pd.DataFrame:
    """A table of detections with image_index, detection, w and h."""
    missing = [name for name in DETECTION_COLUMNS if name not in table]
    if missing:
        raise DataError(f"a table of detections has columns {DETECTION_COLUMNS}; {missing} missing")
    index = table["image"].map(place)
    if index.isna().any():
        strange = table["image"][index.isna()].unique()
        raise DataError(f"detections of images that the ground truth does not have: {some(list(strange))}")
    number = table["detection"] if "detection" in table else np.arange(len(table))
    table = table.assign(image_index=index.astype(np.int64), detection=number)
    bad = ~np.isfinite(table[[*BOX, "score"]].to_numpy(dtype=float)).all(axis=1)
    if bad.any():
        image, number = (table[name].to_numpy()[bad][0] for name in ("image", "detection"))
        raise DataError(f"image {image}, detection {number}: box or score is not finite")
    return with_size(table)


def _joined(parts: list[dict[str, np.ndarray]], place: dict[Any, int]) -> pd.DataFrame:
    """The images' columns, one after the other, as a table."""
    if not parts:
        return _numbered(pd.DataFrame(columns=[*DETECTION_COLUMNS, "detection"], dtype=float), place)
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return _numbered(pd.DataFrame(columns), place)
