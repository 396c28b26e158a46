"""DSLA: understand, train and question label assignment in object detection."""

from . import assigners, losses
from .assigners import Assignment
from .geometry import HeadOutputs, PointGrid

__all__ = ["Assignment", "HeadOutputs", "PointGrid", "assigners", "losses"]
__version__ = "0.1.0"
