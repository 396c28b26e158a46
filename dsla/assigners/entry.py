"""An entry of the registry: what the package knows of one method, as plain data."""

import inspect
import math
import pkgutil
import re
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ..errors import DataError, unknown
from .options import KINDS, Option, kind_of

if TYPE_CHECKING:
    from .base import Assigner

CRITERIA: dict[str, tuple[str, ...]] = {
    "dsla": ("coupling",),
    "fcos": ("box_weighting", "quality", "quality_on", "score"),
}
"""Each criterion of `dsla.models.criteria`, with the fields of recipes that only it uses."""

Coupling = Literal["on", "off", "iou-only"]
"""How labels meet the IoU of a prediction: `dsla.losses.dynamic_target` says what each of them does."""


LABELS = {"soft": "dsla", "hard": "fcos"}
"""The criterion that teaches such labels: quality focal loss for soft ones, focal loss for hard ones."""

_RANGES = {"regress_ranges": -math.inf, "scale_ranges": 0.0}  # where ranges of such an argument may begin
OTHERS = ("#8c6d31", "#b5507a", "#4d6fae", "#3f8f8a", "#9467bd", "#5c5c5c")  # of methods that do not say theirs


def checked_ranges(ranges: Any, argument: str | None = "regress_ranges") -> tuple[tuple[float, float], ...]:
    """Ranges of levels as tuples of floats; infinity becomes 1e8, which float32 sums survive.

    Args:
        ranges: (low, high) of each level, pixels.
        argument: that takes them, "scale_ranges" begin at 0 or above; None: of a method without ranges.

    Raises:
        DataError: no pairs of numbers, or none that a level can have.
    """
    checked: tuple[tuple[float, float], ...] = ()
    with suppress(TypeError, ValueError):  # no pairs of numbers
        checked = tuple((float(low), min(float(high), 1e8)) for low, high in ranges)
    least = _RANGES.get(argument or "", -math.inf)
    if not checked or any(not least <= low < high or high <= 0 for low, high in checked):
        scales = "; scales begin at 0 or above" if least == 0 else ""
        raise DataError(f"each range must be (low, high) with low < high and 0 < high, got {ranges}{scales}")
    return checked


@dataclass(frozen=True, kw_only=True, eq=False)
class Method:
    """One method.

    Attributes:
        name: what people type.
        title: what figures print.
        summary: who is positive, in a line.
        label: what a positive is taught, before the coupling.
        source: class of the assigner, or "module:Class" in `dsla.assigners`, imported when first used.
        fixed: constructor arguments that make this method of the class.
        criterion: a name in `CRITERIA`, that is of the losses.
        coupling: of the label with the IoU where no recipe says another: "on", "off" or "iou-only".
        needs_predictions: whether it assigns from predictions.
        ranges: the constructor's argument that takes ranges of levels, "regress_ranges" or "scale_ranges", or None.
        fields: options that recipes hold as fields of their own; the others are typed as ``options=name:value``.
        options: what may be set.
        colour: in figures, as #rrggbb.
        reference: the paper.
        where: file and line that registered it; empty for those of the package.
    """

    name: str
    title: str
    source: "str | type[Assigner]"
    criterion: str
    colour: str
    summary: str = ""
    label: str = "1"
    fixed: Mapping[str, Any] = field(default_factory=dict)
    coupling: str = "off"
    needs_predictions: bool = False
    ranges: str | None = None
    fields: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()
    reference: str = ""
    where: str = ""

    @property
    def uses(self) -> tuple[str, ...]:
        """Fields of recipes that decide anything under this method, of those that not all methods use."""
        ranges = ("ranges",) if self.ranges else ()
        options = ("options",) if {o.name for o in self.options} - set(self.fields) else ()
        return (*ranges, *self.fields, *options, *CRITERIA[self.criterion])

    @property
    def taught(self) -> str:
        """What the classification of a positive is taught, in words."""
        iou = "the IoU of the predicted box"
        return {"on": f"{self.label}, × {iou}", "off": self.label, "iou-only": iou}[self.coupling]

    @property
    def class_name(self) -> str:
        """Of the assigner, without importing it."""
        return self.source.split(":")[1] if isinstance(self.source, str) else self.source.__name__

    @property
    def kind(self) -> "type[Assigner]":
        """Class of the assigner."""
        return pkgutil.resolve_name(f"{__package__}.{self.source}") if isinstance(self.source, str) else self.source

    def read(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Options, numbers or text, as the constructor takes them.

        Raises:
            DataError: one that this method does not have, or a value that it cannot have.
        """
        options_of = {o.name: o for o in self.options}
        for name in options:
            if name not in options_of:
                raise unknown(f"option of {self.name}", name, options_of)
        return {name: options_of[name].read(value) for name, value in options.items()}

    def assigner(self, ranges: Sequence[Sequence[float]] | None = None, **options: Any) -> "Assigner":
        """An assigner of this method.

        Args:
            ranges: (low, high) of max(l, t, r, b) for each level, pixels; None: the class's own. FoveaBox measures
                √(width · height), which for a square is from m to 2m: its levels begin at half of `low`.
            options: as `read` takes them.
        """
        arguments = {**self.fixed, **self.read(options)}
        if ranges is not None and self.ranges:
            halved = self.ranges == "scale_ranges"
            arguments[self.ranges] = tuple((low / 2 if halved else low, high) for low, high in ranges)
        made = self.kind(**arguments)
        made.default_coupling = self.coupling
        return made

    def __str__(self) -> str:
        """Some lines, options with their defaults and ranges as recipes have them."""
        origin = self.reference or self.where
        lines = [
            f"{self.name}: {self.title}" + (f" ({origin})" if origin else ""),
            f"  positive  {self.summary}",
            f"  taught    {self.taught}",
            f"  from      {'predictions, points and boxes' if self.needs_predictions else 'points and boxes alone'}",
            f"  recipes   method={self.name}; fields that matter only to some: {', '.join(self.uses)}",
        ]
        for option in self.options:
            value = "none" if option.default is None else str(option.default).lower()
            typed = f"{option.name}={value}" if option.name in self.fields else f"options={option.name}:{value}"
            lines.append(f"  {typed:<26} {option.meaning} ({option.range})")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without what only the package uses."""
        values = {k: v for k, v in vars(self).items() if k not in ("source", "fixed", "options")}
        values |= {"taught": self.taught, "uses": self.uses}
        kinds = [{**asdict(o), "kind": o.kind.__name__, "range": o.range} for o in self.options]
        values["options"] = [{k: v for k, v in o.items() if k not in ("low", "high")} for o in kinds]
        return values


def entry_of(
    name: str, kind: "type[Assigner]", bounds: Mapping[str, tuple[float, float]] | None = None, **fields: Any
) -> Method:
    """The entry of a class that is not in the registry, from its constructor and its docstring.

    Args:
        name: what people type.
        kind: the class.
        bounds: (low, high) of its options, by name.
        fields: those of the entry, in place of what the class says.
    Raises:
        DataError: an argument without a default value, or bounds of one that is no number.
    """
    text, options, left = inspect.getdoc(kind) or "", [], dict(bounds or {})
    every = inspect.signature(kind).parameters
    arguments = {k: p for k, p in every.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    for key in (k for k in arguments if k not in _RANGES):
        default, (type_of, optional) = arguments[key].default, kind_of(arguments[key])
        if default is inspect.Parameter.empty:
            raise DataError(f"{kind.__name__}: argument {key!r} needs a default value, for where only a name is given")
        type_of = type_of or type(default)
        if type_of in KINDS:
            meaning = re.search(rf"^\s+{re.escape(key)}(?: \([^)]*\))?: (.+)", text, re.MULTILINE)
            ends = left.pop(key, (-math.inf, math.inf))
            options.append(Option(key, type_of, default, meaning[1].rstrip(".") if meaning else "", *ends, optional))
    if left:
        raise DataError(
            f"{kind.__name__} has no argument {next(iter(left))!r} with a number: there are {', '.join(arguments)}"
        )
    of_class: dict[str, Any] = {
        "title": kind.name or name,
        "criterion": "dsla",
        "colour": OTHERS[zlib.crc32(name.encode()) % len(OTHERS)],
        "summary": inspect.cleandoc(kind.__doc__ or "").partition("\n")[0],
        "coupling": kind.default_coupling,
        "needs_predictions": kind.needs_predictions,
        "ranges": next((r for r in _RANGES if r in arguments), None),
    }
    return Method(name=name, source=kind, options=tuple(options), **(of_class | fields))
