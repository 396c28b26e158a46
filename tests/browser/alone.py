"""The explorer's page from a disk, without a kernel, at the size of a desktop and of a phone."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from explorer import HEADS, Mouse, field, wait
from lab import CHROMIUM, FLAGS, watch
from own import gallery, written
from PIL import Image

from dsla import Scenes
from dsla.assigners import DSLA, FCOS
from dsla.geometry import Frame
from dsla.widgets import AssignmentExplorer

SCREENS = {
    "desktop": {"viewport": {"width": 1280, "height": 900}},
    "phone": {
        "viewport": {"width": 390, "height": 844},
        "has_touch": True,
        "is_mobile": True,
        "device_scale_factor": 2,
    },
}
PAGE = Path(__file__).parents[2] / "docs" / "explorer.html"


def expected(boxes, *assigners):
    """Points of each level of built-in scene 5."""
    frame = Frame.of((512, 512))
    totals = []
    for a in assigners:
        grid = frame.grid((8, 16, 32, 64, 128), a.point_offset)
        index = a(grid, [boxes], [[0] * len(boxes)], image_sizes=[frame.size]).gt_index[0]
        totals += [int((level >= 0).sum()) for level in index.split(grid.num_points)]
    return totals


def wait_for_heads(page, wanted, what):
    wait(page, f"() => JSON.stringify({HEADS}) === '{wanted}'.replaceAll(' ', '')", f"{what}: {wanted}")


def alone(shots):
    from playwright.sync_api import sync_playwright

    boxes = Scenes("test", size=6, image_size=512)[5][1]["boxes"].tolist()
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            desktop(browser, shots, [list(b) for b in boxes])
            phone(browser, shots, [list(b) for b in boxes])
            own_data(browser, shots)
        finally:
            browser.close()


def desktop(browser, shots, boxes):
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    page = context.new_page()
    errors, requests = watch(page), []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(PAGE.as_uri())
    wait_for_heads(page, expected(boxes, FCOS(), DSLA()), "as opened")
    mouse = Mouse(page, 512)
    mouse.drag((180, 60), (120, 250), steps=12)
    boxes[1] = mouse.hint()
    wait_for_heads(page, expected(boxes, FCOS(), DSLA()), "after the move")
    field(page, "relaxation").fill("0.4")
    wait_for_heads(page, expected(boxes, FCOS(), DSLA(relaxation=0.4)), "another relaxation")
    field(page, "IoU coupling").select_option(label="jittered boxes")
    page.wait_for_selector(".dsla-note >> text=label × IoU of the predicted box")
    page.mouse.move(*mouse.at(boxes[1][0] + 70, boxes[1][1] + 70))
    page.wait_for_selector(".dsla-why >> text=taught label")
    page.locator(".dsla-boxes").scroll_into_view_if_needed()
    page.screenshot(path=shots / "file.png", full_page=True)
    snapshot = page.locator(".dsla-boxes").aria_snapshot()
    for line in ('group "Method 2"', 'slider "relaxation"', 'checkbox "core zone"', 'application "4 objects'):
        assert line in snapshot, (line, snapshot)

    tour(page)

    # The view is in the address once the hand rests; one of another version is refused with a word.
    page.wait_for_timeout(500)
    again = context.new_page()
    again.goto(page.url)
    wait_for_heads(again, expected(boxes, FCOS(), DSLA(relaxation=0.4)), "the view of the address")
    newer = context.new_page()
    newer.goto(page.url.replace("#v=1&", "#v=2&"))
    newer.wait_for_selector(".dsla-wrong >> text=a view of version 2; this page reads version 1")
    cut = context.new_page()
    cut.goto(page.url[:-40])
    cut.wait_for_selector(".dsla-wrong >> text=damaged")
    assert not errors, errors
    assert [url for url in requests if not url.startswith(("file:", "blob:", "data:"))] == []
    context.close()


def tour(page):
    """A question of the tour is answered by a drag; leaving it brings back what was there."""
    heads = page.evaluate(HEADS)
    page.get_by_role("button", name="tour", exact=True).click()
    verdict = page.locator(".dsla-verdict")
    page.wait_for_selector(".dsla-verdict >> text=Not yet: on each level all points inside the box are taught the same")
    Mouse(page, 512).drag((286, 286), (330, 330))
    page.wait_for_selector(".dsla-verdict >> text=Yes: on P3 the points")
    snapshot = page.locator(".dsla-tour").aria_snapshot()
    for line in (
        'region "tour"',
        'status: "✓ Yes',
        'button "back" [disabled]',
        'button "next"',
        'button "leave the tour"',
    ):
        assert line in page.locator(".dsla-main").aria_snapshot(), (line, snapshot)
    for number, title in enumerate(("One level or two", "The core", "Whose point?", "Nobody learns it", "So poor"), 2):
        page.get_by_role("button", name="next", exact=True).click()
        page.wait_for_selector(f".dsla-tour b >> text={number} of 6 · {title}")
        assert "Not yet" in verdict.inner_text()
    page.get_by_role("button", name="end", exact=True).click()
    wait_for_heads(page, heads, "after the tour")


def phone(browser, shots, boxes):
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, device_scale_factor=2,
        color_scheme="dark",
    )  # fmt: skip
    page = context.new_page()
    errors = watch(page)
    page.goto(PAGE.as_uri())
    wait_for_heads(page, expected(boxes, FCOS(), DSLA()), "on the phone")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    stage = page.locator(".dsla-stage")
    stage.scroll_into_view_if_needed()
    area = stage.bounding_box()
    k = area["width"] / 512
    page.touchscreen.tap(area["x"] + 180 * k, area["y"] + 60 * k)
    page.wait_for_selector(".dsla-why >> text=learns object 1")

    # A finger drags; a gesture that the system takes over leaves the box where it was.
    client = context.new_cdp_session(page)

    def touch(kind, *point):
        points = [{"x": area["x"] + point[0] * k, "y": area["y"] + point[1] * k}] if point else []
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 180, 60)
    for i in range(1, 9):
        touch("touchMove", 180 - 8 * i, 60 + 20 * i)
    touch("touchCancel")
    wait_for_heads(page, expected(boxes, FCOS(), DSLA()), "after a cancelled gesture")
    touch("touchStart", 180, 60)
    for i in range(1, 9):
        touch("touchMove", 180 - 8 * i, 60 + 20 * i)
    touch("touchEnd")
    text = page.locator(".dsla-bar .dsla-hint").first
    wait(page, f"() => JSON.stringify({HEADS}) !== '{json.dumps(expected(boxes, FCOS(), DSLA()))}'", "the move")
    boxes[1] = [float(v) for v in re.findall(r"[\d.]+", text.inner_text())]
    wait_for_heads(page, expected(boxes, FCOS(), DSLA()), "after the finger")
    page.screenshot(path=shots / "phone.png", full_page=True)
    Image.new("RGB", (3000, 4000), (90, 120, 60)).save(shots / "upload.jpg")
    page.locator("input[type=file]").set_input_files(shots / "upload.jpg")
    page.wait_for_selector(".dsla-boxes >> text=shrunk from 3000 × 4000 to 1008 × 1344 pixels")
    (shots / "upload.jpg").unlink()
    assert not errors, errors
    context.close()


def own_data(browser, shots):
    """A data set's pictures: stepped through, filtered, classes named, boxes saved, on a desktop and on a phone."""
    with TemporaryDirectory() as name:
        annotations = written(Path(name))
        path = AssignmentExplorer(annotations, assigners="dsla").save_html(Path(name) / "page.html")
        for kind, options in SCREENS.items():
            context = browser.new_context(accept_downloads=True, **options)
            page = context.new_page()
            errors = watch(page)
            page.goto(path.as_uri())
            save = partial(downloaded, page, Path(name) / f"{kind}.json")
            gallery(page, shots, f"own-{kind}", save, annotations)
            if kind == "phone":
                assert page.evaluate("document.documentElement.scrollWidth") <= 390
            address(context, page, path)
            assert not errors, errors
            context.close()


def downloaded(page, path):
    with page.expect_download() as waiting:
        page.get_by_role("button", name="save boxes as COCO").click()
    assert waiting.value.suggested_filename == "boxes.json"
    waiting.value.save_as(path)
    return path


def address(context, page, path):
    """The number of the picture is in the address, with names of classes and boxes of pictures left before."""
    assert "%22scene%22%3A2" in page.url
    again = context.new_page()
    again.goto(page.url)
    wait(
        again,
        "() => document.querySelector('.dsla-pictures').selectedOptions[0]?.text.includes('c.png')",
        "its picture",
    )
    names = "[...document.querySelector('.dsla-class').options].map((o) => o.text).join()"
    wait(again, f"() => {names} === 'dog,mug,bird'", "the names of classes")
    again.get_by_label("picture", exact=True).select_option("0")
    listed = "document.querySelector('.dsla-list').textContent"
    wait(again, f"() => {listed}.includes('bird') || {listed}.includes('mug')", "the boxes of the picture before")
    again.locator(".dsla-stage").focus()
    again.keyboard.press("Tab")
    hint = "document.querySelector('.dsla-bar .dsla-hint').textContent"
    wait(again, f"() => {hint}.startsWith('41.3, 40.1')", "moved by a pixel, as it was left")
    again.goto("about:blank")
    again.goto(page.url.replace("%22bird%22", "%22dog%22"))
    again.wait_for_selector(".dsla-wrong >> text=the address must name at least 2 classes, all different")
    again.goto("about:blank")
    again.goto(page.url.replace("%22scene%22%3A2", "%22scene%22%3A7"))
    again.wait_for_selector(".dsla-wrong >> text=is of picture 7; this page has 3")
    again.close()
