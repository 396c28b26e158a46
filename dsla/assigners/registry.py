"""The registry: all that the package knows of each method, one entry a method, under the name that people type.

Recipes, `dsla.build`, `dsla.compare`, the widgets, the statistics, the figures and the shell read it, so that a method
added here, or by `register`, is there in all of them. It is plain data: nothing here needs torch before a method is
asked for its assigner.
"""

import inspect
import os
import re
import sys
import traceback
import types
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, strides_of, unknown
from ..files import read_toml
from .entry import LABELS, Method, Option, entry_of

if TYPE_CHECKING:
    from .base import Assigner


def _package() -> dict[str, Method]:
    """The methods of the package: methods.toml."""
    entries = read_toml(__file__, "methods")
    shared = {name: {"name": name, **option} for name, option in entries.pop("shared").items()}
    for name, entry in entries.items():
        options = [shared[option] if isinstance(option, str) else option for option in entry["options"]]
        entry["options"] = tuple(Option.of(**option) for option in options)
        entries[name] = Method(name=name, **{**entry, "fields": tuple(entry.get("fields", ()))})
    return entries


METHODS: dict[str, Method] = _package()
"""Each method by its name, in the order of tables and figures; those of one's own come last."""

VARIABLE = "DSLA_PLUGIN"  # of the environment: the plugin files that processes started from here load, too


def method(name: str) -> Method:
    """The method of a name, of its title or of its assigner's class; capitals do not matter.

    Raises:
        DataError: there is none; names what it may have meant.
    """
    entry = _lookup(name)
    for path in _plugins() if entry is None else ():
        if f"plugin {path}" not in sys.modules:  # in a process that another one with plugins started
            load_plugin(path)
    entry = entry or _lookup(name)
    if entry is None:
        raise unknown("method", name, METHODS, "; one of your own comes with --plugin FILE.py or dsla.register")
    return entry


def _lookup(name: str) -> Method | None:
    if name in METHODS:
        return METHODS[name]
    called, every = str(name).lower(), METHODS.values()
    return next((m for m in every if called in map(str.lower, (m.name, m.title, m.class_name))), None)


def _plugins() -> list[str]:
    """The plugin files of the environment."""
    return [path for path in os.environ.get(VARIABLE, "").split(os.pathsep) if path]


def as_assigner(value: Any, strides: Sequence[int] | None = None) -> "Assigner":
    """An assigner: as it is, of its class, or of a method by name.

    Given strides, the ranges of its levels end at 8 strides each, FCOS's own for P3…P7.

    Raises:
        DataError: none of these, or strides that are none (`dsla.errors.strides_of`).
    """
    from .base import Assigner

    if isinstance(value, Assigner):
        return value
    ranges = None if strides is None else tuple(pairwise([0.0, *(8.0 * s for s in strides_of(strides)[:-1]), 1e8]))
    if isinstance(value, type) and issubclass(value, Assigner):
        entries = (m for m in METHODS.values() if m.kind is value and not m.fixed)
        return (next(entries, None) or entry_of(value.__name__, value)).assigner(ranges)
    if isinstance(value, str):
        return method(value).assigner(ranges)
    raise DataError(f"{value!r:.60} is no assigner: give one, a class of them, or a method's name")


def register(
    name: str,
    kind: "type[Assigner]",
    labels: str = "soft",
    *,
    title: str | None = None,
    colour: str | None = None,
    coupling: str | None = None,
    options: Mapping[str, tuple[float, float]] | None = None,
    summary: str | None = None,
    reference: str = "",
) -> None:
    """Make a class a method: in recipes, views, statistics and the shell, as those of the package are.

    In a file of its own it is ``dsla train scenes-dsla method=NAME --plugin FILE.py``.

    Args:
        name: not one that there is.
        kind: its arguments need default values; those that are numbers, true or false, or text are its options.
            It gets the levels' ranges if it has an argument `regress_ranges`.
        labels: "soft" labels are taught by the quality focal loss, as DSLA's; "hard" ones by the focal loss, as
            FCOS's.
        title: in figures; by default the class's `name`.
        colour: in figures, as #rrggbb.
        coupling: of the label with the IoU, where no recipe says another; by default the class's.
        options: (low, high) of an option, by name; what else there is to say of it is read off the class.
        summary: a line for tables; by default the first of the class's docstring.
        reference: a paper.
    Raises:
        DataError: the name of another method, a class that is no `Assigner` or cannot be called without arguments,
            labels or a coupling that do not exist or go together, ranges of an option that the class does not have.
    """
    from ..losses import check_coupling
    from .base import Assigner

    if labels not in LABELS:
        raise DataError(f"labels are 'soft' or 'hard', got {labels!r}")
    if colour is not None and not re.fullmatch(r"#[0-9a-fA-F]{6}", colour):
        raise DataError(f"colour {colour!r}: write it as #rrggbb")
    if not (inspect.isclass(kind) and issubclass(kind, Assigner)):
        raise DataError(f"{kind!r} is no class of assigners: derive it from dsla.assigners.Assigner or PairAssigner")
    coupling = coupling or kind.default_coupling
    check_coupling(coupling)
    if coupling != "off" and labels == "hard":
        raise DataError(f"{name}: hard labels are taught as they are, without the IoU: give coupling='off'")
    there = _lookup(name)
    if there is not None and _place(there.source) != _place(kind):
        origin = f" ({there.where})" if there.where else ""
        raise DataError(f"there is a method {there.name!r} already{origin}: choose another name")
    caller = sys._getframe(1)
    file = caller.f_code.co_filename
    fields = {"title": title, "colour": colour, "coupling": coupling, "summary": summary}
    fields |= {"criterion": LABELS[labels], "label": "0…1" if labels == "soft" else "1", "reference": reference}
    fields["where"] = f"{file}, line {caller.f_lineno}" if Path(file).is_file() else "a notebook's cell"
    METHODS[name] = entry_of(name, kind, options, **{k: v for k, v in fields.items() if v is not None})


def _place(kind: Any) -> str:
    """Where a class is defined: the same for a notebook's cell run twice."""
    return f"{kind.__module__}:{kind.__qualname__}" if isinstance(kind, type) else kind


def load_plugin(path: str | Path) -> list[str]:
    """Run a file that registers methods, here and in every process that this one starts from now on.

    Returns the names that it registers.

    Raises:
        DataError: no such file, one that fails or registers nothing; names file and line.
    """
    file = Path(path).resolve()
    if not file.is_file():
        raise DataError(f"--plugin {path}: there is no such file")
    before, module = dict(METHODS), types.ModuleType(f"plugin {file}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module
    try:
        code = compile(file.read_bytes(), str(file), "exec", dont_inherit=True)
        exec(code, vars(module))  # not imported: that would leave a cache beside the file, which may be stale
        names = [name for name, entry in METHODS.items() if before.get(name) is not entry]
        if not names:
            raise DataError("it registers no method: call dsla.register(NAME, CLASS) in it")
    except (Exception, SystemExit) as error:
        METHODS.clear()
        METHODS.update(before)
        del sys.modules[module.__name__]
        reason = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
        raise DataError(f"plugin {path}{_line(error, file)}: {reason}") from error
    os.environ[VARIABLE] = os.pathsep.join(dict.fromkeys([*_plugins(), str(file)]))
    return names


def _line(error: BaseException, file: Path) -> str:
    """The line of the file that an error came from; nothing where it is the file as a whole."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return f", line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return f", line {lines[-1]}" if lines else ""
