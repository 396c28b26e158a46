"""The drawing surfaces: small anywidget classes that hold what the browser draws and what the mouse did.

Python decides what is true and the colours come from `dsla.plots.style`; JavaScript draws, and says what Python would
say while a hand moves.
"""

import io
import re
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets as t
from PIL import Image

from ..plots import draw
from ..plots.style import LABELS, LOST

_HERE = Path(__file__).parent
STYLE = (_HERE / "style.css").read_text(encoding="utf-8")


_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([\w.]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?:(?=const |function |async function )|default .*;\n)", re.MULTILINE)
_TYPES = re.compile(r"^ */\*\*.*?\*/\n|/\*\*.*?\*/ ?", re.MULTILINE | re.DOTALL)  # for tsc, not for the browser
_FACE = re.compile(r"^export default .*;\n", re.MULTILINE)


def script(entry: str) -> str:
    """A module of this folder after all that it imports, as one text in one scope, as anywidget takes it."""
    parts: dict[str, str] = {}

    def visit(name: str) -> None:
        source = (_HERE / name).read_text(encoding="utf-8")
        for other in _IMPORT.findall(source):
            if other not in parts:
                visit(other)
        parts[name] = _TYPES.sub("", _EXPORT.sub("", _IMPORT.sub("", source)))

    visit(entry)
    return "".join(parts.values()) + "".join(_FACE.findall((_HERE / entry).read_text(encoding="utf-8")))


BACKDROP = 900  # pixels of the longer side that the browser gets
LUT = bytes((LABELS(np.linspace(0, 1, 255), bytes=True)[:, :3]).tobytes())  # label 0…1 → red, green, blue


class Sheet(anywidget.AnyWidget):
    """What all surfaces share.

    Attributes:
        names: of the classes.  width: of a picture on the screen at most, pixels.
        frame: what is drawn now, as each surface says.  lut: the colours of labels.
    """

    _css = STYLE
    names = t.List(t.Unicode()).tag(sync=True)
    width = t.Int(560).tag(sync=True)
    frame: "t.Dict[str, Any]" = t.Dict().tag(sync=True)
    lut = t.Bytes(LUT).tag(sync=True)


class Surface(Sheet):
    """An image with boxes on it.

    Attributes:
        size: [height, width] of the image in pixels.  photo: it, encoded.
    """

    size = t.List([1, 1]).tag(sync=True)
    photo = t.Bytes(b"").tag(sync=True)
    lost = t.Unicode(LOST).tag(sync=True)

    def show_image(self, pixels: np.ndarray) -> None:
        """pixels: [H, W, 3] float32 in 0…1."""
        with self.hold_sync():
            self.size = [int(v) for v in pixels.shape[:2]]
            self.photo = encoded(draw.backdrop(pixels, BACKDROP)[0])


class BoxSurface(Surface):
    """Boxes that the mouse draws, moves, resizes, deletes and classes, over the labels of the levels.

    Labels follow the mouse in the browser (`labels.js`); when it rests, an edit comes as the widget's message, and what
    `show` is given replaces them.

    Attributes:
        objects: [x1, y1, x2, y2, label] of each box.  state: what else decides what is drawn, see `state.initial`.
        seq: number of the last edit that came.
        frame: {"seq", "objects": how many, "rows"}, see `view.drawn`.
        catalogue: methods, their options and their controls, see `state.catalogue`.
        pictures: all that can be stepped through, see `Picture.plain`.  scene: which one is shown.
        hover: [row, point, selected box or −1], empty where the mouse is on no point.
        why: HTML about that point.  note: a line about what was done.
        trained: whether there is a trained model to couple with.  kernel: whether Python answers.
    """

    _esm = script("explorer.js")
    objects: "t.List[Any]" = t.List().tag(sync=True)
    state: "t.Dict[str, Any]" = t.Dict().tag(sync=True)
    seq = t.Int(0).tag(sync=True)
    catalogue: "t.Dict[str, Any]" = t.Dict().tag(sync=True)
    pictures: "t.List[Any]" = t.List().tag(sync=True)
    scene = t.Int(0).tag(sync=True)
    hover: "t.List[int]" = t.List().tag(sync=True)
    why = t.Unicode("").tag(sync=True)
    note = t.Unicode("").tag(sync=True)
    trained = t.Bool(True).tag(sync=True)
    kernel = t.Bool(True).tag(sync=True)

    def take(self, content: dict[str, Any]) -> None:
        """An edit of the browser; all that follows from it goes back in one message, also where nothing follows."""
        with self.hold_sync():
            with self.hold_trait_notifications():
                self.seq = int(content["seq"])
                self.objects, self.state = content["objects"], content["state"]
            if self.frame.get("seq") != self.seq:
                self.show(self.frame.get("rows", []))

    def show(self, rows: list[dict[str, Any]]) -> None:
        """Other labels, of the boxes that are drawn now."""
        now, before = ([row["shapes"] for row in drawn] for drawn in (rows, self.frame.get("rows", [])))
        if now != before:
            self.hover = []  # of another grid
        self.frame = {"seq": self.seq, "objects": len(self.objects), "rows": rows}


def encoded(pixels: np.ndarray) -> bytes:
    """A picture as the browser reads it: JPEG where it is large, else PNG, whose pixels are exact."""
    buffer = io.BytesIO()
    options: dict[str, Any] = {"format": "JPEG", "quality": 90} if pixels.size > 200_000 else {"format": "PNG"}
    Image.fromarray(pixels).save(buffer, **options)
    return buffer.getvalue()
