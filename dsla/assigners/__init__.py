"""Assigners: one method, one small file, one protocol (`Assigner`); `registry` has them by name.

Names below are looked up when first used, so that the registry alone can be read without torch.
"""

from typing import TYPE_CHECKING

from ..lazy import lazily

if TYPE_CHECKING:
    from .assignment import Assignment
    from .atss import ATSS
    from .base import DEFAULT_RANGES, Assigner
    from .dsla import DSLA
    from .entry import Method, Option
    from .fcos import FCOS
    from .fovea import FoveaBox
    from .gfl import GFL
    from .imagewise import ImageAssigner
    from .jitter import jittered_assignment, jittered_predictions
    from .max_iou import MaxIoU
    from .pairs import Decision, Pairs, Truth
    from .pairwise import PairAssigner
    from .promises import BrokenPromise, check
    from .registry import METHODS, as_assigner, load_plugin, method, register
    from .rules import Case, Explanation, Rule
    from .simota import SimOTA
    from .tal import TaskAligned

__getattr__, __dir__, __all__ = lazily(__name__, __file__)
