"""`dfens train`: OOF and test predictions of every model."""

import functools
import os
from typing import TYPE_CHECKING

import click

from dfens.app import App, pass_app

if TYPE_CHECKING:
    from trainers.train import Engine


@click.command("train", short_help="Train models over folds; predict held-out and test rows.")
@click.option("--model", "names", multiple=True, metavar="NAME", help="Only this model; may be given more than once.")
@click.option("--fold", "fold_text", default="all", show_default=True, help="Folds to train: 0-4, 0,2 or all.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes, each with the next fold that waits and a device of its own.",
)
@click.option("--on", "cluster", type=click.Choice(["ray"]), help="Train on the machines of a Ray cluster.")
@click.option("--address", metavar="HOST:PORT", help="Of the Ray cluster; default the one of this machine.")
@click.option("--share", metavar="URL", help="Where machines without a common disk share their work: s3://bucket/team.")
@click.option(
    "--threads", type=click.IntRange(min=1), help="Threads that decode images, of all processes; default one per core."
)
@click.option(
    "--force", is_flag=True, help="Retrain models whose settings changed; the old ones move to work/*/archive."
)
@pass_app
def command(
    app: App,
    names: tuple[str, ...],
    fold_text: str,
    workers: int,
    cluster: str | None,
    address: str | None,
    share: str | None,
    threads: int | None,
    force: bool,
) -> None:
    """Train the models of dfens.toml over folds, and predict the held-out rows and the test rows of each fold.

    A fold that is done is skipped; one that was begun goes on where it stopped, also after kill -9.
    Run by torchrun, all its processes train one fold together; docs/scale.md tells of many GPUs and machines.
    Exit code 143: stopped by SIGTERM, with everything saved.
    """
    import pandas as pd

    from dfens.options import chosen_models, fold_indices
    from dfens.views.tables import make_table
    from dfens.workspace.changes import changes_since_folds
    from oof.errors import DataError
    from trainers.runtime.signals import Stopped
    from trainers.train import train_models

    models = chosen_models(app.config.models, names)
    competition = app.competition()
    changes = changes_since_folds(app.predictions, competition)
    if changes:
        raise DataError(" ".join(changes))
    folds = fold_indices(fold_text, app.predictions.folds.k)
    try:
        results = train_models(
            competition,
            app.predictions,
            models,
            folds,
            app.work / "trainers",
            progress=app.progress,
            force=force,
            threads=threads or os.cpu_count() or 1,
            max_parameters=app.config.competition.max_parameters,
            root=app.root,
            cache_dir=app.work / "trainers" / "cache",
            engine=_engine(workers, cluster, address, share),
        )
    except Stopped:
        if _rank() == 0:
            app.say("Stopped by SIGTERM; everything is saved. The same command goes on from there.")
        click.get_current_context().exit(143)
    if _rank():
        return  # the first process tells it
    frame = pd.DataFrame(results)
    table = frame.assign(fold=frame["fold"].astype(str)).pivot_table(
        index="model", columns="fold", values="auc", sort=False
    )
    table.columns = [f"fold {fold}" for fold in table.columns]
    shown = table.reset_index()
    shown["mean"] = table.mean(axis=1).to_numpy()
    skipped = int(frame["skipped"].sum())
    app.emit(
        {"folds": frame.to_dict("records")},
        make_table(shown, title="AUC on the held-out rows", decimals=4),
        f"{len(frame) - skipped} folds trained, {skipped} had been done before.\nNext: {_next(app)}",
    )


def _rank() -> int:
    """This process's number among those that torchrun began, which it tells by variables of the environment."""
    return int(os.environ["RANK"]) if "LOCAL_RANK" in os.environ else 0


def _engine(workers: int, cluster: str | None, address: str | None, share: str | None) -> "Engine":
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size > 1 and "LOCAL_RANK" in os.environ:
        if workers > 1 or cluster:
            raise click.UsageError("Under torchrun all processes train one fold; --workers and --on do not go with it.")
        from trainers.runtime.process_group import train_in_process_group

        return functools.partial(
            train_in_process_group,
            rank=_rank(),
            size=size,
            local_rank=int(os.environ["LOCAL_RANK"]),
            local_size=int(os.environ["LOCAL_WORLD_SIZE"]),
        )
    if cluster == "ray":
        if workers > 1:
            raise click.UsageError("--workers is for one machine; on Ray each GPU, or each machine, takes one fold.")
        from trainers.jobs.ray_cluster import train_on_ray

        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would tell its makers of each cluster it begins
        return functools.partial(train_on_ray, address=address, share=share)
    for option, value in (("--address", address), ("--share", share)):
        if value is not None:
            raise click.UsageError(f"{option} goes with --on ray.")
    if workers > 1:
        from trainers.jobs.multiprocess import train_in_workers

        return functools.partial(train_in_workers, workers=workers)
    from trainers.train import train_here

    return train_here


def _next(app: App) -> str:
    from dfens.workflows.status import read_status

    return read_status(app).next
