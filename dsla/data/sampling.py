"""Which images make which step and what chance does to them: functions of the seed alone.

Neither depends on the number of processes, of loading workers, or on where a run was interrupted. Chance is that of
PyTorch's, NumPy's and Python's global generators.
"""

import hashlib
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from ..coco.columns import id_array, places
from ..coco.ground_truth import GroundTruth
from .loading import DetectionDataset, as_tv_tensors, from_tv_tensors, item_of, unmoved

Item = tuple[int, int]  # index of an image, seed of what chance does to it
Place = tuple[int, int]  # place among all images that are given, index of the image


VERSION = 2  # of `Order`; runs and checkpoints that say none began with 1


@dataclass(frozen=True)
class Order:
    """Batches of items: every image once in each epoch, in an order of its own, if possible with images of its group.

    The images of epoch e are the e-th N of all that are given. Within an epoch images wait for others of their group
    until a batch is full. At its end those that still wait join one queue of mixed batches; what fills no batch goes
    first in the next epoch, filled up with the first images of that. Where all images are alike, batches are the
    pieces of the epochs' permutations, one after another.

    Args:
        images: N, in the data set.
        batch_size: images a step, over all processes.
        start: the first step to give.
        total: the step to end before.
        seed: of the permutations and of what chance does to each item.
        groups: of each image (see `aspects`); by default all are alike.
        part, parts: give of each step only this part of so many, contiguous and as equal as can be; a step of fewer
            images than parts has empty ones.
        version: 1 is the order of runs that began before 2: images wait into the next epoch, so that those of a
            small group come late, and the permutation of epoch e is that of epoch e − 1 of the next seed.
    """

    images: int
    batch_size: int
    start: int
    total: int
    seed: int
    groups: Sequence[int] | None = None
    part: int = 0
    parts: int = 1
    version: int = VERSION

    def __len__(self) -> int:
        return self.total - self.start

    def __iter__(self) -> Iterator[list[Item]]:
        first, last = (self.batch_size * k // self.parts for k in (self.part, self.part + 1))
        for batch in islice(self._batches(), self.start, self.total):
            yield [(index, self._chance(n)) for n, index in batch[first:last]]

    def _batches(self) -> Iterator[list[Place]]:
        """Full batches without end; each image with its place among all that are given."""
        waiting: dict[int, list[Place]] = {}
        mixed: list[Place] = []
        for epoch in count():
            for place, index in enumerate(self._permutation(epoch)):
                group = self.groups[index] if self.groups else 0
                queue = mixed if mixed else waiting.setdefault(group, [])
                queue.append((epoch * self.images + place, index))
                if len(queue) == self.batch_size:
                    yield list(queue)
                    queue.clear()
            if self.version > 1:
                mixed = sorted(chain(mixed, *waiting.values()))
                waiting.clear()
                while len(mixed) >= self.batch_size:
                    yield mixed[: self.batch_size]
                    del mixed[: self.batch_size]

    def _permutation(self, epoch: int) -> list[int]:
        seed = self.seed + epoch if self.version == 1 else _hash(self.seed, epoch)
        return torch.randperm(self.images, generator=torch.Generator().manual_seed(seed)).tolist()

    def _chance(self, n: int) -> int:
        return self.seed * 1_000_003 + n if self.version == 1 else _hash(self.seed, -1 - n)


def _hash(*numbers: int) -> int:
    """63 bits of the numbers, another value for each of them."""
    return int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest(), "big") >> 1


def aspects(dataset: DetectionDataset) -> list[int]:
    """1 for landscape images, 0 for upright and square ones: in batches of one kind, little is padding."""
    return [int(w > h) for h, w in (dataset.image_size(i) for i in range(len(dataset)))]


class Part(DetectionDataset):
    """Some images of a data set, by their indices, in that order."""

    def __init__(self, dataset: DetectionDataset, indices: Sequence[int]) -> None:
        self.dataset, self.indices, self.name = dataset, indices, dataset.name
        self.class_names, self.category_ids = dataset.class_names, dataset.category_ids

    def __len__(self) -> int:
        return len(self.indices)

    def item(self, i: int) -> tuple[Tensor, dict[str, Any]]:
        return item_of(self.dataset, self.indices[self.check_index(i)])

    def unmoved(self, i: int) -> tuple[Tensor, dict[str, Any]]:
        return unmoved(self.dataset, self.indices[self.check_index(i)])

    def load(self, i: int) -> tuple[Tensor, dict[str, Any]]:
        return self.dataset.load(self.indices[self.check_index(i)])

    def image_id(self, i: int) -> int:
        return self.dataset.image_id(self.indices[self.check_index(i)])

    def image_size(self, i: int) -> tuple[int, int]:
        return self.dataset.image_size(self.indices[self.check_index(i)])

    def origin(self) -> list[Any]:
        return [self.dataset.origin(), list(self.indices)]

    def files_read(self) -> Iterator[Path]:
        return self.dataset.files_read()

    @cached_property
    def truth(self) -> GroundTruth:
        truth, ids = self.dataset.truth, id_array([self.image_id(i) for i in range(len(self))])
        return truth.part(places(ids, truth.image_ids))


def with_boxes(dataset: DetectionDataset) -> DetectionDataset:
    """Without its images that have no annotation at all: 117,266 of 118,287 are left of COCO's train2017.

    A crowd is one, other than for `CocoDataset(keep_empty=False)`, which wants a box to learn from.

    Source: mmdetection's ``filter_empty_gt``, which the release trained with.
    """
    annotated = dataset.annotated()
    kept = [i for i in range(len(dataset)) if dataset.image_id(i) in annotated]
    return dataset if len(kept) == len(dataset) else Part(dataset, kept)


class Augmented(Dataset[tuple[Tensor, dict[str, Any]]]):
    """A data set with random flips and, where there are several short sides, one of them in the target.

    min_size: short sides to choose from ("value" multi-scale); the model's transform resizes, on its device.
    """

    def __init__(self, dataset: DetectionDataset, flip: float = 0.5, min_size: Sequence[int] = ()) -> None:
        self.dataset, self.transform, self.min_size = dataset, v2.RandomHorizontalFlip(flip), tuple(min_size)

    def __getitem__(self, item: Item) -> tuple[Tensor, dict[str, Any]]:
        index, seed = item
        with torch.random.fork_rng(devices=[]), _seeded(seed):
            torch.default_generator.manual_seed(seed)  # `torch.manual_seed` also tells every GPU, a millisecond each
            image, target = from_tv_tensors(*self.transform(*as_tv_tensors(*item_of(self.dataset, index))))
            if len(self.min_size) > 1:
                target["short_side"] = self.min_size[int(torch.randint(len(self.min_size), ()))]
        return image, target


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Python's and NumPy's generators, which transforms of one's own may ask; as they were afterwards."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 that one is what transforms ask
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


def empty_item() -> tuple[Tensor, dict[str, Any]]:
    """Something for a process that has no image at a step; its losses count nothing."""
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "crowd_boxes": torch.zeros(0, 4)}
    return torch.zeros(3, 64, 64), {**none, "short_side": 64}
