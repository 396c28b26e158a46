"""The drawing surfaces: small anywidget classes that hold what the browser draws and what the mouse did.

Python decides what is true, JavaScript only draws it: label maps travel as one byte a point and level, and the
colours come from `dsla.plots.style`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets as t
from PIL import Image

from ..plots import draw
from ..plots.style import LABELS, LOST
from .wire import Wire

_HERE = Path(__file__).parent
_STYLE = (_HERE / "style.css").read_text(encoding="utf-8")


def script(*names: str) -> str:
    """A surface's JavaScript, after what all of them share."""
    return "".join((_HERE / file).read_text(encoding="utf-8") for file in ("common.js", *names))


BACKDROP = 900  # pixels of the longer side that the browser gets
REST = 0.25  # seconds without a change, after which what is dear or late follows: explanations, a widget's own state
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
        objects: [x1, y1, x2, y2, label] of each box.  seq: number of the last edit that came.
        frame: the label maps as `show` was given them: {"seq", "turn", "rows": [{title, note, counts, shapes, strides,
            offset, scale, maps}], "table": HTML of the points of each object}; `turn` counts them.
        hover: [row, point, selected box or −1], empty where the mouse is on no point.
        why: HTML about that point.
        rests: how often the labels have come to rest, for what is too dear to follow each of them.
        wire: the short way to browsers on this machine.  address: where they find it, "" for nowhere.
        sliders: name → model id of sliders whose movement goes that way, too.
        ahead: name → value of those whose own message is still to come: when they are let go.
    """

    _esm = script("wire.js", "boxes.js")
    objects: t.List[Any] = t.List().tag(sync=True)
    seq = t.Int(0).tag(sync=True)
    frame: t.Dict[str, Any] = t.Dict().tag(sync=True)
    hover: t.List[int] = t.List().tag(sync=True)
    why = t.Unicode("").tag(sync=True)
    lut = t.Bytes(LUT).tag(sync=True)
    address = t.Unicode("").tag(sync=True)
    rests = t.Int(0)
    sliders: t.Dict[str, str] = t.Dict().tag(sync=True)
    ahead: t.Dict[str, float] = t.Dict()

    def __init__(self) -> None:
        self._aside, self._owed = False, set[str]()
        self.wire = Wire(self._wired)
        super().__init__(address=self.wire.address)
        self.on_msg(self._edited)

    def show(self, frame: dict[str, Any]) -> None:
        """Other label maps, by the shortest way; those of another image's size together with it."""
        frame = {**frame, "turn": self.frame.get("turn", 0) + 1}
        shapes = [[row["shapes"] for row in f.get("rows", [])] for f in (frame, self.frame)]
        if shapes[0] != shapes[1]:
            self.hover = []  # of another grid
        if self.wire.sockets and shapes[0] == shapes[1]:
            with self._by_wire():
                self.frame = frame
        else:
            self.frame = frame
            self.wire.later(REST, self._settle)

    def _edited(self, widget: Any, content: dict[str, Any], buffers: list[Any]) -> None:
        """What the mouse did, as the widget's message; all that follows from it goes back in one."""
        if content.get("type") == "edit":
            with self.hold_sync():
                self._take(content)

    def _wired(self, content: dict[str, Any]) -> None:
        """The same through the wire."""
        with self._by_wire():
            self._take(content)

    def _take(self, content: dict[str, Any]) -> None:
        self.seq = int(content["seq"])
        self.objects = content["objects"]
        self.ahead = {**self.ahead, **content.get("values", {})}

    @contextmanager
    def _by_wire(self) -> Iterator[None]:
        """What changes inside goes through the wire at its end; the widget's state follows when all is at rest."""
        within, self._aside = self._aside, True
        try:
            yield
        finally:
            self._aside = within
            if not within:
                rows = self.frame.get("rows", [])
                frame = {**self.frame, "rows": [{k: v for k, v in row.items() if k != "maps"} for row in rows]}
                maps = (level for row in rows for level in row["maps"])
                self.wire.push({"seq": self.seq, "objects": self.objects, "frame": frame}, maps)
                self.wire.later(REST, self._settle)

    def send_state(self, key: Any = None) -> None:
        if self._aside and key is not None:
            self._owed.update([key] if isinstance(key, str) else key)
        else:
            super().send_state(key)

    def _settle(self) -> None:
        owed, self._owed = self._owed, set()
        if owed:
            self.send_state(owed)
        self.rests += 1

    def close(self) -> None:
        self.wire.close()
        super().close()


def encoded(pixels: np.ndarray) -> bytes:
    """A picture as the browser reads it: JPEG where it is large, else PNG, whose pixels are exact."""
    buffer = io.BytesIO()
    options: dict[str, Any] = {"format": "JPEG", "quality": 90} if pixels.size > 200_000 else {"format": "PNG"}
    Image.fromarray(pixels).save(buffer, **options)
    return buffer.getvalue()
