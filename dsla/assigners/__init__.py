"""Assigners: one method, one small file, one protocol (`Assigner`)."""

from .assignment import Assignment
from .atss import ATSS
from .base import DEFAULT_RANGES, Assigner, Pairs
from .dsla import DSLA
from .explanation import Explanation, Rule
from .fcos import FCOS
from .fovea import FoveaBox
from .iou_label import QualityLabel
from .max_iou import MaxIoU
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
    "Explanation",
    "FoveaBox",
    "MaxIoU",
    "Pairs",
    "QualityLabel",
    "Rule",
    "SimOTA",
    "TaskAligned",
]
