"""`dfens train`: train models and store their OOF and test predictions."""

from typing import Any

import click

from dfens.console import Console
from dfens.invocation import pass_workspace
from dfens.options import folds_option, threads_option
from dfens.workflows.processes import is_first_process, under_torchrun
from dfens.workspace.paths import Workspace


@click.command("train", short_help="Train models on all folds; predict held-out and test rows.")
@click.option("--model", "models", multiple=True, metavar="NAME", help="Only this model; may be repeated.")
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
def command(workspace: Workspace, console: Console, /, **options: Any) -> None:
    """Train the models in dfens.toml on each fold, and predict the held-out rows and the test rows.

    Finished folds are skipped; an interrupted fold resumes where it stopped, also after kill -9.
    With torchrun, all processes train one fold together; docs/scale.md describes many GPUs and machines.
    Exit code 143: stopped by SIGTERM, with everything saved.
    """
    if under_torchrun() and (options["workers"] or options["cluster"]):
        raise click.UsageError("Under torchrun all processes train one fold; leave out --workers and --on.")
    if options["cluster"] and options["workers"]:
        raise click.UsageError("--workers is for a single machine; with Ray, each GPU or machine takes one fold.")
    for name in ("address", "share"):
        if options[name] is not None and not options["cluster"]:
            raise click.UsageError(f"--{name} needs --on ray.")
    from dfens.views.train import show_training
    from dfens.workflows.train import TrainOptions, train

    found = train(workspace, TrainOptions(**options), console.progress)
    if is_first_process():
        console.show(found, show_training(found))
