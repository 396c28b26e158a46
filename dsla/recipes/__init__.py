"""Runs as data: `Recipe`, and all recipes by name."""

from .recipe import Recipe
from .scenes import RECIPES, recipe

__all__ = ["RECIPES", "Recipe", "recipe"]
