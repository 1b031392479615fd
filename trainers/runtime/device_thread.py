"""A thread that copies or computes on a device ahead of use, on a CUDA stream of its own."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

V = TypeVar("V")


class DeviceThread:
    """Makes tensors on a device in one thread, in the order in which they were begun, while others use earlier ones.

    On CUDA the thread has its own stream: its work does not wait for theirs, and the stream on which a tensor is used
    waits until it is complete.
    """

    def __init__(self, device: torch.device, name: str) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)

    def begin(self, make: Callable[[], tuple[Tensor, V]]) -> Callable[[], tuple[Tensor, V]]:
        """Start to make a tensor, with what else belongs to it; return a function that waits for both.

        It raises the error of `make`, if there was one.
        """
        future = self._pool.submit(self._run, make)

        def result() -> tuple[Tensor, V]:
            found, value, complete = future.result()
            if complete is not None:
                current = torch.cuda.current_stream(self._device)
                current.wait_event(complete)
                found.record_stream(current)  # so that its memory is not reused before it has been used
            return found, value

        return result

    def _run(self, make: Callable[[], tuple[Tensor, V]]) -> tuple[Tensor, V, torch.cuda.Event | None]:
        with torch.cuda.stream(self._stream):  # None changes nothing
            found, value = make()
        return found, value, None if self._stream is None else self._stream.record_event()

    def close(self) -> None:
        """Stop the thread; what has not started is discarded."""
        self._pool.shutdown(wait=True, cancel_futures=True)
