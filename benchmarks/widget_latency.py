"""From the mouse event in the browser to the new labels on the screen, while a box is dragged.

    python benchmarks/widget_latency.py [--boxes 20] [--assigner dsla] [--moves 150] [--threads 2]

JupyterLab and headless Chromium on this machine; one image of 800 × 1344, one assigner. For each edit whose labels were
drawn, the browser tells the time from its mouse event (`event.timeStamp`) until the labels were there, until the
canvases were drawn with them, and until the first task after that frame, when the pixels are on the screen. At
most two edits are on their way; what the mouse did in between is skipped. `echo` is the round trip of one integer
through a widget that does nothing, before and after: what JupyterLab costs on this machine at this time. Beside it
what the widget itself costs: kernel (assigning, packing, sending), drawing, and the messages of an edit.
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
CELL = """
import numpy as np, torch, dsla
torch.set_num_threads({threads})
import time
from dsla.widgets.surface import BoxSurface
spent, plain = [], BoxSurface._edited
def timed(*args):
    began = time.perf_counter()
    plain(*args)
    spent.append(1000 * (time.perf_counter() - began))
BoxSurface._edited = timed
image = np.random.default_rng(0).random((100, 168, 3)).repeat(8, 0).repeat(8, 1).astype('float32')
explorer = dsla.widgets.AssignmentExplorer(image, {boxes}, assigners={assigner!r})
explorer
"""
ECHO = """
import anywidget, traitlets
class Echo(anywidget.AnyWidget):
    _esm = '''export default { render({ model, el }) {
        window.echo = model;
        el.className = 'echo';
        model.on('change:said', () => window.heard?.());
    } }'''
    asked, said = traitlets.Int(0).tag(sync=True), traitlets.Int(0).tag(sync=True)
    spent = traitlets.List().tag(sync=True)
def answer(change):
    if change['new'] < 0:
        echo.spent = spent
    echo.said = change['new']
echo = Echo()
echo.observe(answer, 'asked')
echo
"""
ROUND_TRIPS = """async () => { const times = [];
for (let i = 0; i < 30; i++) {
  const start = performance.now(), answer = new Promise((done) => (window.heard = done));
  echo.set('asked', echo.get('asked') + 1);
  echo.save_changes();
  await answer;
  times.push(performance.now() - start);
  await new Promise((done) => setTimeout(done, 20));
}
return times; }"""
SPENT = """async () => { const answer = new Promise((done) => (window.heard = done));
echo.set('asked', -1); echo.save_changes(); await answer; return echo.get('spent'); }"""
LISTEN = """() => { window.seen = [];
document.querySelector('.dsla-boxes').addEventListener('dsla-labels', ({detail}) => {
  if (detail.event === null) return;
  const channel = new MessageChannel();
  const since = (time) => time - detail.event;
  const { received, drawn, painting } = detail;
  channel.port1.onmessage = () => seen.push([since(received), since(drawn), since(performance.now()), painting]);
  channel.port2.postMessage(0); // the event comes from within the frame's callback
}); }"""


def scene(count: int, seed: int = 0) -> list[list[float]]:
    """Boxes of log-uniform sides, 20 to 400 pixels, wholly in the image; the first is the one to drag."""
    g = torch.Generator().manual_seed(seed)
    side = torch.exp(torch.rand(count, 2, generator=g) * 3 + 3)
    corner = torch.rand(count, 2, generator=g) * (torch.tensor([SIZE[1], SIZE[0]]) - side)
    return [[600.0, 330.0, 690.0, 420.0], *torch.cat((corner, corner + side), 1).round().tolist()[1:]]


def measure(boxes: int, assigner: str, moves: int, threads: int) -> dict[str, Any]:
    """Milliseconds of every edit that was drawn, of the echo and in the kernel; bytes of the messages; errors."""
    cell = CELL.format(boxes=scene(boxes), assigner=assigner, threads=threads)
    sent: list[int] = []
    received: list[int] = []

    def count(socket: Any) -> None:
        socket.on("framesent", lambda data: sent.append(len(data)))
        socket.on("framereceived", lambda data: received.append(len(data)))

    with opened([ECHO, cell], prepare=lambda page: page.on("websocket", count)) as (page, errors):
        page.wait_for_selector(".dsla-boxes .dsla-head")
        page.wait_for_selector(".echo", state="attached")
        page.wait_for_timeout(2000)
        echo = page.evaluate(ROUND_TRIPS)
        stage = page.locator(".dsla-stage")
        stage.scroll_into_view_if_needed()
        area = stage.bounding_box()
        k = area["width"] / SIZE[1]
        page.evaluate(LISTEN)
        sent.clear(), received.clear()
        page.mouse.move(area["x"] + 645 * k, area["y"] + 375 * k)
        page.mouse.down()
        for i in range(moves):
            page.mouse.move(area["x"] + (645 + 3 * (i % 60)) * k, area["y"] + (375 + 2 * (i % 50)) * k)
            page.wait_for_timeout(16)  # as a mouse does: sixty times a second
        page.mouse.up()
        page.wait_for_timeout(500)
        seen, messages = page.evaluate("() => window.seen"), (list(sent), list(received))
        if "failed" in page.locator(".dsla-view").inner_text():
            errors.append("the widget shows an error")
        echo += page.evaluate(ROUND_TRIPS)
        times = pd.DataFrame(seen, columns=["labels there", "drawn", "on screen", "drawing itself"])
        spent = page.evaluate(SPENT)
    return {"times": times, "echo": echo, "kernel": spent, "messages": messages, "errors": errors}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boxes", type=int, default=20)
    parser.add_argument("--assigner", default="dsla")
    parser.add_argument("--moves", type=int, default=150)
    parser.add_argument("--threads", type=int, default=2, help="of the kernel's torch")
    options = parser.parse_args()
    found = measure(options.boxes, options.assigner, options.moves, options.threads)
    table, kernel, (sent, received) = found["times"], pd.Series(found["kernel"], dtype=float), found["messages"]
    quantiles = [0.1, 0.5, 0.9, 0.99]
    print(
        f"{options.assigner}, {SIZE[0]} × {SIZE[1]}, {options.boxes} boxes: {len(table)} edits drawn of {options.moves}"
    )
    print("milliseconds from the mouse event (of drawing, its own)")
    print(table.quantile(quantiles).round(1).to_string())
    echo = pd.Series(found["echo"]).quantile(quantiles)
    print("echo", echo.round(1).to_dict())
    print("kernel", kernel.quantile(quantiles).round(1).to_dict())
    print(f"on screen / echo, medians: {table['on screen'].median() / echo[0.5]:.2f}")
    edits = max(len(kernel), 1)
    for name, sizes in (("to the kernel", sent), ("from the kernel", received)):
        print(f"{name}: {len(sizes) / edits:.1f} messages an edit, {sum(sizes) / edits / 1000:.1f} kB")
    return 1 if found["errors"] or table.empty else 0


if __name__ == "__main__":
    sys.exit(main())
