"""`RankingExplorer`: does a higher score mean a better box? Choose points of the scatter, see the boxes they are."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import ipywidgets as w
import numpy as np
import pandas as pd
import traitlets as t

from ..analysis.confidence import ranking
from ..analysis.tables import BOX, Truth
from ..errors import DataError
from ..plots import draw
from ..plots.style import INK, SOFT, Picture, distinct, looks, method, number_text, picture, style
from .browser import named
from .pane import Pane, guarded
from .surface import Sheet, encoded, script

PAGE = 6  # images shown at once
THUMB, KEPT_IN_MEMORY = 320, 64  # pixels of an image's longer side; images that are kept
ALL = "all"  # None would leave the control blank
DRAWN = 60_000  # points in the browser; of more, some chosen at random, while the choice is made among all


class RankingSurface(Sheet):
    """A scatter, and images with the boxes that its chosen points are.

    Attributes:
        series: of each detector {name, colour, note, score, iou, row: bytes float32 and int32 [N]}; row: of its table.
        least: IoU at which a box counts as one of its object.
        region: what is chosen: [lowest score, highest, lowest IoU, highest], or nothing.
        picked: [series, row] of single chosen points, which go before the region.
        frame: {"note", "cards": [{title, size, photo, objects, boxes}]}; each box has its series and row.
    """

    _esm = script("ranking.js")
    series: t.List[Any] = t.List().tag(sync=True)
    least = t.Float(0.5).tag(sync=True)
    region: t.List[float] = t.List(t.Float()).tag(sync=True)
    picked: t.List[Any] = t.List().tag(sync=True)
    frame: t.Dict[str, Any] = t.Dict().tag(sync=True)


class RankingExplorer(Pane):
    """Score against IoU of one or more detectors, linked to the images: drag a region, or click points.

    It opens on the boxes that cost a ranking most: scored above the median, placed below it.

    Args:
        detections: a detector, which is run on the data set; detections in any of the forms of `dsla.analysis`, a
            COCO results file among them; or a dict of several by name.
        dataset: any data set of `dsla.data`, for its images and objects.
        iou_threshold: least IoU of a box *of* an object, see `dsla.analysis.ranking`.
        options: of `dsla.analysis.ranking`: score_threshold, class_aware, before_nms, max_images, …
    Raises:
        DataError: no detector, or detections that do not fit the data set.

    Attributes:
        tables: name → `dsla.analysis.ranking`, without ignored detections, of the class that the control says.
        chosen: the rows of these tables that are chosen, the detector's name first.
    """

    def __init__(self, detections: Any, dataset: Any, *, iou_threshold: float = 0.5, **options: Any) -> None:
        super().__init__()
        self._thumbs: OrderedDict[int, tuple[np.ndarray, bytes, list[int]]] = OrderedDict()
        sources = named(detections)
        if not sources:
            raise DataError("no detections to show")
        truth = Truth.of(dataset)
        self.dataset, self._categories = dataset, truth.categories
        self._objects: Any = truth.objects
        self._place = {image: i for i, image in enumerate(truth.images)}
        self._all = {n: ranking(s, dataset, iou_threshold=iou_threshold, **options) for n, s in sources.items()}
        self.tables = dict(self._all)
        self.chosen: Any = pd.DataFrame()
        self.surface: RankingSurface = self.keep(RankingSurface(least=iou_threshold))
        look: dict[str, Any] = {"layout": w.Layout(width="330px"), "style": {"description_width": "60px"}}
        classes = [("all classes", ALL), *((name, c) for c, name in self._categories.items())]
        self.controls = {
            "class": self.keep(w.Dropdown(options=classes, value=ALL, description="class", **look)),
            "page": self.keep(w.IntSlider(1, 1, 1, description="page", **look)),
        }
        self._show_class(ALL)
        self.choose_misleading()
        self.update()
        if self.error:
            raise DataError(self.error)
        self.controls["class"].observe(self._class_chosen, "value")
        self.controls["page"].observe(self._changed, "value")
        self.surface.observe(self._changed, ["region", "picked"])
        bar = self.keep(w.HBox(list(self.controls.values()), layout=w.Layout(flex_flow="row wrap")))
        self.set_trait("children", (self._banner, bar, self.surface))

    # ---- what is chosen
    def choose(self, score: Sequence[float] = (0, 1), iou: Sequence[float] = (0, 1)) -> None:
        """The boxes in a region of the scatter, as if the mouse had drawn it; both ends belong to it."""
        with self.surface.hold_trait_notifications():
            self.surface.picked, self.surface.region = [], [float(v) for v in (*score, *iou)]

    def choose_misleading(self) -> None:
        """Boxes of an object that are scored above the median of the first detector's, but placed below it."""
        first = next(iter(self.tables.values()))
        rows = first[first["iou"] >= self.surface.least]
        if len(rows):
            middle = rows[["score", "iou"]].median()
            self.choose((middle["score"], 1), (self.surface.least, middle["iou"]))
        else:
            self.choose()

    def _select(self) -> pd.DataFrame:
        """Rows of all tables that are chosen, with columns detector, series and row; the most misleading first."""
        parts = []
        for i, (name, table) in enumerate(self.tables.items()):
            if self.surface.picked:
                rows = [int(row) for series, row in self.surface.picked if series == i]
            elif self.surface.region:
                a, b, c, d = self.surface.region
                rows = np.flatnonzero(table["score"].between(a, b) & table["iou"].between(c, d)).tolist()
            else:
                rows = []
            part = pd.DataFrame(table.iloc[rows])
            parts.append(part.assign(series=i, row=rows).set_axis(rows, axis=0))
            parts[-1].insert(0, "detector", name)
        found = pd.concat(parts, ignore_index=True)
        found.attrs = {}
        gap = (found["score"] - found["iou"]).to_numpy(dtype=float)
        return found.iloc[np.argsort(-gap, kind="stable")].reset_index(drop=True)

    @guarded
    def update(self) -> None:
        """The choice anew, and what the browser draws of it: images, the most misleading box's first."""
        found = self._select()
        images = list(dict.fromkeys(found["image"]))
        page = self.controls["page"]
        page.max = max(1, -(-len(images) // PAGE))
        shown = images[(page.value - 1) * PAGE :][:PAGE]
        note = f"{draw.many(len(found), 'detection')} chosen, on {draw.many(len(images), 'image')}"
        if len(found):
            mean = found[["score", "iou"]].mean()
            note += f" · mean score {mean['score']:.2f}, mean IoU {mean['iou']:.2f}"
        self.chosen = found.drop(columns=["series", "row"])
        self.surface.frame = {"note": note, "cards": [self._card(i, found[found["image"] == i]) for i in shown]}

    def _card(self, image: int, rows: pd.DataFrame) -> dict[str, Any]:
        _, photo, size = self._thumb(image)
        boxes = [
            {
                "box": [float(row[k]) for k in BOX],
                "series": int(row["series"]),
                "row": int(row["row"]),
                "text": f"{self._name(row['category'])} · score {row['score']:.3f} · IoU {row['iou']:.3f}",
                "tag": f"{row['score']:.2f} / {row['iou']:.2f}",
            }
            for row in rows.to_dict("records")
        ]
        things = [[float(v) for v in box] for box in self._things(image)[BOX].to_numpy()]
        return {"title": f"image {image}", "size": size, "photo": photo, "objects": things, "boxes": boxes}

    def _things(self, image: int) -> pd.DataFrame:
        """The objects of an image, crowds left out."""
        return self._objects[(self._objects["image"] == image) & ~self._objects["crowd"].astype(bool)]

    def _thumb(self, image: int) -> tuple[np.ndarray, bytes, list[int]]:
        """(pixels, the same encoded, [height, width] of the image itself)."""
        if image not in self._thumbs:
            pixels = self.dataset[self._place[image]][0].permute(1, 2, 0).numpy()
            small = draw.backdrop(pixels, THUMB)[0]
            self._thumbs[image] = small, encoded(small), [int(v) for v in pixels.shape[:2]]
            if len(self._thumbs) > KEPT_IN_MEMORY:
                self._thumbs.popitem(last=False)
        return self._thumbs[image]

    def _name(self, category: Any) -> str:
        return self._categories.get(category, str(category))

    # ---- callbacks
    def _show_class(self, category: Any) -> None:
        series = []
        self.tables = {}
        for name, table in self._all.items():
            mine = ~table["ignored"].astype(bool)
            if category != ALL:
                mine &= table["category"] == category
            own = self.tables[name] = table[mine].reset_index(drop=True)
            own.attrs = table.attrs
            rows = np.arange(len(own))
            if len(own) > DRAWN:
                rows = np.sort(np.random.default_rng(0).choice(len(own), DRAWN, replace=False))
            at = {k: own[k].to_numpy(dtype=np.float32)[rows].tobytes() for k in ("score", "iou")}
            note = self._said(own) + (f", {DRAWN} of them drawn" if len(own) > DRAWN else "")
            row = rows.astype(np.int32).tobytes()
            series.append({"name": name, "colour": self._colour(name), "note": note, **at, "row": row})
        self.surface.series = series

    def _colour(self, name: str) -> str:
        known = [method(n).name for n in self._all]
        if len(set(known)) == len(known) and set(known) <= set(looks()):
            return method(name).colour
        with distinct(list(self._all)):
            return method(name).colour

    @staticmethod
    def _said(table: Any) -> str:
        numbers = table.summary()
        least = table.attrs["iou_threshold"]
        share = numbers["wrong_pairs"]
        wrong = f"{100 * share:.0f} %" if share == share else "n/a"
        return (
            f"{len(table)} detections · of the {numbers['boxes']:.0f} with IoU ≥ {least:g}: Spearman "
            f"{number_text(numbers['spearman'])}, wrong pairs of one object {wrong}"
        )

    def _changed(self, change: Any) -> None:
        if change["name"] != "page" and change["owner"] is self.surface:
            with self.controls["page"].hold_trait_notifications():
                self.controls["page"].value = 1
        self.update()

    @guarded
    def _class_chosen(self, change: Any) -> None:
        with self.surface.hold_trait_notifications():
            self._show_class(change["new"])
            self.choose_misleading()
        self.update()

    def static(self) -> Picture:
        """The scatter and up to two images of what is chosen."""
        found = self._select()
        images = list(dict.fromkeys(found["image"]))[:2]
        with style():
            figure = picture(7.2, 2.9)
            axes = figure.subplots(1, 1 + len(images), width_ratios=[1.2] + [1] * len(images), squeeze=False)[0]
            ax = axes[0]
            for i, (name, table) in enumerate(self.tables.items()):
                colour, mine = self._colour(name), found[found["series"] == i]
                ax.scatter(table["score"], table["iou"], s=3, c=colour, alpha=0.35, lw=0, label=name, rasterized=True)
                ax.scatter(mine["score"], mine["iou"], s=7, c=colour, edgecolors="black", linewidths=0.5)
            if self.surface.region and not self.surface.picked:
                a, b, c, d = self.surface.region
                ax.plot([a, b, b, a, a], [c, c, d, d, c], c=INK, lw=0.9)
            ax.axhline(self.surface.least, color=SOFT, lw=0.7, ls=(0, (2, 2)))
            ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="score", ylabel="IoU with the object")
            ax.legend(loc="lower right", markerscale=3)
            for ax, image in zip(axes[1:], images, strict=True):
                rows = found[found["image"] == image]
                pixels, _, size = self._thumb(image)
                draw.show_image(ax, pixels, (size[0], size[1]))
                draw.show_boxes(ax, self._things(image)[BOX], "white", 0.9, (0, (2, 2)))
                for name, part in rows.groupby("detector"):
                    draw.show_boxes(ax, part[BOX], self._colour(str(name)), 1.4)
                texts = [f"{s:.2f} / {i:.2f}" for s, i in zip(rows["score"], rows["iou"], strict=True)]
                draw.show_tags(ax, rows[BOX], texts, [self._colour(n) for n in rows["detector"]], size[1] / 150)
                ax.set_title(f"image {image}: score / IoU")
        figure.caption = f"{self.surface.frame.get('note', '')}. Dashed: the objects."
        return figure

    def close(self) -> None:
        self._all, self.tables = {}, {}
        self.chosen = self._objects = self.dataset = None
        self._thumbs.clear()
        super().close()
