"""`dfens train`: train models and store their OOF and test predictions."""

import click

from dfens.console import Console
from dfens.invocation import pass_workspace
from dfens.options import folds_option, threads_option
from dfens.workflows.selection import FoldRanges
from dfens.workspace.paths import Workspace


@click.command("train", short_help="Train models on all folds; predict held-out and test rows.")
@click.option("--model", "names", multiple=True, metavar="NAME", help="Only this model; may be repeated.")
@folds_option
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Number of processes, each with its own fold and device; default 1 on a GPU, one per fold on a CPU.",
)
@click.option("--on", "cluster", type=click.Choice(["ray"]), help="Train on the machines of a Ray cluster.")
@click.option("--address", metavar="HOST:PORT", help="Address of the Ray cluster; default: that of this machine.")
@click.option(
    "--share", metavar="URL", help="Storage shared by machines without a common disk, such as s3://bucket/team."
)
@click.option(
    "--pseudo",
    metavar="BLEND",
    help="Train on test rows too, labelled by this blend without each fold; models with pseudo = {…}, as NAME-pseudo1.",
)
@threads_option("decoding threads, of all processes together")
@click.option(
    "--force", is_flag=True, help="Retrain models whose settings changed; the old ones are moved to work/*/archive."
)
@pass_workspace
def command(
    workspace: Workspace,
    console: Console,
    names: tuple[str, ...],
    folds: FoldRanges,
    workers: int | None,
    cluster: str | None,
    address: str | None,
    share: str | None,
    pseudo: str | None,
    threads: int,
    force: bool,
) -> None:
    """Train the models in dfens.toml on each fold, and predict the held-out rows and the test rows.

    Finished folds are skipped; an interrupted fold resumes where it stopped, also after kill -9.
    With torchrun, all processes train one fold together; docs/scale.md describes many GPUs and machines.
    Exit code 143: stopped by SIGTERM, with everything saved.
    """
    from dfens.views.train import show_training
    from dfens.workflows.train import TrainOptions, is_first_process, train, under_torchrun
    from trainers.runtime.signals import Stopped

    if under_torchrun() and (workers or cluster):
        raise click.UsageError("Under torchrun all processes train one fold; leave out --workers and --on.")
    if cluster and workers:
        raise click.UsageError("--workers is for a single machine; with Ray, each GPU or machine takes one fold.")
    for option, value in (("--address", address), ("--share", share)):
        if value is not None and not cluster:
            raise click.UsageError(f"{option} needs --on ray.")
    options = TrainOptions(
        models=names,
        folds=folds,
        workers=workers,
        threads=threads,
        cluster=cluster,
        address=address,
        share=share,
        force=force,
        pseudo=pseudo,
    )
    try:
        found = train(workspace, options, console.progress)
    except Stopped:
        if is_first_process():
            console.say("Stopped by SIGTERM; everything is saved. Run the same command again to resume.")
        click.get_current_context().exit(143)
    if is_first_process():
        console.show(found, show_training(found))
