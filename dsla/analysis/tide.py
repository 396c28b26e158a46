"""Errors: what is wrong with each detection, which objects nothing finds, and what each kind of error costs.

The kinds are those of TIDE (Bolya et al., "TIDE: A general toolbox for identifying object detection errors",
ECCV 2020), tested in the order of its code; what is correct and what is ignored is decided by COCO's matching.
"""

from typing import Any

import numpy as np
import pandas as pd

from ..coco.matching import Pairs
from .matching import Meeting, average_precision, meetings, optional, pick
from .tables import BOX, Measured, Table, analysis, summarises

ERRORS = ("classification", "localisation", "both", "duplicate", "background", "missed")


@analysis("errors", meetings)
def errors(
    detections: Any,
    truth: Any,
    *,
    foreground: float = 0.5,
    background: float = 0.1,
    max_detections: int | None = 100,
    **options: Any,
) -> Table:
    """One row a detection, with what is wrong with it, and one row an object that no detection matches.

    Args:
        detections, truth: see `dsla.analysis.tables`; or a model and a data set.
        foreground: least IoU of a match, one-to-one and within classes, as in `match`.
        background: least IoU at which a box has to do with an object at all.
        max_detections: of an image and class, by score (COCO: 100); None for all.
        options: crowd, score_threshold, before_nms, …, as in `match`.

    Returns:
        Table: image, kind, detection (its number; <NA> at objects), category, x1, y1, x2, y2 (pixels), score
        (NaN at objects), gt and gt_category (the object concerned; <NA> if none), iou (with it; without one the
        best with any object; NaN at objects), name and gt_name of the classes. Kinds: "correct" (a match), "ignored"
        (no match, in a crowd region), and, tested in this order, "localisation", "classification", "duplicate",
        "background", "both" (`definitions.toml` has them in words); of objects "missed" and "covered" (no match, but a
        classification or localisation error is about it).
    """
    if not 0 < background <= foreground <= 1:
        raise ValueError(f"0 < background ≤ foreground ≤ 1 is needed, got {background} and {foreground}")
    truth, images = meetings(detections, truth, max_detections=max_detections, **options)
    parts = [_judged(here, min(foreground, 1 - 1e-10), background) for here in images]
    table = Table(pd.concat(parts, ignore_index=True))
    for name, column in (("name", "category"), ("gt_name", "gt_category")):
        names = {c: str(c) for c in table[column].dropna().unique()} | truth.categories  # target dicts may lack some
        table[name] = table[column].map(names)
    return table


def _judged(here: Meeting, foreground: float, background: float) -> pd.DataFrame:
    """The rows of some images."""
    rows, objects = here.rows, here.objects
    (match,), (ignored,) = here.greedy(foreground)
    pairs = here.overlaps(False)
    pairs = pairs.where(~here.crowd[pairs.object])
    same = rows["category"].to_numpy()[pairs.detection] == objects["category"].to_numpy()[pairs.object]
    (same_object, same_iou), (other_object, other_iou) = (_best(pairs.where(mask), len(rows)) for mask in (same, ~same))
    kinds: dict[str, tuple[Any, Any]] = {
        "correct": (match >= 0, match),
        "ignored": (ignored, -1),
        "localisation": ((same_iou >= background) & (same_iou < foreground), same_object),
        "classification": (other_iou >= foreground, other_object),
        "duplicate": (same_iou >= foreground, same_object),
        "background": (np.maximum(same_iou, other_iou) < background, -1),
    }
    holds = [condition for condition, _ in kinds.values()]
    kind = np.select(holds, list(kinds), "both")
    target = np.select(holds, [to for _, to in kinds.values()], other_object)

    part = rows[["image", "detection", "category", *BOX, "score"]].copy()
    part.insert(1, "kind", kind)
    part["gt"], part["gt_category"] = (optional(objects[name], target) for name in ("gt", "category"))
    value, has = np.maximum(same_iou, other_iou), np.flatnonzero(target >= 0)
    value[has] = here.iou(has, target[has])
    part["iou"] = value

    left = np.flatnonzero(~here.crowd & ~np.isin(np.arange(len(objects)), match))
    covered = np.isin(left, target[np.isin(kind, ["localisation", "classification"])])
    rest = objects.iloc[left][["image", "category", *BOX]].assign(
        kind=np.where(covered, "covered", "missed"),
        gt=optional(objects["gt"], left),
        gt_category=optional(objects["category"], left),
    )
    part["detection"] = part["detection"].convert_dtypes()  # with <NA> at objects; text stays text
    return pd.concat([part, rest], ignore_index=True) if len(rest) else part


def _best(pairs: Pairs, size: int) -> tuple[np.ndarray, np.ndarray]:
    """[size] position of each detection's object of highest IoU (−1 without) and that IoU (0 without)."""
    most = np.zeros(size)
    np.maximum.at(most, pairs.detection, pairs.iou)
    return pick(pairs.object, pairs.best("detection", size), -1), most


def fixed_aps(frame: pd.DataFrame, error: str | None = None) -> pd.Series:
    """AP of each class that has objects at the foreground IoU, as it is or with one kind of `ERRORS` put right.

    A misplaced or misnamed box becomes the match of its object if that has none; of several the highest score.
    Other false detections are taken away. Without its missed objects, a class that has none left and has detections
    counts as 0, as in TIDE, where COCO leaves it out.
    """
    kind = frame["kind"].to_numpy(dtype=object)
    whole = np.isin(kind, ["correct", "missed", "covered"]) & ~((kind == "missed") & (error == "missed"))
    objects = frame["gt_category"][whole].value_counts()
    hit, category = kind == "correct", frame["category"].to_numpy()
    keep = ~np.isin(kind, ["missed", "covered"])
    if error in ("classification", "localisation"):
        place = np.flatnonzero(np.isin(kind, [error, "covered"]))
        rows = frame.iloc[place][["image", "gt", "score", "kind"]]
        rows = rows.assign(thing=rows.groupby(["image", "gt"]).ngroup(), place=place)
        wrong = rows[(rows["kind"] == error) & rows["thing"].isin(rows["thing"][rows["kind"] == "covered"])]
        first = wrong.sort_values("score", ascending=False, kind="stable").drop_duplicates("thing")["place"].to_numpy()
        keep &= kind != error
        keep[first], hit[first] = True, True
        category = np.where(hit, frame["gt_category"].fillna(0).to_numpy(), category)
    elif error is not None:
        keep &= kind != error
    score = frame["score"].to_numpy(dtype=float)
    image = frame["image"].to_numpy()
    ignored = (kind == "ignored")[None, keep]
    ap = average_precision(image[keep], category[keep], score[keep], hit[None, keep], ignored, objects)[0]
    if error != "missed":
        return ap
    before = frame["gt_category"][np.isin(kind, ["correct", "missed", "covered"])]
    emptied = set(category[keep & (kind != "ignored")]) & (set(before) - set(objects.index))
    return pd.concat([ap, pd.Series(0.0, index=sorted(emptied))]) if emptied else ap


@summarises("errors", foreground=0.5, background=0.1)
def errors_summary(frame: pd.DataFrame, foreground: float, **_: float) -> Measured:
    """How many errors of each kind there are, and the AP that putting right each kind alone would give."""
    count = frame["kind"].value_counts().reindex(["correct", *ERRORS, "ignored", "covered"], fill_value=0)
    objects = count[["correct", "missed", "covered"]].sum()
    ap = fixed_aps(frame).mean()  # NaN where there is no object (left)
    values = {"detections": frame["detection"].notna().sum(), "objects": objects} | count.to_dict()
    values |= {f"AP{100 * foreground:g}": ap}  # the evaluation's name for the same number
    values |= {f"dAP_{error}": fixed_aps(frame, error).mean() - ap for error in ERRORS}
    none = {f"dAP_{error}": "no object would be left" for error in ERRORS if not np.isnan(ap)}
    return values, {"": "no object in the ground truth"} | none
