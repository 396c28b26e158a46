"""Side by side in one process: wall time of two functions in turn, and the memory that each allocates."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from torch.profiler import ProfilerActivity, profile


def in_turn(a: Callable[[], Any], b: Callable[[], Any], seconds: float = 3.0) -> tuple[float, float, float]:
    """Median seconds of `a` and of `b`, and the median of b/a over rounds in which both ran back to back.

    The quick one is repeated within a round, so that both get a like share of the time.
    """
    a(), b()
    repeats = max(1, min(200, int(_once(b) / max(_once(a), 1e-9) / 2)))
    rounds: list[tuple[float, float]] = []
    end = time.perf_counter() + seconds
    while len(rounds) < 5 or (time.perf_counter() < end and len(rounds) < 50):
        quick = statistics.median(_once(a) for _ in range(repeats))
        rounds.append((quick, _once(b)))
    ta, tb = (statistics.median(column) for column in zip(*rounds, strict=True))
    return ta, tb, statistics.median(y / x for x, y in rounds)


def _once(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def peak_memory(function: Callable[[], Any]) -> int:
    """Largest number of bytes that tensors made inside `function` held at once, its result included."""
    function()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as p:
        result = function()
    events = [e for e in p.profiler.kineto_results.events() if e.name() == "[memory]"]
    level = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        level += event.nbytes()
        peak = max(peak, level)
    del result
    return peak
