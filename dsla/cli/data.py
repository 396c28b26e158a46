"""Write the embedded set as a COCO data set, fetch COCO, or check COCO files of your own.

Example: dsla data check instances.json results.json --images photos
"""

import json
import sys
import warnings
from argparse import Namespace
from dataclasses import asdict

from ..errors import DataError, DataWarning
from ..files import refuse_existing


def run(args: Namespace) -> int | None:
    if args.what == "check":
        return _check(args)
    if args.to is None or args.files:
        raise DataError(f"say where to write it: dsla data {args.what} --to FOLDER; files are for dsla data check")
    from ..data.sources import open_dataset, progress_bar

    if args.what != "coco":
        drawn = open_dataset(None, args.what, size=args.size, progress=True)
        file = drawn.to_coco(args.to, overwrite=args.overwrite)
        print(file)
        about = f"use it with dsla evaluate WEIGHTS --data {file.parent / 'images'} --annotations {file}"
        print(about, file=sys.stderr)
        return None
    from ..data.download import download_coco

    with progress_bar(unit="B", unit_scale=True) as advance:
        folder = download_coco(args.split, args.to, progress=lambda file, done, total: advance(done, total, file))
    print(f"{folder}: use it with dsla evaluate WEIGHTS --data {folder} --split {args.split}")
    return None


def _check(args: Namespace) -> int:
    """Prints what is wrong with the files: code 0 nothing, 1 what will be mended, 2 what is refused."""
    from ..data.check import check
    from ..data.sources import progress_bar

    if not args.files or (args.assign and len(args.files) > 1):
        raise DataError("name the COCO files to check, with --assign one: dsla data check FILE")
    if args.sheet:
        refuse_existing([args.sheet], inputs=args.files, overwrite=args.overwrite)
    with progress_bar(disable=None if args.images else True) as advance:
        reports = check(args.files, args.images, advance)
    if args.json:
        rows = [{**vars(r), "problems": list(map(asdict, r)), "code": r.code} for r in reports]
        print(json.dumps(rows, indent=1, ensure_ascii=False, default=str))
    else:
        print("\n".join(map(str, reports)))
    code = max(report.code for report in reports)
    with warnings.catch_warnings(action="ignore", category=DataWarning):  # the reports say it
        if args.sheet:
            _draw(args, [report.name for report in reports if not report.error])
        if args.assign and code < 2:
            _assigned(args)
    return code


def _draw(args: Namespace, readable: list[str]) -> None:
    """Draws the sheet of the first ground truth that can be read."""
    from ..data import CocoDataset
    from ..data.check import are_results
    from ..plots import save
    from ..plots.sheet import problem_sheet

    if truths := [file for file in readable if not are_results(file)]:
        dataset = CocoDataset(args.images, truths[0])
        refuse_existing([args.sheet], inputs=dataset.files_read(), overwrite=args.overwrite)
        try:
            message = str(save(problem_sheet(dataset), args.sheet, overwrite=args.overwrite))
        except DataError as error:
            message = str(error)
        print(message, file=sys.stderr)  # the report may be JSON


def _assigned(args: Namespace) -> None:
    """Prints the objects that methods leave without a point; with --to also as a table and a figure."""
    from ..analysis.assignments import best_setting, coverage
    from ..files import OwnFolder, csv_text
    from ..plots.comparison import STRIDES
    from ..plots.detectors import coverage_figure
    from ..plots.style import picture_bytes

    folder = OwnFolder(args.to, inputs=args.files, overwrite=args.overwrite) if args.to else None
    table = coverage(args.assign, args.files[0], strides=args.strides or STRIDES, input_sizes=args.input_size)
    best = best_setting(table)
    print("% of the objects without a point (and with 1 or 2):")
    cells = table["none"].mul(100).map("{:.1f}".format) + table["few"].mul(100).map(" ({:.1f})".format)
    shares = table.assign(cell=cells)[table["by"].isin(["all", "size"])]
    wide = shares.pivot(index=["method", "strides", "input_size"], columns="group", values="cell")
    print(wide[list(dict.fromkeys(shares["group"]))].reset_index().to_string(index=False, index_names=False))
    setting = f"{best['method']}, strides {best['strides']}, input {best['input_size']}"
    print(f"fewest objects without a point: {setting}: {best['none']:.2%}")
    if folder:
        folder.write("coverage.csv", csv_text(table))
        folder.write("figures/coverage.svg", picture_bytes(coverage_figure(table), "svg"))
        print(f"{args.to}: coverage.csv, by class too, and figures/coverage.svg")
