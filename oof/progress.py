"""How long work tells of its progress: the rooms call these, only `dfens` prints.

A function that takes long accepts `progress: Progress = SILENT` and writes

    with progress.task("train tiny fold 0", total=steps, unit="step") as task:
        for batch in batches:
            task.advance(1, loss=f"{loss:.3f}")
    progress.note("tiny fold 0: AUC 0.9312 (epoch 7 of 10)")
"""

from types import TracebackType
from typing import Protocol, Self


class Task(Protocol):
    """One running piece of work; closes itself at the end of its `with` block."""

    def advance(self, amount: float = 1, **fields: str) -> None:
        """Count `amount` more units as done; fields are short facts to show beside the bar."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Progress(Protocol):
    """Where progress goes; one object serves a whole command."""

    def task(self, title: str, total: float | None = None, unit: str = "") -> Task:
        """Begin a piece of work of `total` units (None where unknown; unit "B" is shown as bytes)."""

    def note(self, text: str) -> None:
        """Tell one lasting line, a result or a warning."""


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
