"""`DetectionBrowser`: what NMS keeps, what it removes, and which box removed which, image by image."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import ipywidgets as w
import numpy as np
import pandas as pd
import torch
import traitlets as t
from torch import Tensor, nn

from ..analysis.matching import iou
from ..analysis.nms import kept_by_nms, suppressors_of
from ..analysis.tables import BOX, stream, truth_of
from ..coco.ground_truth import GroundTruth
from ..errors import DataError
from ..files import csv_text
from ..models.evaluation import device_of, evaluation_mode
from ..plots import draw
from ..plots.style import VERDICTS, Picture
from .pane import Pane, guarded
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
    frame: "t.Dict[str, Any]" = t.Dict().tag(sync=True)


class DetectionBrowser(Pane):
    """Images of a data set with the detections of one or two detectors, under a score threshold and NMS.

    Point at a box: one that NMS removed shows the box that removed it, how much they overlap, and the IoU of both
    with the object, so that one sees whether the better box was kept. The legend hides and shows each kind; images can
    be put in the order of what is wrong on them.

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

    def __init__(
        self,
        dataset: Any,
        detections: Any,
        *,
        score_threshold: float = 0.2,
        nms_iou: float = 0.6,
        iou_threshold: float = 0.5,
    ) -> None:
        super().__init__()
        self._run = lru_cache(KEPT_IN_MEMORY)(self._candidates_of)
        self.dataset, sources = in_order(dataset, detections)
        if len(sources) > 2:
            raise DataError(f"one or two detectors are shown, got {len(sources)}")
        truth = truth_of(self.dataset)
        self._iou, self._names, self._titles = iou_threshold, list(sources), titles(truth)
        self._models = {k: v for k, v in sources.items() if isinstance(v, nn.Module)}
        self._stored = {k: self._all_of(v, truth) for k, v in sources.items() if k not in self._models}
        self.tables: dict[str, pd.DataFrame] = {}
        self.surface: DetectionSurface = self.keep(DetectionSurface())
        self.surface.names = [str(n) for n in self.dataset.class_names]
        part = {"min": 0.0, "max": 1.0, "step": 0.01}
        self.bar(
            {
                "image": w.IntSlider(0, 0, len(self.dataset) - 1, description="image"),
                "order": w.Dropdown(options=list(ORDERS), description="order"),
                "score": w.FloatSlider(score_threshold, description="score threshold", **part),
                "nms": w.FloatSlider(nms_iou, description="NMS IoU", **part),
            }
        )
        self._order = list(range(len(self.dataset)))
        self._image(0)
        self.update()
        if self.error:
            raise DataError(self.error)
        self.controls["image"].observe(self._image_chosen, "value")
        self.controls["order"].observe(self._order_chosen, "value")
        for name in ("score", "nms"):
            self.controls[name].observe(self._changed, "value")
        self.surface.on_msg(self._heard)

    def _all_of(self, source: Any, truth: GroundTruth) -> list[dict[str, Tensor]]:
        """Detections in any form → dicts of tensors, one an image of the data set."""
        label = {category: i for i, category in enumerate(self.dataset.category_ids)}
        return [_tensors(part, [label[c] for c in part["category"]]) for part, _ in stream(source, truth, chunk=1)]

    def _image(self, place: int) -> None:
        self.index = self._order[place]
        self._pixels, self._target = self.dataset[self.index]
        self.surface.show_image(self._pixels.permute(1, 2, 0).numpy())

    def _candidates(self, name: str, index: int) -> dict[str, Tensor]:
        return self._stored[name][index] if name in self._stored else self._run(name, index)

    def _candidates_of(self, name: str, index: int) -> dict[str, Tensor]:
        model = self._models[name]
        with evaluation_mode(model):
            image = self.dataset[index][0].to(device_of(model))
            candidates = model.candidates([image])[0]  # type: ignore[operator]
        return {k: candidates[k].cpu() for k in ("boxes", "scores", "labels")}

    def _judged(self, name: str, index: int, target: Mapping[str, Tensor]) -> pd.DataFrame:
        score, nms_iou = self.controls["score"].value, self.controls["nms"].value
        return judge(self._candidates(name, index), target, score, nms_iou, self._iou)

    @guarded
    def update(self) -> None:
        """NMS and the matching anew, and what the browser draws."""
        self.tables = {name: self._judged(name, self.index, self._target) for name in self._names}
        names = self.surface.names
        boxes, labels = self._target["boxes"].tolist(), self._target["labels"].tolist()
        self.surface.frame = {
            "title": self._titles[self.index],
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
        rows = []
        for i in range(len(self.dataset)):
            target = self.dataset[i][1]
            area = (target["boxes"][:, 2:] - target["boxes"][:, :2]).prod(-1)
            row = dict.fromkeys(("hit", "duplicate", "false", "missed", "missed_small"), 0)
            for name in self._names:
                table = self._judged(name, i, target)
                counts = table["verdict"].value_counts()
                for verdict in ("hit", "duplicate", "false"):
                    row[verdict] += int(counts.get(verdict, 0))
                row["missed"] += len(table.attrs["missed"])
                row["missed_small"] += int((area[table.attrs["missed"]] < SMALL).sum())
            rows.append({"index": i, "title": self._titles[i], **row})
        return pd.DataFrame(rows)

    def table(self) -> pd.DataFrame:
        """`tables` below each other, the detector and the image first."""
        parts = [table.assign(detector=name, image=self._titles[self.index]) for name, table in self.tables.items()]
        joined = pd.concat(parts, ignore_index=True)
        return joined[["detector", "image", *(c for c in joined if c not in ("detector", "image"))]]

    # ---- callbacks
    def _changed(self, change: Any) -> None:
        self.update()

    @guarded
    def _heard(self, widget: Any, content: dict[str, Any], buffers: list[Any]) -> None:
        self.surface.download("detections.csv", csv_text(self.table()).encode(), "text/csv")

    @guarded
    def _order_chosen(self, change: Any) -> None:
        columns = list(ORDERS[change["new"]])
        survey = self.survey().sort_values(columns, ascending=False, kind="stable") if columns else None
        self._order = list(range(len(self.dataset))) if survey is None else survey["index"].tolist()
        self.controls["image"].value = 0
        self._image(0)
        self.update()

    @guarded
    def _image_chosen(self, change: Any) -> None:
        self._image(change["new"])
        self.update()

    def static(self) -> Picture:
        """Ground truth beside the first detector's boxes that NMS kept."""
        table = next(iter(self.tables.values()))
        kept = table[table["kept"]]
        stay = _tensors(kept, kept["category"].to_list())
        return draw.draw_detections(self._pixels, stay, self.surface.names, self._target, iou_threshold=self._iou)

    def close(self) -> None:
        self._models, self._stored, self.tables = {}, {}, {}
        self._run.cache_clear()
        self._pixels, self._target = torch.zeros(3, 1, 1), {}
        super().close()


def _tensors(table: pd.DataFrame, labels: list[int]) -> dict[str, Tensor]:
    """Rows as torchvision's detections."""
    columns = table[[*BOX, "score"]].to_numpy(dtype=np.float32)
    boxes, scores = torch.tensor(columns[:, :4]), torch.tensor(columns[:, 4])
    return {"boxes": boxes, "scores": scores, "labels": torch.tensor(labels, dtype=torch.int64)}


def judge(
    candidates: Mapping[str, Tensor], target: Mapping[str, Tensor], score: float, nms_iou: float, least: float
) -> pd.DataFrame:
    """The table of an image, see `DetectionBrowser.tables`; best scores first.

    Its attrs have "missed", the objects that no box kept matches.
    """
    truth = truth_of([{k: target[k] for k in ("boxes", "labels", "crowd_boxes") if k in target}])
    plain = {k: candidates[k] for k in ("boxes", "scores", "labels")}
    table, _ = next(iter(stream([plain], truth, score_threshold=score)))
    table = table.sort_values("score", ascending=False, kind="stable").reset_index(drop=True)
    table["kept"] = kept_by_nms(table, nms_iou)
    boxes, objects = table[BOX].to_numpy(dtype=float), target["boxes"].numpy().astype(float).reshape(-1, 4)
    kept, removed = (np.flatnonzero(table["kept"] == stays) for stays in (True, False))
    columns = (boxes, *(table[name].to_numpy() for name in ("score", "category")))
    table["by"], table["overlap"] = -1, np.nan
    table.loc[removed, "by"], table.loc[removed, "overlap"] = suppressors_of(removed, kept, *columns, nms_iou)
    table["object"], table["iou"] = nearest(boxes, table["category"].to_numpy(), objects, target["labels"].numpy())
    gone = np.flatnonzero((table["by"] >= 0) & (table["object"] >= 0))
    table["by_iou"] = np.nan
    by, place = (table[name].to_numpy()[gone] for name in ("by", "object"))
    table.loc[gone, "by_iou"] = iou(boxes[by], objects[place])
    kept = table[table["kept"]]
    judged, missed = draw.judged(_tensors(kept, kept["category"].to_list()), target, least, score)
    table["verdict"] = ""
    table.loc[kept.index[judged["detection"].to_numpy(dtype=np.int64)], "verdict"] = judged["verdict"].to_numpy()
    table.attrs["missed"] = np.flatnonzero(missed).tolist()
    return table


def nearest(
    boxes: np.ndarray, category: np.ndarray, objects: np.ndarray, labels: np.ndarray, most: int = 500_000
) -> tuple[np.ndarray, np.ndarray]:
    """Of each box [D, 4] the object [M, 4] of its class, else of any, that it overlaps most (−1), and their IoU.

    About `most` pairs are looked at at a time.
    """
    best, value = np.full(len(boxes), -1), np.zeros(len(boxes))
    rows = max(1, most // max(1, len(objects)))
    for low in range(0, len(boxes) if len(objects) else 0, rows):
        part = slice(low, low + rows)
        count = len(boxes[part])
        shared = iou(boxes[part].repeat(len(objects), 0), np.tile(objects, (count, 1))).reshape(count, -1)
        at = (shared + ((category[part, None] == labels) & (shared > 0))).argmax(1)
        value[part] = shared[np.arange(count), at]
        best[part] = np.where(value[part] > 0, at, -1)
    return best, value


def column(title: str, table: pd.DataFrame, names: list[str]) -> dict[str, Any]:
    """A detector's part of the frame."""
    values = table[["score", "verdict", "object", "iou", "by", "overlap", "by_iou"]].astype(object)
    rows = values.where(values.notna(), None).to_dict("records")
    boxes, classes = table[BOX].to_numpy(dtype=float).tolist(), [draw.name_of(c, names) for c in table["category"]]
    parts = zip(rows, boxes, classes, strict=True)
    return {
        "title": title,
        "missed": table.attrs["missed"],
        "boxes": [{**row, "box": box, "name": name} for row, box, name in parts],
    }
