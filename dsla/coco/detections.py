"""COCO results in columns: detections on the images of a ground truth. D detections."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from ..errors import DataError
from . import columns
from .columns import CORNERS, SIZE, corners_of
from .foreign import as_table
from .ground_truth import GroundTruth
from .problems import SLACK, Problems, many, refuse, some
from .reading import name_of, read_results

Detections: TypeAlias = "str | Path | Iterable[Mapping[str, Any]] | Mapping[Any, Any] | pd.DataFrame | Results"


@dataclass(frozen=True, eq=False)
class Results:
    """Detections on the images of a ground truth, in the order of their file.

    Attributes:
        name: the file, or the kind of object it came from.
        truth: the ground truth whose images and classes they name; that of target dicts has the classes of both.
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
        if isinstance(source, Results) and source.truth is truth:
            return source
        name = "the given table" if isinstance(source, pd.DataFrame) else getattr(source, "name", name_of(source))
        source = source.to_table() if isinstance(source, Results) else source
        table = source if isinstance(source, pd.DataFrame) else as_table(source, truth)
        table = _read(source, name) if table is None else checked_table(table, name)
        if truth.labels is None:
            truth = truth.with_classes(columns.id_array(table["category"].tolist()))
        image = located(table["image"], truth.image_ids, "an image_id", name, subset)
        category = located(table["category"], truth.category_ids, "a category_id", name)
        if "file" in table and not isinstance(source, pd.DataFrame):
            _check_files(table, image, truth, name)
        boxes, score = table[[*CORNERS[:2], *SIZE]].to_numpy(dtype=float), table["score"].to_numpy(dtype=float)
        odd = {
            "elsewhere": image < 0,
            "odd-score": (score < 0) | (score > 1),
            "negative-size": boxes[:, 2:].min(1, initial=0) < 0,
            "repeated-row": table[["image", "category", "score", *CORNERS[:2], *SIZE]].duplicated().to_numpy(),
        }
        sides = truth.widths[image], truth.heights[image]
        odd["off-image"] = np.isnan(columns.cut_to(boxes, *sides)[:, 0]) & (columns.reach(boxes, *sides) > SLACK)
        odd["off-image"] &= (image >= 0) & ~odd["negative-size"]
        problems = Problems(name)
        for kind, mask in odd.items():
            at = np.flatnonzero(mask).tolist()
            problems.add(kind, [f"at {n}" for n in at], positions=at)
        results = cls(name, truth, image, category, boxes, score, problems).where(image >= 0)
        sized = (results.boxes[:, 2:] > 0).all(1)
        if guess and sized.sum() > len(results) / 2:
            sizes = (side[results.image[sized]] for side in (truth.widths, truth.heights))
            columns.refuse_other_forms(name, "detection", results.boxes[sized], *sizes)
        if warn:
            problems.warn()
        return results

    def __len__(self) -> int:
        return len(self.score)

    def __repr__(self) -> str:
        return f"Results({self.name}: {many(len(self), 'detection')} on {many(len(self.truth), 'image')})"

    @property
    def corners(self) -> np.ndarray:
        """[D,4] x1, y1, x2, y2."""
        return corners_of(self.boxes)

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
        """Columns x1, y1, x2, y2, w, h (pixels), image, category (ids, of one kind), score."""
        table, ids = self.to_table(), {"image": self.truth.image_ids, "category": self.truth.category_ids}
        return table.assign(**{name: columns.comparable(each)[getattr(self, name)] for name, each in ids.items()})

    def to_table(self) -> pd.DataFrame:
        """The same with the ids as they stand in the ground truth."""
        images, categories = self.truth.image_ids[self.image], self.truth.category_ids[self.category]
        return columns.box_table(self.boxes).assign(image=images, category=categories, score=self.score)

    def to_rows(self) -> list[dict[str, Any]]:
        """COCO results rows with id (from 1), area and iscrowd, as pycocotools wants them."""
        ids = self.truth.image_ids[self.image].tolist(), self.truth.category_ids[self.category].tolist()
        return [
            {"id": n, "image_id": i, "category_id": c, "bbox": b, "area": b[2] * b[3], "iscrowd": 0, "score": s}
            for n, (i, c, b, s) in enumerate(zip(*ids, self.boxes.tolist(), self.score.tolist(), strict=True), 1)
        ]


def _read(source: Any, name: str) -> pd.DataFrame:
    """A table, with the image's file, of COCO's rows."""
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
        texts = [f"{key} {value!r:.80}" for key, value in values.items()]
        lines.append(f"detection {n} (image_id {row.image_id!r}): {', '.join(texts)}")
    refuse(name, "a detection needs image_id, category_id, a bbox of four finite numbers and a finite score:", lines)
    ids = {side: columns.ids_in(rows, f"{side}_id") for side in ("image", "category")}
    files = pd.Series([row.file_name or "" for row in rows], dtype=object)
    return columns.box_table(boxes).assign(**ids, score=score, file=files)


def checked_table(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """A table of detections with w and h.

    Raises:
        DataError: columns are missing, or a box or a score is not finite.
    """
    if missing := [column for column in ("image", "category", *CORNERS, "score") if column not in table]:
        raise DataError(f"a table of detections has columns image, category, x1, y1, x2, y2, score; {missing} missing")
    table = columns.with_size(table)
    bad = ~columns.in_reach(table[[*CORNERS, *SIZE, "score"]].to_numpy(dtype=float))
    if bad.any():
        row = int(bad.argmax())
        where = f"{name}: image {table['image'].iloc[row]}, "
        where += f"detection {table['detection'].iloc[row]}" if "detection" in table else f"row {row}"
        raise DataError(f"{where}: box or score is not finite; mend the row or leave it out")
    return table


def located(column: pd.Series, listed: np.ndarray, of: str, name: str, subset: bool = False) -> np.ndarray:
    """Places of the detections' image or category ids in the ground truth; −1, of a subset, where it has none.

    Raises:
        DataError: ids that the ground truth does not have.
    """
    ids = columns.id_array(column.tolist())
    place = columns.places(ids, listed)
    if (place < 0).any() and not (subset and (place >= 0).any()):
        strange = list(dict.fromkeys(ids[place < 0].tolist()))
        raise DataError(
            f"{name}: {many(int((place < 0).sum()), 'detection')} with {of} that the ground truth does not know: "
            f"{some(strange)}; it knows {some(listed.tolist(), 10)}{columns.types_of(ids, listed)}"
            + " (results carry the file's ids, not 0…C−1)" * ("category" in of)
            + " (subset=True, in the shell --subset, leaves them out)" * ("image" in of)
        )
    return place.astype(np.int32)


def _check_files(table: pd.DataFrame, image: np.ndarray, truth: GroundTruth, name: str) -> None:
    """Results may name the image file beside the id; then both must mean the same image."""
    named = cache(truth.named)
    for file, place, one in zip(table["file"], image.tolist(), table["image"], strict=True):
        if place >= 0 and file and truth.file_names[place] and place not in named(file):
            raise DataError(
                f"{name}: detections of {file!r} carry image_id {one!r}, which in {truth.name} is "
                f"{truth.file_names[place]!r}: the ids are not those of the annotations; detect with the "
                "annotation file at hand"
            )
