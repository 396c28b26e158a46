"""From what the head says about points to detections: top-k, threshold, clip, NMS."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import batched_nms, nms

from ..errors import DataError
from ..geometry import HeadOutputs, on_device
from ..recipes.recipe import checked

FIRST = 10  # candidates that NMS looks at first, for each detection that an image may keep
MANY = 1000  # boxes from which on classes are better looked at one by one


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
        for name in ("top_k_over", "score", "select_by"):
            checked(name, getattr(self, name))

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

        Raises:
            DataError: scores or boxes that are no numbers (NaN).
        """
        grid, scores = outputs.grid, self.scores(outputs)
        select = scores if self.select_by == "score" else outputs.logits.float().sigmoid()
        if not self.keep_padding:
            select = select * grid.inside(image_sizes)[..., None]
        classes = scores.shape[-1]
        by_point, chosen, first = self.top_k_over == "points", list[Tensor](), 0
        for level in select.split(grid.num_points, dim=1):
            ranked = level.amax(-1) if by_point else level.flatten(1)
            chosen.append(ranked.topk(min(self.top_k, ranked.shape[1])).indices + first)
            first += ranked.shape[1]
        index = torch.cat(chosen, 1)  # [B, K] into P, or into P·C
        if by_point:
            index = (index[..., None] * classes + torch.arange(classes, device=index.device)).flatten(1)
        passes = select.flatten(1).gather(1, index) > self.score_threshold
        chosen_scores = scores.flatten(1).gather(1, index)  # NaN among them, which top-k takes first
        broken = chosen_scores.isnan().any(1) | outputs.boxes.flatten(1).isnan().any(1)
        counts = torch.where(broken, -1, passes.sum(1)).tolist()  # the host waits for a device, for the whole batch
        if min(counts) < 0:
            raise DataError(
                f"image {counts.index(-1)} of the batch: scores or boxes that are no numbers (NaN): the weights are "
                "broken, or half precision overflows; take other weights, of an earlier checkpoint say, or float32"
            )
        kept = torch.nonzero_static(passes.flatten(), size=sum(counts))[:, 0]
        image, pair = kept // index.shape[1], index.flatten()[kept]
        point = pair // classes
        sizes = (torch.tensor(s, dtype=torch.float32) for s in (image_sizes, original_sizes or image_sizes))
        inner, outer = on_device(index.device, *sizes)  # [B, 2] each, height and width
        limit, scale = (v[image].flip(-1).repeat(1, 2) for v in (inner, outer / inner))  # x, y, x, y
        columns = {
            "boxes": torch.minimum(outputs.boxes[image, point].clamp(min=0), limit) * scale,
            "scores": scores.flatten(1)[image, pair],
            "labels": pair % classes,
            "points": point,
        }
        parts = {k: v.split(counts) for k, v in columns.items()}
        return [{k: v[i] for k, v in parts.items()} for i in range(len(counts))]

    def suppress(self, candidates: dict[str, Tensor]) -> dict[str, Tensor]:
        """NMS within each class, then the best `max_detections`, in descending order of score.

        What NMS does to a box depends on better ones alone, and its cost is quadratic: so the best candidates are
        looked at first, and more of them only where those do not fill `max_detections`. Each NMS makes the host wait.
        """
        ranked = candidates["scores"].argsort(descending=True, stable=True)
        count = len(ranked) if self.max_detections is None else FIRST * self.max_detections
        while True:
            best = {k: v[ranked[:count]] for k, v in candidates.items()}
            keep = _kept(best["boxes"], best["scores"], best["labels"], self.nms_iou).sort().values  # ties as they came
            keep = keep[: self.max_detections]
            if len(keep) == self.max_detections or count >= len(ranked):
                return {k: v[keep] for k, v in best.items()}
            count *= 4


def _kept(boxes: Tensor, scores: Tensor, labels: Tensor, iou: float) -> Tensor:
    """Indices of what NMS within each class leaves.

    In float64, where a class that is moved away from the others keeps its boxes to the bit; half precision and boxes
    beyond the image are no exception.
    """
    if not len(boxes):
        return labels
    boxes, scores = boxes.double(), scores.double()
    boxes = boxes - boxes.amin()
    if len(boxes) > MANY:
        return batched_nms(boxes, scores, labels, iou)
    return nms(boxes + (labels * (boxes.amax() + 1))[:, None], scores, iou)  # one wait less than batched_nms
