"""The pictures of a COCO file on which most boxes are odd, side by side."""

import math

import numpy as np

from ..coco.columns import corners_of
from ..data import CocoDataset
from ..errors import DataError, visible
from .draw import as_image, show_boxes, show_image
from .style import Picture, picture

MOST = 12  # pictures
ODD, FINE = "#d1342f", "#8a93a0"


def problem_sheet(dataset: CocoDataset) -> Picture:
    """The images with most odd boxes, these in red as the file has them, the others in grey.

    Args:
        dataset: its `problems` say which boxes are odd. Rows without a box to draw and files that cannot be read are
            left out.
    Raises:
        DataError: there is no odd box in a picture that can be read.
    """
    truth = dataset.truth
    kinds = {p.kind: np.isin(truth.position, p.positions) for p in dataset.problems if p.of == "annotation"}
    odd = np.any([np.zeros(len(truth.ids), dtype=bool), *kinds.values()], axis=0)
    count = np.bincount(truth.image[odd], minlength=len(truth))
    pictures = []
    for i in np.argsort(-count, kind="stable")[: (count > 0).sum()].tolist():
        try:
            pictures.append((i, as_image(dataset.load(i)[0])))
        except DataError:
            continue
        if len(pictures) == MOST:
            break
    if not pictures:
        raise DataError(f"{dataset.annotation_json}: no odd box in a picture that can be read, so there is no sheet")
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    figure = picture(3.2 * columns, 3.1 * rows)
    for place, (i, pixels) in enumerate(pictures, 1):
        ax, here = figure.add_subplot(rows, columns, place), truth.image == i
        height, width = pixels.shape[:2]
        show_image(ax, pixels, (height, width))
        corners = corners_of(truth.boxes[here])
        low = np.maximum(corners[:, :2].min(0), [-width / 2, -height / 2])  # what lies farther out is cut
        high = np.minimum(corners[:, 2:].max(0), [1.5 * width, 1.5 * height])
        ax.set_xlim(min(0, low[0]), max(width, high[0]))
        ax.set_ylim(max(height, high[1]), min(0, low[1]))
        show_boxes(ax, corners[~odd[here]], FINE)
        show_boxes(ax, corners[odd[here]], ODD, 1.6)
        words = [f"{(mask & here).sum()} × {kind}" for kind, mask in kinds.items() if (mask & here).any()]
        name = f"image {dataset.image_id(i)}, {visible(truth.file_names[i], '')}"
        ax.set_title("\n".join([name[:48], *words]), fontsize=7, parse_math=False)
    figure.caption = f"Pictures with most odd boxes of {dataset.annotation_json.name}: odd in red, others in grey."
    return figure
