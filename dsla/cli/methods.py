"""List the methods: who is positive, what they are taught, their options.

Example: dsla methods atss --plugin ellipse.py
"""

import json
from argparse import Namespace
from collections.abc import Iterable

from ..assigners.registry import METHODS, Method, method
from ..files import markdown

HEAD = ("method", "positive points", "taught", "from predictions", "options", "source")


def run(args: Namespace) -> None:
    entries = [method(name) for name in args.methods] or list(METHODS.values())
    if args.json:
        print(json.dumps([entry.to_dict() for entry in entries], indent=1, ensure_ascii=False))
    elif args.markdown:
        print(table_of(entries))
    else:
        print("\n\n".join(map(str, entries)))


def table_of(entries: Iterable[Method]) -> str:
    """In Markdown, a row a method."""
    return markdown(HEAD, map(_row, entries))


def _row(entry: Method) -> list[str]:
    source = entry.where
    if isinstance(entry.source, str):
        file = f"{entry.source.split(':')[0]}.py"
        source = f"[{file}](dsla/assigners/{file}), {entry.reference}"
    options = ", ".join(f"`{o.name}`" for o in entry.options)
    predicted = "yes" if entry.needs_predictions else "no"
    return [f"`{entry.name}`: {entry.title}", entry.summary, entry.taught, predicted, options, source]
