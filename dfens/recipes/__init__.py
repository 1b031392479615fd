"""Commented dfens.toml files to start from."""

import re
from importlib.resources import files

_RECIPES = files("dfens.recipes")


def recipe_names() -> list[str]:
    """Return the names of the recipes included in dfens."""
    return sorted(item.name.removesuffix(".toml") for item in _RECIPES.iterdir() if item.name.endswith(".toml"))


def recipe_text(name: str, slug: str | None = None) -> str:
    """Return the text of a recipe, with the competition's slug filled in."""
    text = (_RECIPES / f"{name}.toml").read_text(encoding="utf-8")
    return text if slug is None else re.sub(r'(?m)^slug = ".*?"', f'slug = "{slug}"', text, count=1)


def recipe_summary(name: str) -> str:
    """Return the line that a recipe begins with, which says what it is."""
    return recipe_text(name).partition("\n")[0].lstrip("# ")
