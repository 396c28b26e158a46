"""What measures of scores react to: one model's boxes and points, with other scores, or among more and fewer boxes."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..analysis.adjacent import adjacency, hard_rule
from ..analysis.confidence import ranking
from ..analysis.nms import suppression
from ..analysis.running import assign, candidates, joined, run_raw, seen_by, suppressed
from ..analysis.study import BEST, at_best
from ..data import DetectionDataset
from ..models import Detector
from .definitions import read

ADDED = 40  # boxes on background an image, which score below its `BEST`
CHANGES = ("as it is", "√score", "score × ½", "more background", "threshold 0.2", "FCOS's label as the score")


def reaction_table(model: Detector, dataset: DetectionDataset) -> pd.DataFrame:
    """The measures of [reactions] in `definitions.toml` under each of `CHANGES`, none of which changes a box.

    Args:
        model: with an assigner.
        dataset: with ground truth, images of 128 pixels or more.

    Returns:
        asked, kind (old, new), analysis, name, change, value; NaN where a change is one of points alone.
    """
    nms: Any = {"nms_threshold": model.postprocess.nms_iou}
    ask = replace(model.postprocess, score_threshold=0.0, keep_padding=False)
    every, parts = list[dict[str, Any]](), []
    for raw, images, ids in run_raw(model, dataset, batch_size=16):
        seen = seen_by(model, raw, ids, model.assign(raw))
        parts.append(adjacency(raw.outputs, assign(hard_rule(model), raw), **seen))
        every += candidates(model, raw, images, ids, None, ask)
    pairs, rows = joined(parts), []
    for change in CHANGES:
        rule = change == CHANGES[-1]
        ends = [float(end == "a") if rule else _scores(pairs[f"score_{end}"], change) for end in "ab"]
        scored = pairs.assign(score_a=ends[0], score_b=ends[1], d_score=ends[0] - ends[1])
        numbers = {"adjacency": scored.summary()}
        if not rule:
            boxes = [_changed(image, change) for image in every]
            least = 0.2 if change == "threshold 0.2" else model.postprocess.score_threshold
            above = [i | {k: i[k][i["scores"] > least] for k in ("boxes", "scores", "labels")} for i in boxes]
            numbers["ranking"] = ranking([suppressed(model, image) for image in above], dataset).summary()
            numbers["suppression"] = suppression(above, dataset, **nms).summary()
            numbers["best"] = at_best(boxes, dataset, **nms)
        for question, measures in read("definitions")["reactions"].items():
            for kind, (analysis, name) in measures.items():
                value = numbers[analysis][name] if analysis in numbers else np.nan
                rows.append([question, kind, analysis, name, change, value])
    return pd.DataFrame(rows, columns=["asked", "kind", "analysis", "name", "change", "value"])


def _scores(scores: Any, change: str) -> Any:
    return scores**0.5 if change == "√score" else scores / 2 if change == "score × ½" else scores


def _changed(image: dict[str, Any], change: str) -> dict[str, Any]:
    """The candidates of an image with other scores, or with `ADDED` small boxes of the first class beside them."""
    image = {k: image[k] for k in ("boxes", "labels", "image_id")} | {"scores": _scores(image["scores"], change)}
    if change == "more background":
        place = torch.arange(ADDED)
        corner = 12.0 * torch.stack([place % 8, place // 8], 1)
        least = image["scores"].sort(descending=True).values[:BEST][-1:]
        image["boxes"] = torch.cat([image["boxes"], torch.cat([corner, corner + 4], 1)])
        image["scores"] = torch.cat([image["scores"], 0.99 * least.expand(ADDED)])
        image["labels"] = torch.cat([image["labels"], torch.zeros_like(place)])
    return image
