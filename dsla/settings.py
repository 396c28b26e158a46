"""What notebooks read from their surroundings: environment variables, and files of the repository they lie in."""

import os
from pathlib import Path
from typing import TypeVar

from .errors import DataError

T = TypeVar("T")
FAST = "DSLA_FAST"


def shortened(full: T, fast: T) -> T:
    """`full`, or `fast` where the environment variable DSLA_FAST is set (to anything but 0 or nothing)."""
    return fast if os.environ.get(FAST, "0") not in ("", "0") else full


def folder_from(variable: str, given: str | Path | None = None) -> Path | None:
    """The folder `given`, else that of an environment variable; None where neither names one.

    Raises:
        DataError: there is no such folder; says the full path that was tried and the variable.
    """
    value = given if given is not None else os.environ.get(variable)
    if value is None or not str(value):
        return None
    path = Path(value).expanduser()
    if not path.is_dir():
        raise DataError(
            f"no folder {path.absolute()}; set the environment variable {variable} to the full path of one, "
            f"or leave it out"
        )
    return path


def repository_file(name: str) -> Path | None:
    """A file of the repository, such as ``figures/runs.jsonl``; None if only the package is there.

    Looked for beside the package, then in the working directory and the folders above it.
    """
    here = Path.cwd()
    for folder in (Path(__file__).resolve().parents[1], here, *here.parents):
        if (folder / name).is_file() and (folder / "pyproject.toml").is_file():
            return folder / name
    return None
