"""`dfens recipes`: list the recipes to start from."""

import click

from dfens.console import Console
from dfens.invocation import pass_workspace
from dfens.workspace.paths import Workspace


@click.command("recipes", short_help="List the recipes of dfens init.")
@pass_workspace
def command(workspace: Workspace, console: Console) -> None:
    """List the recipes for dfens init --recipe NAME, with a description of each."""
    from dfens.views.init import show_recipes
    from dfens.workflows.init import list_recipes

    found = list_recipes()
    console.show({"recipes": found}, show_recipes(found))
