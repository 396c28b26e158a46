"""What evaluation and the analyses cost, beside pycocotools and beside plain loops: time, and memory of a process.

    python benchmarks/analyses.py [--images 500] [--boxes 100] [--candidates 1500] [--rounds 2]

Data of COCO's size and habits (see `crowd.py`; val2017 is --images 5000). Every line is a process of its own that
reads the same files; seconds are those of the work without imports, "GB" is the peak of the process, "more" what it
grew by (ratios of less than 20 MB say nothing and are not given). Ratios are medians over rounds in which all ran
one after the other. Then `dsla analyze` as a person runs it, imports and report included, and boxes before NMS as a
stream of growing length.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import crowd
import loops
import numpy as np
import pandas as pd
import torch

from dsla import analysis
from dsla.analysis import truth_of
from dsla.coco.detections import Results
from dsla.coco.evaluation import evaluate_detections
from dsla.coco.ground_truth import GroundTruth

UNIT = 1e9 if sys.platform == "darwin" else 1e6  # of ru_maxrss to GB
EVALUATION = ("numpy", "pycocotools")


def evaluation(engine: str, folder: Path) -> dict[str, float]:
    return evaluate_detections(folder / "instances.json", folder / "results.json", engine=engine).summary.to_dict()


def whole(name: str, folder: Path) -> dict[str, float]:
    ground_truth = truth_of(folder / "instances.json")
    return dict(getattr(analysis, name)(folder / "results.json", ground_truth).summary())


def loop(name: str, folder: Path) -> dict[str, float]:
    truth = GroundTruth.of(folder / "instances.json")
    return getattr(loops, name)(truth.to_coco(), Results.of(folder / "results.json", truth).to_rows())


def stream(name: str, images: int, candidates: int) -> dict[str, float]:
    truth = crowd.ground_truth(images)
    return dict(getattr(analysis, name)(crowd.detections(truth, candidates), truth).summary())


def written(folder: Path, images: int, boxes: int) -> dict[str, float]:
    crowd.write(folder, images, boxes)
    return {"objects": len(GroundTruth.of(folder / "instances.json").boxes)}


def job(words: list[str]) -> None:
    """One measurement, in this process: prints seconds, GB, more, and the numbers."""
    kind, name, *rest = words
    work: Callable[[], dict[str, float]] = {
        "evaluate": lambda: evaluation(name, Path(rest[0])),
        "whole": lambda: whole(name, Path(rest[0])),
        "loop": lambda: loop(name, Path(rest[0])),
        "stream": lambda: stream(name, int(rest[0]), int(rest[1])),
        "write": lambda: written(Path(name), int(rest[0]), int(rest[1])),
    }[kind]
    before, start = peak(), time.perf_counter()
    numbers = work()
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "GB": peak(), "more": peak() - before, "numbers": numbers}))


def peak(who: int = resource.RUSAGE_SELF) -> float:
    return resource.getrusage(who).ru_maxrss / UNIT


def measured(*words: Any) -> dict[str, Any]:
    done = subprocess.run([sys.executable, __file__, "--job", *map(str, words)], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def side_by_side(jobs: dict[str, tuple[Any, ...]], rounds: int) -> pd.DataFrame:
    """One row a job; ratios are of the last one to each, as are the largest differences of numbers that both have."""
    measurements = [{name: measured(*words) for name, words in jobs.items()} for _ in range(rounds)]
    peer = list(jobs)[-1]
    rows = []
    for name in jobs:
        mine, other = measurements[0][name]["numbers"], measurements[0][peer]["numbers"]
        row = {"": name, **{k: statistics.median(r[name][k] for r in measurements) for k in ("seconds", "GB", "more")}}
        row["times faster"] = statistics.median(r[peer]["seconds"] / r[name]["seconds"] for r in measurements)
        grown = [(r[peer]["more"], r[name]["more"]) for r in measurements]
        row["times less"] = statistics.median(b / a if min(a, b) > 0.02 else np.nan for b, a in grown)
        row["differs"] = f"{np.nanmax([abs(mine[k] - other[k]) for k in mine.keys() & other.keys()]):.0e}"
        rows.append(row)
    return pd.DataFrame(rows).set_index("")


def command(folder: Path) -> None:
    start = time.perf_counter()
    argv = [
        sys.executable,
        "-m",
        "dsla",
        "analyze",
        folder / "results.json",
        "--annotations",
        folder / "instances.json",
    ]
    process = subprocess.Popen([*map(str, argv), "--html", str(folder / "page.html")], stdout=subprocess.DEVNULL)
    usage = os.wait4(process.pid, 0)[2]
    print(f"{time.perf_counter() - start:.1f} s, {usage.ru_maxrss / UNIT:.2f} GB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--boxes", type=int, default=100, help="an image, after NMS")
    parser.add_argument("--candidates", type=int, default=1500, help="an image, before NMS")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--job", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        torch.set_num_threads(1)
        return job(args.job)
    pd.options.display.float_format = "{:.2f}".format
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # By another process: the peak of a process starts from that of the one that started it.
        objects = measured("write", folder, args.images, args.boxes)["numbers"]["objects"]
        print(f"{args.images} images, {objects} objects, {args.boxes} detections an image\n")
        engines = EVALUATION
        print("evaluation\n", side_by_side({e: ("evaluate", e, folder) for e in engines}, args.rounds), "\n")
        for analysed in ("ranking", "suppression"):
            jobs = {"dsla": ("whole", analysed, folder), "loops": ("loop", analysed, folder)}
            print(f"{analysed}\n", side_by_side(jobs, args.rounds), "\n")
        print("dsla analyze, with --html: ", end="", flush=True)
        command(folder)
    print(f"\nbefore NMS, {args.candidates} candidates an image, from a generator")
    rows = []
    for analysed in ("suppression", "oracle"):
        for images in (args.images // 4, args.images // 2, args.images):
            measurement = measured("stream", analysed, images, args.candidates)
            boxes = images * args.candidates * 6 * 8 / 1e9
            rows.append((analysed, images, measurement["seconds"], measurement["GB"], measurement["more"], boxes))
    columns = ["analysis", "images", "seconds", "GB", "more", "GB of all boxes"]
    print(pd.DataFrame(rows, columns=columns).to_string(index=False))


if __name__ == "__main__":
    main()
