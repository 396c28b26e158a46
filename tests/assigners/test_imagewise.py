"""`ImageAssigner`: what it adds to `labels`, against a loop over points and boxes; and that `check` passes it."""

import pytest
import torch

from dsla.assigners import ImageAssigner, check
from dsla.geometry import PointGrid

GRID = PointGrid((96, 128), (8, 16, 32), offset=0.5)


class Nearest(ImageAssigner):
    """The k points inside nearest to the centre; the n-th of them, from 0, is taught 1 − n/k."""

    name = "Nearest"

    def __init__(self, k: int = 5) -> None:
        self.k = k

    def labels(self, pairs):
        dx, dy = pairs.from_centre
        distance = (dx.square() + dy.square()).masked_fill(~pairs.inside(), torch.inf)
        rank = distance.argsort(dim=1, stable=True).argsort(dim=1)
        return (1 - rank / self.k).clamp(min=0)


class OneEach(Nearest):
    """A point for each box, larger boxes choose first, none twice."""

    name = "One each"

    def labels(self, pairs):
        dx, dy = pairs.from_centre
        distance = (dx.square() + dy.square()).masked_fill(~pairs.inside(), torch.inf)
        label, free = torch.zeros_like(distance), torch.ones_like(distance[0], dtype=torch.bool)
        for row in reversed(range(len(distance))):
            point = distance[row].masked_fill(~free, torch.inf).argmin()
            label[row, point] = free[point].float()
            free[point] = False
        return label


def scene(seed, count=12):
    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(count, 2, generator=generator) * torch.tensor([128.0, 96.0])
    half = 4 * 8 ** torch.rand(count, 2, generator=generator)
    return torch.cat((centre - half, centre + half), 1), torch.randint(0, 5, (count,), generator=generator)


@pytest.mark.parametrize("seed", range(3))
def test_labels_of_a_loop(seed):
    boxes, labels = scene(seed)
    a = Nearest()(GRID, [boxes], [labels])
    claims = {}
    for n, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        inside = []
        for p, (x, y) in enumerate(GRID.xy.tolist()):
            if x1 < x < x2 and y1 < y < y2:
                d = (torch.tensor(x) - (torch.tensor(x1) + x2) / 2) ** 2 + (
                    torch.tensor(y) - (torch.tensor(y1) + y2) / 2
                ) ** 2
                inside.append((float(d), p))
        for rank, (_, p) in enumerate(sorted(inside)[:5]):
            claims.setdefault(p, []).append((1 - rank / 5, -(x2 - x1) * (y2 - y1), -n))
    assert a.positive.sum() == len(claims)
    for p, mine in claims.items():
        label, _, n = max(mine)
        assert a.label[0, p] == pytest.approx(label, abs=1e-6)
        assert a.gt_index[0, p] == -n


@pytest.mark.parametrize("method", [Nearest(), Nearest(1), OneEach()])
def test_keeps_all_promises(method):
    assert len(check(method)) >= 8


def test_boxes_that_decide_about_each_other():
    boxes, labels = torch.tensor([[8.0, 8, 40, 40], [6, 6, 42, 42], [9, 9, 39, 39]]), [0, 1, 2]
    a = OneEach()(GRID, [boxes], [labels])
    assert a.counts().tolist() == [1, 1, 1]
    for point in a.positive[0].nonzero().flatten().tolist():
        n = int(a.gt_index[0, point])
        others = torch.cat((boxes[:n], boxes[n + 1 :]))
        for form in (others, others.tolist(), others.numpy()):
            assert OneEach().explain(GRID, point, boxes[n], others=form).label == 1
    alone = OneEach().explain(GRID, int(a.gt_index[0].eq(1).nonzero()), boxes[0])
    assert alone.admitted  # without the larger box it would have had that point


def test_points_of_the_padding_are_no_candidates():
    boxes, labels = [torch.tensor([[0.0, 0, 64, 40]])], [[0]]
    wide, narrow = (Nearest(3)(GRID, boxes, labels, image_sizes=[size]) for size in ((96, 128), (40, 20)))
    assert wide.counts().tolist() == narrow.counts().tolist() == [3]
    assert (GRID.xy[narrow.positive[0]] < torch.tensor([20.0, 40.0])).all()
    assert narrow.ignored[0].sum() == len(GRID) - int(GRID.inside([(40, 20)]).sum())


@pytest.mark.parametrize("factor", [2.0, -1.0, float("nan")])
def test_labels_outside_0_to_1_and_other_shapes_are_refused(factor):
    class Wild(Nearest):
        def labels(self, pairs):
            return super().labels(pairs) * factor

    class Flat(Nearest):
        def labels(self, pairs):
            return super().labels(pairs)[0]

    for method in (Wild(), Flat()):
        with pytest.raises(ValueError, match=r"Nearest: labels\(\) must give numbers in 0…1, one a box and point"):
            method(GRID, *([v] for v in scene(5)))
