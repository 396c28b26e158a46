"""The explorer as one HTML file: it opens from a disk or a web page, without Python and without a network."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data import Scenes
from ..plots import draw
from ..plots.style import LOST
from .surface import BACKDROP, LUT, STYLE, encoded, script

SIDE = 512
SCENES = (5, 0, 1, 3, 7, 9)  # of the test split, to choose from where no picture is given
WIDTH = 640  # of the large picture at most, screen pixels


@dataclass(frozen=True)
class Picture:
    """A picture of the page.

    Attributes:
        name: to choose it by.  pixels: [H, W, 3] float32 in 0…1.  objects: x1, y1, x2, y2, label of each.
        names: of the classes.
    """

    name: str
    pixels: np.ndarray
    objects: list[list[float]]
    names: list[str]

    def plain(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "photo": base64.b64encode(encoded(draw.backdrop(self.pixels, BACKDROP)[0])).decode(),
            "size": [int(v) for v in self.pixels.shape[:2]],
            "objects": self.objects,
            "names": self.names,
        }


def scenes() -> list[Picture]:
    """The built-in pictures."""
    data, pictures = Scenes("test", size=max(SCENES) + 1, image_size=SIDE), []
    for number in SCENES:
        image, target = data[number]
        rows = zip(target["boxes"].tolist(), target["labels"].tolist(), strict=True)
        objects = [[*box, label] for box, label in rows]
        pixels = image.permute(1, 2, 0).numpy()
        pictures.append(Picture(f"scene {number}", pixels, objects, list(Scenes.class_names)))
    return pictures


def page(pictures: Sequence[Picture], state: dict[str, Any], methods: dict[str, dict[str, Any]]) -> str:
    """The text of the file.

    Args:
        pictures: the first one is shown, the others can be chosen.
        state: as `dsla.widgets.view.initial` has it; couplings with a trained model are off, since none is there.
        methods: as `dsla.widgets.view.catalogue` has it; those that only Python can assign are left out.
    """
    methods = {name: entry for name, entry in methods.items() if entry["script"]}
    rows = [row for row in state["rows"] if row["method"] in methods] or [{"method": "dsla", "options": {}}]
    coupling = state["coupling"] if state["coupling"] != "trained model" else "off"
    traits = {
        "state": {**state, "rows": rows, "coupling": coupling, "level": None},
        "catalogue": methods,
        "objects": pictures[0].objects,
        "scene": 0,
        "seq": 0,
        "frame": {},
        "lut": base64.b64encode(LUT).decode(),
        "lost": LOST,
        "width": WIDTH,
        "kernel": False,
        "trained": False,
        "why": "",
        "note": "",
    }
    data = json.dumps({"traits": traits, "pictures": [p.plain() for p in pictures]}, separators=(",", ":"))
    safe = data.replace("<", "\\u003c")  # no end tag within the script
    return PAGE.format(style=STYLE, data=safe, script=script("page.js"), title=TITLE)


TITLE = "Who learns what? Label assignment in object detection"
PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
<body class="dsla-alone">
<h1>{title}</h1>
<p>Drag a box: each coloured cell surrounds a point of the detector that learns the object, its colour is the label
that it is taught. Red and dashed: no point learns this object. Click a small picture to see its level large.</p>
<main id="dsla-page"></main>
<script type="application/json" id="dsla-data">{data}</script>
<script type="module">{script}</script>
</body>
</html>
"""
