"""`dfens init`: write a commented dfens.toml."""

import re
from importlib.resources import files
from pathlib import Path

import click

from dfens.app import CONFIG_NAME, App, pass_app

_RECIPES = files("dfens") / "recipes"


def recipe_names() -> list[str]:
    """The recipes that come with dfens."""
    return sorted(item.name.removesuffix(".toml") for item in _RECIPES.iterdir() if item.name.endswith(".toml"))


def recipe_text(name: str, slug: str | None = None) -> str:
    """The text of a recipe, with the competition's slug filled in."""
    text = (_RECIPES / f"{name}.toml").read_text(encoding="utf-8")
    return text if slug is None else re.sub(r'(?m)^slug = ".*?"', f'slug = "{slug}"', text, count=1)


@click.command("init", short_help="Write a commented dfens.toml.")
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--recipe",
    type=click.Choice(recipe_names()),
    default="ffdi",
    show_default=True,
    help="Which settings to begin with.",
)
@click.option("--competition", metavar="SLUG", help="The name in the competition's address on Kaggle.")
@click.option("--force", is_flag=True, help="Replace a dfens.toml that is there; it is kept as dfens.toml.old.")
@pass_app
def command(app: App, folder: Path | None, recipe: str, competition: str | None, force: bool) -> None:
    """Write a commented dfens.toml into DIR (default: the current folder)."""
    from oof.errors import ConfigError
    from oof.files import write_text

    if competition is not None and not re.fullmatch(r"[A-Za-z0-9-]+", competition):
        raise ConfigError(
            f"{competition!r} is no competition slug. It is the last part of the competition's address, "
            f"such as multi-ffdi: letters, digits and '-'."
        )
    path = app.root / (folder or Path()) / CONFIG_NAME
    if path.exists():
        if not force:
            raise ConfigError(f"{path} exists. Edit it, or run dfens init --force, which keeps it as {path.name}.old.")
        path.replace(path.with_name(path.name + ".old"))
    write_text(path, recipe_text(recipe, competition))
    app.emit(
        {"path": path, "recipe": recipe},
        f"Wrote {path} (recipe {recipe}).\nNext: put the data where [data] root points (dfens download fetches it), "
        f"then run dfens check",
    )
