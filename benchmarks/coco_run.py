"""A run of COCO's size without its pictures: ``python benchmarks/coco_run.py [--steps 2000] [--images 118287]``.

Annotations as many as train2017's over a few small pictures go through loading, sampling and a tiny detector in two
gloo processes with a loading process each; it stops half-way, is resumed from its checkpoint and is evaluated. Printed:
seconds of each part and the memory of all processes together (proportional set size) along the steps. What must hold:
memory does not grow with the steps, before and after resuming.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch
from coco_files import ANNOTATIONS, IMAGES, draw
from PIL import Image

import dsla
from dsla.training.folder import read_log

SIZES = ((96, 64), (64, 96), (80, 80), (112, 64))  # width, height of the pictures
RECIPE = dsla.recipe("scenes-dsla", channels=16, head_convs=1, batch_size=16, min_size="64", max_size=112, lr=0.001)


def descendants(root: int) -> list[int]:
    """A process and all that it started."""
    table = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    children: dict[int, list[int]] = {}
    for line in table.splitlines():
        pid, parent = map(int, line.split())
        children.setdefault(parent, []).append(pid)
    pids = [root]
    for pid in pids:
        pids += children.get(pid, [])
    return pids


def megabytes(pids: list[int]) -> float:
    """Memory of processes, what they share counted once."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:  # it has ended
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def work(folder: Path, steps: int, stop: int | None) -> None:
    """One of the processes that torchrun starts."""
    began = time.perf_counter()
    data, val = (dsla.CocoDataset(folder, folder / f"{name}.json") for name in ("train", "val"))
    told = [f"loaded {time.perf_counter() - began:.1f}"]

    def watch(step: int, model: torch.nn.Module, losses: dict[str, float]) -> None:
        if step % 100 == 0:
            told.append(f"memory {step} {megabytes(descendants(os.getppid())):.0f}")

    recipe = RECIPE.replace(steps=steps)
    dsla.train(recipe, data, val=val, out=folder / "run", workers=1, stop_after=stop, resume=stop is None,
               progress=False, on_step=watch, device="cpu")  # fmt: skip
    if os.environ["RANK"] == "0":
        print(*told, sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--child", nargs=2, metavar=("FOLDER", "STOP"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        work(Path(args.child[0]), args.steps, int(args.child[1]) or None)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for n, (width, height) in enumerate(SIZES):
            pixels = torch.randint(0, 255, (height, width, 3), generator=torch.Generator().manual_seed(n))
            Image.fromarray(pixels.to(torch.uint8).numpy()).save(folder / f"{n}.png")
        draw(folder / "train.json", args.images, round(args.images * ANNOTATIONS / IMAGES), sizes=SIZES)
        draw(folder / "val.json", 200, 1400, seed=1, sizes=SIZES)
        rows = []
        for stop in (args.steps // 2, 0):
            began = time.perf_counter()
            command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__]
            command += ["--steps", str(args.steps), "--child", name, str(stop)]
            env = os.environ | {"OMP_NUM_THREADS": "1"}
            lines = subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout.splitlines()
            part = "to its middle" if stop else "resumed"
            loaded = next(line.split()[1] for line in lines if line.startswith("loaded"))
            print(f"{part}: {time.perf_counter() - began:.0f} s, of these {loaded} for the annotations")
            rows += [(part, *map(float, line.split()[1:])) for line in lines if line.startswith("memory")]
        table = pd.DataFrame(rows, columns=["part", "step", "MB"])
        print(table.to_string(index=False, float_format=lambda v: f"{v:.0f}"))
        for part, group in table.groupby("part", sort=False):
            first, last = group.iloc[1], group.iloc[-1]  # before, buffers are filled
            print(f"{part}: {last['MB'] - first['MB']:+.0f} MB from step {first['step']:.0f} to {last['step']:.0f}")
        log = read_log(folder / "run" / "log.jsonl")
        epoch = next(row["epoch"] for row in reversed(log) if "epoch" in row)
        ap = next(row["AP"] for row in reversed(log) if row.get("event") == "evaluate")
        print(f"{log[-1]['step']} steps, {epoch} of an epoch of {args.images} images; evaluated: AP {ap}")


if __name__ == "__main__":
    main()
