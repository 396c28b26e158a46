"""The explorer as one HTML file: it opens from a disk or a web page, without Python and without a network."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data import CocoDataset, Scenes, load_image
from ..data.loading import Target
from ..errors import DataError
from ..plots import draw
from ..plots.style import LOST
from .state import COUPLINGS
from .surface import LUT, STYLE, encoded, script

SIDE = 512
SCENES = (5, 0, 1, 3, 7, 9)  # of the test split, to choose from where no picture is given
SIDES = (900, 640, 480, 320, 240)  # pixels of the longer side of the photographs, the first that fits
MOST = 1_000_000  # bytes of a page
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

    def plain(self, side: int) -> dict[str, Any]:
        """For the page, the photograph at most `side` pixels long; boxes stay in pixels of the image."""
        return {
            "name": self.name,
            "photo": base64.b64encode(encoded(draw.backdrop(self.pixels, side)[0])).decode(),
            "size": [int(v) for v in self.pixels.shape[:2]],
            "objects": self.objects,
            "names": self.names,
        }


def scenes() -> list[Picture]:
    """The built-in pictures."""
    data, pictures = Scenes("test", size=max(SCENES) + 1, image_size=SIDE), []
    for number in SCENES:
        image, target = data[number]
        pixels = image.permute(1, 2, 0).numpy()
        pictures.append(Picture(f"scene {number}", pixels, _objects(target), list(Scenes.class_names)))
    return pictures


def page(pictures: Sequence[Picture], state: dict[str, Any], methods: dict[str, dict[str, Any]]) -> str:
    """The text of the file, under 1 MB: many photographs are made smaller until they fit.

    Args:
        pictures: the first one is shown, the others can be chosen.
        state: as `dsla.widgets.state.initial` has it; couplings with a trained model are off, since none is there.
        methods: as `dsla.widgets.state.catalogue` has it; those that only Python can assign are left out.
    Raises:
        DataError: none of the methods shown is computed without Python, or the pictures are too many.
    """
    alone = {name: entry for name, entry in methods.items() if entry["script"]}
    rows = [row for row in state["rows"] if row["method"] in alone]
    if not rows:
        names = ", ".join(methods[row["method"]]["title"] for row in state["rows"])
        raise DataError(f"{names}: a page without Python cannot assign so; it can {', '.join(alone)}")
    traits = {
        "state": {**state, "rows": rows, "coupling": state["coupling"] if state["coupling"] != COUPLINGS[2] else "off"},
        "catalogue": alone,
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
    for side in SIDES:
        data = json.dumps({"traits": traits, "pictures": [p.plain(side) for p in pictures]}, separators=(",", ":"))
        safe = data.replace("<", "\\u003c")  # no end tag within the script
        text = PAGE.format(style=STYLE, data=safe, script=script("page.js"), title=TITLE)
        if len(text.encode()) < MOST:
            return text
    raise DataError(f"{len(pictures)} pictures do not fit into a page of {MOST / 1e6:g} MB: choose fewer")


def photograph(path: Path, truth: CocoDataset | None = None, image_id: int = 0) -> Picture:
    """A photograph from a file; with a data set that has it under this id, also its boxes."""
    if truth is None:
        return Picture(path.name, load_image(path).permute(1, 2, 0).numpy(), [], [str(n) for n in range(10)])
    place = next(i for i in range(len(truth)) if truth.image_id(i) == image_id)
    target = truth.target(place)
    pixels = load_image(path, truth.image_size(place)).permute(1, 2, 0).numpy()
    return Picture(path.name, pixels, _objects(target), list(truth.class_names))


def _objects(target: Target) -> list[list[float]]:
    return [[*box, label] for box, label in zip(target["boxes"].tolist(), target["labels"].tolist(), strict=True)]


TITLE = "Who learns what? Label assignment in object detection"
PAGE = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
