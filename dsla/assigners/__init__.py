"""Assigners: one method, one small file, one protocol (`Assigner`); `registry` has them by name.

Names below are looked up when first used, so that the registry alone can be read without torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .entry import Method, Option
from .registry import METHODS, as_assigner, load_plugin, method, register

if TYPE_CHECKING:
    from .assignment import Assignment
    from .atss import ATSS
    from .base import DEFAULT_RANGES, Assigner
    from .dsla import DSLA
    from .explanation import Explanation, Rule
    from .fcos import FCOS
    from .fovea import FoveaBox
    from .gfl import GFL
    from .imagewise import ImageAssigner
    from .jitter import jittered_predictions
    from .max_iou import MaxIoU
    from .pairs import Pairs
    from .pairwise import PairAssigner
    from .promises import BrokenPromise, check
    from .rules import Case
    from .simota import SimOTA
    from .tal import TaskAligned
    from .truth import Decision, Truth

_MODULES = {
    "assignment": "Assignment",
    "atss": "ATSS",
    "base": "DEFAULT_RANGES Assigner",
    "dsla": "DSLA",
    "explanation": "Explanation Rule",
    "fcos": "FCOS",
    "fovea": "FoveaBox",
    "gfl": "GFL",
    "imagewise": "ImageAssigner",
    "jitter": "jittered_predictions",
    "max_iou": "MaxIoU",
    "pairs": "Pairs",
    "pairwise": "PairAssigner",
    "promises": "BrokenPromise check",
    "rules": "Case",
    "simota": "SimOTA",
    "tal": "TaskAligned",
    "truth": "Decision Truth",
}
_LATER = {name: module for module, names in _MODULES.items() for name in names.split()}
__all__ = ["METHODS", "Method", "Option", "as_assigner", "load_plugin", "method", "register", *_LATER]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'dsla.assigners' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_LATER[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LATER])
