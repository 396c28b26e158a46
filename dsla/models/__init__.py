"""Backbone → pyramid → head → detector; weights in and out."""

from .build import assigner, build
from .detector import Detector, Raw
from .head import Head
from .postprocess import Postprocess
from .saving import load, save

__all__ = ["Detector", "Head", "Postprocess", "Raw", "assigner", "build", "load", "save"]
