"""`AssignmentExplorer`: draw boxes on an image and see, while the mouse moves, who teaches which point how strongly."""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import ipywidgets as w
import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from ..assigners import Assigner, Assignment, method
from ..errors import DataError, strides_of, unknown
from ..files import refuse_existing, write
from ..geometry import InputSize, size_text
from ..models import load
from ..models.evaluation import evaluation_mode
from ..plots import draw, picture_bytes
from ..plots.comparison import STRIDES, as_labels, figure_of
from ..plots.style import Picture as Figure
from .gallery import Gallery
from .page import page
from .pane import Pane
from .pictures import SCORE, Picture
from .state import COUPLINGS, assigners_of, bounds_for, bounds_of_model, catalogue, initial
from .surface import BoxSurface
from .view import Shown, View, drawn


class AssignmentExplorer(Pane):
    """Boxes under the mouse, labels of up to three assigners level by level, all on one colour scale 0…1.

    Args:
        image: a path, an array, a PIL image or a tensor; a data set of `dsla.data` or a COCO file beside its images,
            whose pictures can be stepped through; None for built-in scenes with their boxes.
        boxes: [M, 4] x1, y1, x2, y2 in pixels of the image.
        labels: [M] classes, or None.
        assigners: one to three methods by name (which the controls change) or `Assigner` objects (which stay as they
            are); or a dict of title → either.
        class_names: names of labels 0…C−1; a data set has its own.
        strides: of the levels; P3…P7 by default.
        offset: of the points; None: each method's own.
        input_size: what a detector would scale the image to, as `dsla.compare` has it.
        model: for the coupling with a trained model: a detector, a file of `dsla.save`, or shipped weights by name.
        results: detections on the data set, such as a COCO results file, to take in place of its objects.
        score: least score of those that are taken.
        images: of a data set, by their places in it, at most 5,000; None: all.
    Raises:
        DataError: image, boxes or labels that cannot be used; an assigner that is not known.

    Attributes:
        pictures: the `Gallery` of all that can be stepped through, with their boxes as they are now.
        assignments: title → `Assignment` of what is shown; it replaces what the browser computed while a hand moved.
        error: message of the last exception of a callback, which the widget shows; "" if there is none.
        state: what the controls say, as `dsla.widgets.state.initial` has it; `set` changes it.
    """

    export = "assignment.csv"

    def __init__(
        self,
        image: Any = None,
        boxes: Any = None,
        labels: Any = None,
        assigners: Any = ("fcos", "dsla"),
        class_names: Sequence[str] | None = None,
        strides: Sequence[int] | None = None,
        offset: float | None = None,
        *,
        input_size: InputSize = "native",
        model: Any = "scenes-dsla",
        results: Any = None,
        score: float = SCORE,
        images: Iterable[int] | None = None,
    ) -> None:
        super().__init__(BoxSurface())
        self._model, self._model_source = model, "...  # the detector that you passed"
        self._run = lru_cache(1)(self._outputs_of)
        self._given: dict[str, Assigner] = {}
        self._drawn: Any = None
        self.view: View
        self.shown: list[Shown] = []
        steps = strides_of(STRIDES if strides is None else strides)
        self.surface.state = initial(self._rows_of(assigners), steps, offset, input_size)
        self._code = self.keep(w.Textarea(layout=w.Layout(width="100%", height="170px", display="none")))
        self.pictures = Gallery.of(image, class_names, results=results, score=score, images=images)
        self.surface.pictures = self.pictures.plain()
        self._open(0)
        if boxes is not None:
            self.set_boxes(boxes, labels)
        self.update()
        self.follow(self.surface, ["objects", "state", "scene"], self.update)
        self.follow(self.surface, "hover", self._say_why)
        self.calls |= {
            "edit": lambda content, _: self.surface.take(content),
            "scene": lambda content, _: self._step(content, lambda: int(content["scene"])),
            "image": lambda content, buffers: self._step(content, lambda: self._upload(content, bytes(buffers[0]))),
            "names": lambda content, _: self.name_classes(content["names"]),
            "coco": lambda content, _: self._save_boxes(content),
            "lost": lambda content, _: self._lost(content),
            "png": lambda *_: self.download("assignment.png", picture_bytes(self.static(), "png"), "image/png"),
            "python": lambda *_: self._show_code(),
        }
        self.set_trait("children", (self._banner, self.surface, self._code))

    # ---- what is asked for
    def _rows_of(self, assigners: Any) -> list[dict[str, Any]]:
        if isinstance(assigners, (str, Assigner)):
            assigners = [assigners]
        pairs = assigners.items() if isinstance(assigners, Mapping) else [(None, a) for a in assigners]
        rows = []
        for title, value in pairs:
            options = {}
            if isinstance(value, Mapping):  # a row of `state`
                options, value = value.get("options", {}), value.get("method")
            if isinstance(value, Assigner):
                name = str(title or f"{value.name} as given")
                while self._given.get(name, value) is not value:
                    name += "′"
                self._given[name] = value
            else:
                name = value if value in self._given else method(value).name
            rows.append({"method": name, "options": dict(options)})
        if not 1 <= len(rows) <= 3:
            raise DataError(f"one to three assigners are shown at once, got {len(rows)}")
        self.surface.catalogue = catalogue(self._given)
        return rows

    def set(self, **changes: Any) -> None:
        """Changes what the controls say.

        Args:
            changes: entries of `state`, of which "rows" may be names of methods or assigners; or options of methods,
                as ``relaxation=0.4``, for all rows that have them.
        Raises:
            DataError: neither; no such method or coupling; not one to three rows.
        """
        state = self.state
        changes["rows"] = self._rows_of(changes.get("rows", state["rows"]))
        if "strides" in changes:
            changes["strides"] = [*strides_of(changes["strides"])]
            changes.setdefault("bounds", [*bounds_for(changes["strides"])])
        state |= {name: value for name, value in changes.items() if name in state}
        state["input"] = size_text(state["input"])
        if state["coupling"] not in COUPLINGS:
            raise unknown("coupling", state["coupling"], COUPLINGS)
        defaults = {n: {o["name"]: o["default"] for o in e["controls"]} for n, e in self.surface.catalogue.items()}
        options = {name for row in state["rows"] for name in defaults[row["method"]]}
        for name in changes.keys() - state.keys() - options:
            raise unknown("control", name, [*state, *options])
        for row in state["rows"]:
            usual, chosen = defaults[row["method"]], row["options"]
            chosen |= {name: value for name, value in changes.items() if name in usual}
            row["options"] = {name: value for name, value in chosen.items() if value != usual.get(name)}
        self.surface.state = state

    @property
    def state(self) -> dict[str, Any]:
        return dict(self.surface.state)

    def _open(self, index: int) -> None:
        """Shows another picture."""
        pixels = self.pictures.open(index)
        with self.surface.hold_sync(), self.surface.hold_trait_notifications():
            self.surface.names, self.surface.scene = list(self.pictures.shown.names), index
            self.surface.show_image(pixels)
            self.surface.objects = list(self.pictures.shown.objects or ())

    def set_boxes(self, boxes: Any, labels: Any = None) -> None:
        """Other boxes [M, 4], pixels, and their classes [M] (0 if None), as if they had been drawn.

        Raises:
            DataError: boxes or labels that cannot be used.
        """
        checked = draw.as_boxes(boxes, self.pictures.shown.size)
        classes = as_labels(labels, len(checked))
        self.surface.objects = [[*b, c] for b, c in zip(checked.tolist(), classes.tolist(), strict=True)]

    @property
    def boxes(self) -> Tensor:
        """[M, 4] what is drawn now."""
        return self.pictures.shown.boxes(self.surface.objects)[0]

    @property
    def labels(self) -> Tensor:
        """[M] int64."""
        return self.pictures.shown.boxes(self.surface.objects)[1]

    @property
    def assignments(self) -> dict[str, Assignment]:
        return {row.title: row.assignment for row in self.shown}

    # ---- from controls to labels
    def _asked(self, state: Mapping[str, Any], picture: Picture) -> View:
        raw, strides, bounds = None, state["strides"], state["bounds"]
        if state["coupling"] == COUPLINGS[2]:
            raw = self._run(picture) if picture is self.pictures.shown else self._outputs_of(picture)
            strides = raw.outputs.grid.strides
            bounds = bounds_of_model(self._model, strides)
        assigners = assigners_of(state, bounds, len(strides), self._given)
        boxes, labels = picture.boxes(picture.objects or ())
        return View(picture.size, boxes, labels, assigners, state, picture.source, self._model_source, raw)

    def _outputs_of(self, picture: Picture) -> Any:
        """What the detector says about a picture, in the frame of the resized image in which it works."""
        if isinstance(self._model, (str, Path)):
            self._model_source, self._model = f"dsla.load({str(self._model)!r})", load(self._model)
        with evaluation_mode(self._model):
            return self._model.forward_raw([torch.from_numpy(picture.pixels().copy()).permute(2, 0, 1)])

    def update(self, _: Any = None) -> None:
        """Assigns anew and sends the browser what changed; nothing where something is wrong."""
        now = self.surface.objects, self.surface.state, self.surface.scene
        if now == self._drawn:
            return
        self._drawn, self.pictures.shown.objects = None, self.surface.objects
        rows: list[dict[str, Any]] = []
        try:
            self.view = self._asked(self.state, self.pictures.shown)
            self.shown = self.view.rows()
            rows = [drawn(row) for row in self.shown]
            self._drawn = now
        finally:
            self.surface.show(rows)
        self._say_why()

    # ---- callbacks
    def _step(self, left: Mapping[str, Any], to: Callable[[], int]) -> None:
        """Another picture; what the browser says of the one before, seq and objects, stays with that."""
        with self.surface.hold_sync(), self.surface.hold_trait_notifications():
            if "objects" in left:
                self.surface.seq, self.surface.objects = int(left["seq"]), left["objects"]
                self.pictures.shown.objects = self.surface.objects
            self._open(to())

    def _upload(self, content: dict[str, Any], data: bytes) -> int:
        try:
            with Image.open(io.BytesIO(data)) as opened:
                pixels = draw.as_image(opened)
        except (OSError, ValueError, SyntaxError) as error:
            raise DataError(f"{content['name']}: cannot be read as an image") from error
        self.pictures.add(content["name"], pixels, content.get("full"))
        self.surface.pictures = self.pictures.plain()
        return len(self.pictures.items) - 1

    def _lost(self, content: dict[str, Any]) -> None:
        """Says which objects of some pictures no point learns, under one row of the view; of one that fails, none."""
        state = self.state | {"rows": [self.state["rows"][int(content["row"])]]}
        lost, failed = list[list[int]](), list[Exception]()
        for i in content["pictures"]:
            try:
                row = self._asked(state, self.pictures.items[int(i)]).rows()[0]
                lost.append(np.flatnonzero(row.counts == 0).tolist())
            except Exception as error:
                lost.append([])
                failed.append(error)
        self.surface.send({"type": "lost", "asked": content["asked"], "lost": lost})  # the browser waits for it
        if failed:
            raise failed[0]

    def _say_why(self, _: Any = None) -> None:
        """Says of the point that the mouse was on last what holds now."""
        row, point, chosen = (int(v) for v in self.surface.hover or (len(self.shown), 0, 0))
        exists = row < len(self.shown) and point < len(self.shown[row].assignment.grid)
        self.surface.why = self.shown[row].point_html(point, chosen) if exists else ""

    def _show_code(self) -> None:
        self._code.value, self._code.layout.display = self.python(), None
        self.surface.send({"type": "copy", "text": self._code.value})

    # ---- what leaves the widget
    def table(self) -> pd.DataFrame:
        """`to_frame()` of all rows shown, the assigner's title first."""
        tables = {row.title: row.table for row in self.shown}
        return pd.concat(tables, names=["assigner"]).reset_index("assigner").reset_index(drop=True)

    def python(self) -> str:
        """Code that makes `assignments` again without the widget."""
        return self.view.python()

    def static(self) -> Figure:
        """The view as a figure of `dsla.compare`, for where no widgets run."""
        view, picture = self.view, self.pictures.shown
        what = view.frame, view.boxes, view.labels, self.surface.names
        return figure_of([row.row() for row in self.shown], picture.pixels(), *what)

    def name_classes(self, names: Sequence[str]) -> None:
        """Renames classes, and adds those beyond the ones there are, as `Gallery.name_classes`."""
        self.surface.names = self.pictures.name_classes(names)

    def save_coco(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """The boxes of all pictures that share their classes with the one shown, as a COCO file, see `Gallery.save`."""
        return self.pictures.save(path, overwrite=overwrite)

    def _save_boxes(self, content: Mapping[str, Any]) -> None:
        """Those that the browser says, where it does: it asks for no labels while a text in its controls is wrong."""
        self.pictures.shown.objects = content.get("objects", self.surface.objects)
        self.surface.note = f"saved as {self.pictures.save(content['path'], again=True).absolute()}"

    def save_html(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """The explorer with this view as one file that opens without Python and without a network.

        Its pictures are those of this explorer; its view can be linked, it is in the address after #. Methods that only
        Python can assign, and the trained model, are left out.

        Args:
            path: of the file, under 1 MB unless there are many photographs; the widget says how large it is.
            overwrite: replace a file that is there.
        Raises:
            DataError: a file is there; or no method of this view works without Python.
        """
        refuse_existing([path], inputs=self.pictures.read, overwrite=overwrite)
        text = page(self.pictures.items, self.state, self.surface.catalogue, self.surface.scene)
        self.surface.note = (
            f"{path}: {draw.many(len(self.pictures.items), 'picture')}, {len(text.encode()) / 1e6:.2f} MB"
        )
        return write(path, text)

    def close(self) -> None:
        super().close()
        self._run.cache_clear()
        self.shown, self._model, self._drawn, self.pictures = [], None, None, Gallery([])
