"""`dfens diagnose`: score by cluster, label issues and overfitting of one model."""

import click

from dfens.console import Console
from dfens.invocation import pass_workspace
from dfens.workspace.paths import Workspace


@click.command("diagnose", short_help="Show AUC by cluster, label issues, overfitting.")
@click.argument("name", metavar="MODEL")
@click.option(
    "--max-issues", type=click.IntRange(min=1), default=100, show_default=True, help="Maximum number of label issues."
)
@pass_workspace
def command(workspace: Workspace, console: Console, name: str, max_issues: int) -> None:
    """Diagnose a model from its out-of-fold predictions.

    Shows the AUC within clusters of images (weak clusters show what to expect on unseen forgeries), labels that
    this and all other complete models contradict, folds that overfit, and by how much choosing the best epoch
    inflates the score. The list of label issues and their images are written to work/reports/diagnose. Clips are
    diagnosed without clusters and images.
    """
    from dfens.views.diagnose import show_diagnosis
    from dfens.workflows.diagnose import diagnose

    found = diagnose(workspace, name, max_issues=max_issues, progress=console.progress)
    console.show(found, show_diagnosis(found))
