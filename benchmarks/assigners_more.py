"""How much faster the sparse assigners are than their points × boxes forms, with equal results.

    python benchmarks/assigners_more.py [--images 4] [--boxes 200] [--classes 80] [--repeats 5]

Images of 800 × 1344, float32, one batch. The dense forms below are written as code bases have them: whole tensors an
image, one image after the other. "differs" counts the points that get another box (values that are equal, or
that another order of rounding makes so). Times are those of one thread on the processor, which other programs
disturb least.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from dsla.assigners import ATSS, Assigner, FoveaBox, MaxIoU, SimOTA, TaskAligned
from dsla.assigners.atss import anchors
from dsla.geometry import HeadOutputs, PointGrid, boxes_to_distances, pairwise_iou

SIZE, STRIDES = (800, 1344), (8, 16, 32, 64, 128)


def scenes(images: int, boxes: int, classes: int, seed: int = 0) -> tuple[list[Tensor], list[Tensor]]:
    """Boxes of log-uniform sides from 12 to 480 pixels, wholly in the image."""
    generator = torch.Generator().manual_seed(seed)
    per_image = []
    for _ in range(images):
        side = torch.exp(torch.rand(boxes, 2, generator=generator) * 3.69) * 12
        limit = torch.tensor([SIZE[1], SIZE[0]]) - side
        corner = torch.rand(boxes, 2, generator=generator) * limit
        per_image.append(torch.cat((corner, corner + side), 1))
    return per_image, [torch.randint(classes, (boxes,), generator=generator) for _ in range(images)]


def predictions(grid: PointGrid, boxes: list[Tensor], classes: int, seed: int = 0) -> HeadOutputs:
    """A half-trained head: inside an object its box, sides moved by a tenth; elsewhere four strides wide."""
    generator = torch.Generator().manual_seed(seed)
    distances = []
    for image_boxes in boxes:
        sides = boxes_to_distances(grid.xy[:, None], image_boxes)  # [P, M, 4]
        area = (image_boxes[:, 2:] - image_boxes[:, :2]).prod(-1)
        which = area.expand(len(grid), -1).masked_fill(sides.amin(-1) <= 0, torch.inf).min(1)
        chosen = sides[torch.arange(len(grid)), which.indices]
        size = (image_boxes[:, 2:] - image_boxes[:, :2])[which.indices].repeat(1, 2)
        jittered = (chosen + 0.1 * size * torch.randn(chosen.shape, generator=generator)).clamp(min=0)
        free = 2 * grid.stride[:, None] * torch.exp(0.5 * torch.randn(chosen.shape, generator=generator))
        distances.append(torch.where(which.values[:, None] < torch.inf, jittered, free))
    logits = torch.randn(len(boxes), len(grid), classes, generator=generator) * 1.5 - 3
    return HeadOutputs(logits, torch.stack(distances), grid)


def sides(grid: PointGrid, boxes: Tensor) -> Tensor:
    """Distances of every point to every box, [P, M, 4]."""
    return boxes_to_distances(grid.xy[:, None], boxes)


def best_box(value: Tensor) -> Tensor:
    """[P, M], −inf where excluded → [P] box, −1 background."""
    best, box = value.max(1)
    return box.where(best > -torch.inf, -1)


def dense_atss(grid: PointGrid, boxes: Tensor, labels: Tensor, scores: Tensor, predicted: Tensor) -> Tensor:
    iou = pairwise_iou(anchors(grid, 8.0), boxes)
    distance = (grid.xy[:, None] - (boxes[:, :2] + boxes[:, 2:]) / 2).square().sum(-1).sqrt()
    first, candidates = 0, []
    for part in distance.split(grid.num_points):
        candidates.append(part.topk(min(9, len(part)), dim=0, largest=False).indices + first)
        first += len(part)
    candidate = torch.cat(candidates)
    chosen = iou.gather(0, candidate)
    passed = (chosen >= chosen.mean(0) + chosen.std(0)) & (sides(grid, boxes).amin(-1).gather(0, candidate) > 0.01)
    table = torch.full_like(iou, -torch.inf)
    return best_box(table.scatter_(0, candidate, chosen.masked_fill(~passed, -torch.inf)))


def dense_max_iou(grid: PointGrid, boxes: Tensor, labels: Tensor, scores: Tensor, predicted: Tensor) -> Tensor:
    iou = pairwise_iou(anchors(grid, 8.0), boxes)
    claimed = (iou >= 0.5) | ((iou == iou.max(0).values) & (iou > 0))
    return best_box(iou.masked_fill(~claimed, -torch.inf))


def dense_fovea(grid: PointGrid, boxes: Tensor, labels: Tensor, scores: Tensor, predicted: Tensor) -> Tensor:
    low, high = (torch.tensor(end)[grid.level][:, None] for end in zip(*FoveaBox().scale_ranges, strict=True))
    size = (boxes[:, 2:] - boxes[:, :2]).prod(-1).sqrt()
    inside = (low <= size) & (size <= high)
    for axis, place in ((0, grid.column), (1, grid.row)):
        start, stop = boxes[:, axis] / grid.stride[:, None], boxes[:, axis + 2] / grid.stride[:, None]
        last_cell = torch.tensor([s[1 - axis] for s in grid.shapes])[grid.level][:, None] - 1.0
        half = 0.5 * (stop - start)
        first = torch.minimum((start + 0.6 * half - grid.offset).ceil().clamp(min=0), last_cell)
        last = torch.minimum((start + 1.4 * half - grid.offset).floor().clamp(min=0), last_cell)
        inside &= (place[:, None] >= first) & (place[:, None] <= last)
    return best_box((-size).expand_as(inside).masked_fill(~inside, -torch.inf))


def dense_aligned(grid: PointGrid, boxes: Tensor, labels: Tensor, scores: Tensor, predicted: Tensor) -> Tensor:
    iou = pairwise_iou(predicted, boxes)
    metric = scores[:, labels] * iou.pow(6)
    values, candidate = metric.topk(13, dim=0)
    passed = (values > 0) & (sides(grid, boxes).amin(-1).gather(0, candidate) > 0.01)
    table = torch.full_like(iou, -torch.inf)
    gt = best_box(table.scatter_(0, candidate, iou.gather(0, candidate).masked_fill(~passed, -torch.inf)))
    owned = F.one_hot(gt + 1, len(boxes) + 1)[:, 1:]
    highest, best = (metric * owned).amax(0), (iou * owned).amax(0)
    (metric / (highest + 1e-7) * best * owned).sum(1)  # its labels
    return gt


def dense_simota(grid: PointGrid, boxes: Tensor, labels: Tensor, scores: Tensor, predicted: Tensor) -> Tensor:
    in_box = sides(grid, boxes).amin(-1) > 0
    off = (grid.xy[:, None] - (boxes[:, :2] + boxes[:, 2:]) / 2).abs().amax(-1)
    in_centre = off < 2.5 * grid.stride[:, None]
    candidate = (in_box | in_centre).any(1)
    iou = pairwise_iou(predicted[candidate], boxes)
    wanted = F.one_hot(labels, scores.shape[1]).float().expand(len(iou), -1, -1)
    root = scores[candidate].sqrt()[:, None].expand_as(wanted)
    cost = F.binary_cross_entropy(root, wanted, reduction="none").sum(-1) - 3 * (iou + 1e-7).log()
    cost = cost + 1e8 * ~(in_box & in_centre)[candidate]
    k = iou.topk(min(10, len(iou)), dim=0).values.sum(0).int().clamp(min=1)
    cheap = cost.topk(10, dim=0, largest=False).indices
    take = torch.arange(10)[:, None] < k
    taken = torch.zeros_like(cost, dtype=torch.bool).scatter_(0, cheap, take)
    single = torch.where(taken.sum(1) == 1, taken.int().argmax(1), cost.argmin(1))
    gt = torch.full((len(grid),), -1)
    gt[candidate] = single.where(taken.any(1), -1)
    return gt


def seconds(call: Callable[[], object], repeats: int) -> float:
    """The fastest of some runs, the first of which warms up unless it is the only one."""
    times = []
    for _ in range(repeats + (repeats > 1)):
        begin = time.process_time()
        call()
        times.append(time.process_time() - begin)
    return min(times)


ROWS: list[tuple[Assigner, float, Callable[..., Tensor]]] = [
    (ATSS(), 0.0, dense_atss),
    (MaxIoU(), 0.0, dense_max_iou),
    (FoveaBox(), 0.5, dense_fovea),
    (TaskAligned(), 0.0, dense_aligned),
    (SimOTA(), 0.5, dense_simota),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("images", 4), ("boxes", 200), ("classes", 80), ("repeats", 5), ("dense-repeats", 2)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    torch.set_num_threads(1)
    boxes, labels = scenes(args.images, args.boxes, args.classes)
    grids = {offset: PointGrid(SIZE, STRIDES, offset) for offset in (0.0, 0.5)}
    outputs = {offset: predictions(grid, boxes, args.classes) for offset, grid in grids.items()}
    table = []
    for assigner, offset, dense in ROWS:
        grid, given = grids[offset], outputs[offset]

        def fast(assigner: Assigner = assigner, grid: PointGrid = grid, given: HeadOutputs = given) -> Tensor:
            return assigner(grid, boxes, labels, predictions=given).gt_index

        def whole(dense: Callable[..., Tensor] = dense, grid: PointGrid = grid, given: HeadOutputs = given) -> Tensor:
            each = zip(boxes, labels, given.logits, given.boxes, strict=True)
            return torch.stack([dense(grid, b, c, logits.sigmoid(), p) for b, c, logits, p in each])

        differs = int((fast() != whole()).sum())
        sparse, full = seconds(fast, args.repeats), seconds(whole, args.dense_repeats)
        table.append((assigner.name, 1e3 * sparse, 1e3 * full, full / sparse, differs))
    print(f"{args.images} images of {SIZE[0]} × {SIZE[1]}, {args.boxes} boxes each, {args.classes} classes;")
    print(f"milliseconds of one thread a batch, torch {torch.__version__}")
    columns = ["assigner", "sparse", "dense", "times faster", "differs"]
    print(pd.DataFrame(table, columns=columns).round(1).to_string(index=False))


if __name__ == "__main__":
    main()
