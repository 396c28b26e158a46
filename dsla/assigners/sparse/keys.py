"""Keys: a value and a rank in one int64, so that one maximum (or minimum) decides both.

`winning_key`, whose maximum is the highest value and, of equal ones, the lowest rank::

    bit 63   62 ─────────────── 32   31   30 ──────────────── 0
      0    │ bits of the float32   │  0  │  2³¹ − 1 − rank     │        0: nobody

A float32 that is not negative has bits that sort as its value does; the rank is stored upside down, so that the
lower one makes the higher key. The rank of a box is its place by (area, index): of equal labels the smaller box
wins, then the lower index.

`ordering_key`, whose minimum is the lowest cost and, of equal ones, the lowest index::

    bit 62   61 ─────────────── 30   29 ──────────────── 0
    behind │ float32, made sortable │ index < 2³⁰           │        LAST: nobody

Negative floats sort the other way round by their bits: all but the sign are flipped. `behind` puts a candidate behind
all others, whatever it costs.
"""

import torch
from torch import Tensor

from ..pairs import Truth

LAST = 2**63 - 1  # an ordering key behind all others
_RANK, _INDEX = 2**31 - 1, 2**30 - 1


def winning_key(value: Tensor, rank: Tensor) -> Tensor:
    """float32 values and int64 ranks below 2³¹ → int64 keys; 0 where the value is not above 0."""
    key = value.view(torch.int32).long().bitwise_left_shift_(32).bitwise_or_(_RANK - rank)
    return key.masked_fill_(~(value > 0), 0)


def value_of(key: Tensor) -> Tensor:
    """The float32 in winning keys; 0 where nobody won."""
    return (key >> 32).int().view(torch.float32)


def rank_of(key: Tensor) -> Tensor:
    """The rank in winning keys; 0 where nobody won."""
    return (_RANK - (key & _RANK)).where(key > 0, 0)


def ordering_key(cost: Tensor, index: Tensor, behind: Tensor | None = None) -> Tensor:
    """float32 costs of either sign and int64 indices below 2³⁰ → int64 keys."""
    bits = cost.view(torch.int32)
    key = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long()
    if behind is not None:
        key = key + (behind.long() << 32)
    return (key << 30) + index


def index_of(key: Tensor) -> Tensor:
    """The index in ordering keys; without a meaning in `LAST`."""
    return key & _INDEX


def winners(truth: Truth, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Winning keys [B·P] → point in B·P, box in N (−1: nobody) and value, [K] each.

    Few points win a box. A CPU lists those alone; a GPU all, since counting them would halt the step.
    """
    if not len(truth.boxes):
        keys = keys[:0]
    every = keys.device.type != "cpu"
    point = torch.arange(len(keys), device=keys.device) if every else (keys > 0).nonzero().squeeze(1)
    key = keys.index_select(0, point)
    return point, truth.order.index_select(0, rank_of(key)).where(key > 0, -1), value_of(key)
