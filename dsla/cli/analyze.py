"""Show errors, missed objects, ranking and suppression of any detector by its COCO results files.

Example: dsla analyze yolox.json nanodet.json --annotations instances.json --input-size 416 --html report.html
"""

import json
import sys
from argparse import Namespace


def run(args: Namespace) -> None:
    from ..analysis import ask
    from ..analysis.points import Setting
    from ..files import OwnFolder, refuse_existing, require_folder, write
    from ..paper.analyze import as_json, charts, html, short_table, write_folder

    read = [p for p in (*args.results, args.annotations, args.images, args.images_file) if p]
    if args.images:
        require_folder(args.images)
    folder = OwnFolder(args.out, inputs=read, overwrite=args.overwrite) if args.out else None
    if args.html:
        refuse_existing([args.html], inputs=read, overwrite=args.overwrite)
    answers = ask(
        args.results, args.annotations, score_threshold=args.score, nms_threshold=args.nms,
        subset=args.images_file or args.subset, resamples=args.resamples, level=args.level,
        setting=Setting.of(args.method, args.strides, input_size=args.input_size),
    )  # fmt: skip
    print(json.dumps(as_json(answers), indent=1, ensure_ascii=False) if args.json else short_table(answers))
    drawn = charts(answers, args.images) if args.out or args.html else {}
    about = sys.stderr if args.json else sys.stdout
    if folder:
        write_folder(answers, drawn, folder, latex=args.latex)
        print(f"tables, figures and a notebook: {args.out}", file=about)
    if args.html:
        print(f"report: {write(args.html, html(answers, drawn, args.annotations, args.score))}", file=about)
