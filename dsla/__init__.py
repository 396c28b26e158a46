"""DSLA: understand, train and question label assignment in object detection.

Names below are looked up when first used: ``import dsla`` itself loads nothing, not even torch.
"""

from typing import TYPE_CHECKING

from .lazy import lazily

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
    from .recipes import RECIPES, Recipe, recipe
    from .training import recorder as recording
    from .training.loop import train

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazily(__name__, __file__)
