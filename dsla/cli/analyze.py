"""Show errors, ranking and suppression of any detector by its COCO results files.

Example: dsla analyze yolox.json nanodet.json --annotations instances.json --html report.html
"""

from argparse import ArgumentParser, Namespace

from .arguments import fraction, output_option, plugin_option


def options(p: ArgumentParser) -> None:
    p.add_argument("results", nargs="+", metavar="RESULTS.json", help="COCO results files, shown side by side")
    p.add_argument("--annotations", required=True, help="COCO ground truth of the images")
    p.add_argument("--html", help="write a self-contained report to this file")
    p.add_argument("--out", help="write all tables (CSV) and figures to this folder, and a notebook that loads them")
    p.add_argument("--score", type=fraction, default=0.0, help="leave out detections below this score (default: none)")
    p.add_argument(
        "--nms", type=fraction, default=0.6, help="IoU of the further NMS that is tried (default: %(default)s)"
    )
    output_option(p, "the files of --html and --out")
    plugin_option(p)


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
