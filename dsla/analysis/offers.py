"""What a detector of ours offers: one run gives its detections, what entered NMS, and the points of each object."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..coco.columns import corners_of, id_array, places
from ..coco.detections import Results
from ..coco.ground_truth import GroundTruth
from ..coco.problems import Problems
from ..errors import DataError
from ..geometry import pairwise_iou
from ..models.detector import Detector
from .diagnosis import NEAR, Offer, Setting, objects_of
from .running import run_raw
from .tables import array

LOWEST = 0.01  # score down to which a model is asked


def offer_of(
    model: Detector, dataset: Any, score_threshold: float, **running: Any
) -> tuple[Offer, Setting, tuple[np.ndarray, np.ndarray]]:
    """What a model says about a data set.

    Args:
        model: a detector; it stays in the mode it is in.
        dataset: with `ground_truth()`.
        score_threshold: detections below it do not count; the model is asked down to LOWEST, to know what lies below.
        running: batch_size, device, max_images, progress of the run.

    Returns:
        Its detections and, of what entered NMS, the boxes that overlap an object; its own assigner, strides and input
        size; points by level [N,L] of each object and its box in the input [N,4], from the model's own assignment.
    """
    truth = GroundTruth.of(dataset)
    if (most := running.get("max_images")) is not None and most < len(truth):
        truth = truth.part(range(most))
    if model.assigner is None:
        raise DataError("this model has no assigner: nothing can be said about its points; give its results instead")
    ask = replace(model.postprocess, score_threshold=min(LOWEST, score_threshold))
    labels = places(id_array(list(dataset.category_ids)), truth.category_ids)
    rows, levels = objects_of(truth), len(model.head.strides)
    at, boxes = np.zeros((len(truth.ids), levels), dtype=np.int64), np.full((len(truth.ids), 4), np.nan)
    kept: list[dict[str, Any]] = []
    candidates: list[dict[str, Any]] = []
    for raw, images, ids in run_raw(model, dataset, **running):
        with torch.inference_mode():
            own = model.assign(raw)
            sizes = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
            offered = ask.candidates(raw.outputs, raw.image_sizes, sizes)
        edges = [*own.first.tolist(), len(own.boxes)]
        for i, place in enumerate(places(id_array(ids), truth.image_ids).tolist()):
            mine = truth.rows(place)
            taught = mine[truth.taught[mine]]
            if len(taught) != edges[i + 1] - edges[i]:
                raise DataError(f"image {ids[i]}: the data set teaches other objects than its ground truth has")
            point = own.positive[i].nonzero()[:, 0]
            code = array(own.gt_index[i, point] * levels + own.grid.level[point])
            at[taught] = np.bincount(code, minlength=len(taught) * levels).reshape(-1, levels)
            boxes[taught] = array(own.boxes[edges[i] : edges[i + 1]])
            kept.append(_columns(ask.suppress(offered[i]), place))
            objects = torch.as_tensor(corners_of(truth.boxes[mine]), dtype=torch.float32, device=own.boxes.device)
            near = (pairwise_iou(offered[i]["boxes"], objects) > NEAR / 2).any(1)
            candidates.append(_columns({k: v[near] for k, v in offered[i].items()}, place))
    sides = model.transform.min_size[-1:]
    setting = Setting(
        model.assigner, model.head.strides, model.head.offset, (*sides, model.transform.max_size) if sides else "native"
    )
    before = _results(truth, candidates, labels)
    return Offer(_results(truth, kept, labels), before, model.postprocess.nms_iou), setting, (at[rows], boxes[rows])


def _columns(image: dict[str, Tensor], place: int) -> dict[str, np.ndarray]:
    columns = {k: array(image[k]) for k in ("boxes", "scores", "labels")}
    return columns | {"image": np.full(len(columns["labels"]), place)}


def _results(truth: GroundTruth, images: list[dict[str, np.ndarray]], labels: np.ndarray) -> Results:
    """Boxes of all images as `Results`; labels [C]: place of each of the model's classes in the ground truth."""
    if not images:
        raise DataError("the data set has no images")
    columns = {k: np.concatenate([image[k] for image in images]) for k in images[0]}
    boxes = columns["boxes"].astype(float)
    boxes[:, 2:] -= boxes[:, :2]
    return Results(
        name="the model",
        truth=truth,
        image=columns["image"].astype(np.int32),
        category=labels[columns["labels"]].astype(np.int32),
        boxes=boxes,
        score=columns["scores"].astype(float),
        problems=Problems("the model"),
    )
