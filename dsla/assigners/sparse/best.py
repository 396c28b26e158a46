"""The best points of each box over all predictions, without the points × boxes table.

A predicted box that does not touch a box has IoU 0 with it, and few touch. So predictions are bundled in tiles of
4 × 4 neighbouring points; a tile's hull and areas bound the IoU of all its points with a box. The most promising
tiles of each box are looked at first, and then those that could still beat what was found. The result is that of
the full table, whatever is predicted; the worst case costs as much, in pieces of bounded size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ...geometry import PointGrid, box_area, overlap
from ..pairs import Truth
from .keys import rank_of, value_of, winning_key
from .regions import PIECE

Score = Callable[[Tensor, Tensor, Tensor], Tensor]
Bound = Callable[[Tensor, Tensor, Tensor], Tensor]


def best_by_overlap(
    grid: PointGrid, truth: Truth, boxes: Tensor, k: int, score: Score, bound: Bound, allowed: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The k points of each box's image with the highest positive scores, then of the lowest index.

    Args:
        boxes: [B, P, 4] predicted boxes.
        score: (box [R, 1] in N, point [R, S] in P, IoU [R, S]) → [R, S], 0 where the IoU is 0, never negative.
        bound: (box in N, tile, IoU) → what no score of the tile exceeds if no IoU there exceeds that one, 0 where
            the IoU is 0; elementwise, broadcast. Tiles are those of `tile_points`.
        allowed: [B, P] bool, which points count; all by default.
    Returns:
        scores [N, k], descending, 0 where there are fewer; their points [N, k] in P (0 there).
    """
    tiles = _Tiles.of(grid, boxes, allowed)
    step = max(1, PIECE // tiles.point.numel())
    if not len(truth.boxes):
        return boxes.new_zeros((0, k)), torch.zeros((0, k), dtype=torch.int64, device=grid.device)
    pieces = torch.arange(len(truth.boxes), device=grid.device).split(step)
    key = torch.cat([_best_of_piece(truth, box, tiles, k, score, bound) for box in pieces])
    return value_of(key), rank_of(key)


@dataclass(frozen=True, eq=False)
class _Tiles:
    """The predictions of each tile, S points each."""

    point: Tensor  # [T, S] index into P
    boxes: Tensor  # [B, T, S, 4]
    counts: Tensor  # [B, T, S] bool
    hull: Tensor  # [4, B, T]
    area: Tensor  # [2, B, T] smallest and largest

    @classmethod
    def of(cls, grid: PointGrid, boxes: Tensor, allowed: Tensor | None) -> "_Tiles":
        point, real = tile_points(grid.shapes, grid.device)
        held = boxes[:, point]
        counts = real & held.isfinite().all(-1)
        if allowed is not None:
            counts &= allowed[:, point]
        out = ~counts[..., None]
        low = held[..., :2].masked_fill(out, torch.inf).amin(2)
        high = held[..., 2:].masked_fill(out, -torch.inf).amax(2)
        area = box_area(held)
        area = torch.stack((area.masked_fill(~counts, torch.inf).amin(2), area.masked_fill(~counts, 0).amax(2)))
        return cls(point, held, counts, torch.cat((low, high), -1).permute(2, 0, 1).contiguous(), area)

    def bound(self, truth: Truth, box: Tensor) -> Tensor:
        """[n, T] an IoU that no point of the tile exceeds; 0 where none touches the box."""
        image, (x1, y1, x2, y2) = truth.image[box], truth.boxes[box].t()[..., None].unbind()
        left, top, right, bottom = self.hull[:, image]
        width = torch.minimum(right, x2).sub_(torch.maximum(left, x1)).clamp_(min=0)
        height = torch.minimum(bottom, y2).sub_(torch.maximum(top, y1)).clamp_(min=0)
        (smallest, largest), area = self.area[:, image], box_area(truth.boxes[box])[:, None]
        shared = torch.minimum(width.mul_(height), largest)
        union = torch.maximum(torch.maximum(smallest, area), smallest + area - shared).clamp_(min=1e-6)
        return shared.div_(union).mul_(1 + 1e-4).clamp_(max=1)

    def iou(self, truth: Truth, box: Tensor, tile: Tensor) -> Tensor:
        """[R, S] of R pairs of box and tile; 0 for points that do not count."""
        pair = (truth.image[box], tile)
        iou = overlap(self.boxes[pair], truth.boxes[box, None])[0]
        return iou.masked_fill_(~self.counts[pair], 0)


def _best_of_piece(truth: Truth, box: Tensor, tiles: _Tiles, k: int, score: Score, bound: Bound) -> Tensor:
    """[n, k] keys (score, lower point) of some boxes, descending, 0 where there are fewer."""
    every = torch.arange(len(tiles.point), device=box.device)
    limit = bound(box[:, None], every, tiles.bound(truth, box))  # [n, T]
    most = min(k, limit.shape[1])
    chosen = limit.topk(most).indices
    tile, owner = chosen.flatten(), box[:, None].expand_as(chosen).flatten()
    first = _top(_keys(tiles, owner, tile, tiles.iou(truth, owner, tile), score).view(len(box), -1), k)

    # which other tiles can still hold one of the k best? First by their bounds, then by their IoUs
    value = value_of(first[:, -1])
    rest = (limit >= value[:, None]) & (limit > 0)
    rest.scatter_(1, chosen, False)
    row, tile = rest.nonzero(as_tuple=True)  # their number is read back from the device
    iou = tiles.iou(truth, box[row], tile)
    reached = bound(box[row], tile, iou.amax(1))
    kept = ((reached >= value[row]) & (reached > 0)).nonzero().flatten()
    row, tile = row[kept], tile[kept]
    key = _keys(tiles, box[row], tile, iou[kept], score)
    key = torch.cat((key, key.new_zeros(1, key.shape[1])))  # a last row for "no tile"
    best = torch.zeros(rest.shape, dtype=torch.int64, device=box.device)
    where = torch.full_like(best, len(row))
    best[row, tile] = key[:-1].amax(1)
    where[row, tile] = torch.arange(len(row), device=box.device)
    chosen = best.topk(most).indices  # the best k points lie in the k tiles whose best points are best
    return _top(torch.cat((first, key[where.gather(1, chosen)].flatten(1)), 1), k)


def _keys(tiles: _Tiles, box: Tensor, tile: Tensor, iou: Tensor, score: Score) -> Tensor:
    """[R, S] keys of all points of R pairs of box and tile; 0 without a score."""
    point = tiles.point[tile]
    return winning_key(score(box[:, None], point, iou), point)


def _top(key: Tensor, k: int) -> Tensor:
    """The k highest of each row, with 0 for those that a short row lacks."""
    return torch.nn.functional.pad(key, (0, max(0, k - key.shape[1]))).topk(k).values


_SIDE = 4  # cells: smaller tiles are tighter, larger ones fewer


@lru_cache(maxsize=64)
def tile_points(shapes: tuple[tuple[int, int], ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """[T, S] points of each tile, and which are real: at the border of a map some are not."""
    points, first = [], 0
    for h, w in shapes:
        cell = torch.full((-(-h // _SIDE) * _SIDE, -(-w // _SIDE) * _SIDE), -1)
        cell[:h, :w] = torch.arange(first, first + h * w).view(h, w)
        points.append(cell.unfold(0, _SIDE, _SIDE).unfold(1, _SIDE, _SIDE).reshape(-1, _SIDE * _SIDE))
        first += h * w
    tile = torch.cat(points).to(device)
    return tile.clamp(min=0), tile >= 0
