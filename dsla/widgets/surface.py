"""The drawing surfaces: small anywidget classes that hold what the browser draws and what the mouse did.

Python decides what is true, JavaScript only draws it: label maps travel as one byte a point and level, and the
colours come from `dsla.plots.style`.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets as t
from PIL import Image

from ..plots import draw
from ..plots.style import LABELS, LOST

_HERE = Path(__file__).parent
_STYLE = (_HERE / "style.css").read_text(encoding="utf-8")


def script(name: str) -> str:
    """A surface's JavaScript, after what all of them share."""
    return "".join((_HERE / file).read_text(encoding="utf-8") for file in ("common.js", name))


# Jupyter's server leaves Nagle's algorithm on: a message follows the one before it (the kernel's "busy") at once only
# if it fills a packet, else when the browser has acknowledged that, which takes up to 40 ms. On one machine a packet
# holds 64 KiB, so an answer is made longer than that; over a network the label maps fill several as they are.
PACKET = bytes(65536)
BACKDROP = 900  # pixels of the longer side that the browser gets
LUT = bytes((LABELS(np.linspace(0, 1, 255), bytes=True)[:, :3]).tobytes())  # label 0…1 → red, green, blue


class Sheet(anywidget.AnyWidget):
    """What all surfaces share.

    Attributes:
        names: of the classes.  width: of a picture on the screen at most, pixels.
    """

    _css = _STYLE
    names = t.List(t.Unicode()).tag(sync=True)
    width = t.Int(560).tag(sync=True)

    def download(self, name: str, content: bytes, kind: str) -> None:
        """Offers bytes as a file in the browser, wherever the kernel runs."""
        self.send({"type": "download", "name": name, "kind": kind}, [content])

    def clip(self, text: str) -> None:
        """Puts text on the clipboard, where the browser allows it."""
        self.send({"type": "copy", "text": text})


class Surface(Sheet):
    """An image with boxes on it.

    Attributes:
        size: [height, width] of the image in pixels.  photo, dim: it in colour and as dimmed grey, encoded.
    """

    size = t.List([1, 1]).tag(sync=True)
    photo = t.Bytes(b"").tag(sync=True)
    dim = t.Bytes(b"").tag(sync=True)
    lost = t.Unicode(LOST).tag(sync=True)

    def show_image(self, pixels: np.ndarray) -> None:
        """pixels: [H, W, 3] float32 in 0…1."""
        colour, dim = draw.backdrop(pixels, BACKDROP)
        with self.hold_sync():
            self.size = [int(v) for v in pixels.shape[:2]]
            self.photo, self.dim = encoded(colour), encoded(dim)


class BoxSurface(Surface):
    """Boxes that the mouse draws, moves, resizes, deletes and classes, over the labels of the levels.

    Attributes:
        objects: [x1, y1, x2, y2, label] of each box.  seq: number of the last edit that came, which `frame` gives back.
        frame: the label maps: {"seq", "rows": [{title, note, counts, shapes, strides, offset, scale, maps}],
            "table": HTML of the points of each object}.
        hover: [row, point, selected box or −1], empty where the mouse is on no point.
        why: HTML about that point.
    """

    _esm = script("boxes.js")
    objects: t.List[Any] = t.List().tag(sync=True)
    seq = t.Int(0).tag(sync=True)
    frame: t.Dict[str, Any] = t.Dict().tag(sync=True)
    hover: t.List[int] = t.List().tag(sync=True)
    why = t.Unicode("").tag(sync=True)
    lut = t.Bytes(LUT).tag(sync=True)

    def __init__(self) -> None:
        super().__init__()
        self.room = b""
        self.on_msg(self._edited)

    def _edited(self, widget: Any, content: dict[str, Any], buffers: list[Any]) -> None:
        """What the mouse did; all that follows from it goes back in one message."""
        if content.get("type") == "edit":
            with self.hold_sync():
                self.room = PACKET if content.get("local") else b""
                self.seq = int(content["seq"])
                self.objects = content["objects"]


def encoded(pixels: np.ndarray) -> bytes:
    """A picture as the browser reads it: JPEG where it is large, else PNG, whose pixels are exact."""
    buffer = io.BytesIO()
    options: dict[str, Any] = {"format": "JPEG", "quality": 90} if pixels.size > 200_000 else {"format": "PNG"}
    Image.fromarray(pixels).save(buffer, **options)
    return buffer.getvalue()
