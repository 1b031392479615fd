"""Run a job: check and record all models, then train them with an engine."""

from collections.abc import Callable, Sequence

from oof.progress import SILENT, Progress
from trainers.jobs.job import FoldResult, TrainingJob
from trainers.jobs.model_record import check_settings_unchanged
from trainers.jobs.runner import FoldRunner

Engine = Callable[[TrainingJob, Sequence[int], Progress], list[FoldResult]]


def train_here(job: TrainingJob, folds: Sequence[int], progress: Progress) -> list[FoldResult]:
    """Train one fold after the other in this process, stopping at the first error."""
    return FoldRunner(job, progress).all(folds)


def run_job(
    job: TrainingJob,
    folds: Sequence[int],
    *,
    engine: Engine = train_here,
    force: bool = False,
    progress: Progress = SILENT,
) -> list[FoldResult]:
    """Train each model of a job on each fold; see `trainers.train.train_models`."""
    runner = FoldRunner(job, progress)
    runner.check(folds)
    for name in job.models:
        check_settings_unchanged(runner.context(name), runner.store, force=force, progress=progress)
    return engine(job, folds, progress)
