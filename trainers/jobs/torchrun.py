"""Train with torchrun: all processes train one fold together, each on its own device."""

import dataclasses
from collections.abc import Sequence
from datetime import timedelta

import torch

from oof.progress import SILENT, Progress
from trainers.jobs.job import FoldResult, TrainingJob
from trainers.jobs.runner import FoldRunner
from trainers.runtime.process_group import ProcessGroup

# for phases in which only the first process works; torchrun notices dead processes by itself
_TIMEOUT = timedelta(hours=2)


def train_with_torchrun(
    job: TrainingJob,
    folds: Sequence[int],
    progress: Progress,
    *,
    rank: int,
    size: int,
    local_rank: int,
    local_size: int,
) -> list[FoldResult]:
    """Train one fold after the other, all processes of a torchrun together.

    All machines must have the workspace and the images under the same paths.

    Args:
        job, folds, progress: as for `trainers.train.train_here`.
        rank, size: index of this process, and number of processes. local_rank, local_size: the same on this machine.

    Raises:
        TrainingError: if a batch size cannot be split evenly, and as `train_here`.
    """
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", local_rank % torch.cuda.device_count())
        torch.cuda.set_device(device)
    threads = max(1, job.threads // local_size)
    shared = dataclasses.replace(job, threads=threads, processes=local_size)
    runner = FoldRunner(shared, SILENT if rank else progress, device, ProcessGroup(rank, size))
    runner.check(folds)
    # torchrun sets environment variables with the address of the other processes
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        return runner.all(folds)
    finally:
        torch.distributed.destroy_process_group()
