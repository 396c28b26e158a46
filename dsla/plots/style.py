"""One place for what all figures share: colours, markers and order of the methods, sizes, axis ranges, files.

Nothing here touches pyplot: figures are `Picture` objects, which belong to whoever holds them and are freed
with them, so that a slider moved a hundred times leaves no hundred figures behind.
"""

import io
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from PIL import Image

from ..assigners import METHODS
from ..assigners.entry import OTHERS
from ..errors import DataError
from ..files import read_toml, refuse_existing, write

WIDTH = 7.2  # inches: a figure over the whole text width
UNIT = (-0.02, 1.02)  # axis range of labels, scores and IoU
DPI = 150

_SHEET = mpl.rc_params_from_file(Path(__file__).with_name("dsla.mplstyle"), use_default_template=False)
_WORDS, _LOOKS = (read_toml(__file__, name) for name in ("captions", "looks"))
INK, SOFT, FAINT = (_SHEET[key] for key in ("text.color", "axes.edgecolor", "grid.color"))
ERRORS: dict[str, str] = _WORDS["errors"]  # kind → what figures and pages call it
WHY: dict[str, str] = _WORDS["why"]  # verdict → sentence about its box
ORACLES: dict[str, str] = _WORDS["oracles"]
LOST: str = _LOOKS["lost"]


def dashes(line: Any) -> Any:
    """A line of `looks.toml` as matplotlib takes it."""
    return line if isinstance(line, str) else (0, tuple(line))


@dataclass(frozen=True)
class Look:
    """How a method, or a verdict on a detection or an object, looks in every figure; `name` is what is printed."""

    name: str
    colour: str
    line: Any
    marker: str = ""
    order: int = 0

    @property
    def drawn(self) -> dict[str, Any]:
        """Options of a line, without markers."""
        return {"color": self.colour, "ls": self.line, "label": self.name}

    @property
    def marked(self) -> dict[str, Any]:
        """Options of a line with markers."""
        return self.drawn | {"marker": self.marker}


_GIVEN: dict[str, Look] = {}  # see `distinct`

VERDICTS, PUBLISHED = (  # PUBLISHED: runs of the release
    {name: Look(name, look["colour"], dashes(look["line"])) for name, look in _LOOKS[table].items()}
    for table in ("verdicts", "published")
)

HOLLOW: dict[str, Any] = {"color": INK, "marker": "o", "mfc": "white"}  # what is beside: the paper's, an old measure

# Labels and scores, 0…1, one scale everywhere: viridis without its darkest part, which a dimmed photograph hides.
LABELS = ListedColormap([mpl.colormaps["viridis"](0.2 + 0.8 * i / 255) for i in range(256)], name="labels")


@contextmanager
def style() -> Iterator[None]:
    """The package's look, for figures made inside; what was set before comes back."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_SHEET)
        yield


def looks() -> dict[str, Look]:
    """The look of each method of the registry, and of the variants of some, by title and in their order."""
    named: list[tuple[str, str]] = []
    for entry in METHODS.values():
        named += [(entry.title, entry.colour), *map(tuple, _LOOKS["variants"].get(entry.name, ()))]
    marks = [(dashes(line), marker) for marker, line in _LOOKS["marks"]]
    return {title: Look(title, colour, *marks[i % len(marks)], i) for i, (title, colour) in enumerate(named)}


def method(name: str) -> Look:
    """Look of a method by name, title or recipe name; others get one that depends on the name alone."""
    every = looks()
    if name in _GIVEN or name in every:
        return _GIVEN.get(name) or every[name]
    titles = {_letters(title): title for title in every}
    titles |= {_letters(entry.name): entry.title for entry in METHODS.values()} | _LOOKS["aliases"]
    for form in (_letters(name), _letters(name).removeprefix("scenes")):
        if form in titles:
            return every[titles[form]]
    number = zlib.crc32(name.encode())
    return Look(name, OTHERS[number % len(OTHERS)], (0, (2, 1)), "X<>hp*"[number % 6], len(every))


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


@contextmanager
def distinct(names: Sequence[str]) -> Iterator[None]:
    """Inside, these names, say of other people's detectors, have looks of their own and this order."""
    first = ("FCOS + centerness", "DSLA", "FCOS + IoU", "FCOS", "DSLA, IoU only", "DSLA, no coupling")
    every = looks()
    given = [every[n] for n in dict.fromkeys((*first, *every))]
    before = dict(_GIVEN)
    _GIVEN.update((n, replace(given[i % len(given)], name=n, order=i)) for i, n in enumerate(names))
    try:
        yield
    finally:
        _GIVEN.clear()
        _GIVEN.update(before)


def ordered(names: Sequence[str]) -> list[str]:
    """Names in the order of all figures: the known ones first, others as they come."""
    return sorted(names, key=lambda n: method(n).order)


def by_method(table: pd.DataFrame) -> list[tuple[Look, pd.DataFrame]]:
    """The rows of each value of the column method with its look, in the order of all figures."""
    return [(method(name), table[table["method"] == name]) for name in ordered(list(dict.fromkeys(table["method"])))]


def caption(figure: str, **values: Any) -> str:
    """What stands below a figure: `captions.toml`, with these values in it."""
    return str(_WORDS["captions"][figure].format(**values))


def number_text(value: float) -> str:
    """A correlation or a share with two digits, and a minus that is one."""
    return f"{value:.2f}".replace("-", "−") if np.isfinite(value) else "n/a"


def grouped(table: pd.DataFrame, column: str, values: Sequence[str], wide: float) -> Iterator[tuple[Any, Any, Any]]:
    """Of each method its look, its rows by these values of a column, and the places of its marks beside the others'.

    Args:
        wide: room of a mark, where the rows of two values are 1 apart.
    """
    methods = by_method(table)
    for i, (look, rows) in enumerate(methods):
        places = np.arange(len(values)) + beside(len(methods), i, wide)
        yield look, rows.set_index(column).reindex(values), places


def rows_of(ax: Axes, titles: Iterable[str]) -> None:
    """A row for each title, from the top."""
    titles = list(titles)
    ax.set_yticks(range(len(titles)), titles)
    ax.set_ylim(len(titles) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)


def intervals(ax: Axes, values: pd.DataFrame, y: Any, **look: Any) -> None:
    """A mark for each row of values: three columns, the value and the ends of its interval (NaN: none is drawn)."""
    middle, low, high = values.to_numpy(dtype=float).T
    error = np.nan_to_num([middle - low, high - middle])
    ax.errorbar(middle, y, xerr=error, **{"ls": "none", "ms": 5.5, "elinewidth": 1.2, **look})


def beside(count: int, place: int, width: float) -> float:
    """How far the middle of one of `count` bars or marks lies from their common place, each `width` wide."""
    return (place - (count - 1) / 2) * width


def label_first(ax: Axes, place: int, text: str) -> None:
    """The label of the vertical axis, and its numbers, for the first of panels that share it."""
    ax.tick_params(labelleft=not place)
    if not place:
        ax.set_ylabel(text)


class Picture(Figure):
    """A matplotlib Figure that shows itself in notebooks, whether or not pyplot was ever imported.

    `caption` says what it shows; reports print it below. `rows` are the assignments, in figures that have some.
    """

    caption: str = ""
    rows: tuple[Any, ...] = ()

    def _repr_png_(self) -> bytes:
        return small_png(self)


def picture(width: float = WIDTH, height: float = 3.0, **options: Any) -> Picture:
    """An empty figure in the package's style, inches; laid out by matplotlib unless `layout` says otherwise."""
    return Picture(figsize=(width, height), **{"layout": "constrained", "dpi": DPI, **options})


@contextmanager
def drawing(height: float, text: str = "", width: float = WIDTH, **options: Any) -> Iterator[Picture]:
    """A figure to draw on inside, in the package's style; `text`: its caption."""
    with style():
        figure = picture(width, height, **options)
        figure.caption = text
        yield figure


def picture_bytes(figure: Figure, kind: str, dpi: int = DPI) -> bytes:
    """The figure as "svg" or "png": equal bytes for equal figures (no dates, no versions, fixed ids)."""
    buffer = io.BytesIO()
    none = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}[kind]
    with style():
        figure.savefig(buffer, format=kind, dpi=dpi, metadata=none)
    return buffer.getvalue()


def small_png(figure: Figure) -> bytes:
    """The figure at 100 dots per inch in 256 colours: notebooks, which keep it, are kept in version control.

    Colours are chosen with a strip of the label scale below the picture, so that rare labels keep theirs.
    """
    small = io.BytesIO()
    drawn = Image.open(io.BytesIO(picture_bytes(figure, "png", 100))).convert("RGB")
    width, height = drawn.size
    strip = Image.fromarray(LABELS(range(256), bytes=True)[None, :, :3])
    both = Image.new("RGB", (width, height + height // 3))
    both.paste(drawn)
    both.paste(strip.resize((width, height // 3)), (0, height))
    both.quantize(256).crop((0, 0, width, height)).save(small, format="png", optimize=True)
    return small.getvalue()


def save(figure: Figure, path: str | Path, *, overwrite: bool = False) -> Path:
    """Writes .svg (line art) or .png (photographs), by the ending.

    Args:
        figure: any of matplotlib's.
        path: file to write.
        overwrite: replace one that is there.
    Raises:
        DataError: a file is there.
    """
    path = Path(path)
    refuse_existing([path], overwrite=overwrite)
    kind = path.suffix[1:].lower()
    if kind not in ("svg", "png"):
        raise DataError(f"{path}: figures are saved as .svg or .png")
    return write(path, picture_bytes(figure, kind))
