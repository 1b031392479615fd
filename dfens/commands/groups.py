"""`dfens groups`: find groups of related rows, and measure how much random folds inflate the score."""

import click

from dfens.console import Console
from dfens.invocation import pass_workspace
from dfens.options import threads_option
from dfens.workspace.paths import Workspace


@click.command("groups", short_help="Find near-duplicates and clusters of images; score a baseline with each grouping.")
@click.option("--model", "name", metavar="NAME", help="Cluster by features of this model's pretrained backbone.")
@threads_option("decoding threads")
@pass_workspace
def command(workspace: Workspace, console: Console, name: str | None, threads: int) -> None:
    """Find near-duplicates and clusters among the training images, and score a baseline with each kind of folds.

    A linear model on small features is scored out of fold with random folds, with near-duplicates kept
    together, and with whole clusters held out. The drop from the first to the last predicts how much
    a score with random folds drops on a test set with unseen kinds of images. Choose with [folds] group, then run
    dfens folds. With --model the features are stored, and [folds] group = "clusters" uses them from then on.
    """
    from dfens.views.groups import grouping_notes, show_groupings
    from dfens.workflows.groups import compare_groupings

    found = compare_groupings(workspace, name, threads=threads, progress=console.progress)
    console.notes(grouping_notes(found))
    console.show(found, show_groupings(found))
