"""Write a dfens.toml from a recipe."""

import shlex
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfens.demo import COMPETITIONS
from dfens.recipes import recipe_names, recipe_summary, recipe_text
from dfens.workspace.config import check_slug
from dfens.workspace.paths import CONFIG_NAME
from oof.errors import ConfigError
from oof.files import free_path, write_text


@dataclass(frozen=True)
class Written:
    """A new dfens.toml; `kept` is the new path of an earlier one. next: what to do next."""

    path: Path
    recipe: str
    kept: Path | None
    next: str


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
            kept under a free name.
    """
    if slug is not None:
        check_slug(slug)
    path = folder / CONFIG_NAME
    kept = None
    if path.exists() or path.is_symlink():
        if not force:
            raise ConfigError(
                f"{path} exists. Edit it, or add --force to this command, which keeps it as {path.name}.old."
            )
        kept = free_path(path.with_name(path.name + ".old"))
        if path.is_file() and not path.is_symlink():
            shutil.copy2(path, kept)  # the file itself stays until the new one is complete
        else:
            path.rename(kept)
    text = recipe_text(recipe, slug)
    write_text(path, text)
    return Written(path, recipe, kept, _next(path, recipe, tomllib.loads(text), slug))


def _next(path: Path, recipe: str, settings: Mapping[str, Any], slug: str | None) -> str:
    """Return what to do with a new dfens.toml, by where its data come from."""
    data = path.parent / settings["data"]["root"]
    at = "" if path.parent.resolve() == Path.cwd() else f" -C {shlex.quote(str(path.parent))}"
    if recipe in COMPETITIONS and slug is None:
        which = "" if recipe == next(iter(COMPETITIONS)) else f" --recipe {recipe}"
        return f"dfens demo{which} {shlex.quote(str(path.parent))}, which generates the data and runs every step"
    if settings["competition"]["slug"]:
        return f"put the data into {data} (dfens{at} download does this), then run dfens{at} check"
    return f"put the data into {data}, then run dfens{at} check"
