"""Processes that train one fold together, each on its own device."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from oof.files import file_lock
from oof.progress import Progress

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of a fold; a group of size 1 has no overhead.

    The rows of each step are split evenly and the gradients averaged (DistributedDataParallel). Decisions are made and
    files written by the first process, rank 0.
    """

    rank: int = 0
    size: int = 1

    def share(self, count: int, unit: int = 1) -> slice:
        """Return this process's slice of `count` items, in blocks of `unit`."""
        blocks = -(-count // unit)
        bounds = [min(count, unit * (blocks * rank // self.size)) for rank in (self.rank, self.rank + 1)]
        return slice(*bounds)

    def any(self, *flags: bool) -> list[bool]:
        """Return whether each flag is set in any process."""
        if self.size == 1:
            return list(flags)
        import torch

        found = torch.tensor(flags, dtype=torch.uint8)  # on the CPU, by gloo, so that no device is synchronised
        torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
        return [bool(flag) for flag in found.tolist()]

    def broadcast(self, value: T) -> T:
        """Return the value of rank 0 in all processes."""
        if self.size == 1:
            return value
        import torch

        values = [value]
        torch.distributed.broadcast_object_list(values)
        return values[0]

    def on_rank_zero(self, work: Callable[[], T]) -> T:
        """Run a function, such as writing a file, on rank 0 only; all processes wait for its result."""
        return self.broadcast(None if self.rank else work())  # type: ignore[return-value]

    def sync(self, tensors: "Sequence[Tensor]") -> None:
        """Copy tensors from rank 0 to all, such as batch norm statistics, which differ between processes."""
        if self.size > 1:
            import torch

            for tensor in tensors:
                torch.distributed.broadcast(tensor, 0)

    @contextlib.contextmanager
    def lock(self, path: Path, progress: Progress) -> Iterator[None]:
        """Hold a file lock for all processes of the group; progress as in `file_lock`."""
        if self.rank:
            yield
        else:
            with file_lock(path, progress):
                yield

    def all_gather(self, value: T) -> list[T]:
        """Return the values of all processes, by rank."""
        if self.size == 1:
            return [value]
        import torch

        found: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(found, value)
        return found


ALONE = ProcessGroup()
