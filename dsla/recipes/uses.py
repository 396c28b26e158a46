"""Which fields a recipe uses, by its backbone, its method and its other fields. Plain data, without torch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..assigners.registry import METHODS, method
from ..files import read_toml

TABLES = read_toml(__file__, "fields")
BACKBONES: dict[str, list[str]] = TABLES["backbones"]
"""Each backbone, with those fields of recipes that it uses and not all backbones do."""

_OTHERS: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (("quality_on", "score", "select_by"), lambda r: r.quality is None, "there is no quality branch: quality=none"),
    (("groups", "conv_bias", "dcn_head"), lambda r: r.head_convs == 0, "the head has no towers: head_convs=0"),
    (("truncate",), lambda r: r.relaxation == 0, "no range is relaxed: relaxation=0"),
    (("momentum",), lambda r: r.optimizer != "sgd", "it is of SGD: optimizer=adamw"),
    (("milestones",), lambda r: r.schedule != "step", "the rate falls without steps: schedule=cosine"),
    (("warmup", "warmup_from"), lambda r: r.warmup_steps == 0, "there is no warm-up: warmup_steps=0"),
    (("bias_decay", "norm_decay"), lambda r: r.weight_decay == 0, "nothing decays: weight_decay=0"),
)


def unused(recipe: Any) -> dict[str, str]:
    """Fields of the recipe that decide nothing in it, each with the reason.

    Raises:
        DataError: no such method.
    """
    reasons: dict[str, str] = {}
    for fields, holds, reason in _OTHERS:
        if holds(recipe):
            reasons |= dict.fromkeys(fields, reason)
    users = _by_field(BACKBONES)
    for field in users.keys() - set(BACKBONES[recipe.backbone]):
        reasons[field] = f"backbone {recipe.backbone} does not use it; of {', '.join(users[field])}"
    entry, users = method(recipe.method), _by_field({name: one.uses for name, one in METHODS.items()})
    for field in users.keys() - set(entry.uses):
        reasons[field] = f"method {recipe.method} does not use it; of {', '.join(users[field])}"
    return reasons


def _by_field(uses: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Field → who uses it."""
    fields = dict.fromkeys(field for names in uses.values() for field in names)
    return {field: [name for name, names in uses.items() if field in names] for field in fields}
