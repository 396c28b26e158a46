"""What recording a run costs: the same short training with and without a recorder, in turn, on one thread.

    python benchmarks/recording.py [--steps 500] [--rounds 1] [--save FILE]

Prints the CPU time of both, which other processes disturb less than the wall clock, and the recorder's own share of it.
With --save dsla/recordings/scenes-dsla.npz this is how the recording that ships was made.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch

import dsla
from dsla.recording import Recorder

PROBES = (11, 21, 22)  # scenes of the test split with a few objects of different sizes


def run(steps: int, recorder: Recorder | None) -> float:
    """CPU seconds of one training."""
    recipe = dsla.recipe("scenes-dsla", steps=steps, warmup_steps=20)
    began = time.process_time()
    dsla.train(recipe, dsla.Scenes("train", size=800), device="cpu", progress=False, on_step=recorder)
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--save", help="write the recording to this file")
    o = parser.parse_args()
    torch.set_num_threads(1)
    run(2, None)  # the first run pays for what is loaded late
    plain, recorded, own = [], [], []
    recorder: Any = None
    for _ in range(o.rounds):
        recorder = Recorder(dsla.Scenes("test", size=30), PROBES)
        plain.append(run(o.steps, None))
        recorded.append(run(o.steps, recorder))
        own.append(recorder.seconds)
    without, with_, inside = map(statistics.median, (plain, recorded, own))
    found = recorder.recording()
    print(f"{o.steps} steps, {len(found)} frames of {len(PROBES)} images, {o.rounds} round(s), CPU seconds")
    print(f"without {without:.1f}, with {with_:.1f}: {100 * (with_ / without - 1):+.1f} %")
    print(f"the recorder by its own clock: {inside:.2f} s of {with_:.1f}, {100 * inside / with_:.1f} %")
    if o.save:
        path = found.save(o.save)
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
