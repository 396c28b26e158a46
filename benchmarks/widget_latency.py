"""From the mouse event in the browser to the new labels on the screen, while a box or a slider is dragged.

    python benchmarks/widget_latency.py [--where lab|notebook|voila] [--boxes 20] [--assigner dsla]

A real front end and headless Chromium on this machine, which draws without a graphics card; one image of 800 × 1344,
one assigner; the mouse moves sixty times a second. In turn, in one notebook:

    edit       a box of an explorer is dragged; edits go through the kernel's own socket, see `dsla.widgets.wire`
    messages   the same in an explorer whose socket is shut, as where the kernel is on another machine
    slider     the explorer's slider of the relaxation is dragged
    echo       a widget that does nothing but answer with the number it was sent: what a widget's message alone costs

For each change whose labels were drawn, the way from its mouse event (`event.timeStamp`) in parts:

    waits      until the change is sent: the browser's queue of events, and edits that are on their way
    to kernel  until the kernel's callback begins
    kernel     assigning and packing
    to browser until the labels are there
    to frame   until the canvases are drawn, in the next frame
    to screen  until the first task after that frame, when the pixels are out
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "browser"))
from lab import opened

SIZE = (800, 1344)
PARTS = ["waits", "to kernel", "kernel", "to browser", "to frame", "to screen"]
CELL = """
import numpy as np, torch, dsla
from dsla.widgets.explorer import AssignmentExplorer
update = AssignmentExplorer.update
def timed(self):
    began = time.time()
    update(self)
    spent.append([self.surface.frame['turn'], 1000 * began, 1000 * time.time()])
AssignmentExplorer.update = timed
image = np.random.default_rng(0).random((100, 168, 3)).repeat(8, 0).repeat(8, 1).astype('float32')
def made():
    return AssignmentExplorer(image, {boxes}, assigners={assigner!r})
explorer = made()
explorer
"""
MESSAGES = """
shut = made()
shut.surface.address = ""
shut
"""
ECHO = """
import time, anywidget
spent = []
class Echo(anywidget.AnyWidget):
    _esm = '''export default { render({ model, el }) {
        let seq = 0;
        const asked = new Map(), channel = new MessageChannel();
        const area = document.createElement('div');
        area.className = 'echo';
        area.style.height = '100px';
        el.append(area);
        area.addEventListener('pointermove', (e) => {
            asked.set(++seq, [e.timeStamp, performance.now()]);
            model.send({ seq });
        });
        model.on('msg:custom', (message) => {
            if (message.spent) return (window.spent = message.spent);
            const received = performance.now(), [event, sent] = asked.get(message.seq);
            requestAnimationFrame(() => {
                const times = [message.seq, event, sent, received, performance.now()];
                channel.port1.onmessage = () => window.echoes.push([...times, performance.now()]);
                channel.port2.postMessage(0);
            });
        });
        window.echoes = [];
        window.ask = () => model.send({ ask: true });
    } }'''
def answer(widget, content, buffers):
    began = time.time()
    widget.send({'spent': spent} if 'ask' in content else content)
    if 'ask' in content:
        spent.clear()
    else:
        spent.append([content['seq'], 1000 * began, 1000 * time.time()])
echo = Echo()
echo.on_msg(answer)
echo
"""
LISTEN = """() => { window.seen = [];
for (const root of document.querySelectorAll('.dsla-boxes')) root.addEventListener('dsla-labels', ({detail}) => {
  const channel = new MessageChannel(), { turn, event, sent, received, drawn } = detail;
  if (event === null) return; // what no mouse asked for
  channel.port1.onmessage = () => seen.push([turn, event, sent, received, drawn, performance.now()]);
  channel.port2.postMessage(0); // the event comes from within the frame's callback
}); }"""


def scene(count: int, seed: int = 0) -> list[list[float]]:
    """Boxes of log-uniform sides, 20 to 400 pixels, wholly in the image; the first is the one to drag."""
    g = torch.Generator().manual_seed(seed)
    side = torch.exp(torch.rand(count, 2, generator=g) * 3 + 3)
    corner = torch.rand(count, 2, generator=g) * (torch.tensor([SIZE[1], SIZE[0]]) - side)
    return [[600.0, 330.0, 690.0, 420.0], *torch.cat((corner, corner + side), 1).round().tolist()[1:]]


def times(page: Any, name: str) -> pd.DataFrame:
    """Milliseconds of the parts of each change since the last call, `total` their sum."""
    origin, rows = page.evaluate(f"() => [performance.timeOrigin, window.{name}]")
    page.evaluate("() => { window.spent = null; window.ask(); }")
    page.wait_for_function("() => window.spent")
    kernel = pd.DataFrame(page.evaluate("() => window.spent"), columns=["turn", "began", "ended"])
    kernel[["began", "ended"]] -= origin  # on the same clock, that of this machine
    columns = ["turn", "event", "sent", "received", "drawn", "out"]
    table = pd.DataFrame(rows, columns=columns).merge(kernel, on="turn")
    marks = table[["event", "sent", "began", "ended", "received", "drawn", "out"]].astype(float)
    parts = marks.diff(axis=1).iloc[:, 1:].set_axis(PARTS, axis=1)
    page.evaluate(f"() => (window.{name}.length = 0)")
    return parts.assign(total=marks["out"] - marks["event"])


def move(page: Any, moves: int, x: float, y: float, k: float) -> None:
    """Presses the mouse at a place and moves it about, sixty times a second."""
    page.mouse.move(x, y)
    page.mouse.down()
    for i in range(moves):
        page.mouse.move(x + 3 * (i % 60) * k, y + 2 * (i % 50) * k)
        page.wait_for_timeout(16)
    page.mouse.up()
    page.wait_for_timeout(500)


def measure(boxes: int, assigner: str, moves: int, where: str) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Tables of the parts of each edit, slide and echo, and errors."""
    cells = [ECHO, CELL.format(boxes=scene(boxes), assigner=assigner), MESSAGES]
    found: dict[str, list[pd.DataFrame]] = {}
    with opened(cells, where) as (page, errors):
        page.wait_for_function("() => document.querySelectorAll('.dsla-boxes .dsla-head').length === 10")
        page.wait_for_timeout(2000)
        page.evaluate(LISTEN)
        views, slider = page.locator(".dsla-stage"), page.locator(".widget-slider", has_text="relaxation")
        places = {"edit": views.first, "messages": views.last, "slider": slider.first.locator(".noUi-handle")}
        for name in ("echo", "edit", "messages", "slider") * 2:
            place = places.get(name, page.locator(".echo"))
            place.scroll_into_view_if_needed()
            area = place.bounding_box()
            x, y, k = (645, 375, area["width"] / SIZE[1]) if name in ("edit", "messages") else (20, 20, 0.4)
            move(page, moves, area["x"] + x * k, area["y"] + y * k, k)
            found.setdefault(name, []).append(times(page, "echoes" if name == "echo" else "seen"))
        if page.locator(".dsla-error").count():
            errors.append("the widget shows an error")
    return {name: pd.concat(tables) for name, tables in found.items()}, errors


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boxes", type=int, default=20)
    parser.add_argument("--assigner", default="dsla")
    parser.add_argument("--moves", type=int, default=150)
    parser.add_argument("--where", choices=("lab", "notebook", "voila"), default="lab", help="the front end")
    o = parser.parse_args()
    tables, errors = measure(o.boxes, o.assigner, o.moves, o.where)
    print(f"{o.where}: {o.assigner}, {SIZE[0]} × {SIZE[1]}, {o.boxes} boxes, {o.moves} moves, twice; milliseconds")
    for name, table in tables.items():
        print(f"\n{name}: {len(table)} answers drawn")
        print(table.quantile([0.1, 0.5, 0.9, 0.99]).round(1).to_string())
    medians = {name: table["total"].median() for name, table in tables.items()}
    print("\nmedians: " + ", ".join(f"{name} {median:.1f}" for name, median in medians.items()))
    print("as a share of messages: " + ", ".join(f"{n} {m / medians['messages']:.2f}" for n, m in medians.items()))
    for error in errors:
        print("error:", error)
    return 1 if errors or any(table.empty for table in tables.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
