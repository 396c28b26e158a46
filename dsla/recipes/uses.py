"""Which fields a recipe uses, by its backbone, its method and its other fields. Plain data, without torch."""

from typing import Any

from ..assigners.registry import METHODS, method
from ..files import read_toml

TABLES = read_toml(__file__, "fields")
BACKBONES: dict[str, list[str]] = TABLES["backbones"]
"""Each backbone, with those fields of recipes that it uses and not all backbones do."""


def unused(recipe: Any) -> dict[str, str]:
    """Fields of the recipe that decide nothing in it, each with the reason.

    Raises:
        DataError: no such method.
    """
    idle = [rule for rule in TABLES["idle"] if getattr(recipe, rule["where"]) == rule.get("is")]
    reasons = {field: rule["reason"] for rule in idle for field in rule["fields"]}
    method(recipe.method)  # refuses one that there is not
    methods = {name: entry.uses for name, entry in METHODS.items()}
    tables: Any = (("backbone", recipe.backbone, BACKBONES), ("method", recipe.method, methods))
    for kind, name, uses in tables:
        for field in {field for fields in uses.values() for field in fields} - {*uses[name]}:
            users = ", ".join(other for other, fields in uses.items() if field in fields)
            reasons[field] = f"{kind} {name} does not use it; of {users}"
    return reasons
