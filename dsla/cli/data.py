"""``dsla data``: the embedded set as files, or COCO from its server."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from .arguments import Needs, count, output_option

NEEDS = (
    Needs("size", lambda args: args.what != "coco", "is a number of embedded scenes: COCO is fetched whole"),
    Needs("overwrite", lambda args: args.what != "coco", "is of the embedded set: a download replaces nothing"),
    Needs("split", lambda args: args.what == "coco", "is of COCO: a split of the embedded set is the word after data"),
)


def options(p: ArgumentParser) -> None:
    p.add_argument("what", choices=("train", "val", "test", "coco"), help="a split of the embedded set, or COCO")
    p.add_argument("--to", required=True, help="folder; a download goes on from what it holds")
    p.add_argument("--size", type=count, help="number of scenes")
    p.add_argument("--split", default="val2017", help="of COCO: train2017 (18 GB) or val2017 (0.8 GB, the default)")
    output_option(p, "a set that is in the folder")


def run(args: Namespace) -> None:
    if args.what != "coco":
        from ..data.sources import open_dataset

        print(open_dataset(None, args.what, size=args.size, progress=True).to_coco(args.to, overwrite=args.overwrite))
        return
    from tqdm.auto import tqdm

    from ..data.download import download_coco

    with tqdm(unit="B", unit_scale=True, leave=False) as bar:

        def progress(file: str, done: int, total: int) -> None:
            bar.set_description_str(file, refresh=False)
            bar.total = total
            bar.update(done - bar.n)

        folder = download_coco(args.split, args.to, progress=progress)
    print(f"{folder}: use it with dsla evaluate WEIGHTS --data {folder} --split {args.split}")
