"""Make everything in figures/ anew.

Example: dsla figures --out figures
"""

from argparse import ArgumentParser, Namespace

from .arguments import output_option


def options(p: ArgumentParser) -> None:
    p.add_argument("--out", default="figures", help="folder (default: %(default)s)")
    p.add_argument("--results", metavar="FILE", help="make the page docs/results.md instead, of the runs in --out")
    output_option(p, "files that dsla did not write")


def run(args: Namespace) -> None:
    if args.results:
        from ..files import refuse_existing, write
        from ..paper import results_page

        refuse_existing([args.results], overwrite=args.overwrite)
        print(write(args.results, results_page(args.out)))
        return
    from ..paper import make_figures

    print("\n".join(str(path) for path in make_figures(args.out, overwrite=args.overwrite)))
