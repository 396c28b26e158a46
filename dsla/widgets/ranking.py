"""`RankingExplorer`: does a higher score mean a better box? Choose points of the scatter, see the boxes they are."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import ipywidgets as w
import numpy as np
import pandas as pd
import traitlets as t

from ..analysis.confidence import ranking
from ..analysis.tables import BOX, truth_of
from ..data.loading import unmoved
from ..plots import draw
from ..plots.style import INK, SOFT, UNIT, Picture, distinct, drawing, looks, method, number_text
from .browser import SMALL
from .pane import Pane
from .sources import in_order, titles
from .surface import Sheet, encoded, script

PAGE = 6  # images shown at once
THUMB, KEPT_IN_MEMORY = 320, 64  # pixels of an image's longer side; images that are kept
ALL = "all"  # None would leave the control blank
DRAWN = 60_000  # points in the browser; of more, some chosen at random, while the choice is made among all
KINDS = {"all boxes": ALL, "of an object": "hit", "of no object": "false", "small boxes": "small"}
ORDERS = {"score above IoU": "gap", "highest score": "score", "lowest IoU": "iou"}


class RankingSurface(Sheet):
    """A scatter, and images with the boxes that its chosen points are.

    Attributes:
        series: of each detector {name, colour, note, score, iou, row: bytes float32 and int32 [N]}; row: of its table.
        least: IoU at which a box counts as one of its object.
        region: what is chosen: [lowest score, highest, lowest IoU, highest], or nothing.
        picked: [series, row] of single chosen points, which go before the region.
        frame: {"note", "cards": [{title, size, photo, objects: [{box, name}], boxes: [{box, series, row, name, score,
            iou}]}]}
    """

    _esm = script("ranking.js")
    series: "t.List[Any]" = t.List().tag(sync=True)
    least = t.Float(0.5).tag(sync=True)
    region: "t.List[float]" = t.List(t.Float()).tag(sync=True)
    picked: "t.List[Any]" = t.List().tag(sync=True)


class RankingExplorer(Pane):
    """Score against IoU of one or more detectors, linked to the images: drag a region, or click points.

    It opens on the boxes that cost a ranking most: scored above the median, placed below it.

    Args:
        dataset: any data set of `dsla.data`, for its images and objects.
        detections: a detector, which is run on the data set; detections in any of the forms of `dsla.analysis`, a
            COCO results file among them; or a dict of several by name.
        iou_threshold: least IoU of a box *of* an object, see `dsla.analysis.ranking`.
        options: of `dsla.analysis.ranking`: score_threshold, class_aware, before_nms, max_images, …
    Raises:
        DataError: no detector, no data set, or detections that do not fit the data set.

    Attributes:
        tables: name → `dsla.analysis.ranking`, without ignored detections, of the class and kind that the controls say.
        chosen: the rows of these tables that are chosen, the detector's name first, in the order that the control says.
    """

    export = "ranking.csv"

    def __init__(self, dataset: Any, detections: Any, *, iou_threshold: float = 0.5, **options: Any) -> None:
        super().__init__(RankingSurface(least=iou_threshold))
        self._thumb = lru_cache(KEPT_IN_MEMORY)(self._small_picture)
        self.dataset, sources = in_order(dataset, detections)
        truth = truth_of(self.dataset)
        self._categories, self._titles = truth.categories, titles(truth)
        self._objects: Any = truth.objects[~truth.objects["crowd"].astype(bool)]
        self._place = {image: i for i, image in enumerate(truth.images)}
        self._all = {n: ranking(s, self.dataset, iou_threshold=iou_threshold, **options) for n, s in sources.items()}
        canonical = {method(name).name for name in self._all}
        with distinct([] if len(canonical) == len(self._all) and canonical <= set(looks()) else list(self._all)):
            self._colours = {name: method(name).colour for name in self._all}
        classes = [("all classes", ALL), *((name, c) for c, name in self._categories.items())]
        self.bar(
            **{"class": (w.Dropdown(options=classes, value=ALL, description="class"), self._filter)},
            show=(w.Dropdown(options=list(KINDS.items()), description="show"), self._filter),
            order=(w.Dropdown(options=list(ORDERS.items()), description="first"), self._first_page),
            page=(w.IntSlider(1, 1, 1, description="page"), self.update),
        )
        self._filter()
        self.follow(self.surface, ["region", "picked"], self._first_page)

    # ---- what is chosen
    def choose(self, score: Sequence[float] = (0, 1), iou: Sequence[float] = (0, 1)) -> None:
        """The boxes in a region of the scatter, as if the mouse had drawn it; both ends belong to it.

        Scores beyond 0…1, as raw logits are, lie at its ends.
        """
        with self.surface.hold_trait_notifications():
            self.surface.picked, self.surface.region = [], np.clip([*score, *iou], 0, 1).tolist()

    def choose_misleading(self) -> None:
        """Boxes of an object that are scored above the median of the first detector's, but placed below it."""
        first = next(iter(self.tables.values()))
        rows = first[first["iou"] >= self.surface.least]
        score, iou = rows[["score", "iou"]].median() if len(rows) else (0, 1)
        self.choose((score, 1), (self.surface.least if len(rows) else 0, iou))

    def _select(self) -> pd.DataFrame:
        """Rows of all tables that are chosen, with columns detector, series and row, in order."""
        parts, (a, b, c, d) = {}, self.surface.region or (1, 0, 1, 0)
        for i, (name, table) in enumerate(self.tables.items()):
            rows = np.flatnonzero(table["score"].clip(0, 1).between(a, b) & table["iou"].between(c, d)).tolist()
            if self.surface.picked:
                rows = [int(row) for series, row in self.surface.picked if series == i]
            parts[name] = pd.DataFrame(table.iloc[rows]).assign(series=i, row=rows)
        chosen = pd.concat(parts, names=["detector"]).reset_index("detector").reset_index(drop=True)
        chosen.attrs = {}
        key = {"gap": chosen["iou"] - chosen["score"], "score": -chosen["score"], "iou": chosen["iou"]}
        place = key[self.controls["order"].value].sort_values(kind="stable").index
        return chosen.loc[place].reset_index(drop=True)

    def table(self) -> pd.DataFrame:
        """`chosen`."""
        return self.chosen

    def update(self, _: Any = None) -> None:
        """The choice anew, and what the browser draws of it: images, the first chosen box's first."""
        chosen = self._select()
        images, page = list(dict.fromkeys(chosen["image"])), self.controls["page"]
        page.max = max(1, -(-len(images) // PAGE))
        note = f"{draw.many(len(chosen), 'detection')} chosen, on {draw.many(len(images), 'image')}"
        if len(chosen):
            mean = chosen[["score", "iou"]].mean()
            note += f" · mean score {mean['score']:.2f}, mean IoU {mean['iou']:.2f}"
        self.chosen = chosen.drop(columns=["series", "row"])
        cards = [self._card(i, chosen[chosen["image"] == i]) for i in images[(page.value - 1) * PAGE :][:PAGE]]
        self.surface.frame = {"note": note, "cards": cards}

    def _card(self, image: int, rows: pd.DataFrame) -> dict[str, Any]:
        _, photo, size = self._thumb(image)
        objects = self._boxes(self._objects[self._objects["image"] == image])
        boxes = self._boxes(rows, "series", "row", "score", "iou")
        title = self._titles[self._place[image]]
        return {"title": title, "size": size, "photo": photo, "objects": objects, "boxes": boxes}

    def _boxes(self, rows: pd.DataFrame, *keys: str) -> list[dict[str, Any]]:
        return [
            {"box": [float(row[k]) for k in BOX], "name": self._name(row["category"]), **{k: row[k] for k in keys}}
            for row in rows.to_dict("records")
        ]

    def _small_picture(self, image: int) -> tuple[np.ndarray, bytes, list[int]]:
        """(pixels, the same encoded, [height, width] of the image itself)."""
        pixels = unmoved(self.dataset, self._place[image])[0].permute(1, 2, 0).numpy()
        small = draw.backdrop(pixels, THUMB)[0]
        return small, encoded(small), [int(v) for v in pixels.shape[:2]]

    def _name(self, category: Any) -> str:
        return self._categories.get(category, str(category))

    # ---- what the controls do
    def _filter(self, _: Any = None) -> None:
        """Tables and scatter of the class and kind that the controls say."""
        category, kind = self.controls["class"].value, self.controls["show"].value
        self.tables, series = {}, []
        for name, table in self._all.items():
            small = (table["x2"] - table["x1"]) * (table["y2"] - table["y1"]) < SMALL
            hit = table["iou"] >= self.surface.least
            keep = ~table["ignored"].astype(bool) & {ALL: True, "small": small, "hit": hit, "false": ~hit}[kind]
            part = self.tables[name] = table[keep & ((category == ALL) | (table["category"] == category))]
            part = self.tables[name] = part.reset_index(drop=True)
            drawn = part.sample(DRAWN, random_state=0).sort_index() if len(part) > DRAWN else part
            note = _summary(part) + (f", {DRAWN} of them drawn" if len(part) > DRAWN else "")
            values = {k: drawn[k].clip(0, 1).to_numpy(dtype=np.float32).tobytes() for k in ("score", "iou")}
            row = drawn.index.to_numpy(dtype=np.int32).tobytes()
            series.append({"name": name, "colour": self._colours[name], "note": note, **values, "row": row})
        with self.surface.hold_trait_notifications():
            self.surface.series = series
            self.choose_misleading()
        self._first_page()

    def _first_page(self, _: Any = None) -> None:
        self.controls["page"].value = 1
        self.update()

    def static(self) -> Picture:
        """The scatter and up to two images of what is chosen."""
        chosen = self._select()
        images = list(dict.fromkeys(chosen["image"]))[:2]
        with drawing(2.9) as figure:
            ax, *axes = figure.subplots(1, 1 + len(images), width_ratios=[1.2] + [1] * len(images), squeeze=False)[0]
            for name, table in self.tables.items():
                colour, mine = self._colours[name], chosen[chosen["detector"] == name]
                score, look = table["score"].clip(0, 1), {"alpha": 0.35, "lw": 0, "rasterized": True}
                ax.scatter(score, table["iou"], 3, colour, label=name, **look)
                ax.scatter(mine["score"].clip(0, 1), mine["iou"], 7, colour, edgecolors="black", linewidths=0.5)
            if self.surface.region and not self.surface.picked:
                a, b, c, d = self.surface.region
                ax.plot([a, b, b, a, a], [c, c, d, d, c], c=INK, lw=0.9)
            ax.axhline(self.surface.least, color=SOFT, lw=0.7, ls=(0, (2, 2)))
            ax.set(xlim=UNIT, ylim=UNIT, xlabel="score", ylabel="IoU with the object")
            ax.legend(loc="lower right", markerscale=3)
            for ax, image in zip(axes, images, strict=True):
                rows, (pixels, _, size) = chosen[chosen["image"] == image], self._thumb(image)
                draw.show_image(ax, pixels, (size[0], size[1]))
                draw.show_boxes(ax, self._objects[self._objects["image"] == image][BOX], "white", 0.9, (0, (2, 2)))
                colours = [self._colours[name] for name in rows["detector"]]
                draw.show_boxes(ax, rows[BOX], colours, 1.4)  # type: ignore[arg-type]
                values = zip(rows["category"], rows["score"], rows["iou"], strict=True)
                texts = [f"{self._name(c)} {s:.2f} / {i:.2f}" for c, s, i in values]
                draw.show_tags(ax, rows[BOX], texts, colours, size[1] / 150)
                title = self._titles[self._place[image]]
                ax.set_title(f"{title[:30]}{'…' if len(title) > 30 else ''}\nscore / IoU", fontsize=7, weight="normal")
        figure.caption = f"{self.surface.frame.get('note', '')}. Dashed: the objects."
        return figure

    def close(self) -> None:
        self._all, self.tables, self.chosen, self._objects, self.dataset = {}, {}, None, None, None
        self._thumb.cache_clear()
        super().close()


def _summary(table: Any) -> str:
    numbers = table.summary()
    share = numbers["wrong_pairs"]
    wrong = f"{100 * share:.0f} %" if share == share else "n/a"
    spearman, least = number_text(numbers["spearman"]), table.attrs["iou_threshold"]
    of = f"of the {numbers['boxes']:.0f} with IoU ≥ {least:g}"
    return f"{len(table)} detections · {of}: Spearman {spearman}, wrong pairs of one object {wrong}"
