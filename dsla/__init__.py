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
    from .cli.predict import predict
    from .data import CocoDataset, Scenes
    from .models import build, load, save
    from .models.evaluation import evaluate
    from .models.register import register
    from .plots.comparison import compare
    from .recipes.recipe import Recipe
    from .recipes.scenes import RECIPES, recipe
    from .training.loop import train

__version__ = "0.1.0"

_LATER = {
    "CocoDataset": "data",
    "Scenes": "data",
    "Recipe": "recipes",
    "RECIPES": "recipes",
    "recipe": "recipes",
    "register": "models.register",
    "build": "models",
    "load": "models",
    "save": "models",
    "train": "training.loop",
    "evaluate": "models.evaluation",
    "predict": "cli.predict",
    "compare": "plots.comparison",
}
_MODULES = {"analysis": "analysis", "recording": "training.recorder", "widgets": "widgets"}
__all__ = ["Assignment", "DataError", "HeadOutputs", "PointGrid", "assigners", "losses", *_LATER, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f".{_MODULES[name]}", __name__)
    if name not in _LATER:
        raise AttributeError(f"module 'dsla' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_LATER[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LATER, *_MODULES])
