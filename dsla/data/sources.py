"""From what a person types to a data set: the embedded scenes, a COCO folder, or files of one's own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.utils.data import ConcatDataset, Subset

from ..errors import DataError
from .coco import CocoDataset
from .loading import DetectionDataset
from .scenes import SIZES, Scenes


@contextmanager
def progress_bar(description: str = "", **options: Any) -> Iterator[Callable[..., None]]:
    """A bar of images on standard error, gone at the end; gives what moves it: f(done, in all, another description).

    Args:
        description: stands before the bar.
        **options: of `tqdm`.
    """
    from tqdm.auto import tqdm

    with tqdm(desc=description, leave=False, **{"unit": "image"} | options) as bar:

        def advance(done: int, total: int, description: str = description) -> None:
            bar.set_description_str(description, refresh=False)
            bar.total = total
            bar.update(done - bar.n)

        yield advance


def refuse_path(dataset: Any) -> None:
    """Raises a DataError for the path of a data set, or PyTorch's selection of one, where a data set belongs."""
    if isinstance(dataset, str | Path):
        raise DataError(
            f"{dataset}: a path stands where a data set belongs: give dsla.CocoDataset(IMAGES, ANNOTATIONS)"
        )
    if isinstance(dataset, Subset | ConcatDataset):
        raise DataError(
            f"a {type(dataset).__name__} has no ground truth of its own: select by dsla.data.sampling.Part(DATASET, "
            "INDICES), or split and join the annotation files"
        )


def open_dataset(
    data: str | Path | None = None,
    split: str = "val",
    annotations: str | Path | None = None,
    *,
    size: int | None = None,
    progress: bool = False,
    **options: Any,
) -> DetectionDataset:
    """The data set that `data`, `split` and `annotations` name.

    - no `data`: the embedded scenes, split "train", "val" or "test"; `size` limits their number;
    - `data` and `annotations`: a folder of images and a COCO-format file;
    - `data` alone: a folder as COCO lies on disk, ``annotations/instances_<split>.json`` (or beside that folder) with
      images in ``<split>/`` or ``images/``; the splits "train" and "val" also find the years' (``train2017``).

    `options` are those of `CocoDataset`.

    Raises:
        DataError: nothing there, with the paths that were tried; a `value_range` of the embedded scenes.
    """
    if data is None and annotations is None:
        if options.get("value_range"):
            raise DataError("a value range is of pictures in files; the embedded scenes have 8 bits: leave it out")
        with progress_bar(f"drawing scenes-{split}", disable=not progress) as advance:
            return Scenes(split, size=size).prepare(progress=advance)
    if annotations is not None:
        folder = Path(data) if data is not None else Path(annotations).parent
        return CocoDataset(folder, annotations, **options)
    root = Path(str(data))
    if not root.is_dir():
        raise DataError(f"{root.absolute()}: no such folder")
    names = (split, *(f"{split}{year}" for year in (2017, 2014) if split in SIZES))
    tried = {
        folder / f"instances_{name}.json": root / name for name in names for folder in (root / "annotations", root)
    }
    for file, images in tried.items():
        if file.exists():
            return CocoDataset(images if images.is_dir() else root / "images", file, **options)
    raise DataError(
        f"{root.absolute()}: no annotations of split {split!r} (tried {', '.join(str(f.absolute()) for f in tried)}). "
        "A COCO folder holds annotations/instances_<split>.json and a folder <split> of images; for any other layout "
        "give the images' folder and --annotations FILE"
        + f": --data {root / 'images'} --annotations {root / 'instances.json'}" * (root / "instances.json").exists()
    )
