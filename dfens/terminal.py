"""Rich consoles, and progress as bars on a terminal and plain lines elsewhere."""

import os
import re
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from dfens.values import duration

_PLAIN_EVERY_S = 10.0


# control characters other than tab and line feed, which a terminal would interpret
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def make_console(*, stderr: bool) -> Console:
    """Return a console that is wide enough for tables if neither a terminal nor COLUMNS sets the width.

    Emoji codes and markup are not interpreted: an id such as `clip:id:b` is shown as it is. NO_COLOR is respected.
    """
    console = Console(stderr=stderr, emoji=False, markup=False, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(stderr=stderr, emoji=False, markup=False, highlight=False, width=160)
    return console


def printable(text: str) -> str:
    """Return text with control characters escaped, so that a name cannot control the terminal.

    >>> printable("a\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def print_line(console: Console, text: str) -> None:
    """Print text without wrapping it."""
    console.print(printable(text), soft_wrap=True)


class TerminalProgress:
    """Progress on a terminal (an `oof.progress.Progress`): bars for running tasks, and permanent notes."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live: Progress | None = None
        self._open = 0

    def note(self, text: str) -> None:
        """Print one permanent line."""
        print_line(self.console, text)

    def task(self, title: str, total: float | None = None, unit: str = "") -> "_Bar | _Lines":
        """Start a task: a bar on a terminal, lines of text elsewhere."""
        if not self.console.is_terminal:
            return _Lines(self.console, title, total, unit)
        return _Bar(self, title, total, unit)

    def begin(self, title: str, total: float | None, unit: str) -> tuple[Progress, TaskID]:
        """Add a bar; the first one starts the display."""
        if self._live is None:
            self._live = Progress(*_columns(unit), console=self.console, transient=True)
            self._live.start()
        self._open += 1
        return self._live, self._live.add_task(title, total=total, facts="")

    def end(self, task: TaskID) -> None:
        """Remove a bar; the last one ends the display."""
        if self._live is not None:
            self._live.remove_task(task)
            self._open -= 1
            if self._open == 0:
                self._live.stop()
                self._live = None


def _columns(unit: str) -> list[ProgressColumn]:
    counted: list[ProgressColumn] = (
        [DownloadColumn(), TransferSpeedColumn()] if unit == "B" else [MofNCompleteColumn(), TaskProgressColumn()]
    )
    return [
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *counted,
        TextColumn("{task.fields[facts]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]


class _Bar:
    def __init__(self, owner: TerminalProgress, title: str, total: float | None, unit: str) -> None:
        self._owner = owner
        self._live, self._id = owner.begin(title, total, unit)

    def advance(self, amount: float = 1, **fields: str) -> None:
        self._live.advance(self._id, amount)
        if fields:
            self._live.update(self._id, facts=" ".join(f"{key}={value}" for key, value in fields.items()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._owner.end(self._id)


class _Lines:
    """Lines of text, at most one every ten seconds, so that a log file stays readable."""

    def __init__(self, console: Console, title: str, total: float | None, unit: str) -> None:
        self._console, self._title, self._total, self._unit = console, title, total, unit
        self._done = 0.0
        self._started = self._shown = time.monotonic()

    def advance(self, amount: float = 1, **fields: str) -> None:
        self._done += amount
        now = time.monotonic()
        if now - self._shown < _PLAIN_EVERY_S:
            return
        self._shown = now
        parts = [amount_done(self._done, self._total, self._unit)]
        if self._total and self._done:
            left_s = (now - self._started) * max(0.0, self._total / self._done - 1)
            parts.append(f"{duration(left_s)} left")
        parts += [f"{key} {value}" for key, value in fields.items()]
        print_line(self._console, f"{self._title}: {', '.join(parts)}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


def amount_done(done: float, total: float | None, unit: str) -> str:
    """Return how much of a task is done.

    >>> amount_done(6, 120, "step"), amount_done(3e6, 12e6, "B"), amount_done(2, None, "file")
    ('6 of 120 steps (5 %)', '3.0 of 12.0 MB (25 %)', '2 files')
    """
    if unit == "B":
        shown, whole, units = f"{done / 1e6:.1f}", f"{(total or 0) / 1e6:.1f}", " MB"
    else:
        plural = unit and (total or done) != 1 and not unit.endswith("s")
        shown, whole, units = f"{done:g}", f"{total or 0:g}", f" {unit}{'s' * bool(plural)}" if unit else ""
    return f"{shown} of {whole}{units} ({100 * done / total:.0f} %)" if total else f"{shown}{units}"
