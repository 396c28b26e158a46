"""Breakdowns: where the errors of a detector lie: by class, by size, between classes, by the points of objects.

All of them count rows of the tables of `errors` and of `dsla.why`; nothing is matched anew.
"""

import numpy as np
import pandas as pd

from ..coco.engines import SIZES, size_names
from ..coco.ground_truth import GroundTruth
from .diagnosis import POINTS, VERDICTS
from .tables import BOX
from .tide import ERRORS, fixed_aps

UNMATCHED, UNKNOWN = "no match", "background"
BINS = {"0": 0, "1–2": 2, "3–5": 5, "6–10": 10, "over 10": np.inf}  # of points → the most that belong there
KINDS = ["correct", *ERRORS[:-1], "ignored", "missed", "covered"]


def errors_by(frame: pd.DataFrame, truth: GroundTruth) -> pd.DataFrame:
    """Errors of a table of `errors` by class and by size.

    A false detection counts in the class that it names. It counts at the size of the object that it is about, and of
    its own box where there is none; sizes are COCO's, of objects by the area in the file.

    Args:
        frame: the table.
        truth: the ground truth that it was made with.

    Returns:
        A row a group: by ("class" or "size"), category (id; empty at sizes), name, objects, detections, the kinds of
        `errors`, found (share of the objects that are matched); of classes AP50 (at the table's IoU threshold) and
        dAP_… of each kind: the class's AP gained if errors of that kind, in all classes, were put right.
    """
    of = pd.MultiIndex.from_frame(truth.objects[["image", "gt"]])
    place, has = np.full(len(frame), -1), frame["gt"].notna().to_numpy()
    place[has] = of.get_indexer(pd.MultiIndex.from_frame(frame.loc[has, ["image", "gt"]]))
    x1, y1, x2, y2 = (frame[c].to_numpy(dtype=float) for c in BOX)
    area = np.where(place >= 0, np.append(truth.area, 0)[place], (x2 - x1) * (y2 - y1))
    parts = []
    for by, group in (("class", frame["category"]), ("size", pd.Series(size_names(area), index=frame.index))):
        rows = pd.crosstab(group.to_numpy(), frame["kind"].to_numpy()).reindex(columns=KINDS, fill_value=0)
        classes = dict.fromkeys([*truth.categories, *rows.index])  # target dicts may lack some that are detected
        order = list(SIZES) if by == "size" else [c for c in classes if c in rows.index]
        rows = rows.reindex(order, fill_value=0)
        objects = rows[["correct", "missed", "covered"]].sum(axis=1)
        about = {"objects": objects, "detections": rows[KINDS[:-2]].sum(axis=1)}
        rows = rows.assign(found=rows["correct"] / objects.where(objects > 0))
        names = order if by == "size" else [truth.categories.get(c, str(c)) for c in order]
        part = pd.DataFrame(about).join(rows).assign(by=by, name=names, category="" if by == "size" else order)
        if by == "class":
            part["AP50"] = fixed_aps(frame).reindex(order)
            for error in ERRORS:
                part[f"dAP_{error}"] = fixed_aps(frame, error).reindex(order) - part["AP50"]
        parts.append(part)
    table = pd.concat(parts, ignore_index=True)
    first = ["by", "category", "name"]
    return table[[*first, *(c for c in table.columns if c not in first)]]


def confusion(frame: pd.DataFrame, score_threshold: float) -> pd.DataFrame:
    """Which class is called which: counts of a table of `errors`, among detections from a score on.

    Every object counts once in its row: as its own class if it is matched, else as "no match". Boxes that fit an
    object of another class, and boxes on background, come beside that. Duplicates and boxes that fit nothing well
    are in no cell. A class that is called "background" or "no match" is so with "(class)" behind it.

    Returns:
        truth, detected (class names, "background", "no match") and count > 0, the most frequent first.
    """
    ours = {name: f"{name} (class)" for name in (UNMATCHED, UNKNOWN)}
    frame = frame.assign(**{column: frame[column].replace(ours) for column in ("name", "gt_name")})
    named = (frame["score"] >= score_threshold) & frame["kind"].isin(["correct", "classification", UNKNOWN])
    rows = frame[named | frame["kind"].isin(["correct", "missed", "covered"])]
    there = rows["gt_name"].where(rows["kind"] != UNKNOWN, UNKNOWN)
    cells = pd.DataFrame({"truth": there, "detected": rows["name"].where(named[rows.index], UNMATCHED)})
    count = cells.value_counts(["truth", "detected"], sort=False).reset_index(name="count")
    return count.sort_values(["count", "truth", "detected"], ascending=[False, True, True], ignore_index=True)


def missed_by_points(table: pd.DataFrame) -> pd.DataFrame:
    """Share of the objects of a table of `dsla.why` that are not found, by the number of points that learn them.

    Returns:
        points (a name in BINS), objects, unfound, share; objects whose points are not known are left out.
    """
    bins = pd.cut(table["count"].astype(float), [-1, *BINS.values()], labels=list(BINS))
    unfound = (table["verdict"] != "found").groupby(bins, observed=False)
    counts = unfound.agg(objects="size", unfound="sum", share="mean").rename_axis("points").reset_index()
    return counts.astype({"points": str})


def verdicts_by_points(table: pd.DataFrame) -> pd.DataFrame:
    """Objects of a table of `dsla.why`: a row a verdict, a column a kind of points, those that occur."""
    count = pd.crosstab(table["verdict"], table["points"])
    rows = [verdict for verdict in VERDICTS if verdict in count.index]
    return count.reindex(rows)[[points for points in (*POINTS, "unknown") if points in count]]


def largest_missed(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of a table of `dsla.why` that are not found, the largest first: these should have been the easiest."""
    missed = table[table["verdict"] != "found"]
    area = (missed["x2"] - missed["x1"]) * (missed["y2"] - missed["y1"])
    return missed.loc[area.sort_values(ascending=False, kind="stable").index]
