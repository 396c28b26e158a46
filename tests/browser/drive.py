"""Drives the widgets with a mouse in real front ends: `python tests/browser/drive.py FOLDER [WHERE …]`.

FOLDER is for the screenshots; WHERE is lab, notebook or voila, by default all three. Not part of the test suite: it
needs Chromium, `playwright`, `notebook`, `voila` and about two minutes. All that the mouse can do is tried in
JupyterLab; elsewhere, that every widget is drawn and answers. Exits non-zero at the first thing that is not as it
should be; ends its servers and browsers in any case.
"""

from __future__ import annotations

import json
import re
import signal
import sys
import time
from pathlib import Path

import torch
from cells import BOXES, BROWSER, EXPLORER, RANKING, REPLAY, SIZE
from lab import opened
from PIL import Image

from dsla import PointGrid
from dsla.assigners import DSLA, FCOS

STRIDES = (8, 16, 32, 64, 128)
HEADS = (
    "[...document.querySelectorAll('.dsla-boxes .dsla-head')]"
    r".map(h => Number(h.textContent.match(/(\d+) pts/)?.[1]))"
)
SHUT = ("notebook",)  # where the kernel's own socket is kept shut, so that the widget's messages are tried as well
SECONDS = {"lab": 200, "notebook": 90, "voila": 90}


def expected(boxes, assigner, offset):
    """Points of each level, and of each object, by the assigner itself."""
    grid = PointGrid(SIZE, STRIDES, offset)
    a = assigner(grid, [torch.tensor(boxes)], [torch.arange(len(boxes))], image_sizes=[SIZE])
    return [int((level >= 0).sum()) for level in a.gt_index[0].split(grid.num_points)], a.counts().tolist()


def heads(page):
    return [int(re.search(r"(\d+) pts", t)[1]) for t in page.locator(".dsla-boxes .dsla-head").all_inner_texts()]


def check(page, boxes, what):
    """The heads of the ten panels say what the assigners say of these boxes."""
    wanted = expected(boxes, FCOS(), 0.5)[0] + expected(boxes, DSLA(), 0.0)[0]
    wait(page, f"() => JSON.stringify({HEADS}) === '{wanted}'.replaceAll(' ', '')", f"{what}: {wanted}")


def colour(page, panel, x, y):
    """Pixel of a level's panel at (x, y) of the image."""
    return page.evaluate(
        """([n, x, y, W]) => { const c = document.querySelectorAll('.dsla-level')[n], k = c.width / W;
        return [...c.getContext('2d').getImageData(Math.round(x * k), Math.round(y * k), 1, 1).data]; }""",
        [panel, x, y, SIZE[1]],
    )


def coloured(pixel):
    return max(pixel[:3]) - min(pixel[:3]) > 60


class Mouse:
    """The mouse over the large picture, in pixels of the image."""

    def __init__(self, page):
        self.page = page
        page.locator(".dsla-stage").scroll_into_view_if_needed()
        self.box = page.locator(".dsla-stage").bounding_box()
        self.k = self.box["width"] / SIZE[1]

    def at(self, x, y):
        return self.box["x"] + x * self.k, self.box["y"] + y * self.k

    def drag(self, start, end, steps=8):
        self.page.mouse.move(*self.at(*start))
        self.page.mouse.down()
        self.page.mouse.move(*self.at(*end), steps=steps)
        self.page.mouse.up()

    def hint(self):
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return [float(v) for v in self.page.locator(".dsla-hint").inner_text().split(", ")]


def explorer(page, shots):
    page.wait_for_selector(".dsla-boxes .dsla-head")
    boxes = [list(b) for b in BOXES]
    check(page, boxes, "as opened")
    page.screenshot(path=shots / "explorer.png")
    mouse = Mouse(page)

    # Move: the labels follow, and leave where the box was.
    p4 = 6  # DSLA's row, P4
    assert coloured(colour(page, p4, 140, 120)), "labels where the box is"
    mouse.drag((130, 110), (230, 260))
    boxes[0] = mouse.hint()
    assert max(abs(a - b) for a, b in zip(boxes[0], (180, 210, 300, 330), strict=True)) < 3, boxes[0]
    check(page, boxes, "after the move")
    assert way(page) == "wire", way(page)
    assert coloured(colour(page, p4, *centre(boxes[0]))), "labels where the box went"
    assert not coloured(colour(page, p4, 140, 120)), "no labels where the box was"
    page.screenshot(path=shots / "explorer-moved.png")

    # Resize by a corner; draw outside all boxes; class; delete.
    mouse.drag((boxes[0][2], boxes[0][3]), (boxes[0][2] - 40, boxes[0][3] + 40))
    boxes[0] = mouse.hint()
    check(page, boxes, "after resizing")
    mouse.drag((560, 40), (630, 160))
    boxes.append(mouse.hint())
    check(page, boxes, "after drawing")
    page.locator(".dsla-class").select_option("1")
    dogs = "[...document.querySelectorAll('.dsla-counts td')].filter(t => t.textContent === 'dog').length"
    wait(page, f"() => {dogs} === 2", "the new class in the table")
    page.locator(".dsla-delete").click()
    boxes.pop()
    check(page, boxes, "after deleting")

    # Hover a point of DSLA's P4: its rules are shown.
    panel = page.locator(".dsla-level").nth(p4)
    panel.scroll_into_view_if_needed()
    area, (x, y) = panel.bounding_box(), centre(boxes[0])
    page.mouse.move(area["x"] + x * area["width"] / SIZE[1], area["y"] + y * area["height"] / SIZE[0])
    page.wait_for_selector(".dsla-point >> text=dsla: won by object 0")
    assert "interval relaxation" in page.locator(".dsla-point").inner_text()
    page.screenshot(path=shots / "explorer-hover.png")

    # A slider: hard ranges leave DSLA fewer points.
    before, said = heads(page), page.locator(".dsla-point").inner_text()
    slider = page.locator(".widget-slider", has_text="relaxation").locator(".noUi-handle")
    slider.focus()
    for _ in range(4):
        slider.press("ArrowLeft")
    totals = expected(boxes, DSLA(relaxation=0), 0.0)[0]
    wait(page, f"() => JSON.stringify({HEADS}.slice(5)) === '{totals}'.replaceAll(' ', '')", "the slider's labels")
    assert heads(page)[:5] == before[:5], "FCOS has no relaxation"
    assert totals != before[5:]
    told = "document.querySelector('.dsla-point').innerText"
    wait(page, f"() => {told} !== {json.dumps(said)}", "what holds of the point now")

    # The same slider by the mouse: the labels follow before it is let go, and stay.
    area = slider.bounding_box()
    page.mouse.move(area["x"] + area["width"] / 2, area["y"] + area["height"] / 2)
    page.mouse.down()
    page.mouse.move(area["x"] + 400, area["y"], steps=12)
    most = expected(boxes, DSLA(relaxation=0.95), 0.0)[0]
    follows = f"() => JSON.stringify({HEADS}.slice(5)) === '{most}'.replaceAll(' ', '')"
    wait(page, follows, "the labels, with the mouse still down")
    assert way(page) == "wire", way(page)
    page.mouse.up()
    page.wait_for_timeout(600)
    wait(page, follows, "the labels, after the mouse is up")

    # An exception in a callback is shown, and goes when the cause does.
    text = page.locator("input[type=text]").locator("visible=true").first
    old = text.input_value()
    text.fill("64 0 nonsense")
    text.press("Enter")
    page.wait_for_selector(".dsla-error")
    assert "DataError: range bounds" in page.locator(".dsla-error").inner_text()
    page.screenshot(path=shots / "explorer-error.png")
    text.fill(old)
    text.press("Enter")
    page.wait_for_selector(".dsla-error", state="detached")

    # Files and code.
    for name, ending in (("PNG", ".png"), ("CSV", ".csv")):
        with page.expect_download() as waiting:
            page.get_by_role("button", name=name, exact=True).click()
        content = Path(waiting.value.path()).read_bytes()
        assert waiting.value.suggested_filename.endswith(ending)
        assert content.startswith(b"\x89PNG" if name == "PNG" else b"assigner,image,point"), content[:40]
        if name == "PNG":
            (shots / "explorer-export.png").write_bytes(content)
    page.get_by_role("button", name="copy as Python").click()
    texts = "[...document.querySelectorAll('textarea')].map(t => t.value).join()"
    wait(page, f"() => {texts}.includes('DSLA(regress_ranges')", "the code")

    # The user's own file.
    Image.new("RGB", (320, 200), (200, 120, 40)).save(shots / "upload.png")
    with page.expect_file_chooser() as waiting:
        page.get_by_role("button", name="your own image").click()
    waiting.value.set_files(shots / "upload.png")
    wait(page, f"() => {HEADS}.every(n => n === 0)", "no labels on the new image")
    (shots / "upload.png").unlink()
    page.locator(".dsla-stage").scroll_into_view_if_needed()
    stage = page.locator(".dsla-stage").bounding_box()
    page.mouse.move(stage["x"] + 0.2 * stage["width"], stage["y"] + 0.2 * stage["height"])
    page.mouse.down()
    page.mouse.move(stage["x"] + 0.7 * stage["width"], stage["y"] + 0.8 * stage["height"], steps=5)
    page.mouse.up()
    wait(page, f"() => {HEADS}.reduce((a, b) => a + b) > 0", "labels of the box drawn on the upload")
    page.screenshot(path=shots / "explorer-upload.png")


def detections(page, shots):
    """Point at the outline of a box that NMS removed: the one that removed it is named; a slider follows."""
    page.wait_for_selector(".dsla-detections")
    page.locator(".dsla-found").scroll_into_view_if_needed()
    note = page.locator(".dsla-found .dsla-note").first
    assert note.inner_text() == "1 hit, 0 duplicates, 0 false, 0 of 1 missed · NMS removed 1", note.inner_text()
    area = page.locator(".dsla-detections").first.bounding_box()
    k = area["width"] / 128
    page.mouse.move(area["x"] + 30 * k, area["y"] + 45.5 * k)
    text = page.locator(".dsla-suppressed").first
    wait(page, "() => document.querySelector('.dsla-suppressed').textContent.includes('better box went')", "the reason")
    assert "removed by the box of score 0.900" in text.inner_text()
    page.screenshot(path=shots / "detections.png")
    handle = page.locator(".widget-slider", has_text="NMS IoU").locator(".noUi-handle")
    handle.focus()
    for _ in range(6):
        handle.press("ArrowRight")
    told = "document.querySelector('.dsla-found .dsla-note').textContent"
    wait(page, f"() => {told}.startsWith('1 hit, 1 duplicate')", "the duplicate at NMS IoU 0.66")


def ranking(page, shots):
    """Drag a region of the scatter, click a point, point at a box: each finds the others."""
    canvas = page.locator(".dsla-scatter")
    canvas.scroll_into_view_if_needed()
    area = canvas.bounding_box()
    side, left, bottom, pad = 430, 40, 34, 8

    def at(score, iou):
        return area["x"] + left + score * (side - left - pad), area["y"] + side - bottom - iou * (side - bottom - pad)

    page.mouse.move(*at(0.8, 0.6))
    page.mouse.down()
    page.mouse.move(*at(0.99, 0.85), steps=6)
    told = "document.querySelector('.dsla-chosen').textContent"
    note = "1 detection chosen, on 1 image · mean score 0.90, mean IoU 0.71"
    wait(page, f"() => {told} === '{note}'", "what the region holds, with the mouse still down")
    page.mouse.up()
    page.screenshot(path=shots / "ranking-region.png")
    page.mouse.click(*at(0.6, 0.9))
    wait(page, f"() => {told}.endsWith('mean score 0.60, mean IoU 0.90')", "the point that was clicked")
    image = page.locator(".dsla-image").first.bounding_box()
    k = image["width"] / 128
    page.mouse.move(image["x"] + 11 * k, image["y"] + 30 * k)
    text = "document.querySelector('.dsla-ranking .dsla-told').textContent"
    wait(page, f"() => {text}.includes('score 0.600')", "the box")
    page.screenshot(path=shots / "ranking-point.png")


def replay(page, shots, name="replay"):
    """The slider moves through the run: other maps, other boxes, another step in the title."""
    page.locator(".dsla-replay").scroll_into_view_if_needed()
    title, pixels = page.locator(".dsla-step"), "document.querySelectorAll('.dsla-taught')[0].toDataURL()"
    frames = page.evaluate("() => Number(document.querySelector('.dsla-replay').dataset.index)")
    assert frames > 30, frames
    page.screenshot(path=shots / f"{name}-end.png")
    last, drawn = title.inner_text(), page.evaluate(f"() => {pixels}")
    handle = page.locator(".dsla-view", has=page.locator(".dsla-replay")).locator(".widget-slider .noUi-handle")
    handle.focus()
    handle.press("Home")
    wait(page, "() => document.querySelector('.dsla-replay').dataset.index === '0'", "the first frame")
    assert " after step 1 of " in title.inner_text() != last, title.inner_text()
    assert page.evaluate(f"() => {pixels}") != drawn, "other labels"
    page.screenshot(path=shots / f"{name}-start.png")
    if name != "replay":
        return
    page.locator(".dsla-objects").scroll_into_view_if_needed()
    area = page.locator(".dsla-objects").bounding_box()
    page.mouse.click(area["x"] + 200, area["y"] + 60)  # the curves are a slider, too
    index = "Number(document.querySelector('.dsla-replay').dataset.index)"
    wait(page, f"() => {index} > 5", "the frame clicked in the curves")
    page.locator(".dsla-view select").last.select_option(index=1)
    wait(page, f"() => {pixels} !== '{drawn}'", "the other image")
    page.screenshot(path=shots / "replay-middle.png")
    wrong = page.get_by_role("button", name="break it")
    said = "document.querySelector('.dsla-replay .dsla-wrong').textContent"
    wrong.click()
    wait(page, f"() => {said}.startsWith('TypeError')", "what went wrong in the browser, in the widget")
    page.screenshot(path=shots / "replay-error.png")
    wrong.click()
    wait(page, f"() => {said} === ''", "that it works again")


def briefly(page, shots, where):
    """Every widget is drawn; a dragged box takes its labels along; a slider moves through the recorded run."""
    for name in ("boxes", "found", "ranking", "replay"):
        page.wait_for_selector(f".dsla-{name} canvas")
    boxes = [list(b) for b in BOXES]
    check(page, boxes, f"{where}, as opened")
    mouse = Mouse(page)
    mouse.drag((130, 110), (230, 260))
    boxes[0] = mouse.hint()
    check(page, boxes, f"{where}, after the move")
    assert way(page) == ("message" if where in SHUT else "wire"), way(page)
    page.screenshot(path=shots / f"{where}.png", full_page=True)
    replay(page, shots, f"{where}-replay")


def way(page):
    """By which the labels that are shown have come."""
    return page.locator(".dsla-boxes").get_attribute("data-way")


def centre(box):
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def wait(page, condition, what):
    try:
        page.wait_for_function(condition, timeout=15_000)
    except Exception as error:
        raise AssertionError(f"{what} did not come; panels say {heads(page)}") from error


def main() -> int:
    shots = Path(sys.argv[1] if len(sys.argv) > 1 else "screenshots").absolute()
    shots.mkdir(parents=True, exist_ok=True)
    for where in sys.argv[2:] or SECONDS:
        began = time.perf_counter()
        signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError("the time is over")))
        signal.alarm(SECONDS[where])
        try:
            with opened([EXPLORER, BROWSER, RANKING, REPLAY], where, where not in SHUT) as (page, errors):
                try:
                    if where == "lab":
                        for part in (explorer, detections, ranking, replay):
                            part(page, shots)
                    else:
                        briefly(page, shots, where)
                    assert not errors, f"errors in the console: {errors}"
                except BaseException:
                    page.screenshot(path=shots / f"failed-{where}.png")
                    print("console:", *errors, sep="\n  ")
                    raise
        finally:
            signal.alarm(0)
        print(f"{where}: all as expected, {time.perf_counter() - began:.0f} s")
    print(f"screenshots in {shots}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
