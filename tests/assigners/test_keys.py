"""Keys order pairs as they say, over all values and ranks."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dsla.assigners.sparse.keys import LAST, index_of, ordering_key, rank_of, value_of, winning_key

positive = st.floats(0, 2.0**100, width=32)
either = st.floats(-(2.0**100), 2.0**100, width=32)


def one(value):
    return torch.tensor([value], dtype=torch.float32)


@given(st.lists(st.tuples(positive, st.integers(0, 2**31 - 1)), min_size=1, max_size=20))
def test_the_highest_winning_key_is_the_highest_value_and_then_the_lowest_rank(pairs):
    value, rank = torch.tensor([v for v, _ in pairs]), torch.tensor([r for _, r in pairs])
    key = winning_key(value, rank).max()
    best = max(value.tolist())
    if best == 0:
        assert key == 0
        assert (value_of(key[None]), rank_of(key[None])) == (0, 0)
    else:
        assert float(value_of(key[None])) == best
        assert int(rank_of(key[None])) == int(rank[value == best].min())


@pytest.mark.parametrize("value", [0.0, -0.0, -1.0, float("nan"), float("-inf")])
def test_nothing_else_wins(value):
    assert int(winning_key(one(value), torch.tensor([3]))) == 0


@given(st.lists(st.tuples(either, st.integers(0, 2**30 - 1), st.booleans()), min_size=1, max_size=20))
def test_ordering_keys_sort_by_behind_cost_and_index(rows):
    cost = torch.tensor([c + 0.0 for c, _, _ in rows])  # −0 and 0 are one cost to a reader, two to bits
    index, behind = torch.tensor([i for _, i, _ in rows]), torch.tensor([b for _, _, b in rows])
    key = ordering_key(cost, index, behind)
    by_key = [int(i) for i in key.argsort(stable=True)]
    assert by_key == sorted(range(len(rows)), key=lambda i: (bool(behind[i]), float(cost[i]), int(index[i])))
    assert torch.equal(index_of(key), index)
    assert (key < LAST).all()
