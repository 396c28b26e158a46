"""From the mouse event in the browser to the new labels on the screen, while a box or a slider is dragged.

    python benchmarks/widget_latency.py [--where lab|notebook|voila|file] [--boxes 20] [--assigner dsla]

A real front end and headless Chromium on this machine, which draws without a graphics card; one image of 800 × 1344,
one method; the mouse moves sixty times a second. For each change whose labels were drawn, milliseconds:

    labels     computing them, in the browser
    drawing    label maps, picture and panels
    both       the two together
    to frame   from the mouse event (`event.timeStamp`) to the end of the frame's drawing
    to screen  until the first task after that frame, when the pixels are out
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "browser"))
from lab import CHROMIUM, FLAGS, opened, watch

from dsla.widgets import AssignmentExplorer

SIZE = (800, 1344)
CELL = """
import numpy as np, dsla
image = np.random.default_rng(0).random((100, 168, 3)).repeat(8, 0).repeat(8, 1).astype('float32')
explorer = dsla.widgets.AssignmentExplorer(image, {boxes}, assigners={assigner!r})
explorer
"""
LISTEN = """() => { window.seen = [];
document.addEventListener('dsla-labels', ({ detail }) => {
  const channel = new MessageChannel(), { event, labels, painting, drawn } = detail;
  const spent = [labels, painting, labels + painting, drawn - event];
  channel.port1.onmessage = () => seen.push([...spent, performance.now() - event]);
  channel.port2.postMessage(0); // the event comes from within the frame's callback
}); }"""
COLUMNS = ["labels", "drawing", "both", "to frame", "to screen"]


def scene(count: int, seed: int = 0) -> list[list[float]]:
    """Boxes of log-uniform sides, 20 to 400 pixels, wholly in the image; the first is the one to drag."""
    g = torch.Generator().manual_seed(seed)
    side = torch.exp(torch.rand(count, 2, generator=g) * 3 + 3)
    corner = torch.rand(count, 2, generator=g) * (torch.tensor([SIZE[1], SIZE[0]]) - side)
    return [[600.0, 330.0, 690.0, 420.0], *torch.cat((corner, corner + side), 1).round().tolist()[1:]]


def move(page: Any, moves: int, x: float, y: float, k: float) -> None:
    """Presses the mouse at a place and moves it about, sixty times a second."""
    page.mouse.move(x, y)
    page.mouse.down()
    for i in range(moves):
        page.mouse.move(x + 3 * (i % 60) * k, y + 2 * (i % 50) * k)
        page.wait_for_timeout(16)
    page.mouse.up()
    page.wait_for_timeout(500)


@contextmanager
def page_of(boxes: int, assigner: str, where: str) -> Iterator[tuple[Any, list[str]]]:
    """(page, errors so far) that shows one explorer, in a front end or as a file."""
    if where != "file":
        with opened([CELL.format(boxes=scene(boxes), assigner=assigner)], where) as pair:
            yield pair
        return
    from playwright.sync_api import sync_playwright

    image = np.random.default_rng(0).random((100, 168, 3)).repeat(8, 0).repeat(8, 1).astype("float32")
    with TemporaryDirectory() as folder, sync_playwright() as play:
        path = AssignmentExplorer(image, scene(boxes), assigners=assigner).save_html(Path(folder) / "explorer.html")
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            page = browser.new_page(viewport={"width": 1500, "height": 1500})
            errors = watch(page)
            page.goto(path.as_uri())
            yield page, errors
        finally:
            browser.close()


def measure(boxes: int, assigner: str, moves: int, where: str) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Tables of each edit and slide, and errors."""
    tables: dict[str, list[pd.DataFrame]] = {}
    with page_of(boxes, assigner, where) as (page, errors):
        page.wait_for_function("() => document.querySelectorAll('.dsla-boxes .dsla-head').length === 5")
        page.wait_for_timeout(2000)
        page.evaluate(LISTEN)
        slider = page.locator(".dsla-field input[type=range]").first
        for name in ("edit", "slider") * 2:
            place = slider if name == "slider" else page.locator(".dsla-stage")
            place.scroll_into_view_if_needed()
            area = place.bounding_box()
            x, y, k = (645, 375, area["width"] / SIZE[1]) if name == "edit" else (40, 20, 0.4)
            move(page, moves, area["x"] + x * k, area["y"] + y * k, k)
            tables.setdefault(name, []).append(pd.DataFrame(page.evaluate("() => seen.splice(0)"), columns=COLUMNS))
    return {name: pd.concat(parts) for name, parts in tables.items()}, errors


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boxes", type=int, default=20)
    parser.add_argument("--assigner", default="dsla")
    parser.add_argument("--moves", type=int, default=150)
    parser.add_argument("--where", choices=("lab", "notebook", "voila", "file"), default="lab", help="the front end")
    o = parser.parse_args()
    tables, errors = measure(o.boxes, o.assigner, o.moves, o.where)
    print(f"{o.where}: {o.assigner}, {SIZE[0]} × {SIZE[1]}, {o.boxes} boxes, {o.moves} moves, twice; milliseconds")
    for name, table in tables.items():
        print(f"\n{name}: {len(table)} changes drawn")
        print(table.quantile([0.5, 0.9, 0.95, 0.99]).round(1).to_string())
    for error in errors:
        print("error:", error)
    return 1 if errors or any(table.empty for table in tables.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
