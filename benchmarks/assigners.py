"""Sparse against dense assignment: 4 images of 800 × 1344 with 10, 50 and 200 boxes each.

    python benchmarks/assigners.py [--threads 2] [--seconds 3]

Prints milliseconds of both forms, measured in turn in this process, their ratio, the ratio of the memory
that they allocate, and whether they agree; then the time of the sparse form for images of growing size.
"""

from __future__ import annotations

import argparse

import pandas as pd
import torch
from measure import in_turn, peak_memory

import dsla
from dsla.assigners import DSLA, FCOS, dense

STRIDES = (8, 16, 32, 64, 128)


def scene(count: int, height: int = 800, width: int = 1344, images: int = 4, seed: int = 0):
    """Boxes of log-uniform size, 10 to 660 pixels, anywhere in the image."""
    g = torch.Generator().manual_seed(seed)
    boxes, labels = [], []
    for _ in range(images):
        size = torch.exp(torch.rand(count, 2, generator=g) * 4.2 + 2.3)
        centre = torch.rand(count, 2, generator=g) * torch.tensor([float(width), float(height)])
        b = torch.cat((centre - size / 2, centre + size / 2), 1)
        limit = torch.tensor([width, height, width, height], dtype=torch.float32)
        boxes.append(torch.minimum(b.clamp(min=0), limit))
        labels.append(torch.randint(0, 80, (count,), generator=g))
    return boxes, labels


def by_definition(assigner: DSLA | FCOS, grid: dsla.PointGrid, boxes: list, labels: list) -> list[torch.Tensor]:
    """label, gt_index, category, each [B, P], of every point against every box, one image after the other."""
    images = [dense.assign(assigner, grid, b, c) for b, c in zip(boxes, labels, strict=True)]
    return [torch.stack(column) for column in zip(*images, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    grid = dsla.PointGrid((800, 1344), STRIDES)
    rows = []
    for count in (10, 50, 200):
        boxes, labels = scene(count)
        for name, assigner in (("DSLA", DSLA()), ("DSLA ρ=1.5", DSLA(center_sampling=1.5)), ("FCOS", FCOS())):
            sparse = lambda a=assigner, b=boxes, c=labels: a(grid, b, c)  # noqa: E731
            slow = lambda a=assigner, b=boxes, c=labels: by_definition(a, grid, b, c)  # noqa: E731
            a, (label, gt, category) = sparse(), slow()
            equal = torch.equal(a.label, label) and torch.equal(a.category, category) and torch.equal(a.gt_index, gt)
            ta, tb, ratio = in_turn(sparse, slow, args.seconds)
            ma, mb = peak_memory(sparse), peak_memory(slow)
            rows.append((name, count, ta * 1e3, tb * 1e3, ratio, ma / 1e6, mb / 1e6, mb / ma, equal))
    columns = ["assigner", "boxes", "sparse_ms", "dense_ms", "times_faster"]
    columns += ["sparse_MB", "dense_MB", "times_less", "equal"]
    print(pd.DataFrame(rows, columns=columns).to_string(index=False, float_format=lambda v: f"{v:.2f}"))

    print("\ncost against image size, DSLA, 4 images with 50 boxes each at the same places")
    boxes, labels = scene(50, 400, 400)
    rows = []
    for side in (400, 800, 1600):
        size = dsla.PointGrid((side, side), STRIDES)
        small = dsla.PointGrid((400, 400), STRIDES)
        _, _, ratio = in_turn(
            lambda g=small: DSLA()(g, boxes, labels), lambda g=size: DSLA()(g, boxes, labels), args.seconds
        )
        rows.append((f"{side} × {side}", len(size), ratio))
    print(pd.DataFrame(rows, columns=["image", "points", "time / time at 400"]).to_string(index=False))


if __name__ == "__main__":
    main()
