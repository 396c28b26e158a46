"""``dsla analyze``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from .arguments import fraction, plugin_option


def options(p: ArgumentParser) -> None:
    p.add_argument("results", nargs="+", metavar="RESULTS.json", help="COCO results files, shown side by side")
    p.add_argument("--annotations", required=True, help="COCO ground truth of the images")
    p.add_argument("--html", help="write a self-contained report to this file")
    p.add_argument("--out", help="write all tables (CSV) and figures to this folder")
    p.add_argument("--score", type=fraction, default=0.0, help="leave out detections below this score (default: none)")
    p.add_argument(
        "--nms", type=fraction, default=0.6, help="IoU of the further NMS that is tried (default: %(default)s)"
    )
    plugin_option(p)


def run(args: Namespace) -> None:
    from ..analysis.detectors import ask
    from ..paper.detector_report import pictures, short_table, write_html, write_tables

    answers = ask(args.results, args.annotations, score_threshold=args.score, nms_threshold=args.nms)
    print(short_table(answers))
    drawn = pictures(answers) if args.out or args.html else {}
    if args.out:
        print(f"tables and figures: {write_tables(answers, drawn, args.out)}")
    if args.html:
        print(f"report: {write_html(answers, drawn, args.html, args.annotations, args.score)}")
