"""Oracles: the AP if scores, or boxes, were as good as the detector's own candidates allow."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from ..coco.matching import CAPS, THRESHOLDS, greedy, ranks
from .matching import Meeting, average_precision, meetings, pick
from .nms import kept_by_nms
from .tables import BOX, Measured, Table, analysis, summarises


@analysis("oracle", meetings)
def oracle(
    candidates: Any,
    truth: Any,
    *,
    nms_threshold: float = 0.6,
    max_detections: int = 100,
    class_aware: bool = True,
    iou_threshold: float = 0.5,
    before_nms: bool = True,
    **options: Any,
) -> Table:
    """AP of one and the same set of candidates with scores, or boxes, replaced; NMS comes after the replacement.

    Args:
        candidates, truth: as in `dsla.analysis.tables`, boxes before NMS; a model is run up to there. Results
            after NMS are taken as candidates, too.
        nms_threshold, class_aware: of the NMS: IoU from which on it removes, and whether within classes.
        max_detections: kept per image after NMS, by score; of a class COCO's AP counts 100.
        iou_threshold: a box belongs to the best object of its class from this IoU on ("box").
        before_nms: False takes a model's detections after its own NMS.
        options: crowd, score_threshold, batch_size, …, as in `match`; scores below the threshold are left out of all
            variants.

    Returns:
        Table, one row a variant: variant, AP, AP50, AP75 (objects of all sizes, as pycocotools; NaN without
        objects). "label" and "dynamic" only where the candidates carry static labels.
    """
    truth, images = meetings(candidates, truth, before_nms=before_nms, **options)
    results: dict[str, list[tuple[np.ndarray, ...]]] = {}
    for here in images:
        boxes = here.rows[BOX].to_numpy(dtype=float)
        image, index, category = (here.rows[name].to_numpy() for name in ("image", "image_index", "category"))
        for name, score, origin in _variants(here, iou_threshold):
            rows = here.rows.assign(score=score, **dict(zip(BOX, boxes[origin].T, strict=True)))
            kept = np.flatnonzero(kept_by_nms(rows, nms_threshold, class_aware))
            kept = kept[ranks(score[kept], index[kept]) < max_detections]
            rank = ranks(score[kept], here.group[kept])
            kept, rank = kept[rank < CAPS[-1]], rank[rank < CAPS[-1]]
            # A box that stands for another one meets the objects that the other meets: they share image and class.
            matched, ignored = greedy(here.counted.of_rows(origin[kept]), rank, here.crowd)
            columns = (image[kept], category[kept], score[kept], matched >= 0, ignored)
            results.setdefault(name, []).append(columns)
    counts = truth.objects["category"][~truth.objects["crowd"].astype(bool)].value_counts()
    rows = []
    for name, parts in results.items():
        image, kind, score, hit, ignored = (np.concatenate(c, axis=-1) for c in zip(*parts, strict=True))
        ap = average_precision(image, kind, score, hit, ignored, counts)
        mean = ap.mean(axis=0) if len(ap) else pd.Series(np.nan, index=range(len(THRESHOLDS)))
        rows.append({"variant": name, "AP": mean.mean(), "AP50": mean[0], "AP75": mean[5]})
    return Table(rows)


def _variants(here: Meeting, threshold: float) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Each variant's name, scores [D], and the positions [D] of the candidates whose boxes it has."""
    rows, objects, pairs, score = here.rows, here.objects, here.plain, here.score
    best = pairs.best("detection", len(rows))
    thing, value = pick(pairs.object, best, -1), pick(pairs.value, best, 0.0)
    boxes, truth = rows[BOX].to_numpy(dtype=float), objects[BOX].to_numpy(dtype=float)
    centerness = np.zeros(len(rows))
    has = np.flatnonzero(thing >= 0)
    centerness[has] = _centerness(boxes[has], truth[thing[has]])
    itself = np.arange(len(rows))
    yield "score", score, itself
    yield "iou", value, itself
    yield "centerness", centerness, itself
    if "label" in rows:
        label = rows["label"].to_numpy(dtype=float)
        yield "label", label, itself
        yield "dynamic", label * value, itself
    winner = pick(pairs.detection, pairs.best("object", len(objects), prefer=score[pairs.detection]), -1)
    yield "box", score, np.where((thing >= 0) & (value >= threshold), pick(winner, thing, -1), itself)


def _centerness(boxes: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """[N] centerness (FCOS) of the centres of `boxes` in `objects`, [N,4] each; 0 outside."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    before, after = centre - objects[:, :2], objects[:, 2:] - centre
    low, high = np.minimum(before, after), np.maximum(before, after)
    ratio = np.divide(low, high, out=np.zeros_like(low), where=(low > 0) & (high > 0))
    return np.sqrt(ratio.prod(axis=1))


@summarises("oracle")
def oracle_summary(frame: pd.DataFrame) -> Measured:
    """AP of the variants, and what ranking and localisation cost."""
    ap = frame.set_index("variant")["AP"]
    costs = {"ranking_cost": ap["iou"] - ap["score"], "localisation_cost": ap["box"] - ap["score"]}
    return {f"AP_{name}": value for name, value in ap.items()} | costs, {"": "no object in the ground truth"}
