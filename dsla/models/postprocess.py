"""From what the head says about points to detections: top-k, threshold, clip, NMS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import batched_nms, nms

from ..geometry import HeadOutputs, on_device

TOGETHER = 25_000  # boxes of a batch that NMS takes at once: its table of pairs has a bit each


@dataclass(frozen=True)
class Postprocess:
    """How detections are chosen. The defaults are the DSLA release's.

    mmdetection 2.20's FCOS: ``top_k_over="pairs", select_by="class"``. torchvision's FCOS:
    ``score="sqrt", score_threshold=0.2, top_k_over="pairs"``.

    Attributes:
        score_threshold: scores must exceed it.
        nms_iou: of two detections of a class that overlap more, the lower one goes.
        top_k: what each level may keep, counted as `top_k_over` says: "points" by their best class, or
            "pairs" of a point and a class.
        max_detections: of an image, the best; None for all.
        score: with a quality branch, class probability times quality ("product") or its root ("sqrt").
        select_by: what threshold and top-k look at: that "score", or the "class" probability alone.
        keep_padding: also detections of points in the padding, cut to the image, as the release has them.
    """

    score_threshold: float = 0.05
    nms_iou: float = 0.6
    top_k: int = 1000
    max_detections: int | None = 100
    top_k_over: str = "points"
    score: str = "product"
    select_by: str = "score"
    keep_padding: bool = False

    def __post_init__(self) -> None:
        for name, allowed in (
            ("top_k_over", ("points", "pairs")),
            ("score", ("product", "sqrt")),
            ("select_by", ("score", "class")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is one of {allowed}, got {getattr(self, name)!r}")

    def scores(self, outputs: HeadOutputs) -> Tensor:
        """[B, P, C] float32 score of every point for every class."""
        scores = outputs.logits.float().sigmoid()
        if outputs.quality is not None:
            scores = scores * outputs.quality.float().sigmoid()[..., None]
            if self.score == "sqrt":
                scores = scores.sqrt()
        return scores

    def candidates(
        self,
        outputs: HeadOutputs,
        image_sizes: Sequence[tuple[int, int]],
        original_sizes: Sequence[tuple[int, int]] | None = None,
    ) -> list[dict[str, Tensor]]:
        """What enters NMS: for each image boxes [D, 4], scores [D], labels [D] and points [D] of the grid.

        Boxes are cut to the image, (height, width) each, and then brought to `original_sizes` if given.
        """
        grid, scores = outputs.grid, self.scores(outputs)
        select = scores if self.select_by == "score" else outputs.logits.float().sigmoid()
        if not self.keep_padding:
            select = select * grid.inside(image_sizes)[..., None]
        images, _, classes = scores.shape
        chosen: list[Tensor] = []  # per level [B, K] indices into P·C
        first = 0
        for level, count in zip(select.split(grid.num_points, dim=1), grid.num_points, strict=True):
            if self.top_k_over == "points":
                point = level.amax(-1).topk(min(self.top_k, count)).indices + first
                pair = point[..., None] * classes + torch.arange(classes, device=point.device)
                chosen.append(pair.flatten(1))
            else:
                pair = level.flatten(1).topk(min(self.top_k, count * classes)).indices
                chosen.append(pair + first * classes)
            first += count
        index = torch.cat(chosen, 1)  # [B, K]
        point = index // classes
        passes = select.flatten(1).gather(1, index) > self.score_threshold
        frame = [
            (h, w, *(float(torch.tensor(float(n)) / o) for n, o in zip(original, (h, w), strict=True)))
            for (h, w), original in zip(image_sizes, original_sizes or image_sizes, strict=True)
        ]
        (frames,) = on_device(index.device, torch.tensor(frame))
        limit, scale = frames.view(images, 1, 2, 2).flip(-1).repeat(1, 1, 1, 2).unbind(2)  # x, y, x, y
        boxes = outputs.boxes.gather(1, point[..., None].expand(-1, -1, 4))
        columns = {
            "boxes": torch.minimum(boxes.clamp(min=0), limit) * scale,
            "scores": scores.flatten(1).gather(1, index),
            "labels": index % classes,
            "points": point,
        }
        counts = passes.sum(1).tolist()  # the one place where the host waits for a device, for the whole batch
        kept = torch.argsort(passes.flatten().logical_not(), stable=True)[: sum(counts)]
        parts = {k: v.flatten(0, 1)[kept].split(counts) for k, v in columns.items()}
        return [{k: v[i] for k, v in parts.items()} for i in range(images)]

    def suppress(self, candidates: dict[str, Tensor]) -> dict[str, Tensor]:
        """NMS within each class, then the best `max_detections`, in descending order of score."""
        keep = _kept(candidates["boxes"], candidates["scores"], candidates["labels"], self.nms_iou)
        return {k: v[keep[: self.max_detections]] for k, v in candidates.items()}

    def suppress_all(self, candidates: Sequence[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        """`suppress` of each image; on a GPU in one go, in which the host waits twice whatever their number."""
        counts = [len(c["scores"]) for c in candidates]
        if candidates[0]["scores"].device.type == "cpu" or len(counts) == 1 or not 0 < sum(counts) <= TOGETHER:
            return [self.suppress(c) for c in candidates]
        return self._suppress_together(candidates, counts)

    def _suppress_together(self, candidates: Sequence[dict[str, Tensor]], counts: list[int]) -> list[dict[str, Tensor]]:
        columns = {k: torch.cat([c[k] for c in candidates]) for k in candidates[0]}
        every = torch.arange(len(counts))
        image, every = on_device(columns["labels"].device, every.repeat_interleave(torch.tensor(counts)), every)
        groups = image * (columns["labels"].amax() + 1) + columns["labels"]
        keep = _kept(columns["boxes"], columns["scores"], groups, self.nms_iou)
        keep = keep[image[keep].argsort(stable=True)]  # by image, and still best first
        left = (image[keep, None] == every).sum(0).tolist()
        parts = {k: v[keep].split(left) for k, v in columns.items()}
        return [{k: v[i][: self.max_detections] for k, v in parts.items()} for i in range(len(counts))]


def _kept(boxes: Tensor, scores: Tensor, groups: Tensor, iou: float) -> Tensor:
    """Indices of what NMS within each group leaves, best first.

    In float64, where a group that is moved away from the others keeps its boxes to the bit; half precision and boxes
    beyond the image are no exception.
    """
    if not len(boxes):
        return groups
    boxes, scores = boxes.double(), scores.double()
    boxes = boxes - boxes.amin()
    if boxes.device.type == "cpu":
        return batched_nms(boxes, scores, groups, iou)
    return nms(boxes + (groups * (boxes.amax() + 1))[:, None], scores, iou)
