"""A small data set of one's own, and what can be done with it in the explorer, with a kernel and without."""

from __future__ import annotations

import json

import numpy as np
from explorer import wait
from PIL import Image

SHOWN = "document.querySelector('.dsla-pictures').selectedOptions[0]?.text"
PLACE = "document.querySelector('.dsla-place').textContent"


def written(folder):
    """Three pictures; the second has an object that no point learns, and no picture but the first a cup."""
    rng = np.random.default_rng(0)
    for n, name in enumerate("abc"):
        noise = rng.integers(40, 200, (30, 40, 3)).astype(np.uint8)
        noise[..., n] = 220
        Image.fromarray(noise.repeat(8, 0).repeat(8, 1)).save(folder / f"{name}.png")
    boxes = [
        (7, 3, [40.3, 40.1, 120, 100]),
        (7, 1, [200, 60, 90, 150]),
        (9, 1, [1, 1, 4, 4]),
        (8, 1, [80, 60, 150, 140]),
    ]
    data = {
        "images": [
            {"id": i, "file_name": f, "width": 320, "height": 240}
            for i, f in ((7, "a.png"), (9, "b.png"), (8, "c.png"))
        ],
        "categories": [{"id": 3, "name": "cup"}, {"id": 1, "name": "dog"}],
        "annotations": [
            {"id": n, "image_id": i, "category_id": c, "bbox": b, "area": b[2] * b[3] / 2, "iscrowd": 0}
            for n, (i, c, b) in enumerate(boxes, 1)
        ],
    }
    path = folder / "instances.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def gallery(page, shots, name, save, annotations):
    """Steps, filters, names classes, moves a box by keys, and saves; ends on the third picture."""
    page.wait_for_selector(".dsla-boxes .dsla-head")
    wait(page, f"() => {PLACE} === '1 of 3' && {SHOWN} === 'image 7 · a.png'", "the first picture")
    snapshot = page.locator(".dsla-gallery").aria_snapshot()
    for line in ('button "the picture before" [disabled]', 'combobox "picture"', 'checkbox "without a point"'):
        assert line in snapshot, (line, snapshot)
    page.get_by_role("button", name="the next picture").click()
    wait(page, f"() => {SHOWN} === 'image 9 · b.png'", "the next picture")
    wait(
        page,
        "() => document.querySelector('.dsla-list')?.textContent.includes('no point')",
        "its object without a point",
    )
    page.get_by_label("without a point").check()
    wait(page, f"() => {PLACE} === '1 of 1'", "the only picture with such an object")
    page.screenshot(path=shots / f"{name}-filter.png")
    page.get_by_label("without a point").uncheck()
    page.get_by_label("pictures with this class").select_option("cup")
    wait(page, f"() => {PLACE} === '– of 1'", "the only picture with a cup is another one")
    page.get_by_role("button", name="the picture before").click()
    wait(page, f"() => {PLACE} === '1 of 1' && {SHOWN} === 'image 7 · a.png'", "the picture with the cup")
    page.get_by_label("pictures with this class").select_option("")

    # Another name for the cup, and one class more, for the box that is chosen.
    page.locator(".dsla-stage").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    page.get_by_role("button", name="rename").click()
    page.get_by_label("name of the class").fill("dog")
    page.keyboard.press("Enter")
    page.wait_for_selector(".dsla-classes .dsla-problem >> text=there is a class dog already")
    page.get_by_label("name of the class").fill("mug")
    page.keyboard.press("Enter")
    wait(page, "() => document.querySelector('.dsla-list').textContent.includes('mug')", "the new name")
    page.get_by_role("button", name="+ class").click()
    page.get_by_label("name of the class").fill("bird")
    page.keyboard.press("Enter")
    wait(page, "() => document.querySelector('.dsla-list').textContent.includes('bird')", "the new class")
    page.screenshot(path=shots / f"{name}.png", full_page=True)
    page.get_by_label("picture", exact=True).select_option("2")
    wait(page, f"() => {PLACE} === '3 of 3' && {SHOWN} === 'image 8 · c.png'", "the third picture")
    undo = page.locator(".dsla-undo")
    wait(page, "() => document.querySelector('.dsla-undo').disabled", "nothing to undo on another picture")
    assert undo.is_disabled()

    before = annotations.read_bytes()
    saved, given = json.loads(save().read_text(encoding="utf-8")), json.loads(before)
    assert annotations.read_bytes() == before
    assert saved["categories"] == [{"id": 1, "name": "dog"}, {"id": 3, "name": "mug"}, {"id": 4, "name": "bird"}]
    assert [i["file_name"] for i in saved["images"]] == ["a.png", "b.png", "c.png"]
    moved, *others = saved["annotations"]
    x, y, w, h = given["annotations"][0]["bbox"]
    assert (moved["category_id"], np.allclose(moved["bbox"], [x + 1, y, w, h])) == (4, True), moved
    assert others == given["annotations"][1:]  # to the bit as they were, areas too
