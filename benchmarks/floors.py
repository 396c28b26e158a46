"""What no version can beat: operations and bytes of a piece of work, and the rates at which a machine does both.

The rates are measured, not read off a data sheet: a large copy inside the device's memory (bytes read and bytes
written), and a large matrix product.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

Work = Callable[[], Any]
_CONVOLUTIONS = {
    torch.ops.aten.convolution.default,
    torch.ops.aten.convolution_backward.default,
    torch.ops.aten.conv2d.default,  # what inference mode leaves of it
}


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def times(work: Work, device: torch.device, repeats: int = 10, warm_up: int = 3) -> list[float]:
    """Milliseconds of each of some runs, by events on the device itself where there is one."""
    for _ in range(warm_up):
        work()
    wait(device)
    if device.type != "cuda":
        stamps = [time.perf_counter()]
        for _ in range(repeats):
            work()
            stamps.append(time.perf_counter())
        return [(b - a) * 1e3 for a, b in pairwise(stamps)]
    events = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    events[0].record()
    for event in events[1:]:
        work()
        event.record()
    wait(device)
    return [a.elapsed_time(b) for a, b in pairwise(events)]


def median_ms(work: Work, device: torch.device, repeats: int = 10, warm_up: int = 3) -> float:
    return statistics.median(times(work, device, repeats, warm_up))


@dataclass(frozen=True)
class Rates:
    """bytes: a second, read and written.  flops: a second, by the name of a precision."""

    bytes: float
    flops: dict[str, float]

    @classmethod
    def of(cls, device: torch.device, small: bool = False) -> Rates:
        side, length = (512, 2**22) if small else (8192, 2**30)
        source = torch.randn(length, device=device)
        target = torch.empty_like(source)
        moved = 2 * source.numel() * source.element_size()
        copy = median_ms(lambda source=source, target=target: target.copy_(source), device)
        del source, target
        flops = {}
        for name, (dtype, tf32) in _PRECISIONS.items():
            a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
            with precision(tf32):
                flops[name] = 2e3 * side**3 / median_ms(lambda a=a, b=b: a @ b, device)
        return cls(moved * 1e3 / copy, flops)

    def floor_ms(self, work: Counts, kind: str) -> dict[str, float]:
        """Milliseconds that the operations and the bytes need at these rates."""
        return {"flops_floor_ms": work.flops / self.flops[kind] * 1e3, "bytes_floor_ms": work.bytes / self.bytes * 1e3}


_PRECISIONS = {"fp32": (torch.float32, False), "tf32": (torch.float32, True), "bf16": (torch.bfloat16, False)}


class precision:
    """float32 products and convolutions inside: whole (False), or by TF32 (True)."""

    def __init__(self, tf32: bool) -> None:
        self.tf32 = tf32

    def __enter__(self) -> None:
        self.before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.tf32

    def __exit__(self, *_: object) -> None:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = self.before


@dataclass(frozen=True)
class Counts:
    """Operations, and the fewest bytes: each convolution reads its inputs once and writes its results once."""

    flops: float
    bytes: float

    @classmethod
    def of(cls, work: Work) -> Counts:
        """Of the convolutions and matrix products in one run of `work`, its backward pass included."""
        counter = FlopCounterMode(display=False)
        with counter, _Bytes() as moved:
            work()
        return cls(float(counter.get_total_flops()), float(moved.total))


class _Bytes(TorchDispatchMode):
    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in _CONVOLUTIONS:
            tensors = [x for x in tree_leaves((args, out)) if isinstance(x, Tensor)]
            self.total += sum(x.numel() * x.element_size() for x in tensors)
        return out
