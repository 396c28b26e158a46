"""Compare FCOS and DSLA on the embedded set: figures and a report.

Example: dsla reproduce --out report
"""

from argparse import ArgumentParser, Namespace

from ..files import OwnFolder, csv_text
from .arguments import Needs, count, output_option, plugin_option, whole

NEEDS = (
    Needs("recipes seeds steps jobs", lambda args: args.train, "needs --train; without it shipped weights are used"),
    Needs("quiet", lambda args: not args.recipes, "silences the report's progress: --recipes prints a line a run"),
)


def options(p: ArgumentParser) -> None:
    p.add_argument("--out", default="dsla-report", help="folder of the report (default: %(default)s)")
    p.add_argument("--train", action="store_true", help="train the models anew instead of using the shipped weights")
    p.add_argument("--seeds", type=whole(1, 1000), default=1, help="trainings of each model, with --train (default: 1)")
    p.add_argument("--images", type=count, help="validation scenes (default: all 400)")
    p.add_argument("--steps", type=count, help="training steps instead of the recipe's, with --train")
    p.add_argument(
        "--recipes",
        metavar="LIST",
        help="with --train: a table of these recipes over seeds instead of the report: methods, ablation, gamma, "
        "conditions, all, or names, with commas between",
    )
    p.add_argument("--jobs", type=whole(1, 256), default=1, help="with --train: runs at a time, a core each")
    p.add_argument("--quiet", action="store_true", help="no progress")
    output_option(p, "files of the folder that dsla did not write")
    plugin_option(p)


def run(args: Namespace) -> None:
    trainings = {"seeds": args.seeds, "steps": args.steps, "images": args.images, "jobs": args.jobs}
    if args.recipes:
        from ..paper import FILE, experiments, methods_markdown

        folder = OwnFolder(args.out, overwrite=args.overwrite)
        table = experiments(args.recipes, args.out, **trainings)
        folder.write("experiments.csv", csv_text(table, 9, float_format="%.6g"))
        print(methods_markdown(table), f"{args.out}/{FILE}, {args.out}/experiments.csv", sep="\n\n")
        return
    from ..paper import reproduce

    reproduce(args.out, train=args.train, progress=not args.quiet, overwrite=args.overwrite, **trainings)
