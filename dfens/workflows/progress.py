"""Running work, and the estimated time for folds that are not trained yet."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from dfens.workspace.paths import Workspace
from oof.errors import StoreError
from oof.files import locked_since
from trainers.kinds.records import read_history


@dataclass(frozen=True)
class RunningWork:
    """Work in progress, detected by the lock that a process holds.

    fold: None while the test rows are predicted; k for the refit on all rows. seed: number of the seed, from 0.
    elapsed_s: time since the lock was acquired. left_s: estimate from the finished folds of the same model, or None.
    """

    model: str
    fold: int | None
    elapsed_s: float
    left_s: float | None
    seed: int = 0
    refit: bool = False


@dataclass(frozen=True)
class TimeLeft:
    """The estimated time for all folds that are not trained yet.

    folds: number of these folds. unknown: those of models without a trained fold, which are not included in seconds.
    """

    folds: int
    unknown: int
    seconds: float


def running_work(workspace: Workspace, k: int) -> tuple[RunningWork, ...]:
    """Return the folds being trained and the models predicting test rows."""
    now = datetime.now(UTC)
    found = []
    names = dict.fromkeys([*workspace.config.models, *workspace.predictions.names()])
    for model in names:
        mean = _mean_seconds(workspace, model, k)
        for seed in range(workspace.seed_count(model)):
            for fold in range(k + 1):
                since = locked_since(workspace.fold_lock(model, fold, seed, refit=fold == k))
                if since is not None:
                    elapsed = max(0.0, (now - since).total_seconds())
                    left = None if mean is None else max(0.0, mean - elapsed)
                    found.append(RunningWork(model, fold, elapsed, left, seed, fold == k))
            since = locked_since(workspace.test_lock(model, seed))
            if since is not None:
                found.append(RunningWork(model, None, max(0.0, (now - since).total_seconds()), None, seed))
    return tuple(found)


def time_left(workspace: Workspace, missing: Mapping[str, int], running: tuple[RunningWork, ...], k: int) -> TimeLeft:
    """Estimate the time for the missing folds; folds that run in parallel share it.

    Args:
        missing: number of folds of each model that are not trained, including running ones.
        running: result of `running_work`.
        k: number of folds.
    """
    total, unknown = 0.0, 0
    for model, folds in missing.items():
        mean = _mean_seconds(workspace, model, k)
        if mean is None:
            unknown += folds
            continue
        done = sum(min(work.elapsed_s, mean) for work in running if work.model == model and work.fold is not None)
        total += folds * mean - done
    workers = max(1, sum(work.fold is not None for work in running))
    return TimeLeft(sum(missing.values()), unknown, max(0.0, total) / workers)


def _mean_seconds(workspace: Workspace, model: str, k: int) -> float | None:
    """Return the mean training time of the finished folds of a model."""
    found = []
    for fold in range(k):
        path = workspace.history_path(model, fold)
        try:
            seconds = (read_history(path) or {}).get("seconds")
        except StoreError:  # edited by hand; `dfens diagnose` reports it
            continue
        if seconds:
            found.append(float(seconds))
    return sum(found) / len(found) if found else None
