"""What the mouse and the keys can do in the explorer, with a kernel: each time the labels are the assigners' own."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from cells import BOXES, SIZE
from PIL import Image

from dsla import PointGrid
from dsla.assigners import DSLA, FCOS

STRIDES = (8, 16, 32, 64, 128)
HEADS = (
    "[...document.querySelectorAll('.dsla-boxes .dsla-head')]"
    r".map(h => Number(h.textContent.match(/(\d+) pts/)?.[1]))"
)
FROM_PYTHON = "() => document.querySelector('.dsla-boxes').dataset.source === 'python'"


def expected(boxes, assigner, offset):
    """Points of each level, by the assigner itself."""
    grid = PointGrid(SIZE, STRIDES, offset)
    a = assigner(grid, [torch.tensor(boxes)], [torch.arange(len(boxes))], image_sizes=[SIZE])
    return [int((level >= 0).sum()) for level in a.gt_index[0].split(grid.num_points)]


def heads(page):
    return [int(re.search(r"(\d+) pts", t)[1]) for t in page.locator(".dsla-boxes .dsla-head").all_inner_texts()]


def wait(page, condition, what):
    try:
        page.wait_for_function(condition, timeout=15_000)
    except Exception as error:
        raise AssertionError(f"{what} did not come; panels say {heads(page)}") from error


def check(page, boxes, what, second=None):
    """The heads of the ten panels say what the assigners say of these boxes, and so once Python has answered."""
    wanted = expected(boxes, FCOS(), 0.5) + expected(boxes, second or DSLA(), 0.0)
    same = f"() => JSON.stringify({HEADS}) === '{wanted}'.replaceAll(' ', '')"
    wait(page, same, f"{what}: {wanted}")
    if page.evaluate("() => document.querySelector('.jp-Notebook, .voila-cell, #rendered_cells') !== null"):
        wait(page, FROM_PYTHON, f"{what}: Python's labels")
        wait(page, same, f"{what}, by Python: {wanted}")


def colour(page, panel, x, y):
    """Pixel of a level's panel at (x, y) of the image."""
    return page.evaluate(
        """([n, x, y, W]) => { const c = document.querySelectorAll('.dsla-level')[n], k = c.width / W;
        return [...c.getContext('2d').getImageData(Math.round(x * k), Math.round(y * k), 1, 1).data]; }""",
        [panel, x, y, SIZE[1]],
    )


def coloured(pixel):
    return max(pixel[:3]) - min(pixel[:3]) > 60


def centre(box):
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


class Mouse:
    """The mouse over the large picture, in pixels of the image."""

    def __init__(self, page, width=SIZE[1]):
        self.page = page
        page.locator(".dsla-stage").scroll_into_view_if_needed()
        self.box = page.locator(".dsla-stage").bounding_box()
        self.k = self.box["width"] / width

    def at(self, x, y):
        return self.box["x"] + x * self.k, self.box["y"] + y * self.k

    def drag(self, start, end, steps=8, during=None):
        self.page.mouse.move(*self.at(*start))
        self.page.mouse.down()
        self.page.mouse.move(*self.at(*end), steps=steps)
        if during:
            during()
        self.page.mouse.up()

    def hint(self):
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return [float(v) for v in self.page.locator(".dsla-bar .dsla-hint").first.inner_text().split(", ")]


def field(page, name):
    return page.locator(".dsla-field", has_text=name).locator("select, input").first


def explorer(page, shots):
    page.wait_for_selector(".dsla-boxes .dsla-head")
    boxes = [list(b) for b in BOXES]
    check(page, boxes, "as opened")
    page.screenshot(path=shots / "explorer.png")
    mouse = Mouse(page)
    moving(page, shots, mouse, boxes)
    keys(page, mouse, boxes)
    hovering(page, shots, boxes)
    controls(page, shots, boxes)
    taking_along(page, shots)
    uploading(page, shots)


def moving(page, shots, mouse, boxes):
    """Move, resize, draw, class, delete, undo and redo."""
    p4 = 6  # DSLA's row, P4
    assert coloured(colour(page, p4, 140, 120)), "labels where the box is"

    def with_the_mouse_down():
        at = mouse.hint()
        wanted = expected([at, *boxes[1:]], FCOS(), 0.5) + expected([at, *boxes[1:]], DSLA(), 0.0)
        assert heads(page) == wanted, "labels follow before the mouse is let go"

    mouse.drag((130, 110), (230, 260), during=with_the_mouse_down)
    boxes[0] = mouse.hint()
    assert max(abs(a - b) for a, b in zip(boxes[0], (180, 210, 300, 330), strict=True)) < 3, boxes[0]
    check(page, boxes, "after the move")
    assert coloured(colour(page, p4, *centre(boxes[0]))), "labels where the box went"
    assert not coloured(colour(page, p4, 140, 120)), "no labels where the box was"
    page.screenshot(path=shots / "explorer-moved.png")
    mouse.drag((boxes[0][2], boxes[0][3]), (boxes[0][2] - 40, boxes[0][3] + 40))
    boxes[0] = mouse.hint()
    check(page, boxes, "after resizing")
    page.locator(".dsla-undo").click()
    page.locator(".dsla-undo").click()
    check(page, [list(b) for b in BOXES], "after undoing both")
    page.locator(".dsla-redo").click()
    page.locator(".dsla-redo").click()
    check(page, boxes, "after doing both again")
    mouse.drag((560, 40), (630, 160))
    boxes.append(mouse.hint())
    check(page, boxes, "after drawing")
    page.locator(".dsla-class").select_option("1")
    dogs = "[...document.querySelectorAll('.dsla-counts td')].filter(t => t.textContent === 'dog').length"
    wait(page, f"() => {dogs} === 2", "the new class in the list")
    page.locator(".dsla-delete").click()
    boxes.pop()
    check(page, boxes, "after deleting")
    first = page.locator(".dsla-list tr").nth(1).inner_text()
    assert "fly" in first and "no point" in first, f"an object without a point comes first: {first}"  # noqa: PT018


def keys(page, mouse, boxes):
    """Tab through the objects, arrows move, Shift with arrows resizes; what is chosen is said."""
    page.locator(".dsla-stage").focus()
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")
    assert mouse.hint() == boxes[0]
    for key in ("ArrowRight", "ArrowDown", "Shift+ArrowRight", "Control+ArrowLeft"):
        page.keyboard.press(key)
    boxes[0] = [boxes[0][0] - 7, boxes[0][1] + 1, boxes[0][2] - 6, boxes[0][3] + 1]
    assert mouse.hint() == boxes[0], mouse.hint()
    check(page, boxes, "after the keys")
    assert "object 0, cup" in page.locator(".dsla-spoken").text_content()
    for _ in range(3):
        page.keyboard.press("Tab")
    hint = "document.querySelector('.dsla-bar .dsla-hint').textContent"
    wait(page, f"() => {hint}.includes('to move it')", "nothing chosen after the last object")


def hovering(page, shots, boxes):
    """A point of DSLA's P4: its rules are shown, by Python."""
    panel = page.locator(".dsla-level").nth(6)
    panel.scroll_into_view_if_needed()
    area, (x, y) = panel.bounding_box(), centre(boxes[0])
    page.mouse.move(area["x"] + x * area["width"] / SIZE[1], area["y"] + y * area["height"] / SIZE[0])
    page.wait_for_selector(".dsla-point >> text=DSLA: won by object 0")
    assert "interval relaxation" in page.locator(".dsla-point").inner_text()
    page.screenshot(path=shots / "explorer-hover.png")


def controls(page, shots, boxes):
    """A slider by its keys and by the mouse; only what acts is there; what is wrong is said at the control."""
    slider = field(page, "relaxation")
    slider.fill("0")
    check(page, boxes, "hard ranges", DSLA(relaxation=0))
    slider.scroll_into_view_if_needed()
    area = slider.bounding_box()
    page.mouse.move(area["x"] + 8, area["y"] + area["height"] / 2)
    page.mouse.down()
    page.mouse.move(area["x"] + 400, area["y"], steps=12)
    most = expected(boxes, DSLA(relaxation=0.95), 0.0)
    follows = f"() => JSON.stringify({HEADS}.slice(5)) === '{most}'.replaceAll(' ', '')"
    wait(page, follows, "the labels, with the mouse still down")
    page.mouse.up()
    check(page, boxes, "after the mouse is up", DSLA(relaxation=0.95))
    slider.fill("0.2")
    check(page, boxes, "as before")
    text = field(page, "ranges")
    old = text.input_value()
    text.fill("64 0 nonsense")
    text.press("Enter")
    page.wait_for_selector(".dsla-problem >> text=nonsense is no number")
    wait(page, f"() => !{HEADS}.length", "nothing stale stays on screen")
    page.screenshot(path=shots / "explorer-error.png")
    text.fill(old)
    text.press("Enter")
    check(page, boxes, "once it is right again")
    names = ".dsla-group:has(legend:text('Method 2')) .dsla-field span"
    field(page, "input size").select_option(label="800/1333 (COCO)")
    page.wait_for_selector(".dsla-size >> text=input 1280 × 800 (stored as 640 × 400)")
    field(page, "input size").select_option(label="as stored")
    page.locator(".dsla-group:has(legend:text('Method 2')) select").first.select_option(label="TAL")
    wait(page, FROM_PYTHON, "what only Python can assign")
    assert {"alpha", "beta", "topk"} <= set(page.locator(names).all_inner_texts())
    assert "relaxation" not in page.locator(names).all_inner_texts()
    assert sum(heads(page)[5:]) > 0
    page.locator(".dsla-group:has(legend:text('Method 2')) select").first.select_option(label="DSLA")
    check(page, boxes, "DSLA again")


def taking_along(page, shots):
    """Files and code."""
    for name, ending in (("PNG", ".png"), ("CSV", ".csv")):
        with page.expect_download() as waiting:
            page.get_by_role("button", name=name, exact=True).first.click()
        content = Path(waiting.value.path()).read_bytes()
        assert waiting.value.suggested_filename.endswith(ending)
        assert content.startswith(b"\x89PNG" if name == "PNG" else b"assigner,image,point"), content[:40]
        if name == "PNG":
            (shots / "explorer-export.png").write_bytes(content)
    page.get_by_role("button", name="copy as Python").click()
    texts = "[...document.querySelectorAll('textarea')].map(t => t.value).join()"
    wait(page, f"() => {texts}.includes('DSLA(regress_ranges')", "the code")
    page.wait_for_selector(".dsla-boxes >> text=/the code (was copied|is below)/")


def uploading(page, shots):
    """The user's own file; one that is too large is shrunk, and that is said."""
    Image.new("RGB", (2688, 1680), (200, 120, 40)).save(shots / "upload.png")
    page.locator(".dsla-boxes input[type=file]").set_input_files(shots / "upload.png")
    page.wait_for_selector(".dsla-boxes >> text=shrunk from 2688 × 1680 to 1344 × 840")
    wait(page, f"() => {HEADS}.every(n => n === 0)", "no labels on the new image")
    (shots / "upload.png").unlink()
    mouse = Mouse(page, 1344)
    mouse.drag((300, 200), (900, 700))
    wait(page, f"() => {HEADS}.reduce((a, b) => a + b) > 0", "labels of the box drawn on the upload")
    wait(page, FROM_PYTHON, "Python's labels of the upload")
    page.screenshot(path=shots / "explorer-upload.png")
