"""Make a page on which to draw boxes and see which points learn them, with any photographs.

Example: dsla explore photo.jpg --html explorer.html
"""

import os
from argparse import Namespace
from pathlib import Path

from ..errors import DataError
from .arguments import Needs
from .predict import find_images, plan

NEEDS = (Needs("annotations", lambda args: args.images, "needs images: whose boxes?"),)


def run(args: Namespace) -> None:
    paths = find_images(args.images)[0] if args.images else []
    if len(args.methods) > 3:
        raise DataError(f"--methods: one to three, got {len(args.methods)}")
    from ..assigners import method
    from ..data import CocoDataset
    from ..files import refuse_existing, write
    from ..geometry import Frame
    from ..plots.comparison import STRIDES
    from ..widgets.page import page, photograph, scenes
    from ..widgets.state import catalogue, initial

    Frame.of((1, 1), args.input_size)  # refuses what is none
    rows = [{"method": method(name).name, "options": {}} for name in args.methods]
    refuse_existing([args.html], inputs=[*paths, *filter(None, [args.annotations])], overwrite=args.overwrite)
    truth = CocoDataset(os.curdir, args.annotations) if args.annotations else None
    planned = plan(paths, Path(os.curdir), truth)
    pictures = [photograph(p.path, truth, p.image_id) for p in planned] or scenes()
    text = page(pictures, initial(rows, STRIDES, None, args.input_size), catalogue({}))
    write(args.html, text)
    size = len(text.encode()) / 1e6
    print(f"{args.html}: {len(pictures)} pictures, {size:.2f} MB; it opens in a browser, without Python")
