"""Runs as data: `Recipe`, and all recipes by name."""

from .named import COCO_RECIPES, GROUPS, RECIPES, SHIPPED, recipe
from .recipe import Recipe

__all__ = ["COCO_RECIPES", "GROUPS", "RECIPES", "SHIPPED", "Recipe", "recipe"]
