"""Drives the widgets with a mouse in real front ends: `python tests/browser/drive.py FOLDER [WHERE …]`.

FOLDER is for the screenshots; WHERE is lab, own (a data set of one's own, in
JupyterLab), notebook, voila or file, by default all. Not part of the test suite: it
needs Chromium, `playwright`, `notebook`, `voila` and about two minutes. All that the mouse can do is tried in
JupyterLab; elsewhere, that every widget is drawn and answers. Exits non-zero at the first thing that is not as it
should be; ends its servers and browsers in any case.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from alone import alone
from cells import BOXES, BROWSER, EXPLORER, OWN, RANKING, REPLAY
from explorer import FROM_PYTHON, Mouse, check, explorer, field, wait
from lab import opened
from own import PLACE, gallery, written

SECONDS = {"lab": 200, "own": 150, "notebook": 90, "voila": 90, "file": 150}


def detections(page, shots):
    """Point at the outline of a box that NMS removed: the one that removed it is named; a slider follows."""
    page.wait_for_selector(".dsla-detections")
    page.locator(".dsla-browser").scroll_into_view_if_needed()
    note = page.locator(".dsla-browser .dsla-note").first
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
    told = "document.querySelector('.dsla-browser .dsla-note').textContent"
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
    page.locator(".dsla-view", has=page.locator(".dsla-replay")).locator("select").first.select_option("starts cold")
    wait(page, f"() => {index} === {frames}", "the last frame of the other recording")
    handle.focus()
    handle.press("Home")
    cold = "document.querySelector('.dsla-object').textContent"
    wait(page, f"() => {cold}.includes('taught 0.0')", "nothing taught yet: the first boxes fit nothing")
    page.screenshot(path=shots / "replay-cold.png")
    wrong = page.get_by_role("button", name="break it")
    message = "document.querySelector('.dsla-replay .dsla-wrong').textContent"
    wrong.click()
    wait(page, f"() => {message}.startsWith('TypeError')", "what went wrong in the browser, in the widget")
    page.screenshot(path=shots / "replay-error.png")
    wrong.click()
    wait(page, f"() => {message} === ''", "that it works again")


def own_data(shots):
    """A data set of one's own with a kernel; where its boxes are saved is a path, and never that of their file."""
    with TemporaryDirectory() as name:
        annotations = written(Path(name))
        os.environ["DSLA_OWN"] = str(annotations)
        with opened([EXPLORER.partition("rng")[0] + OWN], "lab") as (page, errors):
            try:
                gallery(page, shots, "own-lab", lambda: saved(page, annotations), annotations)
                page.get_by_label("without a point").check()
                wait(page, f"() => {PLACE} === '– of 1'", "under DSLA one picture has an object without a point")
                field(page, "method").select_option(label="TAL")
                wait(page, f"() => {PLACE} === '– of 0'", "under TAL, which only Python assigns, none has")
                assert not errors, f"errors in the console: {errors}"
            except BaseException:
                page.screenshot(path=shots / "failed-own.png")
                raise


def saved(page, annotations):
    path, button = page.locator(".dsla-path"), page.get_by_role("button", name="save boxes as COCO")
    path.fill(str(annotations))
    button.click()
    page.wait_for_selector(".dsla-error:has-text('read by this command')")
    path.fill(str(annotations.with_name("mine.json")))
    button.click()
    page.wait_for_selector(".dsla-boxes >> text=saved as")
    return annotations.with_name("mine.json")


def briefly(page, shots, where):
    """Every widget is drawn; a dragged box takes its labels along; a slider moves through the recorded run."""
    for name in ("boxes", "browser", "ranking", "replay"):
        page.wait_for_selector(f".dsla-{name} canvas")
    boxes = [list(b) for b in BOXES]
    check(page, boxes, f"{where}, as opened")
    mouse = Mouse(page)
    mouse.drag((130, 110), (230, 260))
    boxes[0] = mouse.hint()
    check(page, boxes, f"{where}, after the move")
    wait(page, FROM_PYTHON, f"{where}, Python's labels once the mouse rests")
    page.screenshot(path=shots / f"{where}.png", full_page=True)
    replay(page, shots, f"{where}-replay")


def main() -> int:
    shots = Path(sys.argv[1] if len(sys.argv) > 1 else "screenshots").absolute()
    shots.mkdir(parents=True, exist_ok=True)
    for where in sys.argv[2:] or SECONDS:
        began = time.perf_counter()
        signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError("the time is over")))
        signal.alarm(SECONDS[where])
        try:
            if where in ("file", "own"):
                (alone if where == "file" else own_data)(shots)
                continue
            with opened([EXPLORER, BROWSER, RANKING, REPLAY], where) as (page, errors):
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
            print(f"{where}: {time.perf_counter() - began:.0f} s")
    print(f"screenshots in {shots}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
