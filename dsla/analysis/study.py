"""Everything that the analyses say about one trained model on one data set: numbers, and tables for the figures."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..assigners import Assignment
from ..coco.evaluation import Evaluation, evaluate_detections
from ..data import to_coco_results
from ..geometry import aligned_iou, pairwise_iou
from ..models import Detector
from .adjacent import adjacency_of, hard_rule, profile_of
from .confidence import ranking, reliability
from .nms import suppression
from .oracles import oracle
from .running import assign, candidates, joined, run_raw, seen_by, suppressed
from .tables import Table

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
    """Evaluate a model on a data set and ask all analyses about it, from one run of it.

    Args:
        model: with an assigner.
        dataset: with ground truth.
        batch_size: images a forward pass.
        say: is told what comes next.
    """
    say = say or (lambda _: None)
    say("detections and neighbouring points")
    rule, cost = hard_rule(model), Assigning()
    candidates_of: list[Boxes] = []
    pairs, lines = list[Table](), list[Table]()
    for raw, images, ids in run_raw(model, dataset, batch_size=batch_size):
        own = cost.assigned(model, raw)
        candidates_of += candidates(model, raw, images, ids, own)
        seen = seen_by(model, raw, ids, own)
        pairs.append(adjacency_of(reference=assign(rule, raw), **seen))
        lines.append(profile_of(**seen))
    detections = [suppressed(model, image) for image in candidates_of]
    rows = to_coco_results(dataset, [image["image_id"] for image in candidates_of], detections)
    truth = dataset.ground_truth()
    evaluation = evaluate_detections(truth, rows, engine="numpy")
    say("ranking, suppression and oracles")
    limit, most = model.postprocess.nms_iou, model.postprocess.max_detections or 10**9
    tables: dict[str, Any] = {
        "ranking": ranking(detections, dataset),
        "suppression": suppression(candidates_of, dataset, nms_threshold=limit),
        "oracle": oracle(candidates_of, dataset, nms_threshold=limit, max_detections=most),
        "adjacency": joined(pairs),
        "profile": joined(lines),
    }
    tables["reliability"] = reliability(tables["ranking"])
    parts = [numbers_of(evaluation, tables), crowding(truth, rows), cost.numbers()]
    return Study(pd.concat(parts, ignore_index=True), tables, candidates_of, detections)


class Assigning:
    """What a model's assigner teaches in a data set, and what that costs.

    The cost is the thread's own time, not the wall's, and so that of one core where torch has one thread.
    """

    def __init__(self) -> None:
        self.points, self.mass, self.seconds, self.images = list[Tensor](), list[Tensor](), 0.0, 0

    def assigned(self, model: Detector, raw: Any) -> Assignment:
        """The assignment of a batch, timed and counted."""
        with torch.inference_mode():
            began = time.thread_time()
            own = model.assign(raw)
            self.seconds += time.thread_time() - began
        self.images += len(raw.targets)
        for image, target in enumerate(raw.targets):
            taught, count = own.gt_index[image] >= 0, len(target["boxes"])
            index = own.gt_index[image][taught]
            self.points.append(torch.bincount(index, minlength=count).double())
            self.mass.append(torch.bincount(index, own.label[image][taught].double(), minlength=count))
        return own

    def numbers(self) -> pd.DataFrame:
        """NUMBERS; `dsla.paper.definitions` says what they are."""
        points, none = torch.cat(self.points), "no object"
        shares = {"points": points, "mass": torch.cat(self.mass), "unlearned": (points == 0).double()}
        values = {name: float(v.mean()) for name, v in shares.items()} | {"ms": 1000 * self.seconds / self.images}
        return pd.DataFrame(
            [["assignment", k, v, "", none if np.isnan(v) else ""] for k, v in values.items()], columns=NUMBERS
        )


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


def crowding(truth: dict[str, Any], rows: list[dict[str, Any]]) -> pd.DataFrame:
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
            here = [r for r in rows if r["image_id"] in kept]
            value = evaluate_detections({**truth, **part}, here, engine="numpy").summary["AP"]
        definition = f"AP over the images in which {words} have an IoU above {CROWDED}"
        reason = "no such object" if np.isnan(value) else ""
        numbers.append(
            {"analysis": "crowding", "name": name, "value": value, "definition": definition, "reason": reason}
        )
    return pd.DataFrame(numbers, columns=NUMBERS)


def _most_shared(boxes: Tensor) -> float:
    """The greatest IoU of two of the boxes [M, 4]; 0 for fewer than two."""
    return float(pairwise_iou(boxes, boxes).fill_diagonal_(0).max()) if len(boxes) > 1 else 0.0


def profile_means(table: pd.DataFrame) -> pd.DataFrame:
    """Means over objects and both axes: offset, label, score, iou, count."""
    grouped = table.groupby("offset")
    return grouped[["label", "score", "iou"]].mean().assign(count=grouped.size()).reset_index()


def score_steps(table: pd.DataFrame) -> pd.DataFrame:
    """difference, share of the pairs of `adjacency` with |Δ score| at most that."""
    return pd.DataFrame({"difference": STEPS, "share": _share_up_to(table["d_score"].abs(), STEPS)})


def iou_losses(table: pd.DataFrame) -> pd.DataFrame:
    """loss, share of the found objects of `suppression` that lose more than that."""
    lost = table.loc[table["found"].astype(bool), "iou_lost"]
    return pd.DataFrame({"loss": LOSSES, "share": 1 - _share_up_to(lost, LOSSES)})


def _share_up_to(values: pd.Series, limits: np.ndarray) -> Any:
    """Share of the values at most each limit, NaN where there are none."""
    ordered = np.sort(values.to_numpy(dtype=float))
    return np.searchsorted(ordered, limits, side="right") / len(ordered) if len(ordered) else np.nan


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
