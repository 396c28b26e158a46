"""``dsla figures``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from .arguments import output_option


def options(p: ArgumentParser) -> None:
    p.add_argument("--out", default="figures", help="folder (default: %(default)s)")
    output_option(p, "files of the folder that dsla did not write")


def run(args: Namespace) -> None:
    from ..paper import make_figures

    print("\n".join(str(path) for path in make_figures(args.out, overwrite=args.overwrite)))
