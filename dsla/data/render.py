"""Draws one scene of the embedded data set. NumPy only, so that worker processes start at once.

Same pixels everywhere: random numbers come from PCG64's raw stream through `Generator.random` alone, and
pixels are computed in float32 with +, -, *, /, sqrt, min, max and floor, which IEEE 754 defines to the bit.

A scene is composed front to back, so that an object too much hidden is rejected before anything is painted:
everything drawn in a class's shape is labelled. Then it is painted back to front over a textured background.
Shapes are signed distances d (pixels, negative inside), opacity is a ramp of d.
"""

import io
import math
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CLASS_NAMES = ("disc", "box", "triangle", "ring", "bar")
TEXTURES = ("ball", "stripes", "gradient", "checker", "speckle")  # the one that each class, in order, mostly has
SPLITS = {"train": 0, "val": 1, "test": 2}
COUNTS = (0.02, 0.18, 0.26, 0.24, 0.18, 0.12)  # share of scenes with 0, 1, … 5 objects asked for
MIN_VISIBLE = 0.35  # an object with less of its area in view is not drawn at all
OPAQUE = 0.4  # opacity from which a pixel belongs to the object
COLUMNS = ("label", "x1", "y1", "x2", "y2", "visible", "area", "soft", "tail")

Array = NDArray[np.floating]  # float32 throughout


class Draw:
    """Random numbers of one scene; a stream for each (seed, split, index)."""

    def __init__(self, seed: int, split: str, index: int):
        self.rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, SPLITS[split], index])))

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.rng.random()

    def scale(self, low: float, high: float) -> float:
        """Uniform in the logarithm."""
        return low * (high / low) ** self.rng.random()

    def below(self, n: int) -> int:
        return min(int(self.rng.random() * n), n - 1)

    def chance(self, p: float) -> bool:
        return self.rng.random() < p

    def field(self, *shape: int) -> Array:
        return self.rng.random(shape, dtype=np.float32)


@dataclass
class Shape:
    """One object in its window: rows y0.., columns x0.. of the image (may reach outside)."""

    label: int
    x0: int
    y0: int
    alpha: Array  # [h, w] opacity
    u: Array  # [h, w] coordinates along and across the shape's own axis, in half lengths
    v: Array
    soft: bool
    tail: bool


def segment_distance(x: Array, y: Array, ax: float, ay: float, bx: float, by: float) -> Array:
    """Distance of each pixel to the segment a-b."""
    dx, dy = bx - ax, by - ay
    along = np.clip(((x - ax) * dx + (y - ay) * dy) * (1 / (dx * dx + dy * dy + 1e-9)), 0, 1)
    ex, ey = x - ax - along * dx, y - ay - along * dy
    return np.sqrt(ex * ex + ey * ey)


def class_distance(label: int, u: Array, v: Array, a: float, b: float, bend: float) -> Array:
    """Signed distance to the shape of a class; a, b half lengths along u and v."""
    if label == 0:  # disc
        return (np.sqrt((u / a) ** 2 + (v / b) ** 2) - 1) * b
    if label == 1:  # box
        return np.maximum(np.abs(u) - a, np.abs(v) - b)
    if label == 2:  # triangle, apex at v = -b, base at v = b
        n = 1 / math.sqrt(a * a + 4 * b * b)
        return np.maximum(v - b, (np.abs(u) * (2 * b) - (v + b) * a) * n)
    if label == 3:  # ring: its centre is background
        width = 0.36 * b
        return np.abs((np.sqrt((u / a) ** 2 + (v / b) ** 2) - 1) * b + width / 2) - width / 2
    over = np.maximum(np.abs(u) - (a - b), 0)  # bar with round ends, sometimes bent
    w = v - bend * (u * u / a - a / 3)
    return np.sqrt(over * over + w * w) - b


def sample_shape(draw: Draw, size: int, near: Shape | None) -> Shape:
    """A random object; beside or across `near` if given, else anywhere."""
    k = size / 128
    label = draw.below(len(CLASS_NAMES))
    a = draw.scale(10.5, 50) * k
    ratio = (draw.between(0.75, 1), draw.between(0.4, 1), draw.between(0.6, 1.1), draw.between(0.6, 1),
             draw.between(0.13, 0.27))[label]  # fmt: skip
    b = max(a * ratio, 2.5 * k)
    angle = draw.between(0, 2 * math.pi)
    if label in (1, 4) and draw.chance(0.5):  # many things stand or lie: only then are their boxes elongated
        angle = draw.below(4) * math.pi / 2 + draw.between(-0.2, 0.2)
    bend = draw.between(-0.7, 0.7) if label == 4 and draw.chance(0.5) else 0.0
    soft = draw.chance(0.2)
    edge = max(draw.between(0.15, 0.45) * b, 2 * k) if soft else 1.2
    tail = draw.chance(0.2)
    reach, turn, thick = draw.between(1.3, 1.9) * a, draw.between(0, 2 * math.pi), draw.between(1.2, 2.0) * k
    if near is None:
        cx, cy = draw.between(0.08, 0.92) * size, draw.between(0.08, 0.92) * size
    else:
        h, w = near.alpha.shape
        cx = near.x0 + w / 2 + draw.between(-0.6, 0.6) * w
        cy = near.y0 + h / 2 + draw.between(-0.6, 0.6) * h

    radius = int(math.hypot(a, b) + abs(bend) * a + edge) + 2
    if tail:
        radius = max(radius, int(reach + thick) + 2)
    x0, y0 = math.floor(cx) - radius, math.floor(cy) - radius
    side = np.arange(2 * radius + 1, dtype=np.float32) + 0.5
    x, y = (side + (x0 - cx))[None, :], (side + (y0 - cy))[:, None]
    cos, sin = math.cos(angle), math.sin(angle)
    u, v = x * cos + y * sin, y * cos - x * sin
    alpha = np.clip(0.5 - class_distance(label, u, v, a, b, bend) * (1 / edge), 0, 1)
    if tail:  # starts at the rim of a ring, at the centre of the others
        start = 0.9 * b if label == 3 else 0.0
        tx, ty = math.cos(turn), math.sin(turn)
        d = segment_distance(x, y, start * tx, start * ty, reach * tx, reach * ty) - thick
        alpha = np.maximum(alpha, np.clip(0.5 - d, 0, 1))
    return Shape(label, x0, y0, alpha, u * (1 / a), v * (1 / b), soft, tail)


def in_image(shape: Shape, size: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where the shape's window meets the image: (rows, columns) in the image and in the window."""
    image, window = [], []
    for start, length in zip((shape.y0, shape.x0), shape.alpha.shape, strict=True):
        first = max(start, 0)
        last = max(min(start + length, size), first)
        image.append(slice(first, last))
        window.append(slice(first - start, last - start))
    return tuple(image), tuple(window)  # type: ignore[return-value]


def compose(draw: Draw, size: int) -> tuple[list[Shape], list[tuple[float, ...]]]:
    """Objects front to back and their rows (COLUMNS). Boxes hold the pixels in view, as COCO's do."""
    k = size / 128
    free = np.ones((size, size), dtype=bool)
    shapes: list[Shape] = []
    rows: list[tuple[float, ...]] = []
    wanted = int(np.searchsorted(np.cumsum(COUNTS[:-1]), draw.rng.random(), side="right"))
    for _ in range(6 * wanted):
        if len(shapes) == wanted:
            break
        near = shapes[draw.below(len(shapes))] if shapes and draw.chance(0.4) else None
        shape = sample_shape(draw, size, near)
        image, window = in_image(shape, size)
        solid = shape.alpha >= OPAQUE
        seen = solid[window] & free[image]
        area = int(seen.sum())
        visible = area / max(int(solid.sum()), 1)
        if visible < MIN_VISIBLE:
            continue
        ys, xs = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
        w, h = int(xs[-1] - xs[0]) + 1, int(ys[-1] - ys[0]) + 1
        if max(w, h) < 18 * k or min(w, h) < 7 * k:
            continue
        x1, y1 = image[1].start + int(xs[0]), image[0].start + int(ys[0])
        free[image] &= ~solid[window]
        shapes.append(shape)
        rows.append((shape.label, x1, y1, x1 + w, y1 + h, visible, area, shape.soft, shape.tail))
    return shapes, rows


def value_noise(draw: Draw, cells: int, size: int, channels: int) -> Array:
    """[channels, size, size] in 0..1: random values on a grid of cells, bilinear in between."""
    grid = draw.field(channels, cells + 1, cells + 1)
    at = (np.arange(size, dtype=np.float32) + 0.5) * (cells / size)
    i = np.minimum(at.astype(np.int64), cells - 1)
    f = at - i.astype(np.float32)
    wide = grid[:, :, i] + (grid[:, :, i + 1] - grid[:, :, i]) * f
    return wide[:, i] + (wide[:, i + 1] - wide[:, i]) * f[:, None]


def blend(canvas: Array, alpha: Array, colour: Array) -> None:
    """Paints colour [3, 1|h, 1|w] over canvas [3, h, w] in place."""
    for channel, paint_ in zip(canvas, colour, strict=True):
        channel += (paint_ - channel) * alpha


def background(draw: Draw, size: int) -> Array:
    """[3, size, size]: uneven light, two grains of noise and clutter that is of no class."""
    k = size / 128
    canvas = value_noise(draw, 3, size, 3) * 0.35 + (0.03 + 0.6 * draw.field(3, 1, 1))
    canvas += (value_noise(draw, 8 + draw.below(24), size, 1) - 0.5) * draw.between(0.05, 0.3)
    if draw.chance(0.3):  # stripes, as of a floor or a fence
        side = np.arange(size, dtype=np.float32)
        angle, period = draw.between(0, math.pi), draw.between(5, 14) * k
        phase = side * (math.cos(angle) / period) + (side * (math.sin(angle) / period))[:, None]
        phase -= np.floor(phase)
        canvas += draw.between(-0.16, 0.16) * np.abs(phase - 0.5)
    for _ in range(2 + draw.below(4)):
        clutter(draw, canvas, draw.below(3))
    return canvas


def clutter(draw: Draw, canvas: Array, kind: int) -> None:
    """A thin line (0), a cross (1) or a faint patch with blurred edges (2)."""
    size = canvas.shape[1]
    k = size / 128
    cx, cy, angle = draw.between(0, size), draw.between(0, size), draw.between(0, math.pi)
    cos, sin = math.cos(angle), math.sin(angle)
    rx, ry = draw.between(10, 40) * k, draw.between(10, 40) * k
    r = draw.between(20, 70) * k if kind == 0 else draw.between(4, 10) * k
    wide, high = {0: (r * abs(cos), r * abs(sin)), 1: (r, r), 2: (1.2 * max(rx, ry),) * 2}[kind]
    xs = slice(max(int(cx - wide) - 3, 0), max(int(cx + wide) + 4, 0))
    ys = slice(max(int(cy - high) - 3, 0), max(int(cy + high) + 4, 0))
    part = canvas[:, ys, xs]
    x = np.arange(part.shape[2], dtype=np.float32)[None, :] + (xs.start + 0.5 - cx)
    y = np.arange(part.shape[1], dtype=np.float32)[:, None] + (ys.start + 0.5 - cy)
    if kind == 2:
        u, v = (x * cos + y * sin) * (1 / rx), (y * cos - x * sin) * (1 / ry)
        alpha = draw.between(0.1, 0.4) * np.clip(1.2 - np.sqrt(u * u + v * v), 0, 1)
    else:
        d = segment_distance(x, y, -r * cos, -r * sin, r * cos, r * sin)
        if kind == 1:
            d = np.minimum(d, segment_distance(x, y, r * sin, -r * cos, -r * sin, r * cos))
        alpha = draw.between(0.4, 0.9) * np.clip(0.5 + draw.between(0.5, 1.6) * k - d, 0, 1)
    blend(part, alpha, draw.field(3, 1, 1))


def texture(draw: Draw, shape: Shape, window: tuple[slice, slice]) -> Array:
    """[h, w] in 0..1, mixes the two colours of an object."""
    u, v = shape.u[window], shape.v[window]
    name = TEXTURES[shape.label if draw.chance(0.7) else draw.below(len(TEXTURES))]
    if name == "ball":
        return np.clip(1.1 - 0.8 * np.sqrt((u + 0.3) ** 2 + (v + 0.3) ** 2), 0, 1)
    if name == "gradient":
        return np.clip(0.5 + 0.5 * v, 0, 1)
    if name == "speckle":
        h, w = u.shape
        return np.repeat(np.repeat(draw.field(h // 3 + 1, w // 3 + 1), 3, 0), 3, 1)[:h, :w]
    waves, shift = draw.between(1.5, 3.5), draw.rng.random()
    p = u * waves + shift
    p = np.abs(p - np.floor(p) - 0.5)
    if name == "checker":
        q = v * waves + shift
        p = 0.25 + np.clip((p - 0.25) * 4, -1, 1) * np.clip((np.abs(q - np.floor(q) - 0.5) - 0.25) * 4, -1, 1) / 4
    return np.clip(0.5 + (p - 0.25) * 6, 0, 1)


def paint(draw: Draw, canvas: Array, shape: Shape) -> None:
    """Paints an object in two colours, of which the first stands out from what is behind it."""
    image, window = in_image(shape, canvas.shape[1])
    alpha = shape.alpha[window]
    behind = canvas[(slice(None), *image)]
    around = behind[:, ::4, ::4].reshape(3, -1)
    mean = [float(sum(c.tolist())) / around.shape[1] for c in around]  # a sum in fixed order
    first, wanted = draw.field(3), draw.between(0.25, 0.5)
    for _ in range(20):
        if max(abs(float(c) - m) for c, m in zip(first, mean, strict=True)) >= wanted:
            break
        first = draw.field(3)
    second = first + draw.between(0.3, 0.7) * (draw.field(3) - first)
    t = texture(draw, shape, window)
    one, two = first[:, None, None], second[:, None, None]
    blend(behind, alpha * draw.between(0.85, 1), one + (two - one) * t)


def render(seed: int, split: str, index: int, size: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Scene `index` of a split.

    Returns:
        Image uint8 [3, size, size] and one float64 row an object, front to back, with the COLUMNS: label, box
        x1 y1 x2 y2 of the visible pixels, visible share of the whole object's area, visible area in pixels,
        and whether it has a soft edge and a tail.
    """
    draw = Draw(seed, split, index)
    shapes, rows = compose(draw, size)
    canvas = background(draw, size)
    for shape in reversed(shapes):
        paint(draw, canvas, shape)
    if draw.chance(0.3):  # a twig in front of everything
        clutter(draw, canvas, 0)
    canvas += (draw.field(3, size, size) - 0.5) * draw.between(0.02, 0.1)
    pixels = (canvas.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    return pixels, np.asarray(rows, dtype=np.float64).reshape(-1, len(COLUMNS))


def main(arguments: list[str]) -> None:
    """Worker: seed, split, size, first, last (exclusive) on the command line; an .npz on standard output."""
    seed, split, size, first, last = int(arguments[0]), arguments[1], *map(int, arguments[2:])
    images, rows = zip(*(render(seed, split, i, size) for i in range(first, last)), strict=True)
    buffer, counts = io.BytesIO(), np.array([len(r) for r in rows])
    np.savez(buffer, indices=range(first, last), images=np.stack(images), rows=np.concatenate(rows), counts=counts)
    sys.stdout.buffer.write(buffer.getvalue())


if __name__ == "__main__":
    main(sys.argv[1:])
