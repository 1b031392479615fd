"""The default engine: on a CPU, train folds in parallel, each with its share of the CPUs."""

from collections.abc import Sequence
from pathlib import Path

from oof.cpus import cpu_count
from oof.progress import Progress
from oof.store import PredictionStore
from trainers.jobs.job import FoldResult, TrainingJob
from trainers.jobs.multiprocess import load_libraries_early, train_in_workers
from trainers.jobs.placement import has_cuda, uses_gpu
from trainers.jobs.run import train_here
from trainers.jobs.runner import FoldRunner
from trainers.kinds.registry import baseline_kinds
from trainers.runtime.memory import free_memory

_MEMORY_OF_PROCESS = 2 << 30  # bytes: libraries, a network with its activations, and some images
_GPU_DRIVERS = (Path("/dev/nvidiactl"), Path("/dev/dxg"))  # the second is that of the Windows Subsystem for Linux


def train_side_by_side(job: TrainingJob, folds: Sequence[int], progress: Progress) -> list[FoldResult]:
    """Train in one process on a GPU; on a CPU, in one process per fold up to the number of CPUs.

    Two threads of one network wait for each other at every layer, which takes long on a busy machine; two folds with
    one thread each do not. The number of threads of a fold depends only on the machine and the number of folds, not on
    what is left to do, so that results do not depend on when a run was interrupted.

    Raises the same exceptions as `train_in_workers`.
    """
    runner = FoldRunner(job, progress)
    shares = min(cpu_count(), runner.store.folds.k)
    missing = sum(runner.missing(name, folds) for name in job.models)
    if shares == 1 or not missing or not uses_gpu(job) or has_cuda():
        return train_here(job, folds, progress)
    workers = max(1, min(shares, missing, free_memory() // _MEMORY_OF_PROCESS))
    results = train_in_workers(job, folds, progress, workers=workers, shares=shares, test_rows=False)
    for name in job.models:  # test rows: all fold models of a seed read each row once, in one process with all threads
        for seed in range(runner.repeats(name).seeds):
            runner.predict_test(name, folds, seed)
    return results


def start_early(job: TrainingJob, folds: Sequence[int], workers: int | None = None) -> None:
    """Load the libraries of the worker processes while this process loads its own and checks the settings.

    Does nothing if there will be no such processes, as far as can be told without loading torch.

    Args:
        job, folds: what will be trained.
        workers: number of processes; None for those of `train_side_by_side`.
    """
    store, kinds = PredictionStore(job.store_root), {settings.kind for settings in job.models.values()}
    if workers is None:
        if kinds <= baseline_kinds():  # they do not use a GPU, and are trained in this process
            return
        has_driver = any(path.exists() for path in _GPU_DRIVERS)
        workers = 1 if has_driver else min(cpu_count(), store.folds.k)
    if workers > 1 and any(not store.has(name, "oof", fold) for name in job.models for fold in folds):
        load_libraries_early(job)
