"""An assigner of one's own: what `PairAssigner` adds to `factors`, and that `check` finds what is broken."""

from dataclasses import replace

import pytest
import torch

from dsla.assigners import ATSS, FCOS, METHODS, Assigner, BrokenPromise, PairAssigner, as_assigner, check
from dsla.geometry import PointGrid

STRIDES = (8, 16, 32, 64, 128)
RANGES = ((0, 64), (64, 128), (128, 256), (256, 512), (512, 1e8))
GRID = PointGrid((192, 256), STRIDES, offset=0.5)


class Gaussian(PairAssigner):
    name = "Gaussian"

    def factors(self, pairs):
        dx, dy = pairs.from_centre
        x1, y1, x2, y2 = pairs.boxes
        return {"label": torch.exp(-8 * ((dx / (x2 - x1)) ** 2 + (dy / (y2 - y1)) ** 2))}


class AsFCOS(PairAssigner):
    name = "FCOS again"

    def factors(self, pairs):
        return {"label": torch.ones_like(pairs.measure)}


def scene(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(count, 2, generator=generator) * torch.tensor([256.0, 192.0])
    half = 4 * 30 ** torch.rand(count, 2, generator=generator)
    return torch.cat((centre - half, centre + half), 1), torch.randint(0, 9, (count,), generator=generator)


@pytest.mark.parametrize("ranges", [None, RANGES])
def test_labels_of_a_dense_loop(ranges):
    boxes, labels = scene(25)
    a = Gaussian(ranges)(GRID, [boxes], [labels])
    for p in range(len(GRID)):
        x, y = GRID.xy[p].tolist()
        best = (0.0, 0.0, 0)
        for n, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
            sides = x - x1, y - y1, x2 - x, y2 - y
            if min(sides) <= 0 or (ranges and not ranges[GRID.level[p]][0] <= max(sides) <= ranges[GRID.level[p]][1]):
                continue
            dx, dy = (x - (x1 + x2) / 2) / (x2 - x1), (y - (y1 + y2) / 2) / (y2 - y1)
            label = float(torch.tensor(-8 * (dx**2 + dy**2)).exp())
            best = max(best, (label, -(x2 - x1) * (y2 - y1), -n))
        assert a.label[0, p] == pytest.approx(best[0], abs=1e-5)
        if best[0]:
            assert a.gt_index[0, p] == -best[2]
        else:
            assert a.gt_index[0, p] == -1


def test_hard_labels_in_ranges_are_fcos():
    boxes, labels = scene(40, seed=1)
    mine, theirs = (kind(RANGES)(GRID, [boxes], [labels]) for kind in (AsFCOS, FCOS))
    assert torch.equal(mine.gt_index, theirs.gt_index)
    assert torch.equal(mine.label, theirs.label)


def test_explain_says_why():
    told = Gaussian(RANGES).explain(GRID, 0, (0, 0, 40, 40))
    assert told["inside the box"].passed
    assert told["regression range"].value == 36
    assert told.label == pytest.approx(float(torch.tensor(-8 * (0.4**2 * 2)).exp()), rel=1e-5)
    assert Gaussian(RANGES).explain(GRID, 0, (0, 0, 100, 100)).verdict.startswith("excluded: regression range")
    assert not Gaussian().explain(GRID, 0, (10, 10, 40, 40)).admitted


@pytest.mark.parametrize("factor", [2.0, -1.0, float("nan")])
def test_labels_outside_0_to_1_are_refused(factor):
    class Wild(Gaussian):
        def factors(self, pairs):
            return {"label": super().factors(pairs)["label"] * factor}

    with pytest.raises(ValueError, match="Gaussian: factors"):
        Wild()(GRID, *([v] for v in scene(5)))


@pytest.mark.slow
def test_check_passes_all_of_the_package():
    for method in METHODS.values():
        kept = check(method.assigner())
        assert len(kept) == len(set(kept)) >= 8
    assert check(Gaussian()) == check(Gaussian(RANGES), PointGrid((160, 160), STRIDES))


class _Broken(FCOS):
    """FCOS, changed after the fact by `change(assignment, boxes)`."""

    change = staticmethod(lambda a, boxes: None)

    def __call__(self, grid, boxes, labels, predictions=None, ignore=None, image_sizes=None):
        a = super().__call__(grid, boxes, labels, predictions, ignore, image_sizes)
        type(self).change(a, boxes)
        return a


BREAKS = {
    "Images without boxes": lambda a, boxes: a.category.clamp_(min=0) if not len(boxes[0]) else None,
    "Labels lie in 0…1": lambda a, boxes: a.label.mul_(1.5),
    "A batch of images": lambda a, boxes: a.label.mul_(1 / len(boxes)),
    "The order of the boxes": lambda a, boxes: [
        v.mul_(b[0, 0] / b[:, 0].max()) for v, b in zip(a.label, boxes, strict=True) if len(b)
    ],
    "The same input": lambda a, boxes: a.label.mul_(torch.rand(()) if len(boxes[0]) == 25 else 1),
    "Points in a crowd": lambda a, boxes: a.ignored.logical_and_(torch.tensor(len(boxes[0]) != 3)),
    "1,500 boxes": lambda a, boxes: a.gt_index.masked_fill_(a.gt_index > 255, -1),
}


@pytest.mark.parametrize("promise", BREAKS)
def test_check_finds_what_is_broken(promise):
    broken = type("Broken", (_Broken,), {"change": staticmethod(BREAKS[promise])})
    with pytest.raises(BrokenPromise, match=f"^{promise}"):
        check(broken())


def test_check_finds_points_of_the_padding():
    class Blind(FCOS):
        def __call__(self, grid, boxes, labels, **others):
            return super().__call__(grid, boxes, labels, **others | {"image_sizes": None})

    class Ranks(ATSS):
        def _assign(self, grid, truth, predictions):
            return super()._assign(grid, replace(truth, sizes=None), predictions)

    with pytest.raises(BrokenPromise, match="a point of the padding is not ignored"):
        check(Blind())
    with pytest.raises(BrokenPromise, match="gt_index of image 2"):
        check(Ranks())


def test_check_finds_an_explanation_of_another_label():
    class Other(FCOS):
        def explain(self, grid, point, box, **context):
            return Gaussian().explain(grid, point, box)

    with pytest.raises(BrokenPromise, match=r"explain\(\) says"):
        check(Other())


def test_names_fit_the_strides():
    assert as_assigner("fovea", (8, 16, 32)).scale_ranges == ((0, 64), (32, 128), (64, 1e8))
    assert as_assigner("fcos", (8, 16, 32)).regress_ranges == ((0, 64), (64, 128), (128, 1e8))
    assert isinstance(as_assigner(Gaussian), Assigner)
    assert as_assigner("dsla").point_offset == 0
    assert as_assigner("fcos").point_offset == Gaussian.point_offset == 0.5
    with pytest.raises(ValueError, match="no method 'dlsa': did you mean 'dsla'\\?"):
        as_assigner("dlsa")


class Near(PairAssigner):
    name = "near"

    def __init__(self, center_sampling=1.5):
        super().__init__()
        self.center_sampling = center_sampling

    def factors(self, pairs):
        return {"label": torch.ones_like(pairs.measure)}


def test_center_sampling_of_a_subclass_holds_wherever_labels_are_asked_for():
    """By hand: on each level the points within 1.5 strides of (110, 110), which are 9 at most."""
    grid, box = PointGrid((256, 256), STRIDES, offset=0.5), torch.tensor([[20.0, 20, 200, 200]])
    a = Near()(grid, [box], [torch.tensor([0])])
    expected = ((grid.xy - 110).abs() < 1.5 * grid.stride[:, None]).all(1) & ((grid.xy - 110).abs() < 90).all(1)
    assert torch.equal(a.positive[0], expected)
    assert 5 < int(expected.sum()) <= 45
    for point in (int(expected.nonzero()[0]), int((~expected).nonzero()[700])):
        assert Near().explain(grid, point, box[0]).admitted == bool(expected[point])
    assert not Near(None).rules.__self__.center_sampling
