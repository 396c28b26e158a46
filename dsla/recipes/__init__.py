"""Runs as data: `Recipe`, and all recipes by name."""

from .recipe import Recipe
from .scenes import GROUPS, RECIPES, SHIPPED, recipe

__all__ = ["GROUPS", "RECIPES", "SHIPPED", "Recipe", "recipe"]
