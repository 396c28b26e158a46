"""The explorer as one HTML file: it opens from a disk or a web page, without Python and without a network."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..plots import draw
from ..plots.style import LOST
from .pictures import Picture
from .state import COUPLINGS
from .surface import LUT, STYLE, encoded, script

SIDES = (900, 640, 480, 320, 240)  # pixels of the longer side of the photographs, the first with which a page is small
SMALL, LARGE = 1_000_000, 100_000_000  # bytes of a page: that it should have at most, and that it may have
MANY = 480  # pixels of the longer side where even the smallest photographs make a page large
WIDTH = 640  # of the large picture at most, screen pixels


def page(pictures: Sequence[Picture], state: dict[str, Any], methods: dict[str, dict[str, Any]], scene: int = 0) -> str:
    """The text of the file: photographs are made smaller until it has 1 MB, those of many are 480 pixels long.

    Args:
        pictures: to choose from.
        state: as `dsla.widgets.state.initial` has it; couplings with a trained model are off, since none is there.
        methods: as `dsla.widgets.state.catalogue` has it; those that only Python can assign are left out.
        scene: which picture is shown first.
    Raises:
        DataError: none of the methods shown is computed without Python, or the pictures make more than 100 MB.
    """
    alone = {name: entry for name, entry in methods.items() if entry["script"]}
    rows = [row for row in state["rows"] if row["method"] in alone]
    if not rows:
        names = ", ".join(methods[row["method"]]["title"] for row in state["rows"])
        raise DataError(f"{names}: a page without Python cannot assign so; it can {', '.join(alone)}")
    coupling = "off" if state["coupling"] == COUPLINGS[2] else state["coupling"]
    traits = {"state": {**state, "rows": rows, "coupling": coupling}, "catalogue": alone, "scene": scene}
    traits |= {"lut": base64.b64encode(LUT).decode(), "lost": LOST, "width": WIDTH}
    for side, most in [*((side, SMALL) for side in SIDES), (MANY, LARGE)]:
        kept, size = list[dict[str, Any]](), 0
        for picture in pictures:
            photo = base64.b64encode(encoded(draw.backdrop(picture.pixels(), side)[0])).decode()
            kept.append({**picture.plain(pictures[0]), "photo": photo})
            if (size := size + len(photo)) > most:
                break
        data = json.dumps({"traits": traits, "pictures": kept}, separators=(",", ":"))
        safe = data.replace("<", "\\u003c")  # no end tag within the script
        text = PAGE.format(style=STYLE, data=safe, script=script("page.js"), title=TITLE)
        if len(kept) == len(pictures) and len(text.encode()) < most:
            return text
    raise DataError(f"{len(pictures)} pictures make a page of more than {LARGE / 1e6:g} MB: choose fewer")


TITLE = "Who learns what? Label assignment in object detection"
PAGE = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
