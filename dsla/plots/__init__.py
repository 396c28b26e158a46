"""Figures: tables and assignments in, matplotlib figures out, all in one style."""

from ..assigners import jittered_predictions
from .comparison import compare
from .draw import draw_detections
from .style import METHODS, method, picture_bytes, save

__all__ = ["METHODS", "compare", "draw_detections", "jittered_predictions", "method", "picture_bytes", "save"]
