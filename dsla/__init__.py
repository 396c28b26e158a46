"""DSLA: understand, train and question label assignment in object detection.

Names below are looked up when first used, so that ``import dsla`` and the assigners alone stay light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import assigners, losses
from .assigners import Assignment
from .errors import DataError
from .geometry import HeadOutputs, PointGrid

if TYPE_CHECKING:
    from . import analysis, widgets
    from .config import Recipe
    from .data import CocoDataset, Scenes
    from .evaluation import evaluate
    from .methods import register
    from .models import build, load, save
    from .plots.comparison import compare
    from .prediction import predict
    from .recipes import RECIPES, recipe
    from .training import train

__version__ = "0.1.0"

_LATER = {
    "CocoDataset": "data",
    "Scenes": "data",
    "Recipe": "config",
    "RECIPES": "recipes",
    "recipe": "recipes",
    "register": "methods",
    "build": "models",
    "load": "models",
    "save": "models",
    "train": "training",
    "evaluate": "evaluation",
    "predict": "prediction",
    "compare": "plots.comparison",
    "analysis": "analysis",
    "recording": "recording",
    "widgets": "widgets",
}
__all__ = ["Assignment", "DataError", "HeadOutputs", "PointGrid", "assigners", "losses", *_LATER]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'dsla' has no attribute {name!r}")
    module = importlib.import_module(f".{_LATER[name]}", __name__)
    return module if _LATER[name] == name else getattr(module, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LATER])
