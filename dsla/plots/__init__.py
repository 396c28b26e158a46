"""Figures: tables and assignments in, matplotlib figures out, all in one style."""

from .comparison import compare, jittered_predictions
from .draw import draw_detections
from .style import METHODS, method, picture_bytes, save

__all__ = ["METHODS", "compare", "draw_detections", "jittered_predictions", "method", "picture_bytes", "save"]
