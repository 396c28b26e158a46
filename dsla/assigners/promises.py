"""What every assigner promises, as a function that tries it on one: `check`."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..geometry import HeadOutputs, PointGrid
from .assignment import Assignment
from .base import Assigner

COLUMNS = ("gt_index", "label", "category", "ignored")
CLASSES = 80
Boxes = list[Tensor]


class BrokenPromise(AssertionError):
    """The message says which promise, and shows where it is broken."""


def check(assigner: Assigner, grid: PointGrid | None = None, seed: int = 0) -> list[str]:
    """Try the protocol on random scenes; returns the names of the promises kept.

    Args:
        grid: the points; by default P3…P7 of 256 × 320 pixels, offset 0.5.
        seed: of the scenes.
    Raises:
        BrokenPromise: the first one that does not hold.
    """
    grid = PointGrid((256, 320), (8, 16, 32, 64, 128), offset=0.5) if grid is None else grid
    kept = []
    for promise in PROMISES:
        try:
            promise(_Trial(assigner, grid, torch.Generator().manual_seed(seed)))
        except BrokenPromise:
            raise
        except Exception as error:
            raise BrokenPromise(f"{_name(promise)}: {type(error).__name__}: {error}") from error
        kept.append(_name(promise))
    return kept


class _Trial:
    """An assigner with scenes to try it on; one set of predictions for each set of boxes."""

    def __init__(self, assigner: Assigner, grid: PointGrid, generator: torch.Generator) -> None:
        self.assigner, self.grid, self.generator = assigner, grid, generator
        height, width = (n * grid.strides[0] for n in grid.shapes[0])
        self.size = torch.tensor([float(width), float(height)])

    def scene(self, images: int, count: int) -> tuple[Boxes, list[Tensor]]:
        boxes, labels = [], []
        for _ in range(images):
            where = torch.rand(count, 2, generator=self.generator) * self.size
            side = 4 * (self.size.max() / 4) ** torch.rand(count, 2, generator=self.generator)
            two = torch.cat((where - side / 2, where + side / 2), 1)
            low, high = two[:, :2].clamp(min=0), torch.minimum(two[:, 2:], self.size)
            boxes.append(torch.cat((low, high), 1))
            labels.append(torch.randint(0, CLASSES, (count,), generator=self.generator))
        return boxes, labels

    def predictions(self, images: int) -> HeadOutputs:
        logits = torch.randn(images, len(self.grid), CLASSES, generator=self.generator) - 2
        sides = torch.rand(images, len(self.grid), 4, generator=self.generator) * 4 * self.grid.stride[:, None]
        return HeadOutputs(logits, sides, self.grid)

    def run(self, boxes: Boxes, labels: list[Tensor], outputs: HeadOutputs | None = None, **rest: Boxes) -> Assignment:
        if not self.assigner.needs_predictions:
            outputs = None
        elif outputs is None:
            outputs = self.predictions(len(boxes))
        return self.assigner(self.grid, boxes, labels, predictions=outputs, ignore=rest.get("ignore"))


def _name(promise: Callable[[_Trial], None]) -> str:
    return (promise.__doc__ or "").rstrip(".")


def _hold(true: object, promise: Callable[[_Trial], None], detail: str = "") -> None:
    if not bool(true):
        raise BrokenPromise(_name(promise) + (f": {detail}" if detail else ""))


def _empty(t: _Trial) -> None:
    """Images without boxes are all background."""
    a = t.run([torch.zeros(0, 4)] * 2, [torch.zeros(0, dtype=torch.int64)] * 2)
    _hold(a.gt_index.shape == (2, len(t.grid)), _empty, f"gt_index is {list(a.gt_index.shape)}")
    _hold(a.gt_index.eq(-1).all() and a.category.eq(-1).all() and a.label.eq(0).all(), _empty)
    _hold(not a.ignored.any(), _empty, "points are ignored without a crowd")


def _values(t: _Trial) -> None:
    """Labels lie in 0…1, are 0 on background, and each point has the category of its box."""
    boxes, labels = t.scene(2, 40)
    a = t.run(boxes, labels)
    _hold(a.positive.any(1).all(), _values, "no point learns any of 40 boxes")
    finite = a.label.isfinite().all() and ((a.label >= 0) & (a.label <= 1)).all()
    _hold(finite, _values, f"labels from {float(a.label.min()):g} to {float(a.label.max()):g}")
    _hold(a.label[~a.positive].eq(0).all(), _values, "background with a label")
    for i, names in enumerate(labels):
        won = a.positive[i]
        _hold(torch.equal(a.category[i, won], names[a.gt_index[i, won]]), _values, "another category")


def _batch(t: _Trial) -> None:
    """A batch gives what its images give one by one."""
    boxes, labels = t.scene(3, 17)
    boxes[1], labels[1] = boxes[1][:0], labels[1][:0]
    outputs = t.predictions(3)
    a = t.run(boxes, labels, outputs)
    for i in range(3):
        part = HeadOutputs(outputs.logits[i : i + 1], outputs.distances[i : i + 1], t.grid)
        one = t.run(boxes[i : i + 1], labels[i : i + 1], part)
        for column in COLUMNS:
            _hold(torch.equal(getattr(a, column)[i], getattr(one, column)[0]), _batch, f"{column} of image {i}")


def _order(t: _Trial) -> None:
    """The order of the boxes does not matter."""
    (boxes,), (labels,) = t.scene(1, 30)
    order = torch.randperm(30, generator=t.generator)
    outputs = t.predictions(1)
    a, b = t.run([boxes], [labels], outputs), t.run([boxes[order]], [labels[order]], outputs)
    back = torch.where(b.positive, order[b.gt_index.clamp(min=0)], -1)
    _hold(torch.equal(a.gt_index, back), _order, "gt_index")
    _hold(torch.equal(a.label, b.label), _order, "label")


def _again(t: _Trial) -> None:
    """The same input gives the same bits, and options() rebuild the assigner."""
    boxes, labels = t.scene(2, 25)
    outputs = t.predictions(2)
    a, b = t.run(boxes, labels, outputs), t.run(boxes, labels, outputs)
    again = _Trial(type(t.assigner)(**t.assigner.options()), t.grid, t.generator).run(boxes, labels, outputs)
    for column in COLUMNS:
        _hold(torch.equal(getattr(a, column), getattr(b, column)), _again, f"{column} differs between two calls")
        _hold(torch.equal(getattr(a, column), getattr(again, column)), _again, f"{column} differs after options()")


def _crowd(t: _Trial) -> None:
    """Points in a crowd that no box claims are ignored, and no positive is."""
    boxes, labels = t.scene(1, 3)
    crowd = torch.cat((t.size * 0.2, t.size * 0.9))[None]
    a = t.run(boxes, labels, ignore=[crowd])
    inside = ((t.grid.xy > crowd[0, :2]) & (t.grid.xy < crowd[0, 2:])).all(-1)
    _hold(a.ignored[0, inside & ~a.positive[0]].all(), _crowd)
    _hold(not (a.ignored & a.positive).any(), _crowd, "a positive is ignored")


def _many(t: _Trial) -> None:
    """1,500 boxes in an image are assigned, the last ones as well as the first."""
    boxes, labels = t.scene(1, 1500)
    a = t.run(boxes, labels)
    _hold(a.positive.any() and int(a.gt_index.max()) > 1000, _many)


def _tables(t: _Trial) -> None:
    """to_frame() has a row for each positive; where predictions are not needed, explain() gives the label shown."""
    boxes, labels = t.scene(1, 12)
    a = t.run(boxes, labels)
    frame = a.to_frame()
    _hold(len(frame) == int(a.positive.sum()), _tables, f"{len(frame)} rows, {int(a.positive.sum())} positives")
    if not t.assigner.needs_predictions:
        for row in frame.head(20).itertuples():
            others = torch.cat((boxes[0][: row.gt], boxes[0][row.gt + 1 :]))
            told = t.assigner.explain(t.grid, int(row.point), boxes[0][row.gt].tolist(), others=others)
            same = abs(told.label - float(row.label)) < 1e-5
            _hold(same, _tables, f"point {row.point}: explain() says {told.label:g}, the label is {row.label:g}")


PROMISES = (_empty, _values, _batch, _order, _again, _crowd, _many, _tables)
