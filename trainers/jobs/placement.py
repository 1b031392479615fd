"""Choose the device of each process of a job."""

from typing import TYPE_CHECKING

from trainers.jobs.job import TrainingJob
from trainers.kinds.registry import kind_of

if TYPE_CHECKING:
    import torch


def uses_gpu(job: TrainingJob) -> bool:
    """Return whether any model of a job uses a GPU if there is one."""
    return any(kind_of(settings).resources(settings).gpu for settings in job.models.values())


def has_cuda() -> bool:
    """Return whether this machine has a CUDA device."""
    import torch  # takes seconds, and jobs without a network do not need it

    return torch.cuda.is_available()


def device_of_worker(job: TrainingJob, index: int) -> "torch.device | None":
    """Return the device of a process on this machine, CUDA devices round-robin; None if the job needs none."""
    if not uses_gpu(job):
        return None
    import torch  # takes seconds, and jobs without a network do not need it

    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", index % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device
