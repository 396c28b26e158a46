"""A folder of images with a COCO detection file, as `dsla.coco` reads it. Boxes in files are x, y, width, height."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dsla.coco.columns import corners_of
from dsla.coco.ground_truth import GroundTruth
from dsla.coco.heads import spelling
from dsla.coco.problems import LISTED, refuse
from dsla.data.loading import DetectionDataset, Target, Transforms
from dsla.data.pictures import annotated_pixels
from dsla.errors import DataError


class CocoDataset(DetectionDataset):
    """A folder of images with a COCO detection file.

    Labels are 0..C-1 in ascending order of the category ids, the same for every file with the same categories. `area`
    and `iscrowd` may be absent (box area; 0). Targets hold boxes cut to the image; `ground_truth` has them as the file
    does, since evaluation takes them so. The file is only read. What cannot be used (no area, not finite, of an
    unknown image) is left out, what the flag `ignore` excludes or what lies outside its image is not taught, and one
    `DataWarning` counts and names all that; `problems` lists it.

    Args:
        images_dir: folder that `file_name` starts from.
        annotation_json: the file; UTF-8, a byte-order mark is allowed. Or its columns, where they are read already.
        keep_empty: keep images without a usable box; they are ordinary background.
        strict: refuse a file with problems that change what is used, in one error that lists all.
        check_files: look now whether all image files are there, instead of at each image's turn.
        allow_outside: read image files outside the folder, too, where `file_name` is absolute, has ``..`` or is a link.
        value_range: (black, white) of images with more than 8 bits, as `dsla.data.pictures.to_pixels` takes it.
        transforms: see `DetectionDataset`.

    Attributes:
        truth: the columns of the file (`dsla.coco.ground_truth.GroundTruth`).
        problems: everything odd about it.

    Raises:
        DataError: names the file, the image or annotation ids, and the reason.
    """

    def __init__(
        self,
        images_dir: str | Path,
        annotation_json: str | Path | GroundTruth,
        *,
        keep_empty: bool = True,
        strict: bool = False,
        check_files: bool = False,
        allow_outside: bool = False,
        value_range: tuple[float, float] | None = None,
        transforms: Transforms | None = None,
    ):
        self.transforms, self.allow_outside, self.value_range = transforms, allow_outside, value_range
        truth = GroundTruth.of(annotation_json, warn=not strict)
        self.images_dir, self.annotation_json, self.problems = Path(images_dir), Path(truth.name), truth.problems
        truth.require_pictures()
        if strict:
            changing = [problem for problem in truth.problems if problem.level != "noted"]
            refuse(truth.name, "unusable rows; correct them, or read without strict:", changing)
        if not keep_empty:
            truth = truth.part(np.unique(truth.image[truth.taught]))
            if not len(truth):
                raise DataError(f"{truth.name}: no image has an object to learn, so keep_empty=False leaves none")
        self.name, self.truth, self.class_names = self.annotation_json.stem, truth.ready(), truth.category_names
        self.category_ids = tuple(truth.category_ids.tolist())
        if check_files:
            listed = set(os.listdir(self.images_dir)) if self.images_dir.is_dir() else set()  # far cheaper than to ask
            elsewhere = [self.path(i) for i, name in enumerate(truth.file_names) if name not in listed]
            missing = [str(path.absolute()) for path in elsewhere if not path.is_file()]
            what = f"image files are missing, {len(missing)} of {len(self)}; check the image folder:"
            refuse(truth.name, what, [p + spelling(Path(p)) for p in missing[:LISTED]] + missing[LISTED:])

    def __len__(self) -> int:
        return len(self.truth)

    def path(self, i: int) -> Path:
        """File of image i, see `GroundTruth.file`.

        Raises:
            DataError: it is not a regular file, or lies outside the folder without `allow_outside`.
        """
        return self.truth.file(self.check_index(i), self.images_dir, outside=self.allow_outside)

    def files_read(self) -> Iterator[Path]:
        yield self.annotation_json
        for i in range(len(self)):
            with suppress(DataError):  # an image whose name is that of no file here is not read
                yield self.path(i)

    def load(self, i: int) -> tuple[Tensor, Target]:
        where = self.truth, self.check_index(i), self.images_dir
        image = annotated_pixels(*where, outside=self.allow_outside, value_range=self.value_range)
        return image, self.target(i)

    def target(self, i: int) -> Target:
        """Target of image i alone, without reading the image (see `DetectionDataset`)."""
        truth, rows = self.truth, self.truth.rows(self.check_index(i))
        boxes = torch.from_numpy(corners_of(truth.inside[rows])).float()
        taught, inside = (torch.from_numpy(mask) for mask in (truth.taught[rows], np.isfinite(truth.inside[rows, 0])))
        return {
            "boxes": boxes[taught],
            "labels": torch.from_numpy(truth.category[rows].astype(np.int64))[taught],
            "crowd_boxes": boxes[~taught & inside],
            "image_id": self.image_id(i),
        }

    def origin(self) -> Any:
        truth = self.truth
        columns = (truth.image, truth.category, truth.inside, truth.taught, truth.widths, truth.heights)
        hashes = [hashlib.sha256(column.tobytes()).hexdigest() for column in columns]
        scale = [[float(value) for value in self.value_range]] if self.value_range else []
        return [self.class_names, truth.image_ids.tolist(), list(truth.file_names), hashes, *scale]
