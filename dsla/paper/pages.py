"""Pages: one self-contained HTML file each, text, tables and figures inside it, nothing loaded from anywhere.

What they say lies in `templates/`, how they look in `templates/page.css`: read on a phone or a desktop, light or dark.
Equal content gives equal bytes: no dates, no times. Beside a page lies a notebook that loads its folder.
"""

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup

from .. import __version__
from ..coco.problems import many
from ..errors import visible
from ..files import OwnFolder, csv_text
from ..plots.style import Picture, picture_bytes
from . import claims, definitions

LOADING = Path(__file__).parent / "templates" / "loading.py.txt"  # the first cell of a notebook
MIME = {"svg": "image/svg+xml", "png": "image/png"}


@dataclass(frozen=True)
class Chart:
    """A drawn figure with its title and its table; "svg" for line art, "png" for photographs."""

    name: str
    title: str
    figure: Picture
    table: pd.DataFrame
    kind: str = "svg"

    @cached_property
    def data(self) -> bytes:
        return picture_bytes(self.figure, self.kind)

    @property
    def file(self) -> str:
        return f"figures/{self.name}.{self.kind}"

    @property
    def address(self) -> str:
        """The picture as a data: address."""
        return f"data:{MIME[self.kind]};base64,{base64.b64encode(self.data).decode()}"

    def save(self, folder: OwnFolder) -> None:
        """Picture and table, into the `figures/` of a folder."""
        folder.write(self.file, self.data)
        folder.write(f"figures/{self.name}.csv", csv_text(self.table))


@dataclass(frozen=True)
class Grid:
    """A table in text: one row a number of an analysis, or whatever else the index holds.

    Attributes:
        frame: the cells.
        caption: what it is.
        meanings: of rows, by their index; folded away below.
        notes: sentences below it.
    """

    frame: pd.DataFrame
    caption: str
    meanings: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @classmethod
    def of(
        cls,
        analysis: str,
        caption: str,
        methods: Iterable[str],
        cell: Callable[[str, str], str],
        about: pd.DataFrame,
        notes: Sequence[str] = (),
    ) -> "Grid":
        """The numbers of an analysis, a column a method.

        Args:
            analysis: one of `definitions.ROWS["page"]`.
            caption: what it is.
            methods: the columns.
            cell: (method, name of the number) → text.
            about: definition, by the number's name; rows that it lacks are left out.
            notes: sentences below it.
        """
        names = [name for name in definitions.ROWS["page"][analysis] if name in about.index]
        frame = pd.DataFrame({m: [cell(m, n) for n in names] for m in methods}, index=names)
        return cls(frame, caption, about["definition"][names].to_dict(), notes)


def page(template: str, **content: Any) -> str:
    """A template of the package, filled. All text is escaped; control characters in it are made visible."""
    return _templates().get_template(template).render(contents=[], **content)


def notebook(title: str, about: str, charts: Iterable[Chart]) -> str:
    """A notebook that loads the tables and figures of the folder it lies in, for those who want to go on.

    Args:
        title: of what lies there.
        about: a sentence on the tables.
        charts: each gets a cell that shows the picture and its table.
    """
    what_to_do = "Run the cells from the top, then change what you like."
    sources = [f"# {_line(title)}\n\n{_line(about)} {what_to_do}", LOADING.read_text(encoding="utf-8").strip()]
    for chart in charts:
        sources += [f"## {chart.title}\n\n{_line(chart.figure.caption)}", f'show("{chart.name}")']
    cells = [_cell(i, source) for i, source in enumerate(sources)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    whole = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, sort_keys=True, ensure_ascii=False)


def _cell(number: int, source: str) -> dict[str, Any]:
    """Text and code take turns."""
    code: dict[str, Any] = {"cell_type": "code", "execution_count": None, "outputs": []}
    about = code if number % 2 else {"cell_type": "markdown"}
    return {**about, "id": f"cell-{number}", "metadata": {}, "source": source.splitlines(True)}


def _line(text: str) -> str:
    """Text with all its control characters made visible, ends of lines, too."""
    return visible(text, kept="")


@cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dsla", "paper/templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else _line(str(value)),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        extensions=["jinja2.ext.do"],
    )
    environment.globals |= {
        "words": definitions.WORDS,
        "verdicts": definitions.VERDICTS,
        "one_seed": definitions.ONE_SEED,
        "label": definitions.label,
        "text": definitions.as_text,
        "many": many,
        "version": __version__,
        "finite": lambda values: bool(np.isfinite(list(values)).all()),
        "PLAIN": claims.PLAIN,
        "DSLA": claims.DSLA,
    }
    environment.filters["slug"] = lambda text: "".join(c if c.isalnum() else "-" for c in text.lower()).strip("-")
    return environment
