"""Make everything in figures/ anew.

Example: dsla figures --out figures
"""

from argparse import Namespace


def run(args: Namespace) -> None:
    if args.results:
        from ..files import refuse_existing, write
        from ..paper import results_page, stores

        refuse_existing([args.results], inputs=stores(args.out), overwrite=args.overwrite)
        print(write(args.results, results_page(args.out)))
        return
    from ..paper import make_figures

    print("\n".join(str(path) for path in make_figures(args.out, overwrite=args.overwrite)))
