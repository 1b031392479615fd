"""Handle Ctrl-C and SIGTERM between two steps, so that a consistent state is saved before the process ends."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class Stopped(BaseException):
    """Raised after SIGTERM (such as a spot preemption) when the state is saved; the process should exit with 143."""


class StopRequest:
    """Context manager that defers Ctrl-C and SIGTERM until the running step is complete.

    A second Ctrl-C stops immediately; a second SIGTERM has no effect, since some schedulers send it to each process of
    a group. Outside the main thread, where Python does not deliver signals, it does nothing.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = self._received or number

    @property
    def is_requested(self) -> bool:
        """Whether a signal was received, so that the state should be saved."""
        return self._received is not None

    def stop(self) -> None:
        """Raise the exception of the received signal: KeyboardInterrupt or Stopped."""
        raise KeyboardInterrupt if self._received == signal.SIGINT else Stopped

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
