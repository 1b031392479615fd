"""`dfens doctor`: show what this machine can do."""

import click

from dfens.console import Console
from dfens.invocation import pass_workspace
from dfens.workspace.paths import Workspace


@click.command("doctor", short_help="Show what this machine can do.")
@click.option("--offline", is_flag=True, help="Do not try to reach the hub of pretrained weights.")
@pass_workspace
def command(workspace: Workspace, console: Console, offline: bool) -> None:
    """Show versions, devices, free disk and memory, the source of the Kaggle credentials, and access to the hub.

    Credentials are searched for, but never shown.
    """
    from dfens.views.doctor import show_machine
    from dfens.workflows.doctor import examine_machine

    found = examine_machine(workspace, offline=offline)
    console.show(found, show_machine(found))
