"""`dfens unseal`: score one blend on the sealed rows, and count the look."""

import click

from dfens.console import Console
from dfens.invocation import pass_workspace
from dfens.workspace.paths import Workspace


@click.command("unseal", short_help="Score a blend on the sealed rows, once.")
@click.argument("blend", required=False)
@click.option("--again", is_flag=True, help="Look again after the first time; every look is counted and reported.")
@pass_workspace
def command(workspace: Workspace, console: Console, blend: str | None, again: bool) -> None:
    """Score a blend (default: the newest) on the rows set aside by [folds] sealed, and record the look.

    No model was trained on these rows and no other command scores them, so the first score is not
    affected by any choice. Later ones may be: they need --again, are counted, and
    `dfens status` and the report show the count. For an unchanged blend the recorded score is shown, which
    does not count as a look.
    """
    from dfens.views.unseal import show_unsealed
    from dfens.workflows.unseal import unseal

    found = unseal(workspace, blend, again=again)
    console.show(found, show_unsealed(found))
