"""Show errors, ranking and suppression of any detector by its COCO results files.

Example: dsla analyze yolox.json nanodet.json --annotations instances.json --html report.html
"""

from argparse import Namespace


def run(args: Namespace) -> None:
    from ..analysis import ask
    from ..files import OwnFolder, refuse_existing, write
    from ..paper.analyze import charts, html, short_table, write_folder

    read = {"inputs": [*args.results, args.annotations], "overwrite": args.overwrite}
    folder = OwnFolder(args.out, **read) if args.out else None
    if args.html:
        refuse_existing([args.html], **read)
    answers = ask(args.results, args.annotations, score_threshold=args.score, nms_threshold=args.nms)
    print(short_table(answers))
    drawn = charts(answers) if args.out or args.html else {}
    if folder:
        write_folder(answers, drawn, folder)
        print(f"tables, figures and a notebook: {args.out}")
    if args.html:
        print(f"report: {write(args.html, html(answers, drawn, args.annotations, args.score))}")
