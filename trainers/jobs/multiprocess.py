"""Training in several processes of one machine: each takes the next fold that waits, on a device of its own."""

import contextlib
import dataclasses
import multiprocessing
import os
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from types import FrameType

from oof.cpus import cpu_count
from oof.progress import Progress
from trainers.jobs.placement import device_of_worker
from trainers.jobs.runner import FoldResult, FoldRunner, TrainingJob
from trainers.jobs.tasks import Message, ProgressDisplay, ProgressForwarder, Task, TaskQueue, reason_of
from trainers.kinds.registry import implementation_modules
from trainers.runtime.signals import Stopped, StopRequest
from trainers.runtime.threads import limit_threads

# A process that has used CUDA or threads cannot be forked; its workers are forks of a server that has only loaded
# libraries, once for all of them.
_CONTEXT = multiprocessing.get_context("forkserver")
_LOOK_EVERY_S = 0.2
_END_WITHIN_S = 10.0  # for a process that has nothing left to do


def train_in_workers(
    job: TrainingJob,
    folds: Sequence[int],
    progress: Progress,
    *,
    workers: int,
    shares: int | None = None,
    test_rows: bool = True,
) -> list[FoldResult]:
    """Train all folds of all models in `workers` processes.

    CUDA devices are given to the processes in turn. Processors and the memory for images are divided into `shares`
    (None: one for each process), of which a process gets one. Test rows are predicted if `test_rows`.
    A task that fails, or whose process is killed, is reported at the end; the others continue. Ctrl-C and SIGTERM reach
    all processes, which save and end.

    Raises:
        TrainingError: naming each task that failed.
        KeyboardInterrupt, Stopped: Ctrl-C or SIGTERM was heard; everything is saved.
    """
    kinds = {settings.kind for settings in job.models.values()}
    _CONTEXT.set_forkserver_preload([*implementation_modules(kinds), "pyarrow.parquet"])
    queue, display = TaskQueue(job, folds, test_rows=test_rows), ProgressDisplay(progress)
    count = max(1, min(workers, len(queue.waiting)))
    parts = shares or count
    workers_ = [_Worker(job, folds, index, parts) for index in range(count)]
    try:
        with StopRequest() as request:
            while queue.waiting or any(worker.task for worker in workers_):
                if request.heard:
                    progress.note("Stopping: each process saves what it trains.")
                    _stop(workers_, display)
                    request.stop()
                for worker in workers_:
                    if queue.waiting and worker.task is None:
                        worker.give(queue.waiting.popleft())
                for connection in wait([worker.connection for worker in workers_ if worker.runs], _LOOK_EVERY_S):
                    _hear(next(worker for worker in workers_ if worker.connection is connection), queue, display)
        for worker in workers_:
            worker.end()
    finally:
        for worker in workers_:
            worker.kill()
        display.clear()
    return queue.finish()


class _Worker:
    """A process, begun with its first task and anew after its death; the task that it works on."""

    def __init__(self, job: TrainingJob, folds: Sequence[int], index: int, count: int) -> None:
        self._arguments = job, tuple(folds), index, count
        self.name = f"worker {index + 1}"
        self.task: Task | None = None
        self.connection: Connection
        self._process: multiprocessing.process.BaseProcess | None = None

    @property
    def runs(self) -> bool:
        return self._process is not None

    def give(self, task: Task) -> None:
        """Let it work on a task."""
        if self._process is None:
            self.connection, theirs = _CONTEXT.Pipe()
            self._process = _CONTEXT.Process(target=_work, args=(theirs, *self._arguments), name=self.name, daemon=True)
            self._process.start()
            theirs.close()  # so that its death is heard as the end of the connection
        self.task = task
        with contextlib.suppress(BrokenPipeError):  # of one that has died: heard as the end of the connection
            self.connection.send(task)

    def died(self) -> str:
        """Take away what is left of a dead process, and tell what became of it."""
        process = self._process
        assert process is not None
        self.connection.close()
        process.join()
        code, self._process, self.task = process.exitcode or 0, None, None
        process.close()
        how = f"was killed by signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"ended with code {code}"
        hint = "; the kernel does so where memory runs out, and fewer workers need less" if code == -9 else ""
        return f"its process {how}{hint}. What it trained is kept up to the last save."

    def ask_to_stop(self) -> None:
        """Let it save and end."""
        if self._process is not None:
            self._process.terminate()

    def end(self) -> None:
        """Let it end, now that nothing is left to do."""
        if self._process is not None:
            with contextlib.suppress(BrokenPipeError):
                self.connection.send(None)
            self._process.join(_END_WITHIN_S)

    def kill(self) -> None:
        """End it at once, if it still runs."""
        if self._process is not None:
            self._process.kill()
            self.died()


def _hear(worker: _Worker, queue: TaskQueue, display: ProgressDisplay) -> bool:
    """Take one message of a worker; false when it was the last."""
    try:
        message: Message = worker.connection.recv()
    except (EOFError, OSError):
        task, how = worker.task, worker.died()
        display.clear(worker.name)
        if task is not None:
            queue.fail(task, how)
        return False
    match message:
        case ("done", task, result):
            worker.task = None
            queue.end(task, result)
        case ("failed", task, reason):
            worker.task = None
            queue.fail(task, reason)
        case _:
            display.show(worker.name, message)
    return True


def _stop(workers_: Sequence[_Worker], display: ProgressDisplay) -> None:
    """Let all save and end, and wait for it."""
    for worker in workers_:
        worker.ask_to_stop()
    for worker in workers_:
        while worker.runs:  # what it still sends is read, so that it need not wait
            try:
                worker.connection.recv()
            except (EOFError, OSError):
                worker.died()


# ---- in the process ------------------------------------------------------------


def _work(connection: Connection, job: TrainingJob, folds: Sequence[int], index: int, count: int) -> None:
    """Work on tasks until there are no more."""
    os.setpgid(0, 0)  # Ctrl-C reaches the first process alone, which tells all others once
    signal.signal(signal.SIGTERM, _raise_stopped)
    try:
        runner = None
        while (task := connection.recv()) is not None:
            runner = runner or _make_runner(job, index, count, connection)
            try:
                message: Message = ("done", task, task.perform(runner, folds))
            except Exception as error:  # whatever it is, the other tasks go on and the first process tells it
                message = ("failed", task, reason_of(error))
            connection.send(message)
    except (Stopped, KeyboardInterrupt, EOFError, BrokenPipeError):
        pass  # told to stop, or the first process is gone


def _raise_stopped(number: int, frame: FrameType | None) -> None:
    raise Stopped


def _make_runner(job: TrainingJob, index: int, count: int, connection: Connection) -> FoldRunner:
    def send(message: Message) -> None:
        try:
            connection.send(message)
        except BrokenPipeError:  # the first process is gone: save and end
            signal.raise_signal(signal.SIGTERM)

    limit_threads(max(1, cpu_count() // count))
    shared = dataclasses.replace(job, threads=max(1, job.threads // count), processes=count)
    return FoldRunner(shared, ProgressForwarder(send), device_of_worker(job, index))
