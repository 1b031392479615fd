"""Write a dfens.toml from a recipe."""

from dataclasses import dataclass
from pathlib import Path

from dfens.recipes import recipe_names, recipe_summary, recipe_text
from dfens.workspace.config import check_slug
from dfens.workspace.paths import CONFIG_NAME
from oof.errors import ConfigError
from oof.files import free_path, write_text


@dataclass(frozen=True)
class Written:
    """A new dfens.toml; `kept` is the new path of an earlier one."""

    path: Path
    recipe: str
    kept: Path | None


@dataclass(frozen=True)
class Recipe:
    """A recipe and its description."""

    name: str
    summary: str


def list_recipes() -> tuple[Recipe, ...]:
    """Return the recipes included in dfens."""
    return tuple(Recipe(name, recipe_summary(name)) for name in recipe_names())


def write_recipe(folder: Path, recipe: str, slug: str | None, *, force: bool) -> Written:
    """Write a recipe as dfens.toml into a folder.

    Raises:
        ConfigError: if the slug is not valid, or a dfens.toml exists and `force` is not given; with it, the file is
            renamed to a free name.
    """
    if slug is not None:
        check_slug(slug)
    path = folder / CONFIG_NAME
    kept = None
    if path.exists() or path.is_symlink():
        if not force:
            raise ConfigError(
                f"{path} exists. Edit it, or run dfens init --force, which renames it to {path.name}.old."
            )
        kept = free_path(path.with_name(path.name + ".old"))
        path.rename(kept)
    write_text(path, recipe_text(recipe, slug))
    return Written(path, recipe, kept)
