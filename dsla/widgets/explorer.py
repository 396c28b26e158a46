"""`AssignmentExplorer`: draw boxes on an image and see, while the mouse moves, who teaches which point how strongly."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ipywidgets as w
import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from ..assigners import Assigner, Assignment, method
from ..data import Scenes
from ..geometry import Frame
from ..models import load
from ..plots import draw, picture_bytes
from ..plots.comparison import STRIDES, as_labels, figure_of
from ..plots.style import Picture
from . import controls
from .pane import Pane, guarded
from .surface import BoxSurface
from .view import COUPLINGS, VARIANTS, ModelOutputs, Shown, View, choices, drawn, make, one_thread, ranges_of

SIDE, SCENES, FIRST = 512, 12, 5  # of the built-in scenes, the first ones of the test split; the one to open with
LONG = 1344  # an uploaded picture is made no longer: the size that detectors see


class AssignmentExplorer(Pane):
    """Boxes under the mouse, labels of up to three assigners level by level, all on one colour scale 0…1.

    Args:
        image: a path, an array, a PIL image or a tensor; None for a built-in scene with its boxes.
        boxes: [M, 4] x1, y1, x2, y2 in pixels of the image.  labels: [M] classes, or None.
        assigners: one to three methods by name (which the controls change) or `Assigner` objects
            (which stay as they are); or a dict of title → either.
        class_names: names of labels 0…C−1.
        strides: of the levels; P3…P7 by default.  offset: of the points; None: each method's own.
        model: for the coupling with a trained model: a detector, a file of `dsla.save`, or shipped weights by name.
    Raises:
        DataError: image, boxes or labels that cannot be used.  ValueError: an assigner that is not known.

    Attributes:
        assignments: title → `Assignment` of what is shown; nothing here computes a label in another way.
        error: message of the last exception of a callback, which the widget shows; "" if there is none.
        controls: every control by name; set their `value` to drive the view from code.
    """

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
        model: Any = "scenes-dsla",
    ) -> None:
        super().__init__()
        self._model, self._model_source = model, "...  # the detector that you passed"
        self._frame: ModelOutputs | None = None
        self._given: dict[str, Assigner] = {}
        self.view: View | None = None
        self.shown: list[Shown] = []
        self.surface: BoxSurface = self.keep(BoxSurface())
        names = self._names_of(assigners)
        steps = tuple(int(s) for s in (STRIDES if strides is None else strides))
        self.controls = controls.build(self.keep, [*choices(), *self._given], names, steps, offset, (SCENES, FIRST))
        self._code = self.keep(w.Textarea(layout=w.Layout(width="100%", height="170px", display="none")))
        self._scene(FIRST) if image is None else self._picture(image, class_names)
        if image is None and class_names is not None:
            self.surface.names = list(class_names)
        if boxes is not None or image is not None:
            self.set_boxes([] if boxes is None else boxes, labels)
        self.update()
        if self.error:  # what is wrong from the start is the caller's to see
            raise ValueError(self.error)
        for name, control in self.controls.items():
            if name in controls.ACTIONS:
                control.on_click({"png": self._save_png, "csv": self._save_csv, "python": self._show_code}[name])
            else:
                special = {"scene": self._scene_chosen, "upload": self._uploaded, "strides": self._strides_chosen}
                control.observe(special.get(name, self._changed), "value")
        self.surface.observe(self._changed, ["objects", "ahead"])
        self.surface.sliders = {n: c.model_id for n, c in self.controls.items() if isinstance(c, w.FloatSlider)}
        self.surface.observe(self._explain, ["hover", "rests"])
        left = controls.arrange(self.keep, self.controls)
        body = self.keep(w.HBox([left, self.surface]))
        self.set_trait("children", (self._banner, body, self._code))

    # ---- what is asked for
    def _names_of(self, assigners: Any) -> list[str]:
        if isinstance(assigners, (str, Assigner)):
            assigners = [assigners]
        pairs = assigners.items() if isinstance(assigners, Mapping) else [(None, a) for a in assigners]
        names = []
        for title, value in pairs:
            if isinstance(value, Assigner):
                name = str(title or f"{value.name} as given")
                while name in self._given or name in choices():
                    name += "′"
                self._given[name] = value
            else:
                name = value if value in VARIANTS else method(value).name
            names.append(name)
        if not 1 <= len(names) <= 3:
            raise ValueError(f"one to three assigners are shown at once, got {len(names)}")
        return names

    def _scene(self, index: int) -> None:
        """A built-in scene with its boxes."""
        image, target = Scenes("test", size=SCENES, image_size=SIDE)[index]
        self.surface.names = list(Scenes.class_names)
        source = f'dsla.Scenes("test", size={SCENES}, image_size={SIDE})[{index}][0]'
        self._new_image(image.permute(1, 2, 0).numpy(), source)
        self.set_boxes(target["boxes"], target["labels"])

    def _picture(self, image: Any, class_names: Sequence[str] | None) -> None:
        self.surface.names = [str(n) for n in class_names or range(10)]
        known = isinstance(image, (str, Path))
        self._new_image(draw.as_image(image), f"dsla.data.load_image({str(image)!r})" if known else "...")

    def _new_image(self, pixels: np.ndarray, source: str) -> None:
        self._pixels, self._source, self._frame = pixels, source, None
        self.surface.show_image(pixels)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image."""
        return int(self._pixels.shape[0]), int(self._pixels.shape[1])

    def set_boxes(self, boxes: Any, labels: Any = None) -> None:
        """Other boxes [M, 4], pixels, and their classes [M] (0 if None), as if they had been drawn.

        Raises:
            DataError: boxes or labels that cannot be used.
        """
        found = draw.as_boxes(boxes, self.size)
        classes = as_labels(labels, len(found))
        self.surface.objects = [[*b, c] for b, c in zip(found.tolist(), classes.tolist(), strict=True)]

    @property
    def boxes(self) -> Tensor:
        """[M, 4] what is drawn now."""
        return draw.as_boxes([o[:4] for o in self.surface.objects], self.size)

    @property
    def labels(self) -> Tensor:
        """[M] int64."""
        return torch.tensor([int(o[4]) for o in self.surface.objects], dtype=torch.int64)

    @property
    def assignments(self) -> dict[str, Assignment]:
        return {row.title: row.assignment for row in self.shown}

    # ---- from controls to labels
    def _asked(self) -> View:
        value = {name: c.value for name, c in self.controls.items() if name not in controls.ACTIONS}
        value |= self.surface.ahead
        coupling, frame = value["coupling"], None
        strides, bounds = value["strides"], controls.bounds(value["bounds"])
        if coupling == COUPLINGS[2]:
            frame = self._frame = self._frame or self._run()
            strides = frame.outputs.grid.strides
            bounds = controls.bounds_of_model(self._model, strides)
        offset = None if value["offset"] == controls.OWN else value["offset"]
        options = {
            "regress_ranges": ranges_of(bounds),
            "relaxation": value["relaxation"],
            "truncate": value["truncate"],
            "core_zone": value["core_zone"],
            "center_sampling": value["radius"] or None,
        }
        rows: dict[str, Assigner] = {}
        for name in (value[f"row {i}"] for i in (1, 2, 3)):
            if name and name not in rows:
                rows[name] = self._given[name] if name in self._given else make(name, options)
        return View(
            self.size, self.boxes, self.labels, rows, strides, offset, coupling, value["jitter"],
            model=frame, image_source=self._source,
        )  # fmt: skip

    def _run(self) -> ModelOutputs:
        if isinstance(self._model, (str, Path)):
            self._model_source, self._model = f"dsla.load({str(self._model)!r})", load(self._model)
        return ModelOutputs.of(self._model, torch.from_numpy(self._pixels.copy()).permute(2, 0, 1), self._model_source)

    @guarded
    def update(self) -> None:
        """Assigns anew and sends the browser what changed."""
        self.view = self._asked()
        with one_thread():
            self.shown = self.view.rows()
            rows = [drawn(row) for row in self.shown]
        self.surface.show({"seq": self.surface.seq, "rows": rows, "table": self._count_table()})

    def _count_table(self) -> str:
        names = self.surface.names
        return controls.counts_html(self.shown, [draw.name_of(o[4], names) for o in self.surface.objects])

    # ---- callbacks
    def _changed(self, change: Any) -> None:
        for name in [n for n in self.surface.ahead if self.controls[n] is change["owner"]]:
            if self.surface.ahead.pop(name) == change["new"]:
                return  # it is shown already
        self.update()

    @guarded
    def _scene_chosen(self, change: Any) -> None:
        with self.surface.hold_trait_notifications():
            self._scene(change["new"])
        self.update()

    @guarded
    def _uploaded(self, change: Any) -> None:
        for file in change["new"]:
            with Image.open(io.BytesIO(bytes(file["content"]))) as opened:
                opened.thumbnail((LONG, LONG))
                pixels = draw.as_image(opened)
            with self.surface.hold_trait_notifications():
                self._new_image(pixels, f"dsla.data.load_image({file['name']!r})")
                self.surface.objects = []
        self.update()

    @guarded
    def _strides_chosen(self, change: Any) -> None:
        text = controls.bounds_text(change["new"])
        if self.controls["bounds"].value == text:
            self.update()
        self.controls["bounds"].value = text  # which updates

    @guarded
    def _explain(self, change: Any) -> None:
        """Says of the point that the mouse was on last what holds now."""
        row, point, chosen = (int(v) for v in self.surface.hover or (len(self.shown), 0, 0))
        known = row < len(self.shown) and point < len(self.shown[row].assignment.grid)
        self.surface.why = controls.point_html(self.shown[row], point, chosen) if known else ""

    @guarded
    def _save_png(self, button: Any) -> None:
        self.surface.download("assignment.png", picture_bytes(self.static(), "png"), "image/png")

    @guarded
    def _save_csv(self, button: Any) -> None:
        self.surface.download("assignment.csv", self.table().to_csv(index=False).encode(), "text/csv")

    @guarded
    def _show_code(self, button: Any) -> None:
        self._code.value, self._code.layout.display = self.python(), None
        self.surface.clip(self._code.value)

    # ---- what leaves the widget
    def table(self) -> pd.DataFrame:
        """`to_frame()` of all rows shown, the assigner's title first."""
        return self._current().table(self.shown)

    def python(self) -> str:
        """Code that makes `assignments` again without the widget."""
        return self._current().python()

    def static(self) -> Picture:
        """The view as a figure of `dsla.compare`, for where no widgets run."""
        view = self._current()
        size = view.size if view.model is None else view.model.size
        pixels = self._pixels
        if size != view.size:
            small = Image.fromarray((pixels * 255).astype(np.uint8)).resize(size[::-1])
            pixels = np.asarray(small, dtype=np.float32) / 255
        rows = [row.row() for row in self.shown]
        boxes = self.shown[0].assignment.boxes
        return figure_of(rows, pixels, Frame.of(pixels.shape), boxes, view.labels, self.surface.names)

    def _current(self) -> View:
        if self.view is None or not self.shown:
            raise ValueError("the explorer is closed")
        return self.view

    def close(self) -> None:
        self.view, self.shown, self._frame, self._model = None, [], None, None
        self._pixels = np.zeros((1, 1, 3), dtype=np.float32)
        super().close()
