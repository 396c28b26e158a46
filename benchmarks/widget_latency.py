"""From the mouse event in the browser to the new labels on the screen, while a box is dragged.

    python benchmarks/widget_latency.py [--where lab|notebook|voila] [--nodelay] [--boxes 20] [--assigner dsla]

A real front end and headless Chromium on this machine, which draws without a graphics card; one image of 800 × 1344,
one assigner; the mouse moves sixty times a second. For each edit whose labels were drawn, the way from its mouse event
(`event.timeStamp`) in parts:

    waits      until the edit is sent: the browser's queue of events, and edits that are on their way
    to kernel  until the kernel's callback begins: browser, server, kernel
    kernel     assigning, packing and handing over to ZeroMQ
    to browser until the labels are there: kernel, server, browser, and what the server's TCP holds back
    to frame   until the canvases are drawn, in the next frame
    to screen  until the first task after that frame, when the pixels are out

`echo` is the same mouse over a widget that does nothing but answer with the number it was sent, in the same notebook,
before and after: what the way alone costs, and what no widget can go below. With --nodelay the server sends small
packets at once (TCP_NODELAY), which Jupyter's server does not: how much of the way is waiting for acknowledgements.
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
import time
import numpy as np, torch, dsla
from dsla.widgets.surface import BoxSurface
plain = BoxSurface._edited
def timed(self, widget, content, buffers):
    began = time.time()
    plain(self, widget, content, buffers)
    if content.get("type") == "edit":
        spent.append([content["seq"], 1000 * began, 1000 * time.time()])
BoxSurface._edited = timed
image = np.random.default_rng(0).random((100, 168, 3)).repeat(8, 0).repeat(8, 1).astype('float32')
explorer = dsla.widgets.AssignmentExplorer(image, {boxes}, assigners={assigner!r})
explorer
"""
ECHO = """
import time, anywidget, traitlets
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
document.querySelector('.dsla-boxes').addEventListener('dsla-labels', ({detail}) => {
  if (detail.event === null) return;
  const channel = new MessageChannel(), { seq, event, sent, received, drawn } = detail;
  channel.port1.onmessage = () => seen.push([seq, event, sent, received, drawn, performance.now()]);
  channel.port2.postMessage(0); // the event comes from within the frame's callback
}); }"""
NODELAY = """
from jupyter_server.services.kernels.websocket import KernelWebsocketHandler
plain = KernelWebsocketHandler.open
async def opened(self, *arguments, **options):
    self.set_nodelay(True)
    await plain(self, *arguments, **options)
KernelWebsocketHandler.open = opened
"""


def scene(count: int, seed: int = 0) -> list[list[float]]:
    """Boxes of log-uniform sides, 20 to 400 pixels, wholly in the image; the first is the one to drag."""
    g = torch.Generator().manual_seed(seed)
    side = torch.exp(torch.rand(count, 2, generator=g) * 3 + 3)
    corner = torch.rand(count, 2, generator=g) * (torch.tensor([SIZE[1], SIZE[0]]) - side)
    return [[600.0, 330.0, 690.0, 420.0], *torch.cat((corner, corner + side), 1).round().tolist()[1:]]


def times(page: Any, name: str) -> pd.DataFrame:
    """Milliseconds of the parts of each edit, `total` their sum."""
    seen = page.evaluate(f"() => [performance.timeOrigin, window.{name}]")
    page.evaluate("() => { window.spent = null; window.ask(); }")
    page.wait_for_function("() => window.spent")
    kernel = pd.DataFrame(page.evaluate("() => window.spent"), columns=["seq", "began", "ended"]).set_index("seq")
    origin, columns = seen[0], ["seq", "event", "sent", "received", "drawn", "out"]
    table = pd.DataFrame(seen[1], columns=columns).set_index("seq").join(kernel, how="inner")
    table[["began", "ended"]] -= origin  # on the same clock, that of this machine
    marks = table[["event", "sent", "began", "ended", "received", "drawn", "out"]]
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


def measure(boxes: int, assigner: str, moves: int, where: str, nodelay: bool) -> tuple[dict[str, Any], list[str]]:
    """Tables of the parts of each edit and echo, and errors."""
    cell = CELL.format(boxes=scene(boxes), assigner=assigner)
    with opened([ECHO, cell], where, config=NODELAY if nodelay else "") as (page, errors):
        page.wait_for_selector(".dsla-boxes .dsla-head")
        stage, echo = page.locator(".dsla-stage"), page.locator(".echo")
        page.wait_for_timeout(2000)
        page.evaluate(LISTEN)
        found = []
        for place, x, y in ((echo, 20, 10), (stage, 645, 375), (echo, 20, 10)):
            place.scroll_into_view_if_needed()
            area = place.bounding_box()
            k = area["width"] / SIZE[1] if place is stage else 0.3
            move(page, moves, area["x"] + x * k, area["y"] + y * k, k)
            found.append(times(page, "seen" if place is stage else "echoes"))
        if page.locator(".dsla-error").count():
            errors.append("the widget shows an error")
    return {"edit": found[1], "echo": pd.concat([found[0], found[2]])}, errors


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boxes", type=int, default=20)
    parser.add_argument("--assigner", default="dsla")
    parser.add_argument("--moves", type=int, default=150)
    parser.add_argument("--where", choices=("lab", "notebook", "voila"), default="lab", help="the front end")
    parser.add_argument("--nodelay", action="store_true", help="a server that sends small packets at once")
    o = parser.parse_args()
    tables, errors = measure(o.boxes, o.assigner, o.moves, o.where, o.nodelay)
    print(f"{o.where}: {o.assigner}, {SIZE[0]} × {SIZE[1]}, {o.boxes} boxes, {o.moves} moves; milliseconds")
    for name, table in tables.items():
        print(f"\n{name}: {len(table)} answers drawn")
        print(table.quantile([0.1, 0.5, 0.9, 0.99]).round(1).to_string())
    edit, echo = (tables[name]["total"].median() for name in ("edit", "echo"))
    print(f"\nmedians: edit {edit:.1f}, echo {echo:.1f}, ratio {edit / echo:.2f}")
    for error in errors:
        print("error:", error)
    return 1 if errors or tables["edit"].empty else 0


if __name__ == "__main__":
    sys.exit(main())
