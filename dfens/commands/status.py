"""`dfens status`: show what is running, what is done, and what to run next."""

import time

import click

from dfens.console import Console
from dfens.invocation import pass_workspace
from dfens.options import NumberRange
from dfens.workspace.paths import Workspace


@click.command("status", short_help="Show what is running, what is done and what to run next.")
@click.option("--watch", is_flag=True, help="Update continuously until Ctrl-C.")
@click.option(
    "--every",
    type=NumberRange(0.5, 86_400),
    default=5.0,
    show_default=True,
    help="Seconds between updates (--watch).",
)
@pass_workspace
def command(workspace: Workspace, console: Console, watch: bool, every: float) -> None:
    """Show what is running and for how long, the folds of each model, the scores so far, and the next command.

    It changes nothing and can be used while other commands are running. The time left is estimated from the folds
    that have been trained.
    """
    from dfens.views.status import show_status
    from dfens.workflows.status import read_status

    try:
        while True:
            found = read_status(Workspace(workspace.root))  # settings and folds may have changed meanwhile
            if watch and console.stdout.is_terminal and not console.as_json:
                console.stdout.clear()
            console.show(found, show_status(found))
            if not watch:
                return
            time.sleep(every)
    except KeyboardInterrupt:
        if not watch:
            raise
