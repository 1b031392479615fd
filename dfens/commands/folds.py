"""`dfens folds`: assign each training row to a fold."""

import click

from dfens.console import Console
from dfens.invocation import pass_workspace
from dfens.workspace.paths import Workspace


@click.command("folds", short_help="Assign the training rows to folds.")
@click.option("--k", type=click.IntRange(min=2), help="Number of folds; default [folds] k.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Seed of the shuffle; default [folds] seed.")
@click.option(
    "--force", is_flag=True, help="Replace other folds; models and blends of the old folds are moved to work/*/archive."
)
@pass_workspace
def command(workspace: Workspace, console: Console, k: int | None, seed: int | None, force: bool) -> None:
    """Assign the training rows to folds, stratified by class and grouped according to [folds] group.

    The same rows and seed give the same folds. Folds with trained models are not replaced
    unless --force is given.
    """
    from dfens.views.folds import fold_notes, show_folds
    from dfens.workflows.folds import assign_folds

    found = assign_folds(workspace, k=k, seed=seed, force=force, progress=console.progress)
    console.notes(fold_notes(found))
    console.show(found, show_folds(found))
