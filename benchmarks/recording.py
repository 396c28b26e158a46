"""What recording a run costs: the same short training with and without a recorder, in turn, on one thread.

    python benchmarks/recording.py [--steps 120] [--every 12] [--rounds 5] [--save FILE] [--box-bias -2]

Prints the CPU time of both, which other processes disturb less than the wall clock, and the recorder's own share of it.
With --save dsla/training/recordings/scenes-dsla.npz this is how the recording that starts warm was made; with
--box-bias -2 besides, the one that starts cold (scenes-dsla-cold.npz), whose first boxes are far too small.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

import dsla
from dsla.training.recorder import Recorder

PROBES = (11, 21, 22)  # scenes of the test split with a few objects of different sizes


def run(steps: int, recorder: Recorder | None, **fields: float) -> float:
    """CPU seconds of one training."""
    recipe = dsla.recipe("scenes-dsla", steps=steps, warmup_steps=20, **fields)
    began = time.process_time()
    dsla.train(recipe, dsla.Scenes("train", size=800), device="cpu", progress=False, on_step=recorder)
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--every", type=int, default=12, help="steps from frame to frame: the mean of a run of 500")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--save", help="record 500 steps to this file instead of measuring")
    parser.add_argument("--box-bias", type=float, default=dsla.recipe("scenes-dsla").box_bias)
    o = parser.parse_args()
    torch.set_num_threads(1)
    scenes = dsla.Scenes("test", size=30)
    if o.save:
        recorder = Recorder(scenes, PROBES)
        run(500, recorder, box_bias=o.box_bias)
        path = recorder.recording().save(o.save)
        print(f"{path}: {path.stat().st_size:,} bytes")
        return
    run(2, None)  # the first run pays for what is loaded late
    rounds = []
    for n in range(o.rounds):
        recorder = Recorder(scenes, PROBES, every=o.every)
        order = (None, recorder) if n % 2 else (recorder, None)
        seconds = {r is not None: run(o.steps, r) for r in order}
        rounds.append((seconds[False], seconds[True], recorder.seconds))
    without, with_, inside = (statistics.median(column) for column in zip(*rounds, strict=True))
    more = [100 * (b / a - 1) for a, b, _ in rounds]
    print(f"{o.steps} steps, a frame of {len(PROBES)} images every {o.every}, {o.rounds} rounds; CPU seconds")
    spread = f"{min(more):+.1f} to {max(more):+.1f}"
    print(f"without {without:.1f}, with {with_:.1f}: {statistics.median(more):+.1f} % ({spread})")
    print(f"the recorder by its own clock: {inside:.2f} s of {with_:.1f}, {100 * inside / with_:.1f} %")


if __name__ == "__main__":
    main()
