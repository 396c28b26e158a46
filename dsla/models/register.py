"""`register`: an assigner of your own under a name, in recipes, in the shell's place of them and in every view."""

from __future__ import annotations

import inspect
from typing import Any

from .. import assigners
from ..assigners import Assigner
from ..recipes.recipe import Recipe
from .build import METHODS, options_of
from .criteria import DSLACriterion, FCOSCriterion


def register(name: str, kind: type[Assigner], labels: str = "soft") -> None:
    """Make a class known by a name: ``dsla.recipe("scenes-dsla", method=name)``, ``dsla.compare(assigners=[name])``.

    Args:
        name: not one of the package's own.
        kind: called with the recipe's ``options``, and with its ranges if it takes ``regress_ranges``.
        labels: "soft" labels are taught by the quality focal loss, as DSLA's, times the IoU where the recipe couples;
            "hard" ones by the focal loss, as FCOS's.
    Raises:
        ValueError: the name of another method, a class that is no `Assigner`, or other labels.
    """
    if labels not in ("soft", "hard"):
        raise ValueError(f"labels are 'soft' or 'hard', got {labels!r}")
    if not (inspect.isclass(kind) and issubclass(kind, Assigner)):
        raise ValueError(f"{kind!r} is no class of assigners: derive it from dsla.assigners.Assigner or PairAssigner")
    known = assigners.METHODS.get(name)
    same = known is not None and (known.__module__, known.__qualname__) == (kind.__module__, kind.__qualname__)
    if (name in METHODS or known is not None) and not same:  # the same class again: a notebook's cell run twice
        raise ValueError(f"there is a method {name!r} already: choose another name")
    ranged = "regress_ranges" in inspect.signature(kind).parameters

    def make(recipe: Recipe) -> Assigner:
        options: dict[str, Any] = {"regress_ranges": recipe.ranges} if ranged else {}
        return kind(**options, **options_of(recipe))

    assigners.METHODS[name] = kind
    METHODS[name] = (make, DSLACriterion if labels == "soft" else FCOSCriterion)
