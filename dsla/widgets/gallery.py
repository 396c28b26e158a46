"""What an explorer steps through: which picture is shown, what classes are called, where boxes are saved."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..data.sources import open_dataset
from ..errors import DataError
from ..files import refuse_existing, write
from ..plots import draw
from .pictures import Picture, coco_of, given, pictures_of, scenes
from .sources import is_dataset


@dataclass(eq=False)
class Gallery:
    """Pictures with their boxes.

    Attributes:
        items: the pictures.  index: of the one that is shown.
        read: files that they come from, which are never written to.
    """

    items: list[Picture]
    read: list[Path] = field(default_factory=list)
    index: int = 0
    _saved: dict[Path, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, image: Any, class_names: Sequence[str] | None, **options: Any) -> "Gallery":
        """From what `AssignmentExplorer` takes: a picture and the built-in ones, those alone, or a data set's.

        options: results, score and images, as `pictures_of` has them.
        """
        file = Path(image) if isinstance(image, (str, Path)) else None
        if file and file.suffix.lower() == ".json":
            image = open_dataset(annotations=image)
        if is_dataset(image):
            read = (getattr(image, "annotation_json", None), options["results"])
            return cls(pictures_of(image, **options), [Path(p) for p in read if isinstance(p, (str, Path))])
        if of_data := [name for name in ("results", "images") if options.get(name) is not None]:
            raise DataError(f"{' and '.join(of_data)} are of a data set: give it, or its COCO file, as the image")
        items = scenes()
        if image is not None:
            source = f"dsla.data.load_image({str(image)!r})" if file else "..."
            name, names = file.name if file else "this picture", [str(n) for n in class_names or range(10)]
            items.insert(0, given(name, draw.as_image(image), names, source=source))
        return cls(items, [file] if file else [])

    @property
    def shown(self) -> Picture:
        return self.items[self.index]

    def open(self, index: int) -> np.ndarray:
        """Shows another picture; gives its pixels [H, W, 3]."""
        pixels = self.items[index].pixels()
        self.index = index
        return pixels

    def add(self, name: str, pixels: np.ndarray, full: Sequence[int] | None = None) -> None:
        """One more picture, with the classes of the one shown; `full`: [height, width] of its file, if it is shrunk."""
        height, width = full or pixels.shape[:2]
        source = f"dsla.data.load_image({name!r})" if (height, width) == pixels.shape[:2] else "..."
        self.items.append(given(name, pixels, self.shown.names, self.shown.ids, source))
        self.items[-1].image |= {"height": height, "width": width}

    def plain(self) -> list[dict[str, Any]]:
        """What the browser has of them."""
        return [p.plain(self.items[0]) for p in self.items]

    def name_classes(self, names: Sequence[str]) -> list[str]:
        """Renames classes, and adds those beyond the ones there are, for all pictures that share them.

        Raises:
            DataError: fewer names than classes, a name twice or an empty one.
        """
        names, picture = [str(n).strip() for n in names], self.shown
        if len(names) < len(picture.names) or not all(names) or len(set(names)) < len(names):
            raise DataError(f"{len(picture.names)} classes or more need a name each, all different: got {names}")
        highest = max((i for i in picture.ids if isinstance(i, int)), default=0)
        picture.ids += range(highest + 1, highest + 1 + len(names) - len(picture.names))
        picture.names[:] = names
        return names

    def save(self, path: str | Path, *, overwrite: bool = False, again: bool = False) -> Path:
        """The boxes of all pictures that share their classes with the one shown, as a COCO file.

        Args:
            path: of the file; never one that the pictures came from.
            overwrite: replace a file that is there.
            again: replace one that this gallery wrote, as long as nobody changed it.
        Raises:
            DataError: a file is there.
        """
        path = Path(path)
        again = again and path in self._saved and path.is_file() and path.read_bytes() == self._saved[path]
        refuse_existing([path], inputs=self.read, overwrite=overwrite or again)
        rows = coco_of([p for p in self.items if p.names is self.shown.names])
        self._saved[path] = json.dumps(rows, ensure_ascii=False).encode()
        return write(path, self._saved[path])
