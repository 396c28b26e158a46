"""``dsla reproduce``: the report, or with --recipes a table of many trainings."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from .arguments import Needs, count, plugin_option, whole

NEEDS = (
    Needs("recipes seeds steps", lambda args: args.train, "needs --train: without it the shipped weights are used"),
    Needs("jobs", lambda args: args.recipes, "needs --recipes, whose runs go side by side"),
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
    p.add_argument(
        "--jobs", type=whole(1, 256), default=1, help="with --recipes: runs at a time, a core each (default: 1)"
    )
    p.add_argument("--quiet", action="store_true", help="no progress")
    plugin_option(p)


def run(args: Namespace) -> None:
    if args.recipes:
        from ..paper.runs import FILE, experiments, markdown

        table = experiments(
            args.recipes, args.out, seeds=args.seeds, steps=args.steps, images=args.images, jobs=args.jobs
        )
        table.to_csv(Path(args.out) / "experiments.csv", index=False, float_format="%.6g")
        print(markdown(table), f"{args.out}/{FILE}, {args.out}/experiments.csv", sep="\n\n")
        return
    from ..paper.reproduce import reproduce

    reproduce(
        args.out, train=args.train, seeds=args.seeds, images=args.images, steps=args.steps, progress=not args.quiet
    )
