"""Time and memory of reading a file as large as train2017's: ``python benchmarks/coco_files.py [IMAGES ANNOTATIONS]``.

A file with four-cornered polygons is drawn from a seed in a temporary folder, then read and checked in processes of
their own: seconds of CPU, the memory that the columns hold, and the peak.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

IMAGES, ANNOTATIONS, CLASSES = 118_287, 860_001, 80

CHILD = """
import gc, os, resource, sys, time
import dsla
from dsla.coco.ground_truth import GroundTruth
from dsla.data.check import check
from dsla.data import CocoDataset

def now():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 2**20

gc.collect()
before, start = now(), time.process_time()
what, file = sys.argv[1:]
held = {"columns": GroundTruth.of, "data set": lambda f: CocoDataset(os.path.dirname(f), f),
        "check": lambda f: str(check([f]))}[what](file)
seconds = time.process_time() - start
gc.collect()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
print(f"{what:10} {seconds:6.2f} s CPU   holds {now() - before:6.0f} MB   peak {peak:6.0f} MB of the process")
"""


def draw(path: Path, images: int, annotations: int, seed: int = 0, sizes: tuple[tuple[int, int], ...] = ()) -> None:
    """Writes the file: boxes with the polygon of their corners, moved by some pixels.

    Args:
        sizes: (width, height) of pictures that there are, named 0.png, 1.png …: image n is picture n mod their number;
            without them images are 300 to 640 pixels wide and high, each under a name of its own.
    """
    rng = np.random.default_rng(seed)
    widths, heights = rng.integers(300, 641, (2, images)).tolist()
    names = [f"{n:012d}.jpg" for n in range(images)]
    if sizes:
        names = [f"{n % len(sizes)}.png" for n in range(images)]
        widths, heights = ([sizes[n % len(sizes)][axis] for n in range(images)] for axis in (0, 1))
    where = np.sort(rng.integers(0, images, annotations)).tolist()
    shares = np.sort(rng.random((annotations, 2, 2)), axis=2)
    with path.open("w", encoding="utf-8") as file:
        file.write('{"info": {}, "licenses": [], "images": [')
        rows = ({"license": 1, "file_name": names[n], "height": heights[n], "width": widths[n], "id": n}
                for n in range(images))  # fmt: skip
        file.write(", ".join(map(json.dumps, rows)) + '], "annotations": [')
        for n, i in enumerate(where):
            (x1, x2), (y1, y2) = (shares[n] * [[widths[i]], [heights[i]]]).round(2).tolist()
            x2, y2 = max(x2, round(x1 + 0.5, 2)), max(y2, round(y1 + 0.5, 2))
            box = [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)]
            row = {"segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]], "area": 0.8 * box[2] * box[3], "iscrowd": 0,
                   "image_id": i, "bbox": box, "category_id": n % CLASSES + 1, "id": n + 1}  # fmt: skip
            file.write(", " * bool(n) + json.dumps(row))
        classes = [{"id": c + 1, "name": f"class {c}"} for c in range(CLASSES)]
        file.write(f'], "categories": {json.dumps(classes)}}}')


def main() -> None:
    counts = tuple(map(int, sys.argv[1:3])) or (IMAGES, ANNOTATIONS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "instances.json"
        draw(path, *counts)
        print(f"{counts[0]} images, {counts[1]} annotations, {path.stat().st_size / 1e6:.0f} MB")
        for what in ("columns", "data set", "check"):
            subprocess.run([sys.executable, "-c", CHILD, what, path], check=True)


if __name__ == "__main__":
    main()
