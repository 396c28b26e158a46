"""Compare FCOS and DSLA on the embedded set: figures and a report.

Example: dsla reproduce --out report
"""

from argparse import Namespace

from ..files import OwnFolder, csv_text


def run(args: Namespace) -> None:
    trainings = {"seeds": args.seeds, "steps": args.steps, "images": args.images, "jobs": args.jobs}
    if args.protocol:
        from ..paper.protocol import follow

        table = follow(args.out, progress=not args.quiet, part=args.protocol, data=args.data or "")
        print(table.to_string(index=False, float_format="%.4g"))
        return
    if args.recipes:
        from ..paper import FILE, experiments, methods_markdown

        folder = OwnFolder(args.out, overwrite=args.overwrite)
        table = experiments(args.recipes, args.out, **trainings)
        folder.write("experiments.csv", csv_text(table, 9, float_format="%.6g"))
        print(methods_markdown(table), f"{args.out}/{FILE}, {args.out}/experiments.csv", sep="\n\n")
        return
    from ..paper import reproduce

    reproduce(args.out, train=args.train, progress=not args.quiet, overwrite=args.overwrite, **trainings)
