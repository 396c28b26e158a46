"""Make a page on which to draw boxes and see which points learn them, with any photographs or a data set of one's own.

Example: dsla explore images/ --annotations instances.json --html explorer.html
"""

import os
from argparse import Namespace
from pathlib import Path

from ..errors import DataError
from .predict import find_images, plan


def run(args: Namespace) -> None:
    paths = find_images(args.images)[0] if args.images else []
    if len(args.methods) > 3:
        raise DataError(f"--methods: one to three, got {len(args.methods)}")
    from ..assigners import method
    from ..coco.problems import many
    from ..data import CocoDataset
    from ..files import refuse_existing, write
    from ..geometry import Frame
    from ..plots.comparison import STRIDES
    from ..widgets.page import page
    from ..widgets.pictures import photographs, pictures_of, scenes
    from ..widgets.state import catalogue, initial

    Frame.of((1, 1), args.input_size)  # refuses what is none
    rows = [{"method": method(name).name, "options": {}} for name in args.methods]
    inputs = [*paths, *filter(None, [args.annotations, args.results])]
    refuse_existing([args.html], inputs=inputs, overwrite=args.overwrite)
    if args.annotations:
        truth = CocoDataset(os.curdir, args.annotations)
        files = {p.image_id: p.path for p in plan(paths, Path(os.curdir), truth)}
        pictures = pictures_of(truth, args.results, args.score, files)
    else:
        pictures = photographs(paths) or scenes()
    text = page(pictures, initial(rows, STRIDES, None, args.input_size), catalogue({}))
    write(args.html, text)
    size = len(text.encode()) / 1e6
    print(f"{args.html}: {many(len(pictures), 'picture')}, {size:.2f} MB; it opens in a browser, without Python")
