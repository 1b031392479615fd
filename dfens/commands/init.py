"""`dfens init`: write a commented dfens.toml."""

from pathlib import Path

import click

from dfens.console import Console
from dfens.invocation import pass_workspace
from dfens.recipes import recipe_names
from dfens.workspace.paths import Workspace


@click.command("init", short_help="Write a commented dfens.toml.")
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--recipe",
    type=click.Choice(recipe_names()),
    default="ffdi",
    show_default=True,
    help="Recipe to start from; dfens recipes describes them.",
)
@click.option("--competition", metavar="SLUG", help="Last part of the competition's URL on Kaggle.")
@click.option("--force", is_flag=True, help="Replace an existing dfens.toml, which is kept as dfens.toml.old.")
@pass_workspace
def command(
    workspace: Workspace, console: Console, folder: Path | None, recipe: str, competition: str | None, force: bool
) -> None:
    """Write a commented dfens.toml into DIR (default: the current folder)."""
    from dfens.views.init import show_written
    from dfens.workflows.init import write_recipe

    found = write_recipe(workspace.resolve(folder or "."), recipe, competition, force=force)
    console.show(found, show_written(found))
