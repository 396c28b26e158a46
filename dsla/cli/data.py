"""``dsla data``: the embedded set as files, COCO from its server, or what is wrong with a file of your own."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from ..errors import DataError
from .arguments import Needs, count, output_option

SPLITS = ("train", "val", "test")
NEEDS = (
    Needs("images", lambda args: args.what == "check", "is for check: the folder of a file's images"),
    Needs("to", lambda args: args.what != "check", "is a folder to write; check writes nothing"),
    Needs("size", lambda args: args.what in SPLITS, "is a number of embedded scenes: COCO is fetched whole"),
    Needs("overwrite", lambda args: args.what in SPLITS, "is of the embedded set: a download replaces nothing"),
    Needs("split", lambda args: args.what == "coco", "is of COCO: a split of the embedded set is the word after data"),
)


def options(p: ArgumentParser) -> None:
    p.add_argument("what", choices=(*SPLITS, "coco", "check"), help="a split of the embedded set, COCO, or check")
    p.add_argument("files", nargs="*", metavar="FILE", help="of check: COCO ground truths, and results")
    p.add_argument("--images", metavar="DIR", help="of check: read the image files, too")
    p.add_argument("--to", help="folder; a download goes on from what it holds")
    p.add_argument("--size", type=count, help="number of scenes")
    p.add_argument("--split", default="val2017", help="of COCO: train2017 (18 GB) or val2017 (0.8 GB, the default)")
    output_option(p, "a set that is in the folder")


def run(args: Namespace) -> int | None:
    if args.what == "check":
        return _check(args)
    if args.to is None or args.files:
        raise DataError(f"say where to write it: dsla data {args.what} --to FOLDER; files are for dsla data check")
    if args.what != "coco":
        from ..data.sources import open_dataset

        print(open_dataset(None, args.what, size=args.size, progress=True).to_coco(args.to, overwrite=args.overwrite))
        return None
    from tqdm.auto import tqdm

    from ..data.download import download_coco

    with tqdm(unit="B", unit_scale=True, leave=False) as bar:

        def progress(file: str, done: int, total: int) -> None:
            bar.set_description_str(file, refresh=False)
            bar.total = total
            bar.update(done - bar.n)

        folder = download_coco(args.split, args.to, progress=progress)
    print(f"{folder}: use it with dsla evaluate WEIGHTS --data {folder} --split {args.split}")
    return None


def _check(args: Namespace) -> int:
    """Prints what is wrong with the files: code 0 nothing, 1 what will be mended, 2 what is refused."""
    from tqdm.auto import tqdm

    from ..data.check import check

    if not args.files:
        raise DataError("name the COCO files to check: dsla data check FILE")
    with tqdm(unit="image", leave=False, disable=None if args.images else True) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        reports = check(args.files, args.images, progress)
    print("\n".join(map(str, reports)))
    return max(report.code for report in reports)
