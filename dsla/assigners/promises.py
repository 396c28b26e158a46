"""What every assigner promises, as a function that tries it on one: `check`."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ..geometry import HeadOutputs, PointGrid
from .assignment import Assignment
from .base import Assigner

COLUMNS = ("gt_index", "label", "category", "ignored")
CLASSES = 80
Boxes = list[Tensor]
Verdicts = Iterator[tuple[object, str]]  # what holds, and what to say where it does not


class BrokenPromise(AssertionError):
    """The message says which promise, and shows where it is broken."""


def check(assigner: Assigner, grid: PointGrid | None = None, seed: int = 0) -> list[str]:
    """Try the protocol on random scenes; returns the names of the promises kept.

    Args:
        assigner: that is tried.
        grid: the points; by default P3…P7 of 256 × 320 pixels, offset 0.5.
        seed: of the scenes.
    Raises:
        BrokenPromise: the first one that does not hold.
    """
    grid = PointGrid((256, 320), (8, 16, 32, 64, 128), offset=0.5) if grid is None else grid
    kept = []
    for promise in PROMISES:
        kept.append((promise.__doc__ or "").rstrip("."))
        try:
            for holds, otherwise in promise(_Trial(assigner, grid, torch.Generator().manual_seed(seed))):
                if not bool(holds):
                    raise BrokenPromise(f"{kept[-1]}: {otherwise}")
        except BrokenPromise:
            raise
        except Exception as error:
            raise BrokenPromise(f"{kept[-1]}: {type(error).__name__}: {error}") from error
    return kept


class _Trial:
    """An assigner with scenes to try it on; one set of predictions for each set of boxes."""

    def __init__(self, assigner: Assigner, grid: PointGrid, generator: torch.Generator) -> None:
        self.assigner, self.grid, self.generator = assigner, grid, generator
        height, width = (n * grid.strides[0] for n in grid.shapes[0])
        self.size = torch.tensor([float(width), float(height)])

    def scene(self, images: int, count: int) -> tuple[Boxes, Boxes]:
        """Boxes [M, 4] and labels [M] of each image."""
        centre = torch.rand(images, count, 2, generator=self.generator) * self.size
        side = 4 * (self.size.max() / 4) ** torch.rand(images, count, 2, generator=self.generator)
        boxes = torch.cat(((centre - side / 2).clamp(min=0), torch.minimum(centre + side / 2, self.size)), -1)
        return list(boxes), list(torch.randint(0, CLASSES, (images, count), generator=self.generator))

    def predictions(self, images: int) -> HeadOutputs:
        logits = torch.randn(images, len(self.grid), CLASSES, generator=self.generator) - 2
        sides = torch.rand(images, len(self.grid), 4, generator=self.generator) * 4 * self.grid.stride[:, None]
        return HeadOutputs(logits, sides, self.grid)

    def run(
        self, boxes: Boxes, labels: Boxes, outputs: HeadOutputs | None = None, ignore: Boxes | None = None
    ) -> Assignment:
        if outputs is None and self.assigner.needs_predictions:
            outputs = self.predictions(len(boxes))
        return self.assigner(self.grid, boxes, labels, predictions=outputs, ignore=ignore)


def _empty(t: _Trial) -> Verdicts:
    """Images without boxes are all background."""
    a = t.run([torch.zeros(0, 4)] * 2, [torch.zeros(0, dtype=torch.int64)] * 2)
    yield a.gt_index.shape == (2, len(t.grid)), f"gt_index is {list(a.gt_index.shape)}"
    yield a.gt_index.eq(-1).all() and a.category.eq(-1).all() and a.label.eq(0).all(), "some are not"
    yield not a.ignored.any(), "points are ignored without a crowd"


def _values(t: _Trial) -> Verdicts:
    """Labels lie in 0…1, are 0 on background, and each point has the category of its box."""
    boxes, labels = t.scene(2, 40)
    a = t.run(boxes, labels)
    yield a.positive.any(1).all(), "no point learns any of 40 boxes"
    yield ((a.label >= 0) & (a.label <= 1)).all(), f"labels from {float(a.label.min()):g} to {float(a.label.max()):g}"
    yield a.label[~a.positive].eq(0).all(), "background with a label"
    for i, names in enumerate(labels):
        yield torch.equal(a.category[i, a.positive[i]], names[a.gt_index[i, a.positive[i]]]), "another category"


def _batch(t: _Trial) -> Verdicts:
    """A batch of images of two sizes gives what each gives by itself, and its padding learns nothing."""
    boxes, labels = t.scene(3, 17)
    boxes[1], labels[1] = boxes[1][:0], labels[1][:0]
    boxes[2] = boxes[2] / 2
    width, height = map(int, t.size)
    sizes = [(height, width), (height, width), (max(height // 2, 1), max(width // 2, 1))]
    inside, outputs = t.grid.inside(sizes), t.predictions(3)
    a = t.assigner(t.grid, boxes, labels, predictions=outputs, image_sizes=sizes)
    yield not (a.positive & ~inside).any() and (a.ignored | inside).all(), "a point of the padding is not ignored"
    for i in range(3):
        alone, grid = slice(i, i + 1), PointGrid(sizes[2], t.grid.strides, t.grid.offset) if i == 2 else t.grid
        rows, columns = torch.tensor(grid.shapes)[t.grid.level].unbind(1)
        here = (t.grid.row < rows) & (t.grid.column < columns)
        part = HeadOutputs(outputs.logits[alone, here], outputs.distances[alone, here], grid)
        one = t.assigner(grid, boxes[alone], labels[alone], predictions=part, image_sizes=sizes[alone])
        for column in COLUMNS:
            yield torch.equal(getattr(a, column)[i, here], getattr(one, column)[0]), f"{column} of image {i}"


def _order(t: _Trial) -> Verdicts:
    """The order of the boxes does not matter."""
    (boxes,), (labels,) = t.scene(1, 30)
    order = torch.randperm(30, generator=t.generator)
    outputs = t.predictions(1)
    a, b = t.run([boxes], [labels], outputs), t.run([boxes[order]], [labels[order]], outputs)
    yield torch.equal(a.gt_index, torch.where(b.positive, order[b.gt_index.clamp(min=0)], -1)), "gt_index"
    yield torch.equal(a.label, b.label), "label"


def _again(t: _Trial) -> Verdicts:
    """The same input gives the same bits, and options() rebuild the assigner."""
    boxes, labels = t.scene(2, 25)
    outputs = t.predictions(2)
    a, again = t.run(boxes, labels, outputs), t.run(boxes, labels, outputs)
    t.assigner = type(t.assigner)(**t.assigner.options())
    rebuilt = t.run(boxes, labels, outputs)
    for column in COLUMNS:
        first, second, third = (getattr(each, column) for each in (a, again, rebuilt))
        yield torch.equal(first, second), f"{column} differs between two calls"
        yield torch.equal(first, third), f"{column} differs after options()"


def _crowd(t: _Trial) -> Verdicts:
    """Points in a crowd that no box claims are ignored, and no positive is."""
    boxes, labels = t.scene(1, 3)
    crowd = torch.cat((t.size * 0.2, t.size * 0.9))[None]
    a = t.run(boxes, labels, ignore=[crowd])
    inside = ((t.grid.xy > crowd[0, :2]) & (t.grid.xy < crowd[0, 2:])).all(-1)
    yield a.ignored[0, inside & ~a.positive[0]].all(), "some are background"
    yield not (a.ignored & a.positive).any(), "a positive is ignored"


def _many(t: _Trial) -> Verdicts:
    """1,500 boxes in an image are assigned, the last ones as well as the first."""
    a = t.run(*t.scene(1, 1500))
    yield int(a.gt_index.max()) > 1000, "none of the last 500 is"


def _tables(t: _Trial) -> Verdicts:
    """to_frame() has a row for each positive; where predictions are not needed, explain() gives the label shown."""
    (boxes,), labels = t.scene(1, 12)
    a = t.run([boxes], labels)
    frame = a.to_frame()
    yield len(frame) == int(a.positive.sum()), f"{len(frame)} rows, {int(a.positive.sum())} positives"
    for row in () if t.assigner.needs_predictions else frame.head(20).itertuples():
        others = torch.cat((boxes[: row.gt], boxes[row.gt + 1 :]))
        label = t.assigner.explain(t.grid, int(row.point), boxes[row.gt].tolist(), others=others).label
        yield abs(label - row.label) < 1e-5, f"point {row.point}: explain() says {label:g}, the label is {row.label:g}"


PROMISES = (_empty, _values, _batch, _order, _again, _crowd, _many, _tables)
