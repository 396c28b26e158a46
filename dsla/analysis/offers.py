"""What a detector of ours offers: one run gives its detections, what entered NMS, and the points of each object."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..coco.columns import corners_of, id_array, places
from ..coco.detections import Results
from ..coco.ground_truth import GroundTruth
from ..data import to_coco_results
from ..errors import DataError
from ..geometry import pairwise_iou
from ..models.detector import Detector
from .diagnosis import NEAR, Offer, objects_of
from .points import Setting
from .running import candidates, run_raw, suppressed
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
    if not len(truth):
        raise DataError("the data set has no images")
    if model.assigner is None:
        raise DataError("this model has no assigner: nothing can be said about its points; give its results instead")
    ask = replace(model.postprocess, score_threshold=min(LOWEST, score_threshold))
    rows, levels = objects_of(truth), len(model.head.strides)
    at, boxes = np.zeros((len(truth.ids), levels), dtype=np.int64), np.full((len(truth.ids), 4), np.nan)
    kept, before = list[dict[str, Any]](), list[dict[str, Any]]()
    for raw, images, ids in run_raw(model, dataset, **running):
        with torch.inference_mode():
            own = model.assign(raw)
        offered = candidates(model, raw, images, ids, None, ask)
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
            objects = torch.as_tensor(corners_of(truth.boxes[mine]), dtype=torch.float32, device=own.boxes.device)
            near = (pairwise_iou(offered[i]["boxes"], objects) > NEAR / 2).any(1)
            before.append({k: v[near] for k, v in offered[i].items() if k != "image_id"})
        kept += [suppressed(model, image) for image in offered]
    sides = model.transform.min_size[-1:]
    setting = Setting(
        model.assigner, model.head.strides, model.head.offset, (*sides, model.transform.max_size) if sides else "native"
    )
    names = [image["image_id"] for image in kept]
    after, entered = (
        Results.of(to_coco_results(dataset, names, images), truth, guess=False, warn=False) for images in (kept, before)
    )
    return Offer(after, entered, model.postprocess.nms_iou), setting, (at[rows], boxes[rows])
