"""`dfens status`: where the work is, and what to run next."""

import click

from dfens.console import Console
from dfens.invocation import pass_workspace
from dfens.workspace.paths import Workspace


@click.command("status", short_help="Show where the work is and what to run next.")
@pass_workspace
def command(workspace: Workspace, console: Console) -> None:
    """Show what is done of each model and fold, the scores so far, and the next command."""
    from dfens.views.status import show_status
    from dfens.workflows.status import read_status

    found = read_status(workspace)
    console.show(found, show_status(found))
