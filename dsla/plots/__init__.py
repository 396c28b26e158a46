"""Figures: tables and assignments in, matplotlib figures out, all in one style."""

from ..assigners import jittered_predictions
from .comparison import compare
from .detectors import coverage_figure
from .draw import draw_detections
from .style import looks, method, picture_bytes, save

__all__ = [
    "compare", "coverage_figure", "draw_detections", "jittered_predictions", "looks", "method", "picture_bytes", "save",
]  # fmt: skip
