"""All recipes by name: the published runs (coco.toml), those of the scenes and of small data sets (scenes.toml)."""

from typing import Any

from ..errors import DataError, unknown
from ..files import read_toml
from .recipe import Recipe, read_fields

SHIPPED = ("scenes-fcos-plain", "scenes-fcos", "scenes-dsla")  # weights of these ship: docs/weights.md

_COCO, _SCENES = (read_toml(__file__, name) for name in ("coco", "scenes"))
GROUPS: dict[str, tuple[str, ...]] = {name: tuple(recipes) for name, recipes in _SCENES.pop("groups").items()}
_TABLES: dict[str, Any] = {**_COCO.pop("parts"), **_SCENES.pop("parts"), **_COCO, **_SCENES}


def _fields(name: str) -> dict[str, Any]:
    """What a table of these files says, and before it those that it is like."""
    fields: dict[str, Any] = {}
    for other in _TABLES[name].get("like", ()):
        fields |= _fields(other)
    return fields | {key: value for key, value in _TABLES[name].items() if key != "like"}


RECIPES: dict[str, Recipe] = {name: Recipe(name=name, **read_fields(_fields(name))) for name in (*_COCO, *_SCENES)}
COCO_RECIPES = tuple(RECIPES[name] for name in _COCO)


def recipe(name: str, /, **changes: object) -> Recipe:
    """The named recipe, with some fields changed.

    Raises:
        DataError: no recipe of this name, or a change that `Recipe.replace` refuses.
    """
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    if "name" in changes:
        raise DataError(f"name={changes['name']}: {name} is a recipe's name; Recipe.replace(name=…) gives it another")
    return RECIPES[name].replace(**changes)
