"""The points × boxes forms of the assigners, one image at a time: slow, obvious, float64 unless told otherwise.

Each returns gt [P] int64, −1 background; what else a method decides comes with it. B images are a loop.
"""

import torch
from torch import Tensor

INF = float("inf")


def iou_table(a: Tensor, b: Tensor) -> Tensor:
    """[P, 4], [M, 4] → [P, M]."""
    size = (torch.minimum(a[:, None, 2:], b[:, 2:]) - torch.maximum(a[:, None, :2], b[:, :2])).clamp(min=0)
    both = size.prod(-1)
    area_a, area_b = (a[:, 2:] - a[:, :2]).prod(-1), (b[:, 2:] - b[:, :2]).prod(-1)
    return both / (area_a[:, None] + area_b - both).clamp(min=1e-6)


def sides(xy: Tensor, boxes: Tensor) -> Tensor:
    """Distances of every point to the sides of every box, [P, M, 4]."""
    return torch.cat((xy[:, None] - boxes[:, :2], boxes[:, 2:] - xy[:, None]), -1)


def first_best(value: Tensor, boxes: Tensor) -> Tensor:
    """The box of the highest value at each point, the smaller and then the first of equals; [P, M] → [P].

    Values of −inf exclude.
    """
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    order = area.argsort(stable=True)
    best = value.max(1).values
    place = torch.arange(len(boxes)).expand_as(value)
    first = place.masked_fill(value[:, order] != best[:, None], len(boxes)).min(1).values
    return torch.where(best > -INF, order[first.clamp(max=len(boxes) - 1)], -1)


def lowest(value: Tensor, k: int) -> Tensor:
    """[P, M] bool: the k lowest values of each column, the first points of equals; inf excludes."""
    rank = value.argsort(dim=0, stable=True).argsort(dim=0, stable=True)
    return (rank < k) & (value < INF)


def anchor_table(xy: Tensor, stride: Tensor, scale: float) -> Tensor:
    half = stride[:, None] * scale / 2
    return torch.cat((xy - half, xy + half), -1)


def atss(grid, boxes, labels, topk=9, anchor_scale=8.0, dtype=torch.float64):
    xy, boxes = grid.xy.to(dtype), boxes.to(dtype)
    if not len(boxes):
        return torch.full((len(xy),), -1)
    iou = iou_table(anchor_table(xy, grid.stride.to(dtype), anchor_scale), boxes)
    distance = (xy[:, None] - (boxes[:, :2] + boxes[:, 2:]) / 2).square().sum(-1)
    candidate = torch.zeros_like(iou, dtype=torch.bool)
    for level in range(len(grid.shapes)):
        here = grid.level == level
        candidate[here] = lowest(distance[here], topk)
    chosen = iou.masked_fill(~candidate, torch.nan)
    mean = chosen.nanmean(0)
    spread = ((chosen - mean).square().nansum(0) / (candidate.sum(0) - 1).clamp(min=1)).sqrt()
    positive = candidate & (iou >= mean + spread) & (sides(xy, boxes).amin(-1) > 0.01)
    return first_best(iou.masked_fill(~positive, -INF), boxes)


def max_iou(grid, boxes, labels, positive=0.5, negative=0.4, low_quality=True, anchor_scale=8.0, dtype=torch.float64):
    """gt and ignored."""
    xy, boxes = grid.xy.to(dtype), boxes.to(dtype)
    if not len(boxes):
        return torch.full((len(xy),), -1), torch.zeros(len(xy), dtype=torch.bool)
    iou = iou_table(anchor_table(xy, grid.stride.to(dtype), anchor_scale), boxes)
    claimed = iou >= positive
    if low_quality:
        claimed |= (iou == iou.max(0).values) & (iou > 0)
    gt = first_best(iou.masked_fill(~claimed, -INF), boxes)
    return gt, (gt < 0) & (iou.max(1).values >= negative)


def fovea(grid, boxes, labels, scale_ranges, sigma=0.4, smooth=False, relaxation=0.2, dtype=torch.float64):
    """gt and label: cell by cell, box by box, the largest painted first."""
    xy, boxes, stride = grid.xy.to(dtype), boxes.to(dtype), grid.stride.to(dtype)
    gt, label = torch.full((len(xy),), -1), torch.zeros(len(xy), dtype=dtype)
    size = (boxes[:, 2:] - boxes[:, :2]).prod(-1).sqrt()
    for m in reversed(size.argsort(stable=True).tolist()):
        x1, y1, x2, y2 = boxes[m]
        for level, (low, high) in enumerate(scale_ranges):
            share = relaxation if smooth else 0.0
            if not low * (1 - share) <= size[m] <= high * (1 + share):
                continue
            s, (h, w) = grid.strides[level], grid.shapes[level]
            ends = []
            for a, b, cells in ((x1, x2, w), (y1, y2, h)):
                middle, reach = (a + b) / 2 / s, sigma * (b - a) / 2 / s
                ends.append(
                    (torch.ceil(middle - reach - grid.offset), torch.floor(middle + reach - grid.offset), cells)
                )
            inside = grid.level == level
            for (first, last, cells), place in zip(ends, (grid.column, grid.row), strict=True):
                inside = inside & (place >= first.clamp(0, cells - 1)) & (place <= last.clamp(0, cells - 1))
            value = torch.ones(len(xy), dtype=dtype)
            if smooth:
                l, t, r, b = sides(xy, boxes[m, None])[:, 0].unbind(-1)  # noqa: E741
                value = (
                    torch.minimum(l, r).clamp(min=0) / torch.maximum(l, r).clamp(min=0.01)
                    * torch.minimum(t, b).clamp(min=0) / torch.maximum(t, b).clamp(min=0.01)
                ).sqrt()  # fmt: skip
                off = (xy - torch.stack((x1 + x2, y1 + y2)) / 2).abs().amax(-1)
                within = torch.stack((l, t, r, b)).amin(0) > 0
                value = torch.where((off <= stride / 2) & within, 1.0, value)
                ramp = 1.0
                if size[m] < low:
                    ramp = (size[m] - low * (1 - relaxation)) / max(low * relaxation, 0.01)
                elif size[m] > high:
                    ramp = (high * (1 + relaxation) - size[m]) / max(high * relaxation, 0.01)
                value = value * ramp
            paint = inside & (value >= label) & (value > 0)
            gt[paint], label[paint] = m, value[paint]
    return gt, label


def task_aligned(grid, boxes, labels, scores, predicted, topk=13, alpha=1.0, beta=6.0, dtype=torch.float64):
    """gt and label; scores [P, C] probabilities, predicted [P, 4]."""
    xy, boxes, scores, predicted = (v.to(dtype) for v in (grid.xy, boxes, scores, predicted))
    if not len(boxes):
        return torch.full((len(xy),), -1), torch.zeros(len(xy), dtype=dtype)
    iou = iou_table(predicted, boxes)
    metric = scores[:, labels].pow(alpha) * iou.pow(beta)
    kept = lowest(-metric, topk) & (metric > 0) & (sides(xy, boxes).amin(-1) > 0.01)
    gt = first_best(iou.masked_fill(~kept, -INF), boxes)
    owned = gt[:, None] == torch.arange(len(boxes))
    highest, best = ((v * owned).max(0).values for v in (metric, iou))
    label = (metric / (highest + 1e-7) * best * owned).sum(1)
    return gt, label


def simota(
    grid, boxes, labels, scores, predicted,
    center_radius=2.5, candidate_topk=10, iou_weight=3.0, cls_weight=1.0, dtype=torch.float64,
):  # fmt: skip
    """gt and dynamic k [M]."""
    xy, boxes, scores, predicted = (v.to(dtype) for v in (grid.xy, boxes, scores, predicted))
    gt = torch.full((len(xy),), -1)
    in_box = sides(xy, boxes).gt(0).all(-1) if len(boxes) else torch.zeros(len(xy), 0, dtype=torch.bool)
    centre, reach = (boxes[:, :2] + boxes[:, 2:]) / 2, center_radius * grid.stride.to(dtype)[:, None, None]
    in_centre = ((xy[:, None] > centre - reach) & (xy[:, None] < centre + reach)).all(-1)
    candidate = (in_box | in_centre).any(1)
    if not candidate.any():
        return gt, torch.zeros(len(boxes), dtype=torch.int64)
    iou = iou_table(predicted[candidate], boxes)
    wanted = torch.nn.functional.one_hot(labels, scores.shape[1]).to(dtype)
    root = scores[candidate].sqrt()
    entropy = torch.nn.functional.binary_cross_entropy(
        root[:, None].expand(-1, len(boxes), -1), wanted.expand(len(iou), -1, -1), reduction="none"
    )
    cost = cls_weight * entropy.sum(-1) - iou_weight * (iou + 1e-7).log()
    cost = cost + 1e8 * ~(in_box & in_centre)[candidate]
    k = iou.topk(min(candidate_topk, len(iou)), dim=0).values.sum(0).int().clamp(min=1).long()
    rank = cost.argsort(dim=0, stable=True).argsort(dim=0, stable=True)
    taken = rank < k
    cheapest = first_best(-cost, boxes)
    single = torch.where(taken.sum(1) == 1, taken.float().argmax(1), cheapest)
    gt[candidate] = torch.where(taken.any(1), single, -1)
    return gt, k


def scene(seed, images=1, boxes=12, size=(256, 320), classes=5, smallest=4.0, largest=240.0):
    """Random boxes, some of them partly outside, of log-uniform sides; and their classes."""
    g = torch.Generator().manual_seed(seed)
    per_image = []
    for _ in range(images):
        side = smallest * (largest / smallest) ** torch.rand(boxes, 2, generator=g)
        centre = torch.rand(boxes, 2, generator=g) * torch.tensor([size[1], size[0]])
        per_image.append(torch.cat((centre - side / 2, centre + side / 2), 1))
    return per_image, [torch.randint(classes, (boxes,), generator=g) for _ in range(images)]


def head(grid, boxes, classes=5, seed=0, amount=0.15):
    """Predictions of a half-trained head: most points see a box that is near, some see anything."""
    from dsla.geometry import HeadOutputs

    g = torch.Generator().manual_seed(seed)
    distances = []
    for image_boxes in boxes:
        free = grid.stride[:, None] * 4 * torch.rand(len(grid), 4, generator=g)
        if len(image_boxes):
            each = sides(grid.xy, image_boxes)
            which = each.amin(-1).argmax(1)
            chosen = each[torch.arange(len(grid)), which]
            extent = (image_boxes[which, 2:] - image_boxes[which, :2]).repeat(1, 2)
            chosen = (chosen + amount * extent * torch.randn(chosen.shape, generator=g)).clamp(min=0)
            free = torch.where(torch.rand(len(grid), 1, generator=g) < 0.8, chosen, free)
        distances.append(free)
    logits = torch.randn(len(boxes), len(grid), classes, generator=g) * 2 - 2
    return HeadOutputs(logits, torch.stack(distances), grid)


def recorded(grid, scores, boxes):
    """Recorded probabilities [P, C] and boxes [P, 4] as head outputs that give them back to the bit."""
    from dsla.geometry import HeadOutputs

    wide = torch.as_tensor(boxes, dtype=torch.float64)[None]
    distances = torch.cat((grid.xy - wide[..., :2], wide[..., 2:] - grid.xy), -1)
    return HeadOutputs(torch.as_tensor(scores, dtype=torch.float64)[None].logit(), distances, grid)
