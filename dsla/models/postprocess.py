"""From what the head says about points to detections: top-k, threshold, clip, NMS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.models.detection.transform import resize_boxes
from torchvision.ops import batched_nms, clip_boxes_to_image

from ..geometry import HeadOutputs


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
        index = torch.cat(chosen, 1)
        passes = select.flatten(1).gather(1, index) > self.score_threshold
        result = []
        for i in range(images):
            pair = index[i][passes[i]]
            point = pair // classes
            boxes = clip_boxes_to_image(outputs.boxes[i, point], image_sizes[i])
            if original_sizes is not None:
                boxes = resize_boxes(boxes, image_sizes[i], original_sizes[i])
            values = scores[i].flatten()[pair]
            result.append({"boxes": boxes, "scores": values, "labels": pair % classes, "points": point})
        return result

    def suppress(self, candidates: dict[str, Tensor]) -> dict[str, Tensor]:
        """NMS within each class, then the best `max_detections`, in descending order of score."""
        keep = batched_nms(candidates["boxes"], candidates["scores"], candidates["labels"], self.nms_iou)
        return {k: v[keep[: self.max_detections]] for k, v in candidates.items()}
