"""``dsla figures``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace


def options(p: ArgumentParser) -> None:
    p.add_argument("--out", default="figures", help="folder (default: %(default)s)")


def run(args: Namespace) -> None:
    from ..paper.gallery import make_figures

    print("\n".join(str(path) for path in make_figures(args.out)))
