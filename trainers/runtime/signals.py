"""Ctrl-C and SIGTERM, heard between two steps: what runs is saved whole before the process ends."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class Stopped(BaseException):
    """SIGTERM was heard (a spot machine is taken away); the state is saved, the process shall end with 143."""


class StopRequest:
    """Hears Ctrl-C and SIGTERM within its block and keeps them until the running step is whole.

    A second Ctrl-C stops at once; a second SIGTERM changes nothing, since some schedulers send it to each
    process of a group. Outside the main thread, where Python hears no signals, it does nothing.
    """

    def __init__(self) -> None:
        self._heard: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._hear) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._heard is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._heard = self._heard or number

    @property
    def heard(self) -> bool:
        """Whether to save and stop now."""
        return self._heard is not None

    def stop(self) -> None:
        """Raise what was heard: KeyboardInterrupt or Stopped."""
        raise KeyboardInterrupt if self._heard == signal.SIGINT else Stopped

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
