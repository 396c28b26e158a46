"""The sparse form against the definition, `dsla.assigners.dense`, bit for bit."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dsla.assigners import DSLA, FCOS, PairAssigner, dense
from dsla.geometry import PointGrid

STRIDES = (8, 16, 32)
RANGES = ((0.0, 32.0), (32.0, 64.0), (64.0, 1e8))
FRACTIONS = ((0.0, 30.7), (30.7, 64.5), (64.5, 200.3))


class Gaussian(PairAssigner):
    """A label that does not vanish outside the box, and that is not a number where a box has no width."""

    name = "Gaussian"

    def factors(self, pairs):
        dx, dy = pairs.from_centre
        x1, y1, x2, y2 = pairs.boxes
        return {"label": torch.exp(-8 * ((dx / (x2 - x1)) ** 2 + (dy / (y2 - y1)) ** 2))}


METHODS = {
    "DSLA": DSLA(RANGES),
    "DSLA, whole ranges cut by int()": DSLA(FRACTIONS, relaxation=0.01),
    "DSLA, ends kept": DSLA(FRACTIONS, truncate=False),
    "DSLA, hard ranges": DSLA(RANGES, relaxation=None, core_zone=False),
    "DSLA, centre sampling": DSLA(RANGES, center_sampling=1.5),
    "FCOS": FCOS(RANGES),
    "FCOS, centre sampling": FCOS(FRACTIONS, center_sampling=0.7),
    "own, everywhere": Gaussian(),
    "own, in ranges": Gaussian(RANGES),
}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
@settings(max_examples=40)
@given(seed=st.integers(0, 2**31), count=st.integers(1, 30), offset=st.sampled_from([0.0, 0.5]), whole=st.booleans())
def test_sparse_equals_dense(method, seed, count, offset, whole):
    """Also boxes partly or wholly outside, and of whole pixels, which make ties and points on edges."""
    g = torch.Generator().manual_seed(seed)
    grid = PointGrid((96, 128), STRIDES, offset)
    centre = torch.rand(count, 2, generator=g) * torch.tensor([160.0, 128.0]) - 16
    half = 2 * 60 ** torch.rand(count, 2, generator=g)
    boxes = torch.cat((centre - half, centre + half), 1)
    boxes = (boxes / 4).round() * 4 if whole else boxes
    boxes[count // 2] = boxes[0]
    labels = torch.randint(0, 5, (count,), generator=g)
    a, table = method(grid, [boxes], [labels]), dense.assign(method, grid, boxes, labels)
    for name in ("label", "gt_index", "category"):
        assert torch.equal(getattr(a, name)[0], getattr(table, name)), name


def test_int_may_cut_a_relaxed_end_below_the_end_itself():
    """int(64.5 · 1.01) = 65 but int(30.7 · 1.01) = 31; of a range to 32.9, int(32.9 · 1.001) = 32: 1 up to 32.9."""
    grid = PointGrid((64, 64), (8,), offset=0.5)
    box = torch.tensor([[0.0, 0.0, 36.5, 36.5]])  # the point (4, 4) has m = 32.5
    a = DSLA(((0, 32.9),), relaxation=0.001)(grid, [box], [torch.tensor([0])])
    assert a.gt_index[0, 0] == 0
    assert float(a.label[0, 0]) == pytest.approx(4 / 32.5)
