"""``dsla methods``: the registry as people read it, as JSON, and as the table of the README."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable

from ..assigners.registry import METHODS, Method, method
from .arguments import plugin_option


def options(p: ArgumentParser) -> None:
    p.add_argument("methods", nargs="*", metavar="METHOD", help="only these (default: all)")
    form = p.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON")
    form.add_argument("--markdown", action="store_true", help="as a Markdown table")
    plugin_option(p)


def run(args: Namespace) -> None:
    entries = [method(name) for name in args.methods] or list(METHODS.values())
    if args.json:
        print(json.dumps([entry.to_dict() for entry in entries], indent=1, ensure_ascii=False))
    else:
        print(markdown(entries) if args.markdown else "\n\n".join(in_words(entry) for entry in entries))


def in_words(entry: Method) -> str:
    """A method in some lines, its options with their defaults and ranges as recipes have them."""
    origin = entry.reference or entry.where
    lines = [
        f"{entry.name}: {entry.title}" + (f" ({origin})" if origin else ""),
        f"  positive  {entry.summary}",
        f"  taught    {entry.taught}",
        f"  from      {'predictions, points and boxes' if entry.needs_predictions else 'points and boxes alone'}",
        f"  recipes   method={entry.name}; fields that matter only to some: {', '.join(entry.uses)}",
    ]
    for option in entry.options:
        value = "none" if option.default is None else str(option.default).lower()
        typed = f"{option.name}={value}" if option.name in entry.fields else f"options={option.name}:{value}"
        lines.append(f"  {typed:<26} {option.meaning} ({option.range})")
    return "\n".join(lines)


def markdown(entries: Iterable[Method]) -> str:
    """A table, a row a method."""
    lines = ["| method | positive points | taught | from predictions | options | source |", "|---|---|---|---|---|---|"]
    for entry in entries:
        source = entry.where
        if isinstance(entry.source, str):
            file = f"{entry.source.split(':')[0]}.py"
            source = f"[{file}](dsla/assigners/{file}), {entry.reference}"
        cells = (
            f"`{entry.name}`: {entry.title}",
            entry.summary,
            entry.taught,
            "yes" if entry.needs_predictions else "no",
            ", ".join(f"`{o.name}`" for o in entry.options),
            source,
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)
