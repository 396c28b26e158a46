"""An animated picture of the explorer: `python tests/browser/film.py figures/explorer.gif` (needs Chromium).

A box of the built-in scene is dragged, and the labels of two methods follow.
"""

from __future__ import annotations

import io
import math
import sys
from pathlib import Path

from lab import CHROMIUM, FLAGS
from PIL import Image

PAGE = Path(__file__).parents[2] / "docs" / "explorer.html"
FRAMES, MILLISECONDS, WIDTH, COLOURS = 36, 90, 800, 160


def film(path: Path) -> None:
    """Writes the GIF, under 2 MB: a box goes round and comes back to where it was."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(PAGE.as_uri())
            page.wait_for_selector(".dsla-boxes .dsla-head")
            page.get_by_role("button", name="side by side").click()
            page.wait_for_timeout(300)
            area = page.locator(".dsla-stage").first.bounding_box()
            k, pictures = area["width"] / 512, []
            clip = page.locator(".dsla-top").first.bounding_box() | {"height": area["height"] + 18}
            clip["width"] = 2 * area["width"] + 16

            def at(turn):
                angle = 2 * math.pi * turn
                x, y = 180 + 85 * (1 - math.cos(angle)) / 2, 60 + 170 * math.sin(angle / 2)
                return area["x"] + x * k, area["y"] + y * k

            page.mouse.move(*at(0))
            page.mouse.down()
            for i in range(FRAMES):
                page.mouse.move(*at(i / FRAMES), steps=2)
                page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
                picture = Image.open(io.BytesIO(page.screenshot(clip=clip)))
                size = (WIDTH, round(WIDTH * picture.height / picture.width))
                pictures.append(picture.convert("RGB").resize(size, Image.Resampling.LANCZOS))
        finally:
            browser.close()
    palette = pictures[FRAMES // 2].quantize(COLOURS, dither=Image.Dither.NONE)
    frames = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=MILLISECONDS, loop=0, optimize=True)
    size = path.stat().st_size
    assert size < 2_000_000, f"{path}: {size / 1e6:.2f} MB"
    print(f"{path}: {FRAMES} frames, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    film(Path(sys.argv[1]))
