"""Training by torchrun: all its processes train one fold together, each on a device of its own."""

import dataclasses
from collections.abc import Sequence
from datetime import timedelta

import torch

from oof.progress import SILENT, Progress
from trainers.jobs.runner import FoldResult, FoldRunner, TrainingJob
from trainers.runtime.process_group import ProcessGroup

_TIMEOUT = timedelta(hours=2)  # while the first process alone fits a model or writes; torchrun notices dead processes


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

    All machines must see the workspace and the images under the same paths.

    Args:
        job, folds, progress: as for `trainers.train.train_here`.
        rank, size: number of this process, and of all. local_rank, local_size: on this machine.

    Raises:
        TrainingError: a batch size that cannot be split evenly, and what `train_here` raises.
    """
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", local_rank % torch.cuda.device_count())
        torch.cuda.set_device(device)
    threads = max(1, job.threads // local_size)
    shared = dataclasses.replace(job, threads=threads, processes=local_size)
    runner = FoldRunner(shared, SILENT if rank else progress, device, ProcessGroup(rank, size))
    runner.check(folds)
    # the environment that torchrun sets says where the other processes are
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        return runner.all(folds)
    finally:
        torch.distributed.destroy_process_group()
