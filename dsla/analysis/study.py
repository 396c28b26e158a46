"""Everything that the analyses say about one trained model on one data set: numbers, and tables for the figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..assigners import Assignment
from ..coco.results import Rows
from ..data import to_coco_results
from ..geometry import aligned_iou, pairwise_iou
from ..models import Detector
from ..models.evaluation import Evaluation, evaluate_detections
from . import adjacency_of, oracle, profile_of, ranking, reliability, suppression
from .adjacent import hard_rule
from .running import assign, over, run

Boxes = dict[str, Any]
ANALYSES = ("adjacency", "ranking", "suppression", "oracle", "errors")  # whose summaries become numbers
NUMBERS = ["analysis", "name", "value", "definition", "reason"]
STEPS = np.round(np.arange(0, 1.001, 0.01), 2)  # of |Δ score|
LOSSES = np.round(np.arange(0, 0.301, 0.01), 2)  # of IoU
CROWDED = 0.1  # IoU of two objects of an image


@dataclass(frozen=True)
class Study:
    """One model's results.

    Attributes:
        numbers: one row a number, columns NUMBERS; value NaN where undefined, then with a reason.
        tables: adjacency, profile, ranking, reliability, suppression, oracle.
        candidates, detections: of each image, before and after NMS: boxes, scores, labels.
    """

    numbers: pd.DataFrame
    tables: dict[str, pd.DataFrame]
    candidates: list[Boxes]
    detections: list[Boxes]

    def value(self, analysis: str, name: str) -> float:
        rows = self.numbers
        return float(rows[(rows["analysis"] == analysis) & (rows["name"] == name)]["value"].iloc[0])


def study(model: Detector, dataset: Any, *, batch_size: int = 16, say: Callable[[str], None] | None = None) -> Study:
    """Evaluate a model on a data set and ask all analyses about it; `say` is told what comes next."""
    say = say or (lambda _: None)
    say("detections")
    options: dict[str, Any] = {"batch_size": batch_size}
    candidates = list(run(model, dataset, before_nms=True, **options))
    with torch.inference_mode():
        detections = [model.postprocess.suppress({k: v for k, v in c.items() if k != "image_id"}) for c in candidates]
    rows = to_coco_results(dataset, [c["image_id"] for c in candidates], detections)
    evaluation = evaluate_detections(dataset.ground_truth(), rows)
    say("ranking and suppression")
    limit = model.postprocess.nms_iou
    tables: dict[str, Any] = {"ranking": ranking(detections, dataset)}
    tables["suppression"] = suppression(candidates, dataset, nms_threshold=limit)
    say("oracles")
    most = model.postprocess.max_detections or 10**9
    tables["oracle"] = oracle(candidates, dataset, nms_threshold=limit, max_detections=most)
    say("neighbouring points")
    tables |= _points(model, dataset, options)
    tables["reliability"] = reliability(tables["ranking"])
    numbers = pd.concat([numbers_of(evaluation, tables), crowding(dataset.ground_truth(), rows)], ignore_index=True)
    return Study(numbers, tables, candidates, detections)


def numbers_of(evaluation: Evaluation, tables: dict[str, Any]) -> pd.DataFrame:
    """NUMBERS of the evaluation and of the summary of every table that has one."""
    numbers = [
        {"analysis": "evaluation", "name": name, "value": value, "definition": "", "reason": "no such object"}
        for name, value in evaluation.summary.items()
    ]
    for analysis in ANALYSES:
        if analysis in tables:
            summary = tables[analysis].summary()
            definitions, reasons = summary.attrs["definitions"], summary.attrs["reasons"]
            numbers += [
                {"analysis": analysis, "name": name, "value": value, "definition": definitions[name],
                 "reason": reasons.get(name, "")}
                for name, value in summary.items()
            ]  # fmt: skip
    frame = pd.DataFrame(numbers, columns=NUMBERS)
    frame.loc[frame["value"].notna(), "reason"] = ""
    return frame


def crowding(truth: dict[str, Any], rows: Rows) -> pd.DataFrame:
    """NUMBERS: AP of the images in which objects overlap, and of the others.

    Args:
        truth: a COCO ground truth.  rows: COCO results.
    """
    boxes: dict[int, list[Any]] = {image["id"]: [] for image in truth["images"]}
    for row in truth["annotations"]:
        if not row["iscrowd"]:
            x, y, w, h = row["bbox"]
            boxes[row["image_id"]].append([x, y, x + w, y + h])
    crowded = {i for i, found in boxes.items() if _most_shared(torch.tensor(found).reshape(-1, 4)) > CROWDED}
    numbers = []
    for name, kept, words in (
        ("AP_crowded", crowded, "some two objects"),
        ("AP_apart", boxes.keys() - crowded, "no two objects"),
    ):
        part = {
            "images": [image for image in truth["images"] if image["id"] in kept],
            "annotations": [row for row in truth["annotations"] if row["image_id"] in kept],
        }
        value = np.nan
        if kept:
            own = [r for r in rows if r["image_id"] in kept]
            value = evaluate_detections({**truth, **part}, own, engine="numpy").summary["AP"]
        definition = f"AP over the images in which {words} have an IoU above {CROWDED}"
        reason = "no such object" if np.isnan(value) else ""
        numbers.append(
            {"analysis": "crowding", "name": name, "value": value, "definition": definition, "reason": reason}
        )
    return pd.DataFrame(numbers, columns=NUMBERS)


def _most_shared(boxes: Tensor) -> float:
    """The greatest IoU of two of the boxes [M, 4]; 0 for fewer than two."""
    return float(pairwise_iou(boxes, boxes).fill_diagonal_(0).max()) if len(boxes) > 1 else 0.0


def _points(model: Detector, dataset: Any, options: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """adjacency and profile from one run, as `analysis.adjacency` and `profile` give them."""
    rule = hard_rule(model)
    pairs, lines = over(
        model,
        dataset,
        lambda raw, **seen: adjacency_of(reference=assign(rule, raw), **seen),
        lambda raw, **seen: profile_of(**seen),
        **options,
    )
    return {"adjacency": pairs, "profile": lines}


def profile_means(table: pd.DataFrame) -> pd.DataFrame:
    """Means over objects and both axes: offset, label, score, iou, count."""
    grouped = table.groupby("offset")
    return grouped[["label", "score", "iou"]].mean().assign(count=grouped.size()).reset_index()


def score_steps(table: pd.DataFrame) -> pd.DataFrame:
    """difference, share of the pairs of `adjacency` with |Δ score| at most that."""
    values = np.sort(table["d_score"].abs().to_numpy(dtype=float))
    share = np.searchsorted(values, STEPS, side="right") / len(values) if len(values) else np.nan
    return pd.DataFrame({"difference": STEPS, "share": share})


def iou_losses(table: pd.DataFrame) -> pd.DataFrame:
    """loss, share of the found objects of `suppression` that lose more than that."""
    values = np.sort(table.loc[table["found"].astype(bool), "iou_lost"].to_numpy(dtype=float))
    share = 1 - np.searchsorted(values, LOSSES, side="right") / len(values) if len(values) else np.nan
    return pd.DataFrame({"loss": LOSSES, "share": share})


def object_points(model: Detector, image: Tensor, target: dict[str, Any], gt: int) -> pd.DataFrame:
    """All points in and one stride around an object, on the level of its best one: what they learn and say.

    Returns:
        level, row, column, x, y, stride, label (taught for this object), score (of its class), iou (of the
        predicted box with it), best (the point of highest label; of equal ones the better box, then the first).
        Empty where no point learns the object.
    """
    with torch.inference_mode():
        raw = model.forward_raw([image], [target])
        own: Assignment = model.assign(raw)
        outputs, grid, scores = raw.outputs, raw.outputs.grid, model.postprocess.scores(raw.outputs)
        label = own.target(outputs.boxes)[0] * (own.gt_index[0] == gt)
        assert raw.targets is not None
        box = raw.targets[0]["boxes"][gt]
        iou = aligned_iou(outputs.boxes[0], box)
    frame = pd.DataFrame(
        {
            "level": grid.level,
            "row": grid.row,
            "column": grid.column,
            "x": grid.xy[:, 0],
            "y": grid.xy[:, 1],
            "stride": grid.stride,
            "label": label,
            "score": scores[0, :, int(target["labels"][gt])],
            "iou": iou,
        }
    )
    if not (frame["label"] > 0).any():
        return frame.iloc[:0].assign(best=False)
    best = frame.sort_values(["label", "iou"], ascending=False, kind="stable").iloc[0]
    x1, y1, x2, y2 = box.tolist()
    near = frame["x"].between(x1 - best["stride"], x2 + best["stride"])
    near &= frame["y"].between(y1 - best["stride"], y2 + best["stride"]) & (frame["level"] == best["level"])
    frame["best"] = frame.index == best.name
    return frame[near].reset_index(drop=True)


def suppressed_boxes(row: pd.Series, candidates: Boxes) -> pd.DataFrame:
    """One row of `suppression` as boxes: kind (object, best, suppressor), x1, y1, x2, y2, score, iou."""
    columns = ["x1", "y1", "x2", "y2"]
    rows: list[list[Any]] = [["object", *(float(row[c]) for c in columns), np.nan, np.nan]]
    for kind, score, iou in (
        ("best", "best_score", "iou_before"),
        ("suppressor", "suppressor_score", "suppressor_iou"),
    ):
        box = candidates["boxes"][int(row[kind])].tolist()
        rows.append([kind, *box, float(row[score]), float(row[iou])])
    return pd.DataFrame(rows, columns=["kind", *columns, "score", "iou"])
