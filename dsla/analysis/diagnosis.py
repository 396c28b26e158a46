"""Diagnosis: of every object whether it was found, and if not, at which station the right box was lost.

A detector offers boxes; a threshold, NMS and COCO's one-to-one matching leave some of them. `judge` follows each object
through these stations and gives one verdict, the first of `VERDICTS` that holds. `teaching` says of each object how
many points learn it under a method: whether training could have taught it at all.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ..coco.detections import Results
from ..coco.ground_truth import GroundTruth
from ..coco.matching import greedy, ranks
from ..geometry import Frame
from .assignments import FEW
from .matching import Meeting, meetings, pick
from .nms import removers
from .points import Setting
from .tables import BOX, Measured, Table, summarises

NEAR = 0.1  # IoU from which a box has to do with an object at all, as in TIDE

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


def judge(offer: Offer, score_threshold: float, iou_threshold: float) -> pd.DataFrame:
    """The verdict of each object, and the box that decided it.

    Args:
        offer: what the detector said.
        score_threshold: detections below it do not count.
        iou_threshold: least IoU of a match.

    Returns:
        One row an object, as `objects_of` has them: verdict; score, iou and box_category (id) of the box that decided,
        with its corners bx1, by1, bx2, by2 (for "nothing near" the nearest of its class, NaN and None without one);
        taken_by (annotation id of the object that the box went to); suppressor_score, suppressor_iou (with the object),
        suppressor_overlap (with the box) and sx1 … sy2 of the box for which NMS removed it.
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
    counted = pairs.where((category[pairs.detection] == wanted[pairs.object]) & live[pairs.detection])
    rank = ranks(score, here.group * 2 + ~live)
    match, ignored = (row[0] for row in greedy(counted, rank, crowd, np.array([iou_threshold])))

    pairs = pairs.where(~crowd[pairs.object])
    d, same = pairs.detection, category[pairs.detection] == wanted[pairs.object]
    fits, alive = pairs.iou >= min(iou_threshold, 1 - 1e-10), live[d]
    free = (match[d] < 0) & ~ignored[d]  # a box that is another object's hit says nothing about this one
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
    taker, boxes = np.where(verdict == 1, pick(match, by, -1), -1), here.rows[BOX].to_numpy(dtype=float)
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
