"""The embedded data set: small procedural scenes of five classes, made from a seed, kept in memory.

Made so that label assignment has something to decide: objects overlap and hide each other, their long sides
span three regression ranges at 128 pixels, bars are elongated or bent, the centre of a ring is background,
soft edges and thin tails make the extent of a box ambiguous; texture, clutter and noise keep it from being a
drawing exercise. `dsla.data.render` draws them and says how.
"""

import io
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dsla.data import render
from dsla.data.loading import DetectionDataset, Target, Transforms
from dsla.errors import DataError, unknown

SIZES = {"train": 6000, "val": 400, "test": 400}
CHUNK = 250  # scenes a worker process draws before it reports


def cpu_count() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def draw_elsewhere(seed: int, split: str, size: int, first: int, last: int) -> dict[str, NDArray[Any]]:
    """Scenes first..last-1 drawn in a process of its own; arrays indices, images, rows, counts.

    A plain child process that imports NumPy only: no fork of a threaded process, and no `__main__` guard
    needed in the caller's script, as multiprocessing would ask for.
    """
    # Without these, glibc returns every temporary image to the system: page faults take half of the time.
    memory = {"MALLOC_TRIM_THRESHOLD_": str(1 << 26), "MALLOC_MMAP_THRESHOLD_": str(1 << 26), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", render.__file__, str(seed), split, str(size), str(first), str(last)]
    done = subprocess.run(command, capture_output=True, env={**os.environ, **memory}, check=False)
    if done.returncode:
        raise RuntimeError(
            f"drawing scenes {first}..{last - 1} failed:\n{done.stderr.decode(errors='replace')[-2000:]}"
        )
    with np.load(io.BytesIO(done.stdout)) as arrays:
        return dict(arrays)


class Scenes(DetectionDataset):
    """Procedural scenes, deterministic from (seed, split, index): scene i is the same at any `size`.

    Classes: disc, box, triangle, ring, bar (`category_ids` 1..5, image ids from 1). Boxes hold the visible
    pixels of an object (opacity of at least 0.4, not hidden, inside the image), its tail included; every
    object in a scene is labelled, and none has less than 35 % of its area in view.

    Args:
        split: "train", "val" or "test", disjoint random streams.
        size: number of scenes; by default 6000, 400 and 400.
        seed: of the whole set, not negative.
        image_size: side in pixels; objects grow with it.
        transforms: see `DetectionDataset`.

    Raises:
        DataError: more scenes than memory holds, or no such split.  ValueError: a negative number.

    Scenes are drawn when first asked for; `prepare` draws all that are missing on several processes.
    """

    class_names = render.CLASS_NAMES
    category_ids = tuple(range(1, len(render.CLASS_NAMES) + 1))

    def __init__(
        self,
        split: str = "train",
        size: int | None = None,
        seed: int = 0,
        image_size: int = 128,
        *,
        transforms: Transforms | None = None,
    ):
        if split not in SIZES:
            raise unknown("split of the embedded scenes", split, SIZES)
        if seed < 0 or image_size < 32 or (size is not None and size < 0):
            raise ValueError(f"Scenes needs seed >= 0, size >= 0, image_size >= 32; got {seed}, {size}, {image_size}")
        self.split, self.seed, self.side = split, seed, image_size
        self.name = f"scenes-{split}"
        self.transforms = transforms
        count = SIZES[split] if size is None else size
        shape = (count, 3, image_size, image_size)
        try:
            self._pixels = torch.empty(shape, dtype=torch.uint8)  # touched as drawn
        except RuntimeError:
            needed = f"{count} scenes of {image_size} × {image_size} pixels take {math.prod(shape) / 1e9:,.0f} GB"
            raise DataError(f"{needed} of memory, more than there is: give a smaller size") from None
        self._rows: list[NDArray[np.float64] | None] = [None] * count

    def __len__(self) -> int:
        return len(self._rows)

    def _keep(self, i: int, pixels: NDArray[np.uint8], rows: NDArray[np.float64]) -> None:
        self._pixels[i] = torch.from_numpy(pixels)
        self._rows[i] = rows

    def rows(self, i: int) -> NDArray[np.float64]:
        """Objects of scene i, columns as `render.COLUMNS`; draws the scene if it is new."""
        i = self.check_index(i)
        if (rows := self._rows[i]) is None:
            pixels, rows = render.render(self.seed, self.split, i, self.side)
            self._keep(i, pixels, rows)
        return rows

    def prepare(self, workers: int | None = None, progress: Callable[[int, int], None] | None = None) -> "Scenes":
        """Draws all missing scenes and returns the set itself.

        Args:
            workers: processes; by default one a processor, none of its own for a few scenes.
            progress: called with (scenes there, scenes in all) now and then.
        """
        missing = [i for i, rows in enumerate(self._rows) if rows is None]
        there, count = len(self) - len(missing), len(self)
        workers = min(cpu_count() if workers is None else workers, -(-len(missing) // 50))
        for i, pixels, rows in self._drawn(missing, workers):
            there += self._rows[i] is None
            self._keep(i, pixels, rows)
            if progress and (there % 50 == 0 or there == count):
                progress(there, count)
        return self

    def _drawn(self, missing: list[int], workers: int) -> Iterator[tuple[int, NDArray[np.uint8], NDArray[np.float64]]]:
        """Index, pixels and rows of these scenes; of several processes also of others, since each draws a range."""
        if workers <= 1:
            yield from ((i, *render.render(self.seed, self.split, i, self.side)) for i in missing)
            return
        step = min(CHUNK, -(-len(self) // workers))
        ranges = [(first, min(first + step, len(self))) for first in sorted({i - i % step for i in missing})]
        with ThreadPoolExecutor(workers) as pool:
            for arrays in pool.map(lambda part: draw_elsewhere(self.seed, self.split, self.side, *part), ranges):
                objects = np.split(arrays["rows"], np.cumsum(arrays["counts"])[:-1])
                yield from zip(arrays["indices"].tolist(), arrays["images"], objects, strict=True)

    @property
    def images(self) -> Tensor:
        """All scenes, uint8 [N, 3, image_size, image_size]."""
        return self.prepare()._pixels

    def target(self, i: int) -> Target:
        """Target of scene i alone (see `DetectionDataset`)."""
        rows = torch.from_numpy(self.rows(i))
        return {
            "boxes": rows[:, 1:5].float(),
            "labels": rows[:, 0].long(),
            "crowd_boxes": torch.zeros((0, 4)),
            "image_id": self.image_id(i),
        }

    def load(self, i: int) -> tuple[Tensor, Target]:
        target = self.target(i)
        return self._pixels[i], target

    def origin(self) -> Any:
        return ["scenes", self.split, self.seed, self.side, len(self)]

    def image_id(self, i: int) -> int:
        return self.check_index(i) + 1

    def image_size(self, i: int) -> tuple[int, int]:
        return (self.side, self.side)

    def ground_truth(self) -> dict[str, Any]:
        """COCO dict (see `DetectionDataset`); area is that of the box."""
        self.prepare()
        objects = [(self.image_id(i), *row) for i in range(len(self)) for row in self.rows(i)[:, :5].tolist()]
        annotations = [
            {"id": n, "image_id": image, "category_id": self.category_ids[int(label)]}
            | {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
            for n, (image, label, x1, y1, x2, y2) in enumerate(objects, 1)
        ]
        side = {"width": self.side, "height": self.side}
        images = [{"id": i + 1, "file_name": f"{i:06d}.png", **side} for i in range(len(self))]
        return {
            "info": {"description": f"embedded scenes, split {self.split}, seed {self.seed}"},
            "images": images,
            "annotations": annotations,
            "categories": [{"id": i, "name": n} for i, n in zip(self.category_ids, self.class_names, strict=True)],
        }
