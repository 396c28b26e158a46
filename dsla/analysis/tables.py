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
from ..coco.columns import array, comparable
from ..coco.detections import Results, checked_table, located
from ..coco.foreign import are_boxes, fields, images_of, labels_of
from ..coco.ground_truth import GroundTruth
from ..errors import DataError, within
from ..files import read_toml

DETECTION_COLUMNS = ["image", "category", *BOX, "score"]
EXTRAS = ("label",)  # what a model adds to its candidates, see `running`
CHUNK = 256  # images that are looked at together

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


P = ParamSpec("P")


def analysis(name: str, options: Callable[..., Any]) -> Callable[[Callable[P, Table]], Callable[P, Table]]:
    """For functions that make the table of an analysis: its `attrs` say the name, and every argument that has one.

    Args:
        name: of the analysis.
        options: the function to which `**options` are handed on; what they can be is in the signature, too.
    """

    def recorded(function: Callable[P, Table]) -> Callable[P, Table]:
        declared = signature(function)
        arguments = dict(signature(options).parameters) | dict(declared.parameters)
        more = [a for a in arguments.values() if a.kind is a.KEYWORD_ONLY]
        settings = {a.name: a.default for a in more}

        @wraps(function)
        def analyse(*args: P.args, **given: P.kwargs) -> Table:
            within(**given)
            table = function(*args, **given)
            plain = {k: v for k, v in given.items() if isinstance(v, (str, int, float, NoneType))}
            table.attrs = {"analysis": name} | settings | plain | table.attrs
            return table

        first = [a for a in declared.parameters.values() if a.kind is a.POSITIONAL_OR_KEYWORD]
        last = [a for a in signature(options).parameters.values() if a.kind is a.VAR_KEYWORD]
        analyse.__signature__ = declared.replace(parameters=[*first, *more, *last])  # type: ignore[attr-defined]
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
    """Ground truth from any of the sources that the module names, or the first images of it."""
    within(max_images=max_images)
    truth = replace(GroundTruth.of(source))  # its tables go with the analysis, and not with the data set
    return truth if max_images is None or max_images >= len(truth) else truth.part(range(int(max_images)))


def frame_of(columns: Mapping[str, Any], **attrs: Any) -> Table:
    """A table from columns of tensors or arrays, with its attrs."""
    table = Table({name: array(values) for name, values in columns.items()})
    table.attrs = attrs
    return table


def stream(
    detections: Any, truth: GroundTruth, *, score_threshold: float | None = None, chunk: int = CHUNK
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Detections and objects of `chunk` images after `chunk` images, in the order of the images.

    Both tables have a fresh index, their rows grouped by image, within an image in the order given; images
    are numbered by the column `image_index`. Detections below the score threshold are left out, without one none;
    `detection` is their number within the source (in the image, for dicts of tensors).

    Raises:
        DataError: detections of unknown images, more dicts than images, missing columns, values not finite.
    """
    objects = truth.objects.assign(image_index=truth.image.astype(np.int64))
    objects = objects.sort_values("image_index", kind="stable")
    for first, part in _parts(detections, truth, chunk):
        part = part if score_threshold is None else part[part["score"] >= score_threshold]
        part = part.sort_values("image_index", kind="stable")
        low, high = np.searchsorted(objects["image_index"], [first, first + chunk])
        yield part.reset_index(drop=True), objects.iloc[low:high].reset_index(drop=True)


def _parts(detections: Any, truth: GroundTruth, chunk: int) -> Iterator[tuple[int, pd.DataFrame]]:
    """(index of the first image, detections of `chunk` images), not yet sorted."""
    if hasattr(detections, "ground_truth"):
        raise DataError("a data set stands where detections belong: give the arguments in their order")
    streamed = isinstance(detections, list) and are_boxes(detections)
    if isinstance(detections, (str, Path, Mapping, list)) and not streamed:
        detections = Results.of(detections, truth)
    if isinstance(detections, Results):
        detections = detections.to_frame()
    if isinstance(detections, pd.DataFrame):
        table = _numbered(detections, truth)
        order = np.argsort(table["image_index"].to_numpy(), kind="stable")
        starts = range(0, max(len(truth), 1), chunk)
        edges = np.searchsorted(table["image_index"].to_numpy()[order], [*starts, len(truth)])
        for i, first in enumerate(starts):
            yield first, table.iloc[order[edges[i] : edges[i + 1]]]
        return
    images = images_of(detections)
    if streamed:
        listed = list(images)
        named = all(key is not None for key, _ in listed)
        images = iter(sorted(listed, key=lambda image: truth.place(image[0])) if named else listed)
    parts: list[dict[str, np.ndarray]] = []
    first, index = 0, -1
    for key, image in images:
        index, before = index + 1 if key is None else truth.place(key), index
        if not before < index < len(truth):
            raise DataError(
                f"detections of image {index if key is None else key} come after those of image number {before}, "
                f"but it is not among the {len(truth)} images of the ground truth, or stands before that"
            )
        while index >= first + chunk:
            yield first, _joined(parts)
            first, parts = first + chunk, []
        parts.append(_of_dict(image, truth, index))
    for start in range(first, max(len(truth), 1), chunk):
        yield start, _joined(parts)
        parts = []


def _of_dict(image: Mapping[str, Any], truth: GroundTruth, index: int) -> dict[str, np.ndarray]:
    """One image's detections as columns. Besides the standard ones, `EXTRAS` are taken along where they are given."""
    where = f"image {truth.images[index]}"
    given = fields(image, where, scored=True)
    labels = labels_of(given, where, truth)
    category = labels if truth.labels is None else comparable(truth.label_ids)[labels]
    columns = dict(zip(BOX, given["boxes"].T, strict=True)) | {"category": category}
    columns |= {name: array(image[name]).astype(float) for name in EXTRAS if name in image}
    columns |= {"score": given["scores"].astype(float), "detection": np.arange(len(category))}
    home = {"image": truth.images[index], "image_index": index}
    return columns | {name: np.repeat(value, len(category)) for name, value in home.items()}


def _numbered(table: pd.DataFrame, truth: GroundTruth) -> pd.DataFrame:
    """A table of detections with image_index, detection, w and h."""
    table = checked_table(table, name := "the given table")
    index = located(table["image"], comparable(truth.image_ids), "an image_id", name)
    if truth.labels is not None:
        located(table["category"], comparable(truth.category_ids), "a category_id", name)
    number = table["detection"] if "detection" in table else np.arange(len(table))
    return table.assign(image_index=index.astype(np.int64), detection=number)


def _joined(parts: list[dict[str, np.ndarray]]) -> pd.DataFrame:
    """The images' columns, one after the other, as a table."""
    names = parts[0] if parts else [*DETECTION_COLUMNS, "image_index", "detection"]
    columns = {name: np.concatenate([np.zeros(0), *(part[name] for part in parts)][bool(parts) :]) for name in names}
    return checked_table(pd.DataFrame(columns), "the detections")
