"""Train models on folds with the engine that the options select."""

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dfens.workflows.jobs import make_job
from dfens.workflows.processes import under_torchrun
from dfens.workflows.pseudo import pseudo_labels, pseudo_models
from dfens.workflows.selection import FoldRanges, chosen_models, fold_indices
from dfens.workflows.status import next_command
from dfens.workflows.stored_models import refuse_names_of_blends
from dfens.workspace.changes import unchanged_competition
from dfens.workspace.paths import Workspace
from oof.progress import SILENT, Progress
from trainers.jobs.side_by_side import start_early, train_side_by_side
from trainers.kinds.repeats import repeats_of
from trainers.train import Engine, FoldResult, train_here, train_models


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """The options of `dfens train`.

    models: names, empty for all. folds: ranges, empty for all. workers: number of processes, None for
    the default of the machine. threads: number of decoding threads of all
    processes. cluster: "ray" or None; address and share are for Ray. force: retrain models whose settings changed.
    pseudo: blend that labels the test rows; None to train without them.
    """

    models: tuple[str, ...] = ()
    folds: FoldRanges = ()
    workers: int | None = None
    threads: int = 1
    cluster: str | None = None
    address: str | None = None
    share: str | None = None
    force: bool = False
    pseudo: str | None = None


@dataclass(frozen=True)
class TrainResult:
    """The requested trainings, by model, seed and fold; refits last, once all folds are trained.

    refit_weights: share of the refit in the test predictions, by model, for models with a refit.
    """

    folds: tuple[FoldResult, ...]
    next: str
    refit_weights: Mapping[str, float] = field(default_factory=dict)

    @property
    def skipped(self) -> int:
        """Number of folds that had been trained before."""
        return sum(fold.skipped for fold in self.folds)


def train(workspace: Workspace, options: TrainOptions, progress: Progress = SILENT) -> TrainResult:
    """Train the models of dfens.toml, and predict the held-out rows and the test rows of each fold."""
    config, store = workspace.config, workspace.predictions
    engine = _engine(options)
    models = chosen_models(config.models, options.models)
    labels = None
    if options.pseudo is not None:
        labels = pseudo_labels(workspace, options.pseudo, progress)
        models = pseudo_models(models, labels, list(config.models))
    refuse_names_of_blends(workspace, models, "Rename its section in dfens.toml.")
    job = replace(
        make_job(workspace, models, threads=options.threads, competition=unchanged_competition(workspace)),
        elsewhere=options.cluster is not None,
        pseudo=labels,
    )
    folds = fold_indices(options.folds, store.folds.k)
    if options.cluster is None and not under_torchrun():
        start_early(job, folds, options.workers)
    results = train_models(job, folds, engine=engine, force=options.force, progress=progress)
    repeats = {name: repeats_of(settings) for name, settings in models.items()}
    weights = {name: found.refit_weight for name, found in repeats.items() if found.refit}
    return TrainResult(tuple(results), next_command(workspace), weights)


def _engine(options: TrainOptions) -> Engine:
    """Return the engine; engines are imported only when used, since Ray and torch take seconds."""
    if under_torchrun():
        from trainers.jobs.torchrun import train_with_torchrun

        return functools.partial(
            train_with_torchrun,
            rank=int(os.environ["RANK"]),
            size=int(os.environ["WORLD_SIZE"]),
            local_rank=int(os.environ["LOCAL_RANK"]),
            local_size=int(os.environ["LOCAL_WORLD_SIZE"]),
        )
    if options.cluster == "ray":
        from trainers.jobs.ray_cluster import train_on_ray

        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would send usage statistics to its developers
        return functools.partial(train_on_ray, address=options.address, share=options.share)
    if options.workers is None:
        return train_side_by_side
    if options.workers > 1:
        from trainers.jobs.multiprocess import train_in_workers

        return functools.partial(train_in_workers, workers=options.workers)
    return train_here
