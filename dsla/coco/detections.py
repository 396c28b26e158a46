"""COCO results in columns: detections on the images of a ground truth. D detections."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from ..errors import DataError
from . import columns
from .columns import CORNERS, SIZE, corners_of
from .foreign import as_table
from .ground_truth import GroundTruth
from .problems import Problems, many, refuse, some
from .reading import name_of, read_results

Detections: TypeAlias = "str | Path | Iterable[Mapping[str, Any]] | Mapping[Any, Any] | pd.DataFrame | Results"


@dataclass(frozen=True, eq=False)
class Results:
    """Detections on the images of a ground truth, in the order of their file.

    Attributes:
        name: the file, or the kind of object it came from.
        truth: the ground truth whose images and classes they name.
        image, category: [D] places among its images and classes.
        boxes: [D,4] x, y, w, h in pixels.  score: [D].
        problems: everything odd about the file.
    """

    name: str
    truth: GroundTruth
    image: np.ndarray
    category: np.ndarray
    boxes: np.ndarray
    score: np.ndarray
    problems: Problems

    @classmethod
    def of(
        cls, source: Detections, truth: GroundTruth, *, warn: bool = True, guess: bool = True, subset: bool = False
    ) -> "Results":
        """From a path, COCO results rows, what `foreign` names, or a table.

        A table has image and category (ids), x1, y1, x2, y2 and score.

        Args:
            source: where it comes from.
            truth: what the ids refer to.
            warn: say the problems, in one `DataWarning`.
            guess: refuse boxes that as a whole look like fractions or corners; a network that has learnt nothing yet
                may say such ones.
            subset: leave out, and say, detections on images that the ground truth does not have, which are refused
                otherwise.

        Raises:
            DataError: rows without the fields or with a value that is not finite; ids that the ground truth does not
                have; a file name that contradicts the image id; boxes that are no x, y, w, h in pixels.
        """
        if isinstance(source, Results):
            return source
        table = source if isinstance(source, pd.DataFrame) else as_table(source, truth)
        if table is None:
            results = _of_rows(source, truth, subset)
        else:
            results = _of_table(table, truth, subset, "the given table" if table is source else name_of(source))
        if guess:
            results.check_form()
        if warn:
            results.problems.warn()
        return results

    def __len__(self) -> int:
        return len(self.score)

    def __repr__(self) -> str:
        return f"Results({self.name}: {many(len(self), 'detection')} on {many(len(self.truth), 'image')})"

    @property
    def corners(self) -> np.ndarray:
        """[D,4] x1, y1, x2, y2."""
        return corners_of(self.boxes)

    def check_form(self) -> None:
        """Raises DataError for boxes that as a whole are no x, y, w, h in pixels."""
        sized = (self.boxes[:, 2:] > 0).all(1)
        if sized.sum() > len(self) / 2:
            sizes = (side[self.image[sized]] for side in (self.truth.widths, self.truth.heights))
            columns.refuse_other_forms(self.name, "detection", self.boxes[sized], *sizes)

    def where(self, mask: Any) -> "Results":
        """Those of the detections for which the mask [D] holds."""
        return replace(self, **{k: getattr(self, k)[mask] for k in ("image", "category", "boxes", "score")})

    def part(self, images: np.ndarray) -> "Results":
        """Those on some images (places), of a ground truth of these alone, see `GroundTruth.part`."""
        place = np.full(len(self.truth), -1, dtype=np.int32)
        place[images] = np.arange(len(images))
        rows = self.where(place[self.image] >= 0)
        return replace(rows, truth=self.truth.part(images), image=place[rows.image])

    def to_frame(self) -> pd.DataFrame:
        """Columns x1, y1, x2, y2, w, h (pixels), image, category (ids), score."""
        frame = pd.DataFrame(np.concatenate([self.corners, self.boxes[:, 2:]], axis=1), columns=[*CORNERS, *SIZE])
        images, categories = (columns.comparable(ids) for ids in (self.truth.image_ids, self.truth.category_ids))
        return frame.assign(image=images[self.image], category=categories[self.category], score=self.score)

    def to_rows(self) -> list[dict[str, Any]]:
        """COCO results rows with id (from 1), area and iscrowd, as pycocotools wants them."""
        ids = self.truth.image_ids[self.image].tolist(), self.truth.category_ids[self.category].tolist()
        return [
            {"id": n, "image_id": i, "category_id": c, "bbox": b, "area": b[2] * b[3], "iscrowd": 0, "score": s}
            for n, (i, c, b, s) in enumerate(zip(*ids, self.boxes.tolist(), self.score.tolist(), strict=True), 1)
        ]


def _of_rows(source: Any, truth: GroundTruth, subset: bool) -> Results:
    name = name_of(source)
    rows, odd = read_results(source)
    strange = {o.position: o for o in reversed(odd)}
    boxes, score = columns.boxes_in(rows), columns.numbers_in(rows, "score")
    bad = ~columns.in_reach(np.column_stack([boxes, score]))
    bad[list(strange)] = True
    lines = []
    for n in np.flatnonzero(bad).tolist():
        one, row = strange.get(n), rows[n]
        if one is not None and one.field == "":
            lines.append(f"detection {n} is {one}, not a row of image_id, category_id, bbox, score")
            continue
        values = {key: getattr(row, key) for key in ("bbox", "score")} | ({one.field: one.value} if one else {})
        lines.append(
            f"detection {n} (image_id {row.image_id!r}): " + ", ".join(f"{k} {v!r:.80}" for k, v in values.items())
        )
    refuse(name, "a detection needs image_id, category_id, a bbox of four finite numbers and a finite score:", lines)
    image = _located(columns.ids_in(rows, "image_id"), truth.image_ids, "an image_id", name, subset)
    category = _located(columns.ids_in(rows, "category_id"), truth.category_ids, "a category_id", name)
    _check_files(rows, image, truth, name)
    return _results(name, truth, image, category, boxes, score)


def _of_table(table: pd.DataFrame, truth: GroundTruth, subset: bool, name: str) -> Results:
    if missing := [column for column in ("image", "category", *CORNERS, "score") if column not in table]:
        raise DataError(f"a table of detections has columns image, category, x1, y1, x2, y2, score; {missing} missing")
    values = columns.with_size(table)[[*CORNERS, *SIZE, "score"]].to_numpy(dtype=float)
    bad = ~columns.in_reach(values)
    if bad.any():
        row, image = int(bad.argmax()), table["image"].to_numpy()[bad][0]
        raise DataError(f"{name}: image {image}, row {row}: box or score is not finite; mend the row or leave it out")
    image = _located(columns.id_array(table["image"].tolist()), truth.image_ids, "an image_id", name, subset)
    category = _located(columns.id_array(table["category"].tolist()), truth.category_ids, "a category_id", name)
    return _results(name, truth, image, category, values[:, [0, 1, 4, 5]], values[:, 6])


def _located(ids: np.ndarray, listed: np.ndarray, of: str, name: str, subset: bool = False) -> np.ndarray:
    """Places of the detections' image or category ids in the ground truth; −1, of a subset, where it has none."""
    place = columns.places(ids, listed)
    if (place < 0).any() and not (subset and (place >= 0).any()):
        strange = list(dict.fromkeys(ids[place < 0].tolist()))
        raise DataError(
            f"{name}: {many(int((place < 0).sum()), 'detection')} with {of} that the ground truth does not know: "
            f"{some(strange)}; it knows {some(listed.tolist(), 10)}{columns.types_of(ids, listed)}"
            + " (results carry the file's ids, not 0…C−1)" * ("category" in of)
            + " (dsla analyze --subset leaves them out)" * ("image" in of)
        )
    return place.astype(np.int32)


def _check_files(rows: list[Any], image: np.ndarray, truth: GroundTruth, name: str) -> None:
    """Results may name the image file beside the id; then both must mean the same image."""
    for row, place in zip(rows, image.tolist(), strict=True):
        if place >= 0 and row.file_name and truth.file_names[place]:
            ours, theirs = (Path(file.replace("\\", "/")).name for file in (truth.file_names[place], row.file_name))
            if ours != theirs:
                raise DataError(
                    f"{name}: detections of {theirs!r} carry image_id {row.image_id!r}, which in {truth.name} is "
                    f"{ours!r}: the ids are not those of the annotations; detect with the annotation file at hand"
                )


def _results(
    name: str, truth: GroundTruth, image: np.ndarray, category: np.ndarray, boxes: np.ndarray, score: np.ndarray
) -> Results:
    table = {"image": image, "category": category, "score": score} | dict(zip("xywh", boxes.T, strict=True))
    odd = {
        "elsewhere": image < 0,
        "odd-score": (score < 0) | (score > 1),
        "negative-size": boxes[:, 2:].min(1, initial=0) < 0,
        "repeated-row": pd.DataFrame(table).duplicated().to_numpy(),
    }
    problems = Problems(name)
    for kind, mask in odd.items():
        problems.add(kind, [f"at {n}" for n in np.flatnonzero(mask).tolist()])
    return Results(name, truth, image, category, boxes, score, problems).where(image >= 0)
