"""Everything that the analyses say about one trained model on one data set: numbers, and tables for the figures."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..assigners import Assignment
from ..coco.detections import Results
from ..coco.evaluation import Evaluation, evaluate_detections
from ..coco.ground_truth import GroundTruth
from ..coco.matching import iou, overlapping
from ..data import to_coco_results
from ..geometry import aligned_iou
from ..models import Detector
from .adjacent import adjacency, hard_rule, profile
from .confidence import correlations, ranking, reliability
from .matching import match
from .nms import suppression
from .oracles import oracle
from .running import assign, candidates, joined, run_raw, seen_by, suppressed
from .tables import BOX, Table, array, series

Boxes = dict[str, Any]
ANALYSES = ("adjacency", "ranking", "suppression", "oracle", "errors")  # whose summaries become numbers
NUMBERS = ["analysis", "name", "value", "definition", "reason"]
STEPS = np.round(np.arange(0, 1.001, 0.01), 2)  # of |Δ score|
LOSSES = np.round(np.arange(0, 0.301, 0.01), 2)  # of IoU
CROWDED = 0.1  # IoU of two objects of an image
BEST = 60  # candidates of an image that are compared between models


@dataclass(frozen=True)
class Analysed:
    """What the analyses say of one detector.

    Attributes:
        numbers: one row a number, columns NUMBERS; value NaN where undefined, then with a reason.
        tables: of each analysis.
    """

    numbers: pd.DataFrame
    tables: dict[str, pd.DataFrame]

    def about(self, analysis: str) -> pd.DataFrame:
        """Numbers of one analysis, index name."""
        return self.numbers[self.numbers["analysis"] == analysis].set_index("name")

    def value(self, analysis: str, name: str) -> float:
        return float(self.about(analysis)["value"][name])


@dataclass(frozen=True)
class Study(Analysed):
    """One model's results, with the tables adjacency, profile, ranking, reliability, suppression, oracle.

    Attributes:
        candidates, detections: of each image, before and after NMS: boxes, scores, labels.
    """

    candidates: list[Boxes]
    detections: list[Boxes]


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
    rule, candidates_of, best = hard_rule(model), list[Boxes](), list[Boxes]()
    ask = replace(model.postprocess, score_threshold=0.0, top_k=BEST, keep_padding=False)
    pairs, lines, taught, seconds = list[Table](), list[Table](), list[pd.DataFrame](), 0.0
    for raw, images, ids in run_raw(model, dataset, batch_size=batch_size):
        with torch.inference_mode():
            began = time.thread_time()  # of this thread, not of the wall, and so of one core where torch has one thread
            assignment = model.assign(raw)
            seconds += time.thread_time() - began
        taught.append(_taught(assignment))
        candidates_of += candidates(model, raw, images, ids, assignment)
        best += candidates(model, raw, images, ids, None, ask)
        seen = seen_by(model, raw, ids, assignment)
        pairs.append(adjacency(raw.outputs, assign(rule, raw), **seen))
        lines.append(profile(raw.outputs, seen.pop("own"), **seen))
    detections = [suppressed(model, image) for image in candidates_of]
    rows = to_coco_results(dataset, [image["image_id"] for image in candidates_of], detections)
    truth = dataset.ground_truth()
    evaluation = evaluate_detections(truth, rows)
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
    summaries = summaries_of(evaluation, tables) | {"crowding": crowding(truth, rows)}
    learnt = pd.concat(taught)
    values = {**learnt, "unlearned": learnt["points"] == 0, "ms": 1000 * seconds / len(candidates_of)}
    summaries["assignment"] = series("assigning", values, {"": "no object"})
    summaries["best"] = at_best(best, dataset, nms_threshold=limit)
    return Study(numbers_of(summaries), tables, candidates_of, detections)


def _taught(assignment: Assignment) -> pd.DataFrame:
    """points and mass (the sum of their labels) of each object of a batch."""
    positive = assignment.positive
    index = (assignment.gt_index + assignment.first[:, None])[positive]
    mass = torch.bincount(index, assignment.label[positive].double(), minlength=len(assignment.boxes))
    return pd.DataFrame({"points": array(assignment.counts()), "mass": array(mass)}, dtype=float)


def summaries_of(evaluation: Evaluation, tables: Mapping[str, Any]) -> dict[str, pd.Series]:
    """Of the evaluation, and of every table that has one, by the analysis."""
    numbers = {"evaluation": series("evaluation", evaluation.summary, {"": "no such object"})}
    return numbers | {analysis: tables[analysis].summary() for analysis in ANALYSES if analysis in tables}


def numbers_of(summaries: Mapping[str, pd.Series]) -> pd.DataFrame:
    """NUMBERS of summaries by their analysis."""
    rows = [
        [analysis, name, value, numbers.attrs["definitions"][name], numbers.attrs["reasons"].get(name, "")]
        for analysis, numbers in summaries.items()
        for name, value in numbers.items()
    ]
    return pd.DataFrame(rows, columns=NUMBERS)


def at_best(candidates: Iterable[Boxes], truth: Any, count: int = BEST, nms_threshold: float = 0.6) -> pd.Series:
    """Ranking and suppression among equally many candidates of each image, those of highest score.

    What a threshold of scores lets pass differs from model to model, and with it how hard ranking is and what there is
    to lose; here neither the height of scores nor candidates further down the list matter.

    Args:
        candidates: before NMS, of each image.
        truth: as in `dsla.analysis.tables`.
        count: of an image.
        nms_threshold: of NMS.
    """
    cut = [{k: v[image["scores"].argsort(descending=True, stable=True)[:count]] if k != "image_id" else v
            for k, v in image.items()} for image in candidates]  # fmt: skip
    rows = match(cut, truth, boxes=False)
    score, overlap = (rows[name].to_numpy(dtype=float) for name in ("score", "iou"))
    within = correlations(score, overlap, pd.factorize(rows["image"])[0])
    lost = suppression(cut, truth, nms_threshold=nms_threshold)
    reached = lost[lost["found"].astype(bool)]
    values = {"iou": rows["iou"], "spearman": within["spearman"].dropna(), "found_share": lost["found"].astype(bool)}
    values |= {name: reached[name] for name in ("iou_before", "iou_after", "iou_lost")}
    values["lost_over_0.05"] = reached["iou_lost"] > 0.05
    return series("best", values, {"": "no candidate", "spearman": "score or IoU is constant"}, count=count)


def crowding(truth: dict[str, Any], rows: list[dict[str, Any]]) -> pd.Series:
    """AP_crowded, AP_apart: AP of the images in which objects overlap, and of the others.

    Args:
        truth: a COCO ground truth.  rows: COCO results.
    """
    annotations = GroundTruth.of(truth, warn=False)
    results = Results.of(rows, annotations, warn=False, guess=False)
    real = np.flatnonzero(~annotations.crowd)
    image, boxes = annotations.image[real], annotations.corners[real]
    pairs = overlapping(image, image, lambda i, j: iou(boxes[i], boxes[j]))
    crowded = np.unique(image[pairs.detection[(pairs.iou > CROWDED) & (pairs.detection != pairs.object)]])
    ap = {"AP_crowded": np.nan, "AP_apart": np.nan}
    for name, kept in zip(ap, (crowded, np.setdiff1d(np.arange(len(annotations)), crowded)), strict=True):
        if len(kept):
            part = results.part(kept)
            ap[name] = evaluate_detections(part.truth, part).summary["AP"]
    return series("crowding", ap, {"": "no such object"}, crowded=CROWDED)


def single_profiles(profiles: Mapping[str, pd.DataFrame], wide: int = 6, most: int = 12) -> dict[str, pd.DataFrame]:
    """The rows of the same single objects in the `profile` of each method: a mean over objects would blur each cliff.

    Args:
        profiles: by method.
        wide: points in the row inside the box under every method, so that there is a profile to see; fewer where no
            object has as many.
        most: objects, evenly chosen among those.
    """
    keys, rows = ["image", "gt"], {m: table[table["axis"] == "x"] for m, table in profiles.items()}
    inside = [table[table["place"].between(0, 1)].groupby(keys).size() for table in rows.values()]
    points = pd.concat(inside, axis=1).dropna().min(axis=1)
    points = points[points >= min(wide, points.max())]
    chosen = points.index[np.unique(np.linspace(0, len(points) - 1, min(most, len(points)), dtype=int))]
    return {m: table[pd.MultiIndex.from_frame(table[keys]).isin(chosen)] for m, table in rows.items()}


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
        assignment: Assignment = model.assign(raw)
        outputs, grid, scores = raw.outputs, raw.outputs.grid, model.postprocess.scores(raw.outputs)
        label = assignment.target(outputs.boxes)[0] * (assignment.gt_index[0] == gt)
        assert raw.targets is not None
        box = raw.targets[0]["boxes"][gt]
        overlap = aligned_iou(outputs.boxes[0], box)
    columns = {name: getattr(grid, name) for name in ("level", "row", "column")}
    columns |= {"x": grid.xy[:, 0], "y": grid.xy[:, 1], "stride": grid.stride, "label": label}
    frame = pd.DataFrame(columns | {"score": scores[0, :, int(target["labels"][gt])], "iou": overlap})
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
    kinds = {"best": ("best_score", "iou_before"), "suppressor": ("suppressor_score", "suppressor_iou")}
    rows = [["object", *row[BOX], np.nan, np.nan]]
    rows += [[k, *candidates["boxes"][int(row[k])].tolist(), *row[list(names)]] for k, names in kinds.items()]
    return pd.DataFrame(rows, columns=["kind", *BOX, "score", "iou"]).astype(
        dict.fromkeys([*BOX, "score", "iou"], float)
    )
