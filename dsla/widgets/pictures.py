"""Pictures with their boxes: of a data set, from files, built in; and the COCO file that they make again."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..coco.columns import corners_of, cut_to
from ..coco.detections import Results
from ..coco.ground_truth import GroundTruth
from ..coco.problems import some
from ..data import Scenes, load_image
from ..data.loading import unmoved
from ..errors import DataError
from ..plots import draw
from .sources import titles

SIDE = 512
SCENES = (5, 0, 1, 3, 7, 9)  # of the test split, to choose from; the first one opens
MOST = 5000  # images of a data set: the browser has the boxes of all
SCORE = 0.3  # least score of a detection that is taken as an object


@dataclass(eq=False)
class Picture:
    """A picture with its boxes, as they are now.

    Attributes:
        name: to choose it by.
        load: gives its pixels [H, W, 3] float32 in 0…1, and its objects.
        names, ids: of the classes and their COCO ids; one list for all pictures that share them.
        size: (height, width).
        objects: x1, y1, x2, y2, label of each; None until it is loaded.
        source: Python that loads it.
        image: what its row in a COCO file says: id, file_name; height and width of the file where `size` is another.
        known: x1, y1, x2, y2 of objects as they came, then x, y, w, h and area as their file has them.
        others: rows of the file that are no objects to teach, such as crowds.
    """

    name: str
    load: Callable[[], tuple[np.ndarray, list[list[float]]]]
    names: list[str]
    ids: list[Any]
    size: tuple[int, int]
    objects: list[list[float]] | None = None
    source: str = "..."
    image: dict[str, Any] = field(default_factory=dict)
    known: list[list[float]] = field(default_factory=list)
    others: list[dict[str, Any]] = field(default_factory=list)

    def pixels(self) -> np.ndarray:
        """[H, W, 3]; from here on its objects are there, too."""
        pixels, objects = self.load()
        if pixels.shape[:2] != self.size:
            h, w = self.size
            raise DataError(f"{self.name}: {pixels.shape[1]} × {pixels.shape[0]} pixels, its data set says {w} × {h}")
        self.objects = objects if self.objects is None else self.objects
        return pixels

    def boxes(self, objects: Sequence[Sequence[float]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes [M, 4] and labels [M] int64 of objects on it."""
        labels = torch.tensor([int(o[4]) for o in objects], dtype=torch.int64)
        return draw.as_boxes([o[:4] for o in objects], self.size), labels

    def plain(self, first: "Picture") -> dict[str, Any]:
        """What the browser has of it; classes only of the first picture, and where they are others."""
        keys = ["name", "size", "objects", "image", "known", "others"]
        keys += ["names", "ids"] if self is first or self.names is not first.names else []
        return {key: getattr(self, key) for key in keys}


def given(
    name: str, pixels: np.ndarray, names: list[str], ids: list[Any] | None = None, source: str = "..."
) -> Picture:
    """A picture without boxes."""
    ids = list(range(1, len(names) + 1)) if ids is None else ids
    return Picture(name, lambda: (pixels, []), names, ids, pixels.shape[:2], [], source, {"file_name": name})


def photographs(paths: Sequence[Path]) -> list[Picture]:
    """Files without boxes, of classes 0…9; each is read again when it is looked at, since all would fill the memory."""
    names, code = [str(n) for n in range(10)], "dsla.data.load_image({!r})"
    pictures = ((p, given(p.name, draw.as_image(p), names, source=code.format(str(p)))) for p in paths)
    return [replace(picture, load=partial(_file, path)) for path, picture in pictures]


def scenes() -> list[Picture]:
    """The built-in pictures, each drawn when it is first looked at."""
    data, names, ids = Scenes("test", size=12, image_size=SIDE), list(Scenes.class_names), list(Scenes.category_ids)
    source = f'dsla.Scenes("test", size={len(data)}, image_size={SIDE})'
    pictures = []
    for n in SCENES:
        load, image = partial(_item, data, n), {"id": n + 1, "file_name": f"{n:06d}.png"}
        pictures.append(Picture(f"scene {n}", load, names, ids, (SIDE, SIDE), None, f"{source}[{n}][0]", image))
    return pictures


def pictures_of(
    dataset: Any,
    results: Any = None,
    score: float = SCORE,
    files: Mapping[Any, Path] | None = None,
    images: Iterable[int] | None = None,
) -> list[Picture]:
    """The images of a data set with their objects, or with the detections of a results file in place of them.

    Args:
        dataset: any data set of `dsla.data`.
        results: detections on its images, as `dsla.coco.detections.Results` takes them.
        score: least score of those that are taken.
        files: id → file of the images to take, which is read instead of the data set's; None for all.
        images: their places in the data set, where there are no files; None for all.
    Raises:
        DataError: no image, a place without one, more than 5,000, or results of others.
    """
    truth = GroundTruth.of(dataset)
    place, every = {i: n for n, i in enumerate(truth.image_ids.tolist())}, range(len(truth))
    places = [place[i] for i in files] if files else list(every if images is None else images)
    name = getattr(dataset, "name", truth.name)
    if strange := sorted(set(places) - set(every)):
        raise DataError(
            f"{name}: has {len(truth)} images, of places from 0 on: there is no place {some(strange)}; images "
            "in another folder: dsla.CocoDataset(FOLDER, FILE)"
        )
    if not places:
        raise DataError(f"{name}: none of its {len(truth)} images is chosen, so there is nothing to show")
    if len(places) > MOST:
        text = f"the explorer takes {MOST} at once: choose some of them by their places, images=range({MOST})"
        raise DataError(f"{name}: {len(places)} images; {text}")
    listed, called = truth.to_coco(), titles(truth)
    boxes, category, owner = truth.inside, truth.category, np.where(truth.taught, truth.image, -1)
    if results is not None:
        detections = Results.of(results, truth)
        owner, category = detections.image, detections.category
        boxes = cut_to(detections.boxes, truth.widths[owner], truth.heights[owner])
        owner = np.where((boxes[:, 2:] > 0).all(1) & (detections.score >= score), owner, -1)
    order = np.argsort(owner, kind="stable")
    shared, corners, pictures = (list(truth.category_names), truth.category_ids.tolist()), corners_of(boxes), []
    for i in places:
        image, rows = listed["images"][i], order[slice(*np.searchsorted(owner, [i, i + 1], sorter=order))].tolist()
        shape = (image["height"], image["width"]) if "height" in image else unmoved(dataset, i)[0].shape[1:]
        size = (int(shape[0]), int(shape[1]))
        objects = [[*corners[row].tolist(), int(category[row])] for row in rows]
        picture = Picture(called[i], partial(_item, dataset, i), *shared, size, objects)
        picture.image = {key: image[key] for key in ("id", "file_name") if key in image}
        if path := files[image["id"]] if files else dataset.path(i) if hasattr(dataset, "path") else None:
            picture.source = f"dsla.data.load_image({str(path)!r}, {size})"
            picture.load = partial(_file, path, size) if files else picture.load
        if results is None:
            annotations = [listed["annotations"][row] for row in rows]
            picture.known = [[*o[:4], *a["bbox"], a["area"]] for o, a in zip(objects, annotations, strict=True)]
            others = truth.rows(i)[~truth.taught[truth.rows(i)]]
            picture.others = [listed["annotations"][row] for row in others]
        pictures.append(picture)
    return pictures


def _item(dataset: Any, i: int) -> tuple[np.ndarray, list[list[float]]]:
    image, target = unmoved(dataset, i)
    rows = zip(target["boxes"].tolist(), target["labels"].tolist(), strict=True)
    return image.permute(1, 2, 0).numpy(), [[*box, label] for box, label in rows]


def _file(path: Path, size: tuple[int, int] | None = None) -> tuple[np.ndarray, list[list[float]]]:
    return load_image(path, size).permute(1, 2, 0).numpy(), []


def coco_of(pictures: Sequence[Picture]) -> dict[str, Any]:
    """A COCO dict of pictures that share their classes; `cocoOf` in `coco.js` makes the same.

    A box that nobody moved is as its file has it, its area too; rows that are no objects stay. Boxes on a shrunk
    picture are scaled to its file. Annotations are numbered from 1; an image without an id gets a free one. Pictures
    that were not looked at yet are left out.

    Raises:
        DataError: a box of a class without a name.
    """
    pictures = [p for p in pictures if p.objects is not None]
    taken = {p.image.get("id") for p in pictures}
    free, images, annotations = (n for n in count(1) if n not in taken), [], []
    for p in pictures:
        number = p.image["id"] if "id" in p.image else next(free)
        image = {"id": number, "file_name": p.name, "width": p.size[1], "height": p.size[0], **p.image}
        images.append(image)
        sx, sy = image["width"] / p.size[1], image["height"] / p.size[0]
        annotated = {tuple(row[:4]): row[4:] for row in p.known}
        for x1, y1, x2, y2, label in p.objects or ():
            if not 0 <= label < len(p.ids):
                only = f"only {len(p.ids)} classes have a name: `name_classes`"
                raise DataError(f"{p.name}: a box has class {label:g}, but {only}")
            w, h = (x2 - x1) * sx, (y2 - y1) * sy
            *box, area = annotated.get((x1, y1, x2, y2), [x1 * sx, y1 * sy, w, h, w * h])
            row = {"image_id": image["id"], "category_id": p.ids[int(label)], "bbox": box, "area": area, "iscrowd": 0}
            annotations.append(row)
        annotations += p.others
    return {
        "images": images,
        "annotations": [{**row, "id": n} for n, row in enumerate(annotations, 1)],
        "categories": [{"id": i, "name": name} for i, name in zip(pictures[0].ids, pictures[0].names, strict=True)],
    }
