"""`DetectionBrowser`: what NMS keeps, what it removes, and which box removed which, image by image."""

from __future__ import annotations

import html
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ipywidgets as w
import numpy as np
import pandas as pd
import torch
import traitlets as t
from torch import Tensor, nn

from ..analysis.detectors import names_of
from ..analysis.matching import iou
from ..analysis.nms import kept_by_nms, suppressors
from ..analysis.tables import BOX, Truth, stream
from ..errors import DataError
from ..models.evaluation import device_of, evaluation_mode
from ..plots import draw
from ..plots.style import VERDICTS, Picture
from .pane import Pane, guarded
from .surface import Surface, script

KEPT_IN_MEMORY = 32  # images whose candidates are kept, of detectors that are run


def named(detections: Any) -> dict[str, Any]:
    """One source of detections, or several by name → name: source."""
    if isinstance(detections, Mapping):
        return {str(name): source for name, source in detections.items()}
    if isinstance(detections, (str, Path)):
        return {names_of([detections])[0]: detections}
    recipe = getattr(detections, "recipe", None) if isinstance(detections, nn.Module) else None
    return {getattr(recipe, "name", "detections"): detections}


class DetectionSurface(Surface):
    """Detections on their image, a picture for each detector.

    Attributes:
        frame: {"objects": [{box, name}], "looks", "columns": [{title, note, missed, boxes}]}; each box has its
            verdict ("" where NMS removed it), `by` (position of the box that removed it, −1) and a text.
    """

    _esm = script("detections.js")
    frame: t.Dict[str, Any] = t.Dict().tag(sync=True)


class DetectionBrowser(Pane):
    """Images of a data set with the detections of one or two detectors, under a score threshold and NMS.

    Point at a box: one that NMS removed shows the box that removed it, how much they overlap, and the IoU of both
    with the object, so that one sees whether the better box was kept.

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
        self._run: OrderedDict[tuple[str, int], dict[str, Tensor]] = OrderedDict()
        if not hasattr(dataset, "ground_truth"):
            raise DataError(f"a data set comes first, then the detections; the first is a {type(dataset).__name__}")
        sources = named(detections)
        if not 1 <= len(sources) <= 2:
            raise ValueError(f"one or two detectors are shown, got {len(sources)}")
        if not len(dataset):
            raise DataError(f"{getattr(dataset, 'name', 'the data set')} has no images to show")
        self.dataset, self._iou = dataset, iou_threshold
        self._models = {k: v for k, v in sources.items() if isinstance(v, nn.Module)}
        self._names = list(sources)
        self._found = {k: self._all_of(v) for k, v in sources.items() if not isinstance(v, nn.Module)}
        self.tables: dict[str, pd.DataFrame] = {}
        self.surface: DetectionSurface = self.keep(DetectionSurface())
        self.surface.names = [str(n) for n in dataset.class_names]
        look: dict[str, Any] = {"layout": w.Layout(width="330px"), "style": {"description_width": "110px"}}
        make = {"min": 0.0, "max": 1.0, "step": 0.01, **look}
        self.controls = {
            "image": self.keep(w.IntSlider(0, 0, len(dataset) - 1, description="image", **look)),
            "score": self.keep(w.FloatSlider(score_threshold, description="score threshold", **make)),
            "nms": self.keep(w.FloatSlider(nms_iou, description="NMS IoU", **make)),
        }
        self._image(0)
        self.update()
        if self.error:
            raise ValueError(self.error)
        self.controls["image"].observe(self._image_chosen, "value")
        for name in ("score", "nms"):
            self.controls[name].observe(self._changed, "value")
        bar = self.keep(w.HBox(list(self.controls.values()), layout=w.Layout(flex_flow="row wrap")))
        self.set_trait("children", (self._banner, bar, self.surface))

    def _all_of(self, source: Any) -> list[dict[str, Tensor]]:
        """Detections in any form → dicts of tensors, one an image of the data set."""
        truth = Truth.of(self.dataset)
        ids = tuple(self.dataset.category_ids)
        label = {category: i for i, category in enumerate(ids)}
        found: list[dict[str, Tensor]] = []
        for part, _ in stream(source, truth, chunk=1):
            found.append(
                {
                    "boxes": torch.tensor(part[BOX].to_numpy(dtype=np.float32)),
                    "scores": torch.tensor(part["score"].to_numpy(dtype=np.float32)),
                    "labels": torch.tensor([label[c] for c in part["category"]], dtype=torch.int64),
                }
            )
        return found

    def _image(self, index: int) -> None:
        self._pixels, self._target = self.dataset[index]
        self.surface.show_image(self._pixels.permute(1, 2, 0).numpy())

    def _candidates(self, name: str, index: int) -> dict[str, Tensor]:
        if name in self._found:
            return self._found[name][index]
        if (name, index) not in self._run:
            model = self._models[name]
            with evaluation_mode(model):
                found = model.candidates([self._pixels.to(device_of(model))])[0]  # type: ignore[operator]
            self._run[name, index] = {k: found[k].cpu() for k in ("boxes", "scores", "labels")}
            if len(self._run) > KEPT_IN_MEMORY:
                self._run.popitem(last=False)
        return self._run[name, index]

    @guarded
    def update(self) -> None:
        """NMS and the matching anew, and what the browser draws."""
        index, score = self.controls["image"].value, self.controls["score"].value
        self.tables = {
            name: judge(self._candidates(name, index), self._target, score, self.controls["nms"].value, self._iou)
            for name in self._names
        }
        names = self.surface.names
        boxes, labels = self._target["boxes"].tolist(), self._target["labels"].tolist()
        looks = {v.name: {"colour": v.colour, "dash": [] if v.line == "-" else [5, 3]} for v in VERDICTS.values()}
        objects = [{"box": b, "name": draw.name_of(c, names)} for b, c in zip(boxes, labels, strict=True)]
        columns = [column(name, table, len(objects), names) for name, table in self.tables.items()]
        self.surface.frame = {"objects": objects, "looks": looks, "columns": columns}

    def _changed(self, change: Any) -> None:
        self.update()

    @guarded
    def _image_chosen(self, change: Any) -> None:
        self._image(change["new"])
        self.update()

    def static(self) -> Picture:
        """Ground truth beside the first detector's boxes that NMS kept."""
        table = next(iter(self.tables.values()))
        kept = table[table["kept"]]
        found = {
            "boxes": kept[BOX].to_numpy(),
            "scores": kept["score"].to_numpy(),
            "labels": kept["category"].to_numpy(),
        }
        return draw.draw_detections(self._pixels, found, self.surface.names, self._target, iou_threshold=self._iou)

    def close(self) -> None:
        self._models, self._found, self.tables = {}, {}, {}
        self._run.clear()
        self._pixels, self._target = torch.zeros(3, 1, 1), {}
        super().close()


def judge(
    found: Mapping[str, Tensor], target: Mapping[str, Tensor], score: float, nms_iou: float, least: float
) -> pd.DataFrame:
    """The table of an image, see `DetectionBrowser.tables`; best scores first."""
    truth = Truth.of([{k: target[k] for k in ("boxes", "labels", "crowd_boxes") if k in target}])
    table, _ = next(iter(stream([{k: found[k] for k in ("boxes", "scores", "labels")}], truth, score_threshold=score)))
    table = table.sort_values("score", ascending=False, kind="stable").reset_index(drop=True)
    table["kept"] = kept_by_nms(table, nms_iou)
    removed = np.flatnonzero(~table["kept"])
    table["by"], table["overlap"] = suppressors(table, table["kept"].to_numpy(), removed, nms_iou, True)
    boxes, objects = table[BOX].to_numpy(dtype=float), target["boxes"].numpy().astype(float).reshape(-1, 4)
    shape = (len(boxes), len(objects))
    shared = iou(boxes.repeat(shape[1], 0), np.tile(objects, (shape[0], 1))).reshape(shape)
    same = table["category"].to_numpy()[:, None] == target["labels"].numpy()[None]
    prefer = shared + (same & (shared > 0))  # of the own class first
    best = prefer.argmax(1) if shape[1] else np.full(shape[0], -1)
    rows = np.arange(shape[0])
    hits = shared[rows, best] if shape[1] else np.zeros(shape[0])
    table["object"], table["iou"] = np.where(hits > 0, best, -1), hits
    by = table["by"].to_numpy()
    known = (by >= 0) & (table["object"].to_numpy() >= 0)
    table["by_iou"] = np.where(known, shared[by, best] if shape[1] else np.nan, np.nan)
    stay = {
        "boxes": torch.tensor(boxes[table["kept"]]).float(),
        "scores": torch.tensor(table["score"][table["kept"]].to_numpy()),
        "labels": torch.tensor(table["category"][table["kept"]].to_numpy(dtype=np.int64)),
    }
    judged, missed = draw.judged(stay, target, least, score)
    table["verdict"] = ""
    at = np.flatnonzero(table["kept"])[judged["detection"].to_numpy(dtype=np.int64)]
    table.loc[at, "verdict"] = judged["verdict"].to_numpy()
    table.attrs["missed"] = np.flatnonzero(missed).tolist()
    return table


def column(title: str, table: pd.DataFrame, objects: int, names: list[str]) -> dict[str, Any]:
    """A detector's part of the frame."""
    missed = table.attrs["missed"]
    counts = table["verdict"].value_counts()
    hits, again, false = (int(counts.get(v, 0)) for v in ("hit", "duplicate", "false"))
    note = (
        f"{draw.many(hits, 'hit')}, {draw.many(again, 'duplicate')}, {false} false, {len(missed)} of {objects} missed"
    )
    removed = int((~table["kept"]).sum())
    rows = table.to_dict("records")
    boxes = [
        {
            "box": [float(row[k]) for k in BOX],
            "score": float(row["score"]),
            "name": draw.name_of(row["category"], names),
            "verdict": row["verdict"],
            "by": int(row["by"]),
            "text": told(row, rows, names),
        }
        for row in rows
    ]
    return {"title": title, "note": f"{note} · NMS removed {removed}", "missed": missed, "boxes": boxes}


def told(row: Mapping[str, Any], rows: list[Any], names: list[str]) -> str:
    """What pointing at a box says."""
    head = f"<b>{html.escape(draw.name_of(row['category'], names))}</b>, score {row['score']:.3f}"
    what = f"object {row['object']}" if row["object"] >= 0 else "no object"
    own = f"IoU with {what}: {row['iou']:.3f}" if row["object"] >= 0 else "overlaps no object"
    if row["by"] < 0:
        return f"<p>{head}: kept, {row['verdict'] or 'in a crowd'}</p><p>{own}</p>"
    by = rows[row["by"]]
    text = f"<p>{head}: removed by the box of score {by['score']:.3f} (yellow), IoU {row['overlap']:.3f} with it</p>"
    text += f"<p>{own}"
    if row["object"] >= 0:
        gap = row["by_iou"] - row["iou"]
        verdict = "the better box went" if gap < 0 else "the better box stayed"
        text += f"; of the box that stayed: {row['by_iou']:.3f}. So {verdict} ({gap:+.3f})."
    return text + "</p>"
