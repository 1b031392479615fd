"""Training as tasks for other processes: the queue, failures, and progress."""

import contextlib
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from oof.errors import DfensError, TrainingError, memory_is_full
from oof.progress import Progress
from oof.progress import Task as Shown
from trainers.jobs.job import FoldResult, TrainingJob
from trainers.jobs.runner import FoldRunner
from trainers.runtime.device import is_out_of_memory

_REPORT_EVERY_S = 0.2

Message = tuple[Any, ...]  # ("begin", number, title, total, unit), ("advance", number, amount, facts), ("end", number),
# ("note", text): plain values, so that any queue can carry them


@dataclass(frozen=True)
class Task:
    """One training of one model, or (fold None) the test predictions of all trainings of a seed.

    refit: whether the fold is that of the refit, on all rows.
    """

    model: str
    fold: int | None
    seed: int = 0
    refit: bool = False

    @property
    def title(self) -> str:
        seed = f" seed {self.seed}" if self.seed else ""
        if self.fold is None:
            return f"{self.model}{seed}: predict test"
        return f"{self.model} {'refit' if self.refit else f'fold {self.fold}'}{seed}"

    def perform(self, runner: FoldRunner, folds: Sequence[int]) -> FoldResult | None:
        """Perform the task in this process."""
        if self.fold is not None:
            return runner.train(self.model, self.fold, self.seed)
        runner.predict_test(self.model, folds, self.seed)
        return None


class TaskQueue:
    """The remaining tasks: each fold of each model, then its refit, then its test rows.

    If a task fails, the others continue; `finish` reports it.
    """

    def __init__(self, job: TrainingJob, folds: Sequence[int], *, test_rows: bool = True) -> None:
        self._runner, self._test_rows = FoldRunner(job), test_rows
        self._order = [
            Task(name, fold, seed) for name in job.models for fold, seed in self._runner.trainings(name, folds)
        ]
        self.waiting = deque(self._order)
        self._open = {name: sum(task.model == name for task in self._order) for name in job.models}
        self._refitted = set[str]()
        self._results: dict[Task, FoldResult] = {}
        self._failures: dict[str, list[Task]] = {}  # by reason

    def in_parallel(self, task: Task, shares: int) -> int:
        """Return how many trainings of a model divide the CPUs when all of them are done `shares` at a time.

        Fewer than `shares` for the last ones: of 5 folds on 2 CPUs, the last has both. Does not depend on what is left
        to do, since sums over another number of threads are rounded differently.
        """
        if task.fold is None:
            return shares
        folds = 1 if task.refit else self._runner.store.folds.k
        total = folds * self._runner.repeats(task.model).seeds
        place = task.seed * folds + (0 if task.refit else task.fold)
        return total % shares if place >= total - total % shares else shares

    def end(self, task: Task, result: FoldResult | None) -> None:
        """Record a finished task."""
        if result is not None:
            self._results[task] = result
        self._close(task)

    def fail(self, task: Task, reason: str) -> None:
        """Record a failed task."""
        self._failures.setdefault(reason, []).append(task)
        self._close(task)

    def _close(self, task: Task) -> None:
        """Add what can be done once the trainings of a model have ended: refits after the folds, test rows at last."""
        if task.fold is None:
            return
        name = task.model
        self._open[name] -= 1
        if self._open[name]:
            return
        if name not in self._refitted:
            fold = self._runner.store.folds.refit
            refits = [Task(name, fold, seed, refit=True) for seed in self._runner.refits_due(name)]
            if refits:
                self._refitted.add(name)
                self._open[name] = len(refits)
                self._order += refits
                self.waiting.extend(refits)
                return
        if self._test_rows:
            lacking = {result.seed for result in self._results.values() if result.model == name and not result.has_test}
            self.waiting.extend(Task(name, None, seed) for seed in sorted(lacking))

    def finish(self) -> list[FoldResult]:
        """Return the results, in the order of models, seeds and folds.

        Raises:
            TrainingError: if tasks failed, naming each with the reason.
        """
        names = list(self._open)
        self._order.sort(key=lambda task: names.index(task.model))  # refits, which came last, next to their folds
        if not self._failures:
            return [self._results[task] for task in self._order]
        failed = sum(map(len, self._failures.values()))
        lines = [
            f"{', '.join(task.title for task in sorted(tasks, key=self._place))}: {reason}"
            for reason, tasks in self._failures.items()
        ]
        later = [name for name in names if name not in self._refitted and self._runner.repeats(name).refit]
        raise TrainingError(
            f"{failed} of the tasks failed; {len(self._results)} of {len(self._order)} trainings are done and kept.\n"
            + "\n".join(lines)
            + "".join(f"\nThe refit of '{name}' follows its folds." for name in later)
            + "\nRun the same command again for the tasks that are missing."
        )

    def _place(self, task: Task) -> int:
        return len(self._order) if task.fold is None else self._order.index(task)


def reason_of(error: Exception) -> str:
    """Return why a task failed: a message for a DfensError or a full memory, the full traceback of anything else."""
    if isinstance(error, DfensError):
        return str(error)
    if isinstance(error, MemoryError) or is_out_of_memory(error):
        return memory_is_full(error)
    return "".join(traceback.format_exception(error)).strip()


# ---- progress from one process to another --------------------------------------


class ProgressForwarder:
    """Sends the progress of a process as messages, few enough not to slow down the work."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        self._send = send
        self._count = 0

    def note(self, text: str) -> None:
        """Report one permanent line."""
        self._send(("note", text))

    def task(self, title: str, total: float | None = None, unit: str = "") -> "_ForwardedTask":
        """Start a task."""
        self._count += 1
        self._send(("begin", self._count, title, total, unit))
        return _ForwardedTask(self._send, self._count)


class _ForwardedTask:
    def __init__(self, send: Callable[[Message], None], number: int) -> None:
        self._send, self._number = send, number
        self._amount, self._facts, self._reported = 0.0, dict[str, str](), time.monotonic()

    def advance(self, amount: float = 1, **fields: str) -> None:
        self._amount += amount
        self._facts |= fields
        if time.monotonic() - self._reported >= _REPORT_EVERY_S:
            self._report()

    def _report(self) -> None:
        self._send(("advance", self._number, self._amount, self._facts))
        self._amount, self._facts, self._reported = 0.0, {}, time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._amount:
            self._report()
        self._send(("end", self._number))


class ProgressDisplay:
    """Shows the messages of many processes on one Progress."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._shown: dict[tuple[str, int], tuple[Shown, contextlib.ExitStack]] = {}

    def show(self, source: str, message: Message) -> None:
        """Show a message of the process named `source`."""
        match message:
            case ("note", text):
                self._progress.note(text)
            case ("begin", number, title, total, unit):
                stack = contextlib.ExitStack()
                shown = stack.enter_context(self._progress.task(f"{source}: {title}", total=total, unit=unit))
                self._shown[source, number] = shown, stack
            case ("advance", number, amount, facts) if (source, number) in self._shown:
                self._shown[source, number][0].advance(amount, **facts)
            case ("end", number) if (source, number) in self._shown:
                self._shown.pop((source, number))[1].close()

    def clear(self, source: str | None = None) -> None:
        """Close the tasks that a process (None: any) left open."""
        for key in [key for key in self._shown if source in (None, key[0])]:
            self._shown.pop(key)[1].close()
