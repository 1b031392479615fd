"""The interface for reporting progress: all packages report through it, only `dfens` prints.

A long-running function takes `progress: Progress = SILENT` and calls

    with progress.task("train tiny fold 0", total=steps, unit="step") as task:
        for batch in batches:
            task.advance(1, loss=f"{loss:.3f}")
    progress.note("tiny fold 0: AUC 0.9312 (epoch 7 of 10)")
"""

from types import TracebackType
from typing import Protocol, Self


class Task(Protocol):
    """A running task, closed at the end of its `with` block."""

    def advance(self, amount: float = 1, **fields: str) -> None:
        """Mark `amount` more units as done; fields are short texts to show next to the bar."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Progress(Protocol):
    """The receiver of progress; one object is used for a whole command."""

    def task(self, title: str, total: float | None = None, unit: str = "") -> Task:
        """Start a task of `total` units (None if unknown; unit "B" is shown as bytes)."""

    def note(self, text: str) -> None:
        """Print one permanent line, a result or a warning."""


class _SilentTask:
    def advance(self, amount: float = 1, **fields: str) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class _Silent:
    def task(self, title: str, total: float | None = None, unit: str = "") -> Task:
        return _SilentTask()

    def note(self, text: str) -> None:
        pass


SILENT: Progress = _Silent()
