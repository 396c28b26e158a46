"""Assigners: one method, one small file, one protocol (`Assigner`)."""

from .assignment import Assignment
from .base import DEFAULT_RANGES, Assigner, Pairs
from .dsla import DSLA
from .explanation import Explanation, Rule
from .fcos import FCOS

__all__ = ["DEFAULT_RANGES", "DSLA", "FCOS", "Assigner", "Assignment", "Explanation", "Pairs", "Rule"]
