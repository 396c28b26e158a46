"""`dsla.why`: why was this object missed? One verdict an object, its numbers, a sentence, a picture.

import dsla
why = dsla.why("yolox.json", "instances.json", assigner="fcos", input_size=640)
why.table, why.summary(), why.explain(7), why.picture(7)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from ..analysis.diagnosis import Offer, diagnosis, judge, objects_of, offer_of
from ..analysis.points import JITTER, Setting
from ..analysis.tables import Table
from ..assigners import as_assigner
from ..coco.columns import CORNERS, corners_of
from ..coco.detections import Results
from ..coco.ground_truth import GroundTruth
from ..coco.problems import many, some
from ..data.pictures import annotated_pixels, as_floats
from ..errors import DataError, within
from ..files import require_folder
from ..geometry import Frame, InputSize
from ..models.detector import Detector
from ..models.evaluation import predict_dataset
from . import draw
from .comparison import STRIDES, assign
from .style import WHY, Picture, drawing

OTHERS = ("fcos", "dsla", "atss")  # methods that an object is tried under
LARGE = 1280  # pixels of the larger input that is tried


@dataclass(frozen=True, eq=False, repr=False)
class Why:
    """Verdicts on all objects of a data set.

    Attributes:
        table: one row an object that is no crowd. image, gt (annotation id), category (id), name, x1 … y2 (pixels);
            `verdict` and `points`, see `dsla.why`; size (√(width · height) at the detector's input, pixels); count
            (points that learn it) and points_S of these at stride S; rule (that failed, where no point learns it);
            score, iou, box_category and bx1 … by2 of the box that decided the verdict; taken_by, suppressor_score,
            suppressor_iou, suppressor_overlap, sx1 … sy2, see `dsla.analysis.diagnosis.judge`.
        offer: what the detector said.
        setting: under which the points are counted.
        notes: what is odd about the files, a line each.
        load: place of an image → its picture; None where there are none.
    """

    table: Table
    offer: Offer
    setting: Setting
    notes: tuple[str, ...]
    load: Callable[[int], Any] | None

    def __repr__(self) -> str:
        counts = self.table["verdict"].value_counts()
        return f"Why({many(len(self.table), 'object')}: {', '.join(f'{n} {v}' for v, n in counts.items())})"

    @property
    def truth(self) -> GroundTruth:
        return self.offer.kept.truth

    def summary(self) -> pd.Series:
        """Objects by verdict, and the missed share by points; `attrs["definitions"]` says what each number is."""
        return self.table.summary()

    def _row(self, i: int) -> tuple[pd.Series, int, int]:
        """Row i of the table, the place of its image and its position among the objects of that image."""
        if not 0 <= i < len(self.table):
            raise IndexError(f"row {i}: the table has {many(len(self.table), 'row')}, counted from 0")
        rows = objects_of(self.truth)
        image = int(self.truth.image[rows[i]])
        return self.table.loc[i], image, i - int(np.searchsorted(self.truth.image[rows], image))

    def _objects(self, image: int) -> np.ndarray:
        """Positions of the objects of an image that are no crowds."""
        rows = self.truth.rows(image)
        return rows[~self.truth.crowd[rows]]

    def explain(self, i: int) -> str:
        """Row i of the table in plain words, with what would be otherwise."""
        row = self._row(i)[0]
        width, height = row["x2"] - row["x1"], row["y2"] - row["y1"]
        head = f"{row['name']} {row['gt']} in image {row['image']}, {width:.0f} × {height:.0f} pixels"
        lines = [f"{head}: {row['verdict']}. {self._verdict(row)}", self._points(row)]
        table = self.counterfactuals(i)
        if tried := [f"{what}, {many(int(n), 'point')}" for what, n in table["points"].dropna().items()]:
            lines.append(f"It would have: {'; '.join(tried)}.")
        for what, holds in table["found"].dropna().items():
            lines.append(f"It would {'' if holds else 'not '}be found {what}.")
        return "\n".join(lines)

    def _verdict(self, row: pd.Series) -> str:
        verdict, parts = row["verdict"], [row["verdict"]]
        if verdict == "suppressed" and np.isnan(row["suppressor_score"]):
            parts = ["suppressed by none"]
        elif verdict == "too loose" and row["box_category"] not in (None, row["category"]):
            parts = ["too loose, other class"]
        elif verdict == "too loose" and row["taken_by"] is not None:
            parts.append("hit elsewhere")
        elif verdict == "nothing near" and not np.isnan(row["iou"]):
            parts.append("nearest")
        if self.offer.candidates is None and verdict in ("too loose", "nothing near"):
            parts.append("nms unknown")
        values = {**self.table.attrs, **row, "called": self.called(row.name)}
        return " ".join(WHY[part].format(**values) for part in parts)

    def called(self, i: int) -> str:
        """Class, by name, of the box that decided about row i; empty where no box is near."""
        names = dict(zip(map(str, self.truth.category_ids), self.truth.category_names, strict=True))
        return names.get(str(self.table["box_category"][i]), "")

    def _points(self, row: pd.Series) -> str:
        if row["points"] == "unknown":
            return "Its points are not known: the annotations have no size of the image."
        size = "" if np.isnan(row["size"]) else f"; at the input it is {row['size']:.0f} pixels in size"
        if not row["count"]:
            return f"No point learns it ({self.setting}{size}): {row['rule']}."
        levels = ", ".join(f"{row[f'points_{s}']} at stride {s}" for s in self.setting.strides if row[f"points_{s}"])
        verb = "learns" if row["count"] == 1 else "learn"
        return f"{many(int(row['count']), 'point')} {verb} it ({levels}; {self.setting}{size})."

    def counterfactuals(self, i: int) -> pd.DataFrame:
        """What would be otherwise for row i: index what is changed; points it would have, whether it would be found.

        Points with a further level of stride 4, which shares the range of the first level; at 1,280 pixels (padded to
        a square); under other methods. Found, if it is missed: at a threshold that lets its box through, or without
        NMS. One thing is changed at a time; a detector trained so might differ, which nobody can compute.
        """
        row, image, place = self._row(i)
        rows = self._objects(image)
        answers: dict[str, tuple[Any, Any]] = {}
        for what, setting in self._settings() if row["points"] != "unknown" else ():
            answers[what] = (int(setting.count(self.truth, rows)[0][place].sum()), pd.NA)
        score, least = (self.table.attrs[k] for k in ("score_threshold", "iou_threshold"))
        offer, trials = self.offer.part(image), []
        if row["verdict"] == "below threshold":
            score = np.floor(row["score"] * 1000) / 1000
            trials = [(f"at a score threshold of {score:g}", offer)]
        elif row["verdict"] == "too loose" and row["box_category"] == row["category"]:
            least = np.floor(row["iou"] * 100) / 100
            trials = [(f"at an IoU threshold of {least:g}", offer)]
        elif row["verdict"] == "suppressed" and offer.candidates is not None:
            trials = [("without NMS", replace(offer, kept=offer.candidates))]
        for what, trial in trials:
            answers[what] = (pd.NA, judge(trial, score, least)["verdict"][place] == "found")
        return pd.DataFrame.from_dict(answers, orient="index", columns=["points", "found"])

    def _settings(self) -> list[tuple[str, Setting]]:
        """Settings in which one thing is changed, with what it is."""
        mine, settings = self.setting, []
        ranges = getattr(mine.assigner, "regress_ranges", None)
        if mine.strides[0] > 4 and (ranges or not mine.assigner.level_ranges):
            finer = mine.assigner
            if ranges:
                (low, high), *rest = ranges
                parts = ((low, (low + high) / 2), ((low + high) / 2, high), *rest)
                finer = type(finer)(**(finer.options() | {"regress_ranges": parts}))
            settings.append(("with a level of stride 4", replace(mine, assigner=finer, strides=(4, *mine.strides))))
        if mine.input_size != LARGE:
            settings.append((f"at {LARGE:,} pixels", replace(mine, input_size=LARGE)))
        for name in OTHERS:
            other = as_assigner(name, mine.strides)
            if other.name != mine.assigner.name:
                settings.append((f"under {other.name}", replace(mine, assigner=other, offset=other.point_offset)))
        return settings

    def picture(self, i: int, title: str | None = None) -> Picture:
        """Row i of the table: the object in its image, and from near with the points that learn it.

        The object is outlined in the colour of hits or misses, the box that decided in that of false detections, the
        box for which NMS removed it in that of duplicates. Without images the panels are grey.

        Args:
            i: row.
            title: in place of the verdict.
        """
        (row, image, place), truth = self._row(i), self.truth
        size = (int(truth.heights[image]), int(truth.widths[image]))
        if not all(size):
            raise DataError(f"image {row['image']}: its width and height are not known, so nothing can be drawn")
        pixels = np.full((*size, 3), 0.5, dtype=np.float32) if self.load is None else draw.as_image(self.load(image))
        box = row[CORNERS].to_numpy(dtype=float)
        looks = [(box, row["name"], "hit" if row["verdict"] == "found" else "missed")]
        for kind, verdict, text in (("b", "false", self.called(i) or "detection"), ("s", "duplicate", "kept instead")):
            other = row[[f"{kind}{c}" for c in CORNERS]].to_numpy(dtype=float)
            if np.isfinite(other).all():
                score = row["score" if kind == "b" else "suppressor_score"]
                looks.append((other, f"{text} {score:.2f}", verdict))
        corners, texts, verdicts = zip(*looks, strict=True)
        height = 4.1 if self.setting.assigner.needs_predictions else 3.9  # a line more of the title says so
        with drawing(height, f"{self._verdict(row)} {self._points(row)}") as figure:
            whole, near = figure.subplots(1, 2)
            draw.show_image(whole, draw.backdrop(pixels, 1200)[0], size)
            draw.show_near(near, pixels, box, max((box[2:] - box[:2]).max(), 10))
            whole.set_title(title or f"{row['name']} {row['gt']}: {row['verdict']}", pad=5, parse_math=False)
            near.set_title(self._show_points(near, image, place), pad=5)
            for ax in (whole, near):
                unit = abs(np.subtract(*ax.get_xlim())) / (3.5 * 72)
                draw.show_verdicts(ax, corners, verdicts, texts, unit)
        return figure

    def _show_points(self, ax: Any, image: int, place: int) -> str:
        """Draws the points that learn an object; what was drawn, in words."""
        truth, setting = self.truth, self.setting
        frame = Frame.of((truth.heights[image], truth.widths[image]), setting.input_size)
        rows = self._objects(image)
        taught = rows[truth.taught[rows]]
        boxes = torch.tensor(corners_of(truth.inside[taught]), dtype=torch.float32)
        labels = torch.tensor(truth.category[taught].astype(np.int64))
        grid = setting.assigner, frame, boxes, labels, setting.strides, setting.offset
        row = assign(setting.assigner.name, *grid, JITTER, image)  # from predictions as in `count_points`
        mine = int(np.flatnonzero(taught == rows[place])[0]) if rows[place] in taught else -2
        point, on = (row.assignment.gt_index[0] == mine).nonzero()[:, 0], row.assignment.grid
        x, y = (on.xy[point] / torch.tensor(frame.scale)).T.numpy()
        sizes = 10 + 8 * on.level[point].numpy()
        ax.scatter(x, y, s=sizes, c="white", edgecolors="#10151d", linewidths=0.6, zorder=5)
        name, _, about = row.title.partition(" · ")
        return f"{many(len(point), 'point')} of {name}, input {frame.size[1]} × {frame.size[0]}\n{about}".strip()


def why(
    detector: Any,
    data: Any,
    assigner: Any = None,
    *,
    input_size: InputSize = "native",
    strides: Sequence[int] = STRIDES,
    offset: float | None = None,
    score_threshold: float = 0.05,
    iou_threshold: float = 0.5,
    candidates: Any = None,
    nms_threshold: float = 0.6,
    images: str | Path | None = None,
    **running: Any,
) -> Why:
    """Why was each object missed? A verdict on every object of a data set, and the points that could teach it.

    `verdict`, the first that holds: "found" (COCO's one-to-one matching within the class, at `iou_threshold`, among
    detections of score ≥ `score_threshold`) · "taken" (a box fits, but is matched with another object) · "suppressed"
    (a box that fits was among the candidates, and NMS removed it) · "below threshold" (a box fits, its score is too
    low) · "other class" (a box fits, its class is wrong and it is no hit there) · "too loose" (the best IoU is below
    `iou_threshold`, above 0.1) · "nothing near". `points`: "none", "few" (1 or 2) or "more" learn the object, where
    objects compete, under the method, strides, ranges and input size named; "unknown" where the image has no size.

    Results do not tell what NMS removed: without `candidates` nothing is "suppressed" and the summary says that
    this is not known; such an object gets the next verdict that holds. A model is asked itself, for its candidates
    as for its points. Crowd regions are no objects and get no row; detections in them are ignored, as COCO does.

    Args:
        detector: a model, or COCO results: a path, rows, or a table.
        data: the data set that the model runs on, or COCO annotations: a path, a dict, or a data set.
        assigner: method under which points are counted, by name, class or object: of results "fcos" by default, of a
            model its own. Of a name, ranges follow the strides: each level ends at 8 strides, the last has no end.
        input_size: what the detector scales images to, see `dsla.geometry.Frame`; a model knows its own.
        strides: of the levels; a model knows its own.
        offset: of the points, in strides; by default the method's own.
        score_threshold: detections below it do not count.
        iou_threshold: least IoU of a match.
        candidates: COCO results before NMS, for results.
        nms_threshold: IoU above which NMS removed candidates, to name the box for which it did.
        images: folder of the pictures of COCO annotations, for `picture`.
        running: batch_size, device, max_images, progress of a model's run.

    Raises:
        DataError: what cannot be used, or stands in the wrong order; names the culprit.
    """
    within(score_threshold=score_threshold, iou_threshold=iou_threshold, nms_threshold=nms_threshold)
    if score_threshold is None or not 0 <= score_threshold <= 1 or not iou_threshold:
        got = f"{score_threshold!r} and {iou_threshold!r}"
        raise DataError(f"score_threshold is a number from 0 to 1, iou_threshold one above 0; got {got}")
    if hasattr(detector, "ground_truth") or isinstance(data, nn.Module):
        raise DataError("the data set comes second: dsla.why(model, data)")
    load = (lambda place: data.load(place)[0]) if hasattr(data, "load") else None
    counted = setting = None
    if isinstance(detector, nn.Module):
        if not hasattr(data, "ground_truth"):
            raise DataError("a model needs a data set to run on: dsla.why(model, data)")
        if candidates is not None:
            raise DataError("candidates are for results: a model gives its own")
        if isinstance(detector, Detector):
            offer, setting, counted = offer_of(detector, data, score_threshold, **running)
        else:
            offer = Offer(Results.of(predict_dataset(detector, data, **running), GroundTruth.of(data)))
    else:
        if running:
            raise TypeError(f"{', '.join(running)}: only for a model with a data set, but results are given")
        truth = _truth(detector, data)
        before = None if candidates is None else Results.of(candidates, truth)
        offer = Offer(Results.of(detector, truth), before, nms_threshold)
    if setting is None:
        setting = Setting.of(assigner or "fcos", strides, offset, input_size)
    elif assigner is not None:
        setting, counted = Setting.of(assigner, setting.strides, offset, setting.input_size), None
    if images is not None:
        require_folder(images)
        load = lambda place: as_floats(annotated_pixels(offer.kept.truth, place, images))  # noqa: E731
    table = diagnosis(offer, setting, score_threshold=score_threshold, iou_threshold=iou_threshold, counted=counted)
    notes = _notes(offer)
    if counted is None and setting.assigner.needs_predictions:
        notes += (f"points of {setting.assigner.name}: from predictions that are true boxes, jittered by 10 %",)
    return Why(table, offer, setting, notes, load)


def _truth(results: Any, annotations: Any) -> GroundTruth:
    try:
        return GroundTruth.of(annotations)
    except DataError as error:
        try:
            GroundTruth.of(results, warn=False)
        except (DataError, TypeError, AttributeError):
            raise error from None
        order = "the results come first, the annotations second: dsla.why(results, annotations)"
        raise DataError(f"{order}; {error}") from None


def _notes(offer: Offer) -> tuple[str, ...]:
    """What the files do not have in common, and what gets no row."""
    truth, notes = offer.kept.truth, []
    if len(without := np.setdiff1d(np.arange(len(truth)), offer.kept.image)):
        notes.append(f"{many(len(without), 'image')} without a detection: {some(truth.image_ids[without].tolist())}")
    if crowds := int(truth.crowd.sum()):
        notes.append(f"{many(crowds, 'crowd region')} without a row: nothing has to be found there")
    if not (truth.widths * truth.heights).all():
        notes.append("images without width and height: the points of their objects are not known")
    return tuple(notes)
