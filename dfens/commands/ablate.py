"""`dfens ablate`: measure the effect of a setting."""

import click

from dfens.console import Console
from dfens.invocation import pass_workspace
from dfens.options import folds_option, threads_option
from dfens.workflows.selection import FoldRanges
from dfens.workspace.paths import Workspace


@click.command("ablate", short_help="Train variants of a model on the same folds and compare them.")
@click.argument("name", metavar="MODEL")
@click.option(
    "--set",
    "changes",
    multiple=True,
    required=True,
    metavar="KEY=VALUE[,KEY=VALUE]",
    help="One variant; repeat it for more. Values as in dfens.toml; text needs no quotes.",
)
@folds_option
@threads_option("decoding threads")
@pass_workspace
def command(
    workspace: Workspace,
    console: Console,
    name: str,
    changes: tuple[str, ...],
    folds: FoldRanges,
    threads: int,
) -> None:
    """Train a model in dfens.toml with changed settings, and compare each variant with it on the same rows.

    Variants are stored in work/trainers/ablations and never enter a blend.

    \b
    dfens ablate tiny --set jpeg=0.5 --set blur=0.3 --set jpeg=0.5,blur=0.3 --fold 0,1
    dfens ablate tiny --set 'inputs=["rgb","srm"]'
    """
    from dfens.views.comparison import show_ablation
    from dfens.workflows.ablate import run_ablation

    found = run_ablation(workspace, name, changes, folds=folds, threads=threads, progress=console.progress)
    console.show(found, show_ablation(found))
