"""`DetectionBrowser`: what NMS keeps, what it removes, and which box removed which, image by image."""

from collections.abc import Mapping
from functools import lru_cache
from itertools import product
from typing import Any

import ipywidgets as w
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ..analysis.matching import Meeting, pick
from ..analysis.nms import kept_by_nms, suppressors_of
from ..analysis.tables import BOX, stream, truth_of
from ..coco.columns import comparable, id_array
from ..coco.ground_truth import GroundTruth
from ..coco.matching import Pairs
from ..data.loading import apart, unmoved
from ..errors import DataError
from ..geometry import box_area
from ..models.evaluation import device_of, evaluation_mode
from ..plots import draw
from ..plots.style import VERDICTS, Picture
from .pane import Pane
from .sources import in_order, titles
from .surface import Surface, script

KEPT_IN_MEMORY = 32  # images whose candidates are kept, of detectors that are run
SMALL = 32.0**2  # pixels: COCO's small objects have less
ORDERS = {"as stored": (), "most missed": ("missed",), "small ones missed": ("missed_small", "missed")} | {
    "most false": ("false",),
    "most wrong": ("missed", "false", "duplicate"),
}


class DetectionSurface(Surface):
    """Detections on their image, a picture for each detector; filters and words are the browser's.

    Attributes:
        frame: {"title", "objects": [{box, name}], "looks", "small", "columns": [{title, missed, boxes}]}; each box has
            the values of its row of `DetectionBrowser.tables`, and the name of its class.
    """

    _esm = script("detections.js")


class DetectionBrowser(Pane):
    """Images of a data set with the detections of one or two detectors, under a score threshold and NMS.

    Point at a box: one that NMS removed shows the box that removed it, how much they overlap, and the IoU of both
    with the object, so that one sees whether the better box was kept. The legend hides and shows each kind; images can
    be put in the order of what is wrong on them: at the thresholds of that moment, which the title names once a
    slider has moved.

    Args:
        dataset: any data set of `dsla.data`.
        detections: a detector, which is run up to NMS on the images looked at; or detections in any of the forms of
            `dsla.analysis` (then the NMS shown is a further one); or one or two of these by name.
        score_threshold, nms_iou: where the sliders begin.  iou_threshold: least IoU of a hit.
    Raises:
        DataError: detections that do not fit the data set.  ValueError: none, or more than two detectors.

    Attributes:
        tables: name → DataFrame of the image's boxes above the score threshold: category, x1, y1, x2, y2, score,
            kept, verdict ("hit", "duplicate", "false", "" where removed), object (the one of its class, else of any,
            that it overlaps most, −1), iou (with it), by (row of the box that removed it, −1), overlap (with that
            box), by_iou (of that box with the same object).
    """

    export = "detections.csv"

    def __init__(
        self,
        dataset: Any,
        detections: Any,
        *,
        score_threshold: float = 0.2,
        nms_iou: float = 0.6,
        iou_threshold: float = 0.5,
    ) -> None:
        super().__init__(DetectionSurface())
        self._candidates = lru_cache(KEPT_IN_MEMORY)(self._candidates_of)
        self.dataset, sources = in_order(dataset, detections)
        if len(sources) > 2:
            raise DataError(f"one or two detectors are shown, got {len(sources)}")
        truth = truth_of(self.dataset)
        self._iou, self._titles, self._order = iou_threshold, titles(truth), list(range(len(self.dataset)))
        self._sorted_at = ""
        self._sources = {k: v if isinstance(v, nn.Module) else self._all_of(v, truth) for k, v in sources.items()}
        self.tables: dict[str, pd.DataFrame] = {}
        self.surface.names = [str(n) for n in self.dataset.class_names]
        part = {"min": 0.0, "max": 1.0, "step": 0.01}
        self.bar(
            image=(w.IntSlider(0, 0, len(self.dataset) - 1, description="image"), self._open),
            order=(w.Dropdown(options=list(ORDERS), description="order"), self._sort),
            score=(w.FloatSlider(score_threshold, description="score threshold", **part), self.update),
            nms=(w.FloatSlider(nms_iou, description="NMS IoU", **part), self.update),
        )
        self._open()

    def _all_of(self, source: Any, truth: GroundTruth) -> list[dict[str, Tensor]]:
        """Detections in any form → dicts of tensors, one an image of the data set."""
        ids = comparable(id_array(list(self.dataset.category_ids)))
        label = {category: i for i, category in enumerate(ids.tolist())}
        parts = (part for part, _ in stream(source, truth, chunk=1))
        return [_tensors(part.assign(category=part["category"].map(label))) for part in parts]

    def _candidates_of(self, name: str, index: int) -> dict[str, Tensor]:
        model = self._sources[name]
        if not isinstance(model, nn.Module):
            return dict(model[index])
        with evaluation_mode(model):
            image = unmoved(self.dataset, index)[0].to(device_of(model))
            candidates = model.candidates([image])[0]  # type: ignore[operator]
        return {k: candidates[k].cpu() for k in ("boxes", "scores", "labels")}

    def _judged(self, name: str, index: int, target: Mapping[str, Tensor]) -> pd.DataFrame:
        score, nms_iou = self.controls["score"].value, self.controls["nms"].value
        return judge(self._candidates(name, index), target, score, nms_iou, self._iou)

    # ---- what the controls do
    def _open(self, _: Any = None) -> None:
        """The image that the slider says."""
        self.index = self._order[self.controls["image"].value]
        self._pixels, target = unmoved(self.dataset, self.index)
        self._target = apart(target)
        self.surface.show_image(self._pixels.permute(1, 2, 0).numpy())
        self.update()

    def _sort(self, change: Any) -> None:
        """Images in another order, from its first."""
        columns, order = list(ORDERS[change["new"]]), range(len(self.dataset))
        by = self.survey().sort_values(columns, ascending=False, kind="stable")["index"] if columns else order
        self._order, self._sorted_at = list(by), self._thresholds() if columns else ""
        self.controls["image"].value = 0
        self._open()

    def _thresholds(self) -> str:
        return " and ".join(f"{self.controls[k].description} {self.controls[k].value:.2f}" for k in ("score", "nms"))

    def update(self, _: Any = None) -> None:
        """NMS and the matching anew, and what the browser draws."""
        self.tables = {name: self._judged(name, self.index, self._target) for name in self._sources}
        names, moved = self.surface.names, self._sorted_at not in ("", self._thresholds())
        boxes, labels = self._target["boxes"].tolist(), self._target["labels"].tolist()
        self.surface.frame = {
            "title": self._titles[self.index] + (f" · order of {self._sorted_at}" if moved else ""),
            "objects": [{"box": b, "name": draw.name_of(c, names)} for b, c in zip(boxes, labels, strict=True)],
            "looks": {v.name: {"colour": v.colour, "dash": [] if v.line == "-" else [5, 3]} for v in VERDICTS.values()},
            "small": SMALL,
            "columns": [column(name, table, names) for name, table in self.tables.items()],
        }

    def survey(self) -> pd.DataFrame:
        """Each image by what is wrong on it, of all detectors together, at the thresholds of the sliders.

        Returns:
            Columns index (in the data set), title, hit, duplicate, false, missed, missed_small (under 32² pixels).
        """
        rows, counted = [], ["hit", "duplicate", "false", "missed", "missed_small"]
        for i, name in product(range(len(self.dataset)), self._sources):
            target = apart(unmoved(self.dataset, i)[1])
            table = self._judged(name, i, target)
            missed = table.attrs["missed"]
            small = int((box_area(target["boxes"][missed]) < SMALL).sum())
            counts = {**table["verdict"].value_counts(), "missed": len(missed), "missed_small": small}
            rows.append({"index": i, "title": self._titles[i]} | {k: counts.get(k, 0) for k in counted})
        return pd.DataFrame(rows).groupby(["index", "title"], as_index=False).sum()

    def table(self) -> pd.DataFrame:
        """`tables` below each other, the detector and the image first."""
        title = self._titles[self.index]
        tables = {name: table.assign(image=title).set_index("image") for name, table in self.tables.items()}
        return pd.concat(tables, names=["detector"]).reset_index()

    def static(self) -> Picture:
        """Ground truth beside the first detector's boxes that NMS kept."""
        table = next(iter(self.tables.values()))
        stay = _tensors(table[table["kept"]])
        return draw.draw_detections(self._pixels, stay, self.surface.names, self._target, iou_threshold=self._iou)

    def close(self) -> None:
        self._sources, self.tables, self._pixels, self._target = {}, {}, torch.zeros(3, 1, 1), {}
        self._candidates.cache_clear()
        super().close()


def _tensors(table: pd.DataFrame) -> dict[str, Tensor]:
    """Rows, whose categories are labels, as torchvision's detections."""
    columns = {"boxes": table[BOX].astype(np.float32), "scores": table["score"].astype(np.float32)}
    columns["labels"] = table["category"].astype(np.int64)
    return {name: torch.tensor(column.to_numpy()) for name, column in columns.items()}


def judge(
    candidates: Mapping[str, Tensor], target: Mapping[str, Tensor], score: float, nms_iou: float, least: float
) -> pd.DataFrame:
    """The table of an image, see `DetectionBrowser.tables`; best scores first. Crowds stand in ``crowd_boxes``.

    Its attrs have "missed", the objects that no box kept matches.
    """
    truth = truth_of([{k: target[k] for k in ("boxes", "labels", "crowd_boxes") if k in target}])
    plain = {k: candidates[k] for k in ("boxes", "scores", "labels")}
    table, objects = next(iter(stream([plain], truth, score_threshold=score)))
    table = table.sort_values("score", ascending=False, kind="stable").reset_index(drop=True)
    objects = objects[~objects["crowd"].astype(bool)].reset_index(drop=True)
    table["kept"] = kept_by_nms(table, nms_iou)
    kept, removed = (np.flatnonzero(table["kept"] == stays) for stays in (True, False))
    meeting = Meeting(table, objects)
    boxes = table[BOX].to_numpy(dtype=float)
    suppressed = suppressors_of(removed, kept, boxes, meeting.score, meeting.group, nms_iou)
    table["by"], table["overlap"] = -1, np.nan
    table.loc[removed, "by"], table.loc[removed, "overlap"] = suppressed
    pairs = meeting.overlaps(class_aware=False)
    same_class = table["category"].to_numpy()[pairs.detection] == objects["category"].to_numpy()[pairs.object]
    iou = pairs.iou + same_class  # of its class first
    best = Pairs(pairs.detection, pairs.object, iou).best("detection", len(table))
    table["object"], table["iou"] = pick(pairs.object, best, -1), pick(pairs.iou, best, 0.0)
    gone = np.flatnonzero((table["by"] >= 0) & (table["object"] >= 0))
    by, place = (table[name].to_numpy()[gone] for name in ("by", "object"))
    table["by_iou"] = np.nan
    table.loc[gone, "by_iou"] = meeting.iou(by, place)
    kept = table[table["kept"]]
    judged, missed = draw.judged(_tensors(kept), target, least, score)
    table["verdict"] = ""
    table.loc[kept.index[judged["detection"].to_numpy(dtype=np.int64)], "verdict"] = judged["verdict"].to_numpy()
    table.attrs["missed"] = np.flatnonzero(missed).tolist()
    return table


def column(title: str, table: pd.DataFrame, names: list[str]) -> dict[str, Any]:
    """A detector's part of the frame."""
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    boxes = [row | {"box": [row[k] for k in BOX], "name": draw.name_of(row["category"], names)} for row in rows]
    return {"title": title, "missed": table.attrs["missed"], "boxes": boxes}
