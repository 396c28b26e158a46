"""Assigners: one method, one small file, one protocol (`Assigner`)."""

from .assignment import Assignment
from .atss import ATSS
from .base import DEFAULT_RANGES, Assigner, Pairs
from .check import BrokenPromise, check
from .choice import as_assigner, point_offset, ranges_of
from .dsla import DSLA
from .explanation import Explanation, Rule
from .fcos import FCOS
from .fovea import FoveaBox
from .gfl import QualityLabel
from .jitter import jittered_predictions
from .max_iou import MaxIoU
from .pairwise import PairAssigner
from .simota import SimOTA
from .tal import TaskAligned

METHODS: dict[str, type[Assigner]] = {
    "dsla": DSLA,
    "fcos": FCOS,
    "atss": ATSS,
    "simota": SimOTA,
    "tal": TaskAligned,
    "max-iou": MaxIoU,
    "fovea": FoveaBox,
    "gfl": QualityLabel,
}
"""Each method by the name that recipes and the shell use."""

__all__ = [
    "ATSS",
    "DEFAULT_RANGES",
    "DSLA",
    "FCOS",
    "METHODS",
    "Assigner",
    "Assignment",
    "BrokenPromise",
    "Explanation",
    "FoveaBox",
    "MaxIoU",
    "PairAssigner",
    "Pairs",
    "QualityLabel",
    "Rule",
    "SimOTA",
    "TaskAligned",
    "as_assigner",
    "check",
    "jittered_predictions",
    "point_offset",
    "ranges_of",
]
