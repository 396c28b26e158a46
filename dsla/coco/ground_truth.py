"""What a COCO ground truth says, in columns. B images, M annotations, C classes.

One policy for all who read it: evaluation and analyses use boxes as the file has them, as pycocotools does; teaching
and drawing cut them to the image (`GroundTruth.inside`); annotations without area are left out everywhere. Everything
odd is in `problems`, and said once, when the file is read. Columns are arrays: processes that load data share them.
"""

import os
import stat
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import DataError
from .checking import checked
from .columns import EVERY_CLASS, box_table, comparable, corners_of, cut_to, id_array, parts_of
from .foreign import are_boxes, as_coco
from .problems import Problems, many, refuse, some
from .reading import name_of


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """A COCO ground truth in columns.

    Attributes:
        name: the file, or the kind of object it came from.
        image_ids: [B] int64, or objects (int, str) where they are not all whole numbers below 2^63.
        file_names: one an image, "" where the file has none.
        widths, heights: [B] pixels, 0 where the file has none.
        category_ids: [C] like `image_ids`, ascending, numbers before text; the label of a class is its place here.
        category_names: one a class; the id as text where the file has none.
        ids: [M] of the annotations as in the file (objects; None where it has none).
        position: [M] of the annotations in the file's list.
        image, category: [M] places among the images and classes; −1 is the class of a crowd of every class, as
            `crowd_boxes` of target dicts are.
        boxes: [M,4] x, y, w, h in pixels, as the file has them; w and h are positive.
        area: [M] square pixels.  crowd, ignore: [M] bool, the flags `iscrowd` and `ignore`.
        problems: everything odd about the file.
        labels: ids of a network's labels 0…C−1; None, of target dicts: every label is an id, and `ids` are places in
            the image.
    """

    name: str
    image_ids: np.ndarray
    file_names: tuple[str, ...]
    widths: np.ndarray
    heights: np.ndarray
    category_ids: np.ndarray
    category_names: tuple[str, ...]
    ids: np.ndarray
    position: np.ndarray
    image: np.ndarray
    category: np.ndarray
    boxes: np.ndarray
    area: np.ndarray
    crowd: np.ndarray
    ignore: np.ndarray
    problems: Problems
    labels: tuple[Any, ...] | None = None

    @classmethod
    def of(cls, source: Any, *, warn: bool = True) -> "GroundTruth":
        """From a path, a COCO dict, a data set, what `foreign` names, or columns, which are given back.

        Args:
            source: a data set is anything with `truth` or `ground_truth()`.
            warn: say the problems, in one `DataWarning`.

        Raises:
            DataError: names the file, the rows and what to do.
        """
        if isinstance(source, GroundTruth):
            return source
        truth = getattr(source, "truth", None)
        if not isinstance(truth, GroundTruth):
            content = source.ground_truth() if hasattr(source, "ground_truth") else source
            truth = cls(**checked(as_coco(content), name_of(content), are_boxes(content)))
            if warn:
                truth.problems.warn()
        labels = getattr(source, "category_ids", truth.labels)  # a data set's own, else in the order of the ids
        return truth if labels is None or tuple(labels) == truth.labels else replace(truth, labels=tuple(labels))

    def __len__(self) -> int:
        return len(self.image_ids)

    def __repr__(self) -> str:
        return (
            f"GroundTruth({self.name}: {many(len(self), 'image')}, {many(len(self.boxes), 'box')}, "
            f"{many(len(self.category_ids), 'class')})"
        )

    @property
    def corners(self) -> np.ndarray:
        """[M,4] x1, y1, x2, y2, not cut."""
        return corners_of(self.boxes)

    @property
    def classes(self) -> np.ndarray:
        """[M] `category`, for what goes class by class.

        Raises:
            DataError: a crowd is one of every class.
        """
        if (self.category < 0).any():
            raise DataError(f"{self.name}: crowd_boxes have no class; put them among boxes, with iscrowd 1")
        return self.category

    @cached_property
    def label_ids(self) -> np.ndarray:
        """[C] category id of each label of a network."""
        return self.category_ids if self.labels is None else id_array(list(self.labels))

    @cached_property
    def images(self) -> list[Any]:
        """Ids of the images, of one kind."""
        return comparable(self.image_ids).tolist()

    @cached_property
    def categories(self) -> dict[Any, str]:
        """Category id → name, with the id behind it where several have one name."""
        ids, names = comparable(self.category_ids).tolist(), self.category_names
        return {i: f"{n} ({i})" if names.count(n) > 1 else n for i, n in zip(ids, names, strict=True)}

    @cached_property
    def objects(self) -> pd.DataFrame:
        """One row an annotation: image, gt and category (ids), x1, y1, x2, y2, w, h (pixels), crowd.

        The ids of a file that are not whole numbers, all different, are replaced by their numbers from 1.
        """
        ids = comparable(self.ids)
        if self.labels is not None and (ids.dtype != np.int64 or len(np.unique(ids)) < len(ids)):
            ids = np.arange(1, len(ids) + 1)
        categories = np.append(comparable(self.category_ids), EVERY_CLASS)  # the place −1 is that of no class
        image = comparable(self.image_ids)[self.image]
        objects = pd.DataFrame({"image": image, "gt": ids, "category": categories[self.category]})
        return objects.join(box_table(self.boxes)).assign(crowd=self.crowd)

    @cached_property
    def inside(self) -> np.ndarray:
        """[M,4] x, y, w, h cut to the image, to the bit as in the file where they lie in it; NaN if nothing is left."""
        return cut_to(self.boxes, self.widths[self.image], self.heights[self.image])

    @cached_property
    def taught(self) -> np.ndarray:
        """[M] bool: something of the box lies in the image, and no flag says otherwise."""
        return np.isfinite(self.inside[:, 0]) & ~self.crowd & ~self.ignore

    def with_classes(self, labels: np.ndarray) -> "GroundTruth":
        """The one of target dicts, which do not say how many classes there are, with those of detections, too."""
        more = np.unique(labels[labels >= len(self.category_ids)]) if labels.dtype == np.int64 else labels[:0]
        names = (*self.category_names, *map(str, more.tolist()))
        ids = np.append(self.category_ids, more).astype(np.int64)
        return replace(self, category_ids=ids, category_names=names) if len(more) else self

    def ready(self) -> "GroundTruth":
        """Itself, with everything derived computed now, so that processes which load images share it."""
        assert len(self.taught) == len(self._order[0])
        return self

    @cached_property
    def _order(self) -> tuple[np.ndarray, np.ndarray]:
        order = np.argsort(self.image, kind="stable").astype(np.int32)
        return order, np.searchsorted(self.image[order], np.arange(len(self) + 1))

    def rows(self, i: int) -> np.ndarray:
        """Positions of the annotations of image i, in the order of the file."""
        order, edges = self._order
        return order[edges[i] : edges[i + 1]]

    def part(self, images: Any) -> "GroundTruth":
        """Some images (places among them, in any order) with their annotations, as a ground truth of their own."""
        images = np.asarray(images, dtype=np.int64)
        place = np.full(len(self), -1)
        place[images] = np.arange(len(images))
        rows = np.flatnonzero(place[self.image] >= 0)
        columns = ("ids", "position", "category", "boxes", "area", "crowd", "ignore")
        parts = {name: getattr(self, name)[rows] for name in columns}
        parts |= {name: getattr(self, name)[images] for name in ("image_ids", "widths", "heights")}
        files = tuple(self.file_names[i] for i in images.tolist())
        return replace(self, **parts, image=place[self.image[rows]].astype(np.int32), file_names=files)

    def file(self, i: int, folder: str | Path, *, outside: bool = False) -> Path:
        """File of image i in a folder. Windows' backslashes in `file_name` are understood everywhere.

        Args:
            i: place of the image.
            folder: that `file_name` starts from.
            outside: allow files outside the folder.

        Raises:
            DataError: the image has no `file_name`, or one that is no regular file or leads out of the folder.
        """
        name, folder = self.file_names[i], Path(folder)
        where = f"{self.name}, image id {self.image_ids[i]}: file_name {name!r}"
        if not name:
            raise DataError(f"{where}: there is none, by which its picture is found; add it")
        path = folder / name
        try:
            if os.sep == "/" and "\\" in name and not path.exists():
                path = folder / name.replace("\\", "/")
            inside = outside or path.resolve().is_relative_to(folder.resolve())
            regular = True
            with suppress(FileNotFoundError, NotADirectoryError):  # a picture that is not there is said when it is read
                regular = stat.S_ISREG(path.stat().st_mode)
        except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL inside, links in a ring
            raise DataError(f"{where} is the name of no file ({getattr(error, 'strerror', None) or error})") from error
        if not inside:
            raise DataError(f"{where} leads out of {folder}; correct it, or give CocoDataset allow_outside=True")
        if not regular:
            raise DataError(f"{where} is no regular file")
        return path

    def named(self, file: str) -> list[int]:
        """Places of the images whose file names share most of their last parts with this path, at least the name."""
        parts = parts_of(file)
        for n in range(len(parts), 0, -1):
            if alike := [place for stored, place in self._by_name.get(parts[0], ()) if stored[:n] == parts[:n]]:
                return alike
        return []

    def place(self, name: Any) -> int:
        """Place of the image that an id or a file name means, first the one whose whole name ends it; −1 if none.

        Raises:
            DataError: it is the name of several images.
        """
        if (place := self._by_id.get(str(name))) is not None:
            return place
        places, parts = self.named(str(name)), parts_of(str(name))
        places = [n for n in places if parts[: len(whole := parts_of(self.file_names[n]))] == whole] or places
        if len(places) > 1:
            files = some([self.file_names[n] for n in places], 3)
            raise DataError(f"{name!r} names {len(places)} images of {self.name}, {files}; give its folder, or the id")
        return places[0] if places else -1

    @cached_property
    def _by_id(self) -> dict[str, int]:
        return {str(i): place for place, i in enumerate(self.image_ids.tolist())}

    @cached_property
    def _by_name(self) -> dict[str, list[tuple[tuple[str, ...], int]]]:
        names: dict[str, list[tuple[tuple[str, ...], int]]] = {}
        for place, file in enumerate(self.file_names):
            names.setdefault(parts_of(file)[0], []).append((parts_of(file), place))
        return names

    def require_pictures(self) -> None:
        """Raises DataError unless every image has a file name and a size, and there is a class."""
        lines = [] if len(self.category_ids) else ["categories: the list is empty; a detector needs a class"]
        bare = (self.widths == 0) | (self.heights == 0) | np.array([not name for name in self.file_names], dtype=bool)
        lines += [
            f"image {self.image_ids[n]} ({self.file_names[n]}): needs a text 'file_name', and 'width' and 'height', "
            f"whole and positive"
            for n in np.flatnonzero(bare)
        ]
        refuse(self.name, "not enough to load pictures by:", lines)

    def to_coco(self) -> dict[str, Any]:
        """A COCO dict of new rows; annotations are numbered from 1, every one with area and iscrowd."""
        about = (self.image_ids.tolist(), self.file_names, self.widths.tolist(), self.heights.tolist())
        images = [
            {"id": i, **({"file_name": f} if f else {}), **({"width": w, "height": h} if w and h else {})}
            for i, f, w, h in zip(*about, strict=True)
        ]
        names = zip(self.category_ids.tolist(), self.category_names, strict=True)
        rows = zip(
            self.image_ids[self.image].tolist(), self.category_ids[self.classes].tolist(), self.boxes.tolist(),
            self.area.tolist(), self.crowd.tolist(), self.ignore.tolist(), strict=True,
        )  # fmt: skip
        annotations = [
            {"id": n, "image_id": i, "category_id": c, "bbox": b, "area": a, "iscrowd": int(crowd)}
            | ({"ignore": 1} if ignore else {})
            for n, (i, c, b, a, crowd, ignore) in enumerate(rows, 1)
        ]
        categories = [{"id": c, "name": name} for c, name in names]
        info = {"description": self.name}
        return {"info": info, "images": images, "annotations": annotations, "categories": categories}
