"""DSLA: understand, train and question label assignment in object detection.

Names below are looked up when first used: ``import dsla`` itself loads nothing, not even torch.
"""

import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import analysis, assigners, losses, widgets
    from .assigners import Assignment, register
    from .data import CocoDataset, Scenes
    from .errors import DataError
    from .geometry import HeadOutputs, PointGrid
    from .models import build, load, save
    from .models.evaluation import evaluate
    from .models.prediction import predict
    from .plots.comparison import compare
    from .plots.why import why
    from .recipes import RECIPES, recipe
    from .recipes.recipe import Recipe
    from .training.loop import train

__version__ = "0.1.0"

_NAMES = {
    "assigners": "Assignment register",
    "data": "CocoDataset Scenes",
    "errors": "DataError",
    "geometry": "HeadOutputs PointGrid",
    "recipes": "Recipe RECIPES recipe",
    "models": "build load save",
    "training.loop": "train",
    "models.evaluation": "evaluate",
    "models.prediction": "predict",
    "plots.comparison": "compare",
    "plots.why": "why",
}
_PLACES = {name: module for module, names in _NAMES.items() for name in names.split()}
_MODULES = {name: name for name in ("analysis", "assigners", "losses", "widgets")} | {"recording": "training.recorder"}
__all__ = [*_PLACES, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        value = getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)
    elif name in _MODULES or importlib.util.find_spec(f"{__name__}.{name}"):
        value = importlib.import_module(f".{_MODULES.get(name, name)}", __name__)
    else:
        raise AttributeError(f"module 'dsla' has no attribute {name!r}")
    return globals().setdefault(name, value)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
