"""Diagnosis: of every object whether it was found, and if not, at which station the right box was lost.

A detector offers boxes; a threshold, NMS and COCO's one-to-one matching leave some of them. `judge` follows each object
through these stations and gives one verdict, the first of `VERDICTS` that holds. `teaching` says of each object how
many points learn it under a method: whether training could have taught it at all.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..coco.columns import corners_of, id_array, places
from ..coco.detections import Results
from ..coco.ground_truth import GroundTruth
from ..coco.matching import greedy, ranks
from ..data import to_coco_results
from ..errors import DataError
from ..geometry import Frame, pairwise_iou
from ..models.detector import Detector
from .assignments import FEW
from .matching import Meeting, meetings, pick
from .nms import removers
from .points import Setting
from .running import candidates, run_raw, suppressed
from .tables import BOX, Measured, Table, array, summarises, truth_of

NEAR = 0.1  # IoU from which a box has to do with an object at all, as in TIDE
LOWEST = 0.01  # score down to which a model is asked

VERDICTS = (  # the first that holds; `definitions.toml` says what they mean
    "found", "taken", "suppressed", "below threshold", "other class", "too loose", "nothing near",
)  # fmt: skip
POINTS = ("none", "few", "more")  # that learn an object: 0, 1 or 2, at least 3


@dataclass(frozen=True, eq=False)
class Offer:
    """All that a detector said about the images of a ground truth.

    Attributes:
        kept: its detections, also those of low score where it gives them.
        candidates: what entered its NMS, or None where that is not known.
        nms_threshold: the IoU above which its NMS removes a box.
    """

    kept: Results
    candidates: Results | None = None
    nms_threshold: float = 0.6

    def part(self, image: int) -> "Offer":
        """What it said about one image."""
        place = np.array([image])
        some = None if self.candidates is None else self.candidates.part(place)
        return replace(self, kept=self.kept.part(place), candidates=some)


def objects_of(truth: GroundTruth) -> np.ndarray:
    """Positions of the objects that COCO counts, image after image: all but the crowds."""
    order = np.argsort(truth.image, kind="stable")
    return order[~truth.crowd[order]]


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
    truth = truth_of(dataset, running.get("max_images"))
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
            assignment = model.assign(raw)
        offered = candidates(model, raw, images, ids, None, ask)
        edges = [*assignment.first.tolist(), len(assignment.boxes)]
        for i, place in enumerate(places(id_array(ids), truth.image_ids).tolist()):
            mine = truth.rows(place)
            taught = mine[truth.taught[mine]]
            if len(taught) != edges[i + 1] - edges[i]:
                raise DataError(f"image {ids[i]}: the data set teaches other objects than its ground truth has")
            point = assignment.positive[i].nonzero()[:, 0]
            code = array(assignment.gt_index[i, point] * levels + assignment.grid.level[point])
            at[taught] = np.bincount(code, minlength=len(taught) * levels).reshape(-1, levels)
            boxes[taught] = array(assignment.boxes[edges[i] : edges[i + 1]])
            objects = torch.as_tensor(
                corners_of(truth.boxes[mine]), dtype=torch.float32, device=assignment.boxes.device
            )
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


def judge(offer: Offer, score_threshold: float, iou_threshold: float) -> pd.DataFrame:
    """The verdict of each object, and the box that decided it.

    Args:
        offer: what the detector said.
        score_threshold: detections below it do not count.
        iou_threshold: least IoU of a match.

    Returns:
        One row an object, as `objects_of` has them: verdict; score, iou and box_category (id) of the box that decided,
        with its corners bx1, by1, bx2, by2 (for "nothing near" the nearest of its class, NaN and None without one);
        taken_by (of "taken" and "too loose": annotation id of the object whose hit the box is); suppressor_score,
        suppressor_iou (with the object), suppressor_overlap (with the box) and sx1 … sy2 of the box for which NMS
        removed it.
    """
    sides = [side for side in (offer.kept, offer.candidates) if side is not None]
    rows = pd.concat([side.to_frame().assign(kept=n == 0) for n, side in enumerate(sides)], ignore_index=True)
    _, images = meetings(rows, offer.kept.truth)
    parts = [_judged(here, offer.nms_threshold, score_threshold, iou_threshold) for here in images]
    return pd.concat(parts, ignore_index=True)


def _judged(here: Meeting, nms_threshold: float, score_threshold: float, iou_threshold: float) -> pd.DataFrame:
    score, kept, crowd = here.score, here.rows["kept"].to_numpy(dtype=bool), here.crowd
    category, wanted = (table["category"].to_numpy() for table in (here.rows, here.objects))
    live, pairs = kept & (score >= score_threshold), here.overlaps(False)
    counted = here.pairs.where(live[here.pairs.detection])
    rank = ranks(score, here.group * 2 + ~live)
    match, ignored = (row[0] for row in greedy(counted, rank, crowd, np.array([iou_threshold])))

    pairs = pairs.where(~crowd[pairs.object])
    d, same = pairs.detection, category[pairs.detection] == wanted[pairs.object]
    fits, alive = pairs.iou >= min(iou_threshold, 1 - 1e-10), live[d]
    free = (match[d] < 0) & ~ignored[d]  # a box that is a hit of another class says nothing about this object
    kind = np.select(
        [
            match[d] == pairs.object,
            same & alive & fits,
            same & ~kept[d] & (score[d] >= score_threshold) & fits,
            same & (score[d] < score_threshold) & fits,
            ~same & alive & free & fits,
            alive & (same | free) & (pairs.iou > NEAR),
        ],
        list(range(6)),
        6,
    )
    prefer = np.where(np.isin(kind, [3, 4]), score[d], pairs.value)
    told = (kind < 6) | (same & kept[d])  # of an object with nothing near: the nearest box of its class, if any
    order = np.lexsort([-prefer, kind, pairs.object])
    order = order[told[order]]
    owner, first = np.unique(pairs.object[order], return_index=True)
    chosen = np.full(len(wanted), -1)
    chosen[owner] = order[first]

    verdict, by = pick(kind, chosen, 6), pick(d, chosen, -1)
    remover, about = removers(here, np.where(verdict == 2, by, -1), kept, nms_threshold)
    taker = np.where((verdict == 1) | (verdict == 5), pick(match, by, -1), -1)
    boxes = here.rows[BOX].to_numpy(dtype=float)
    table = pd.DataFrame({"verdict": np.array(VERDICTS, dtype=object)[verdict]})
    table["score"], table["iou"] = pick(score, by, np.nan), pick(pairs.value, chosen, np.nan)
    table["box_category"] = pick(category.astype(object), by, None)
    table[[f"b{c}" for c in BOX]] = pick(boxes, by, np.nan)
    table["taken_by"] = pick(here.objects["gt"].to_numpy(dtype=object), taker, None)
    table[list(about)] = pd.DataFrame(about)
    table[[f"s{c}" for c in BOX]] = pick(boxes, remover, np.nan)
    return table[~crowd]


def kinds_of(total: np.ndarray) -> np.ndarray:
    """Numbers of points in the words of POINTS, "unknown" for −1."""
    words = np.array([*POINTS, "unknown"], dtype=object)
    return words[np.select([total < 0, total == 0, total <= FEW], [3, 0, 1], 2)]


def diagnosis(
    offer: Offer,
    setting: Setting,
    *,
    score_threshold: float,
    iou_threshold: float,
    counted: tuple[np.ndarray, np.ndarray] | None = None,
    rules: bool = True,
) -> Table:
    """One row an object that is no crowd: verdict, points, and the numbers behind them; see `dsla.why`.

    Args:
        offer: what the detector said.
        setting: under which points are counted.
        score_threshold, iou_threshold: as in `judge`.
        counted: what `Setting.count` gives, or what the model itself was asked.
        rules: say in the column rule why no point learns an object, which takes some time.
    """
    truth = offer.kept.truth
    rows = objects_of(truth)
    at, boxes = setting.count(truth, rows) if counted is None else counted
    table = truth.objects.iloc[rows].reset_index(drop=True)[["image", "gt", "category", *BOX]]
    table.insert(3, "name", np.array(truth.category_names, dtype=object)[truth.category[rows]])
    judged = judge(offer, score_threshold, iou_threshold)
    table["verdict"], table["points"] = judged.pop("verdict"), kinds_of(at.sum(1))
    table["size"] = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    counts = pd.DataFrame(at, columns=[f"points_{s}" for s in setting.strides])
    counts.insert(0, "count", at.sum(1))
    counts = counts.astype("Int64")
    counts[at[:, 0] < 0] = pd.NA
    table = table.join(counts)
    without = set(np.flatnonzero(at.sum(1) == 0).tolist() if rules else ())
    table["rule"] = [_reason(truth, setting, rows[n], boxes[n]) if n in without else "" for n in range(len(rows))]
    table = Table(pd.concat([table, judged], axis=1))
    table.attrs = {
        "analysis": "why",
        "setting": str(setting),
        "score_threshold": score_threshold,
        "iou_threshold": iou_threshold,
        "candidates": offer.candidates is not None,
    }
    return table


def _reason(truth: GroundTruth, setting: Setting, row: int, box: np.ndarray) -> str:
    if not truth.taught[row]:
        return "marked as ignored: nothing is taught" if truth.ignore[row] else "wholly outside its image"
    image = truth.image[row]
    frame = Frame.of((int(truth.heights[image]), int(truth.widths[image])), setting.input_size)
    return setting.rule(frame, box.tolist(), int(truth.category[row]))


@summarises("why", candidates=True)
def why_summary(frame: pd.DataFrame, candidates: bool) -> Measured:
    """How many objects have each verdict, and how many are missed of those with no, few and more points."""
    count = frame["verdict"].value_counts().reindex(VERDICTS, fill_value=0).astype(float)
    if not candidates:
        count["suppressed"] = np.nan
    values, missed = {"objects": len(frame), **count.to_dict()}, frame["verdict"] != "found"
    for points in POINTS:
        mine = frame["points"] == points
        values |= {f"objects_{points}": mine.sum(), f"missed_{points}": missed[mine]}
    return values, {"": "no such object", "suppressed": "only results are known, no candidates before NMS"}
