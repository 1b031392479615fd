"""Processes that train one fold together, each on a device of its own; begun by torchrun, which also ends them."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from oof.errors import TrainingError
from oof.files import file_lock
from oof.progress import SILENT, Progress

if TYPE_CHECKING:
    from torch import Tensor

    from trainers.jobs.runner import FoldResult, TrainingJob
    from trainers.kinds.timm.predict import Predictor, Probabilities
    from trainers.media.image_store import Subset

T = TypeVar("T")
_PATIENCE = timedelta(hours=2)  # while the first process alone fits a linear model or writes; torchrun hears of deaths


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of a fold; with `size` 1, one that is alone, for which nothing here costs anything.

    Each step's images are shared out evenly, the gradients averaged (DistributedDataParallel). What is
    decided and written is decided and written by the first process, `rank` 0.
    """

    rank: int = 0
    size: int = 1

    def share(self, count: int, unit: int = 1) -> slice:
        """Which of `count` things are this process's, in blocks of `unit`."""
        blocks = -(-count // unit)
        bounds = [min(count, unit * (blocks * rank // self.size)) for rank in (self.rank, self.rank + 1)]
        return slice(*bounds)

    def any(self, *flags: bool) -> list[bool]:
        """Whether each flag is set in any process."""
        if self.size == 1:
            return list(flags)
        import torch

        found = torch.tensor(flags, dtype=torch.uint8)  # on the CPU, by gloo: no device waits for it
        torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
        return [bool(flag) for flag in found.tolist()]

    def broadcast(self, value: T) -> T:
        """The first process's value, in all."""
        if self.size == 1:
            return value
        import torch

        values = [value]
        torch.distributed.broadcast_object_list(values)
        return values[0]

    def on_rank_zero(self, work: Callable[[], T]) -> T:
        """What the first process alone does, such as writing; its result in all, which wait for it."""
        return self.broadcast(None if self.rank else work())  # type: ignore[return-value]

    def sync(self, tensors: "Sequence[Tensor]") -> None:
        """Give all processes the first one's tensors: statistics of normalisation are each process's own."""
        if self.size > 1:
            import torch

            for tensor in tensors:
                torch.distributed.broadcast(tensor, 0)

    @contextlib.contextmanager
    def lock(self, path: Path) -> Iterator[None]:
        """Hold a lock of files for all processes of the group."""
        if self.rank:
            yield
        else:
            with file_lock(path):
                yield

    def predict(
        self,
        predictor: "Predictor",
        rows: "Subset",
        threads: int,
        title: str = "",
        progress: Progress = SILENT,
        *,
        tta: bool = True,
    ) -> "Probabilities":
        """What the predictor predicts, each process a share of the rows, shape (n_models, n_rows), in all."""
        if self.size == 1:
            return predictor.rows(rows, threads, title, progress, tta=tta)
        import torch

        mine = self.share(len(rows.positions), predictor.settings.step_images)
        part = dataclasses.replace(rows, positions=rows.positions[mine])
        found: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(found, predictor.rows(part, threads, title, progress, tta=tta))
        joined: Probabilities = np.concatenate(found, axis=1)
        return joined


ALONE = ProcessGroup()


def train_in_process_group(
    job: "TrainingJob",
    folds: Sequence[int],
    progress: Progress,
    *,
    rank: int,
    size: int,
    local_rank: int,
    local_size: int,
) -> "list[FoldResult]":
    """Train one fold after the other, all processes of a torchrun together.

    All machines must see the workspace and the images under the same paths.

    Args:
        job, folds, progress: as for `trainers.train.train_here`.
        rank, size: this process's number, and how many there are. local_rank, local_size: on this machine.

    Raises:
        TrainingError: a batch size that cannot be shared evenly, and what `train_here` raises.
    """
    import torch

    from trainers.jobs.runner import FoldRunner
    from trainers.settings import TimmSettings

    for name, settings in job.models.items():
        if isinstance(settings, TimmSettings) and settings.step_images % size:
            raise TrainingError(
                f"Model '{name}': batch_size = {settings.step_images} images cannot be shared evenly by {size} "
                f"processes. Set a multiple of {size}."
            )
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", local_rank % torch.cuda.device_count())
        torch.cuda.set_device(device)
    # torchrun's environment tells where the others are
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        threads = max(1, job.threads // local_size)
        shared = dataclasses.replace(job, threads=threads, processes=local_size)
        runner = FoldRunner(shared, SILENT if rank else progress, device, ProcessGroup(rank, size))
        return runner.all(folds)
    finally:
        torch.distributed.destroy_process_group()
