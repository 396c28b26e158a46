"""Boxes, labels and detections on images.

Images come as a path, a PIL image, an array or a tensor; inside they are [H, W, 3] float32 in 0…1.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from PIL import Image

from ..analysis.matching import match
from ..coco.columns import CORNERS
from ..coco.problems import many
from ..data.loading import apart
from ..data.pictures import image_tensor
from ..errors import DataError, require_corners
from ..geometry import PointGrid
from .style import INK, LABELS, VERDICTS, Picture, caption, drawing


def as_image(image: Any) -> np.ndarray:
    """Any picture, as `data.pictures.image_tensor` takes it → [H, W, 3] float32 in 0…1."""
    return image_tensor(image).permute(1, 2, 0).numpy()


def as_boxes(boxes: Any, size: tuple[int, int]) -> torch.Tensor:
    """[M, 4] float32 boxes x1, y1, x2, y2 in pixels; (height, width) of their image.

    Raises:
        DataError: not four numbers each, not finite, empty or turned around, or wholly outside the image.
    """
    require_corners(boxes, "boxes")
    try:
        corners = torch.tensor(np.asarray(boxes.detach().cpu() if isinstance(boxes, torch.Tensor) else boxes)).float()
    except (TypeError, ValueError) as error:
        raise DataError(f"boxes must be M × 4 numbers x1, y1, x2, y2: {error}") from None
    corners = corners.reshape(0, 4) if not corners.numel() else corners
    if corners.ndim != 2 or corners.shape[1] != 4:
        raise DataError(f"boxes of shape {list(corners.shape)}: expected [M, 4], x1, y1, x2, y2 in pixels")
    height, width = size
    x1, y1, x2, y2 = corners.unbind(1)
    bad = {
        "is not finite": ~corners.isfinite().all(1),
        "has x2 ≤ x1 or y2 ≤ y1 (boxes are x1, y1, x2, y2; COCO files hold x, y, width, height)": (
            (x2 <= x1) | (y2 <= y1)
        ),
        f"lies outside the {width} × {height} image": (x1 >= width) | (y1 >= height) | (x2 <= 0) | (y2 <= 0),
    }
    for reason, rows in bad.items():
        if rows.any():
            i = int(rows.nonzero()[0])
            raise DataError(f"box {i} {[round(v, 2) for v in corners[i].tolist()]} {reason}")
    return corners


def backdrop(image: np.ndarray, side: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """The image at most `side` pixels long, in colour, and dimmed to grey for labels to stand out on; uint8."""
    height, width = image.shape[:2]
    small = Image.fromarray((image.clip(0, 1) * 255 + 0.5).astype(np.uint8))
    scale = side / max(height, width)
    if scale < 1:
        small = small.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BOX)
    grey = np.asarray(small.convert("L"), dtype=np.float32)
    return np.asarray(small), (26 + grey * 0.42).astype(np.uint8)


def show_image(ax: Axes, pixels: np.ndarray, size: tuple[int, int]) -> None:
    """Pixels over the area of an image of (height, width); axis units are its pixels, y downwards."""
    height, width = size
    sharp = "nearest" if max(pixels.shape[:2]) < 256 else "bilinear"  # few pixels: show what the network sees
    ax.imshow(pixels, extent=(0, width, height, 0), cmap="gray", vmin=0, vmax=255, interpolation=sharp)
    ax.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[], aspect="equal")
    ax.grid(False)
    ax.spines[:].set_visible(False)


def show_near(ax: Axes, pixels: np.ndarray, box: Sequence[float], margin: float, dim: bool = False) -> float:
    """A square part of an image with a box and a margin in pixels, dimmed or not, inside the image where it can be.

    Returns:
        Half its side, pixels.
    """
    height, width = (int(side) for side in pixels.shape[:2])
    show_image(ax, backdrop(pixels, 1200)[int(dim)], (height, width))
    x1, y1, x2, y2 = box
    half = min(max(x2 - x1, y2 - y1) / 2 + margin, max(height, width) / 2)
    x, y = (
        np.clip((low + high) / 2, min(half, side / 2), max(side - half, side / 2))
        for low, high, side in ((x1, x2, width), (y1, y2, height))
    )
    ax.set(xlim=(x - half, x + half), ylim=(y + half, y - half), facecolor="#11151c")
    return float(half)


def show_labels(ax: Axes, grid: PointGrid, level: int, values: Any, visible: Any) -> None:
    """Labels [h, w] in 0…1 of a level, where they are `visible` [h, w]: each colours the cell around its point."""
    pixels = LABELS(np.clip(np.asarray(values, dtype=np.float32), 0, 1), bytes=True)
    pixels[..., 3] = np.where(np.asarray(visible), 209, 0)  # a little of the image is seen through
    (h, w), s = grid.shapes[level], grid.strides[level]
    left = (grid.offset - 0.5) * s
    extent = (left, left + w * s, left + h * s, left)
    ax.imshow(pixels, extent=extent, interpolation="nearest", zorder=2)


def show_points(ax: Axes, grid: PointGrid, level: int, positive: np.ndarray, size: float) -> None:
    """The points of a level as dots, [h, w] bool positive ones stronger; diameter in points (1/72 inch)."""
    s = grid.strides[level]
    rows, columns = np.indices(grid.shapes[level])
    x, y = (columns + grid.offset) * s, (rows + grid.offset) * s
    ax.scatter(x[~positive], y[~positive], s=size**2, c="white", alpha=0.3, linewidths=0, zorder=3)
    ax.scatter(x[positive], y[positive], s=2 * size**2, c="white", linewidths=0.4, edgecolors=INK, zorder=3)


def show_boxes(ax: Axes, boxes: Any, colour: str, width: float = 1.0, line: Any = "-", **options: Any) -> None:
    """Outlines of boxes [M, 4], all in one look; thinner where a box is too small for its outline."""
    corners = np.asarray(boxes, dtype=float).reshape(-1, 4)
    points = ax.get_window_extent().width / ax.figure.get_dpi() * 72  # width of the axes in points
    side = (corners[:, 2:] - corners[:, :2]).min(1) * points / max(abs(np.subtract(*ax.get_xlim())), 1e-9)
    outlines = corners[:, [0, 1, 2, 1, 2, 3, 0, 3, 0, 1]].reshape(-1, 5, 2)
    widths = np.clip(side / 8, 0.4 * width, width)
    look = {"colors": colour, "linewidths": widths, "linestyles": [line], "zorder": 4, **options}
    ax.add_collection(LineCollection(list(outlines), **look), autolim=False)


def show_tags(
    ax: Axes, boxes: Any, texts: Sequence[str], colours: Sequence[str], unit: float, font: float = 6.0
) -> None:
    """A tag at the corner of each box that finds a free place; earlier boxes choose first.

    unit: image pixels per point (1/72 inch) of the figure, to know how large a tag is.
    """
    taken: list[tuple[float, float, float, float]] = []
    (left, right), (low, high) = sorted(ax.get_xlim()), sorted(ax.get_ylim())
    for (x1, y1, x2, y2), text, colour in zip(np.asarray(boxes, dtype=float), texts, colours, strict=True):
        w, h = (0.62 * len(text) + 0.8) * font * unit, 1.5 * font * unit
        for x, y in ((x1, y1 - h), (x1, y1), (x2 - w, y1), (x1, y2), (x1, y2 - h), (x2 - w, y2 - h)):
            x, y = float(np.clip(x, left, max(left, right - w))), float(np.clip(y, low, max(low, high - h)))
            if all(x >= c or x + w <= a or y >= d or y + h <= b for a, b, c, d in taken):
                taken.append((x, y, x + w, y + h))
                box = {"facecolor": colour, "edgecolor": "none", "pad": 0.12 * font, "alpha": 0.88}
                ax.text(
                    x + 0.3 * font * unit, y + h / 2, text, fontsize=font, color=contrast(colour), va="center_baseline",
                    bbox=box, zorder=6, clip_on=True, parse_math=False,
                )  # fmt: skip
                break


def contrast(colour: str) -> str:
    """Black or white, whichever is read better on a colour #rrggbb."""
    r, g, b = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "white" if 0.299 * r + 0.587 * g + 0.114 * b < 140 else INK


def judged(
    detections: Mapping[str, Any], target: Mapping[str, Any], iou: float, score: float | None
) -> tuple[pd.DataFrame, np.ndarray]:
    """Detections of an image as in `judged_images`, and [M] bool objects missed."""
    target = apart(target)
    table = judged_images([detections], [target], iou, score)
    matched = table["match"].dropna().to_numpy(dtype=np.int64)
    return table, ~np.isin(np.arange(len(target["boxes"])), matched)


def judged_images(
    detections: Sequence[Mapping[str, Any]], targets: Sequence[Mapping[str, Any]], iou: float, score: float | None
) -> pd.DataFrame:
    """Detections of images from a score on (None: all), best first, with a column `verdict` (hit, duplicate, false).

    The matching is `dsla.analysis`'s, which is COCO's. A detection that overlaps an object of its class enough
    but finds it taken is a duplicate. `image` is the place in the sequence.
    """
    keys = ("boxes", "labels", "crowd_boxes")
    plain = [{k: target[k] for k in keys if k in target} for target in map(apart, targets)]
    boxes = [{k: image[k] for k in ("boxes", "scores", "labels")} for image in detections]
    table = match(boxes, plain, iou_threshold=iou, score_threshold=score)
    table = table[~table["ignored"]].sort_values("score", ascending=False, kind="stable").reset_index(drop=True)
    overlaps = np.where(table["iou"] >= iou, "duplicate", "false")
    return table.assign(verdict=np.where(table["match"].notna(), "hit", overlaps))


def draw_detections(
    image: Any,
    detections: Mapping[str, Any],
    class_names: Sequence[str] | None = None,
    target: Mapping[str, Any] | None = None,
    *,
    score_threshold: float | None = None,
    iou_threshold: float = 0.5,
) -> Picture:
    """Detections on their image; given a target, ground truth beside them, hits, duplicates and misses told apart.

    Args:
        image: anything that `as_image` takes.
        detections: boxes [D, 4] xyxy pixels, scores [D], labels [D].
        class_names: name of each label; else its number.
        target: boxes [M, 4], labels [M], optionally crowd_boxes [K, 4] or torchvision's iscrowd [M]; or None.
        score_threshold: detections below it are not drawn; None draws all.
        iou_threshold: least IoU of a hit.
    """
    pixels, target = as_image(image), None if target is None else apart(target)
    size = (int(pixels.shape[0]), int(pixels.shape[1]))
    nothing = {"boxes": np.zeros((0, 4)), "labels": np.zeros(0, dtype=np.int64)}
    table, missed = judged(detections, target or nothing, iou_threshold, score_threshold)
    panels, suffixes = [], {"hit": "", "duplicate": " again", "false": " false"}
    if target is None:
        table["verdict"], counts = "hit", many(len(table), "detection")
        title = text = counts
    else:
        names = [name_of(c, class_names) for c in np.asarray(target["labels"])]
        texts = [name + " missed" * bool(m) for name, m in zip(names, missed, strict=True)]
        title = f"ground truth: {many(len(missed), 'object')}, {int(missed.sum())} missed"
        panels.append((title, np.asarray(target["boxes"]), texts, np.where(missed, "missed", "hit").tolist()))
        hits, again, false = (int((table["verdict"] == v).sum()) for v in suffixes)
        counts = f"{many(hits, 'hit')}, {many(again, 'duplicate')}, {false} false"
        least = "" if score_threshold is None else f" with a score of at least {score_threshold:g}"
        about = {"score": least, "iou": iou_threshold, "counts": counts, "missed": int(missed.sum())}
        title, text = f"detections: {counts}", caption("detections", **about)
    columns = (table[c] for c in ("category", "score", "verdict"))
    texts = [f"{name_of(c, class_names)} {s:.2f}{suffixes[v]}" for c, s, v in zip(*columns, strict=True)]
    panels.append((title, table[CORNERS], texts, table["verdict"]))
    wide = max(min((7.2, 4.6)[len(panels) - 1], 7.2 * size[1] / size[0]), 3.6 / len(panels))
    high = wide * size[0] / size[1]
    width, height = len(panels) * (wide + 0.1) + 0.1, high + 0.45
    with drawing(height, text, width, layout=None) as figure:
        for i, (title, boxes, texts, verdicts) in enumerate(panels):
            place = ((0.1 + i * (wide + 0.1)) / width, 0.1 / height, wide / width, high / height)
            ax = figure.add_axes(place)
            show_image(ax, backdrop(pixels, 1200)[0], size)
            show_verdicts(ax, boxes, verdicts, texts, size[1] / (wide * 72))
            ax.set_title(title, pad=5)
    return figure


def show_verdicts(ax: Axes, boxes: Any, verdicts: Sequence[str], texts: Sequence[str] = (), unit: float = 1.0) -> None:
    """Boxes in the looks of their verdicts, hits on top, with their tags where there are texts; `unit`: see there."""
    looks = [VERDICTS[verdict] for verdict in verdicts]
    corners = np.asarray(boxes, dtype=float).reshape(-1, 4)
    show_boxes(ax, corners, "#10151d", 3.2, alpha=0.45)  # tells bright lines from bright images
    for z, look in enumerate(VERDICTS.values()):
        rows = [other is look for other in looks]
        show_boxes(ax, corners[rows], look.colour, 1.6, look.line, zorder=5 - 0.1 * z)
    if len(texts):
        show_tags(ax, corners, texts, [look.colour for look in looks], unit)


def name_of(label: Any, names: Sequence[str] | None) -> str:
    return str(names[int(label)]) if names is not None and 0 <= int(label) < len(names) else str(int(label))
