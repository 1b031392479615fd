"""Train in several processes on one machine; each takes the next waiting fold and has its own device."""

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from types import FrameType

from oof.cpus import cpu_count
from oof.progress import Progress
from trainers.jobs.job import FoldResult, TrainingJob
from trainers.jobs.placement import device_of_worker
from trainers.jobs.runner import FoldRunner
from trainers.jobs.tasks import Message, ProgressDisplay, ProgressForwarder, Task, TaskQueue, reason_of
from trainers.kinds.registry import implementation_modules
from trainers.runtime.signals import Stopped, StopRequest
from trainers.runtime.threads import limit_threads

# A process that has used CUDA or threads cannot be forked safely, so workers are forked from a server process that has
# only imported the libraries.
_CONTEXT = multiprocessing.get_context("forkserver")
_LOOK_EVERY_S = 0.2
_END_WITHIN_S = 10.0  # time for an idle process to exit


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

    CUDA devices are assigned to the processes round-robin. CPUs and the memory for images are divided into `shares`
    (None: one per process), and each process gets one; the last trainings of a model, which are too few for all shares,
    divide all CPUs. Test rows are predicted if `test_rows`.

    A task that fails, or whose process is killed, is reported at the end; the others continue. On Ctrl-C and SIGTERM
    all processes save and exit.

    Raises:
        TrainingError: if tasks failed, naming each of them.
        KeyboardInterrupt, Stopped: on Ctrl-C or SIGTERM; everything is saved.
    """
    load_libraries_early(job)
    queue, display = TaskQueue(job, folds, test_rows=test_rows), ProgressDisplay(progress)
    count = max(1, min(workers, len(queue.waiting)))
    parts = shares or count
    workers_ = [_Worker(job, folds, index, parts) for index in range(count)]
    try:
        with StopRequest() as request:
            while queue.waiting or any(worker.task for worker in workers_):
                if request.is_requested:
                    progress.note("Stopping: all processes save their state.")
                    _stop(workers_, display)
                    request.stop()
                for worker in workers_:
                    if queue.waiting and worker.task is None:
                        task = queue.waiting.popleft()
                        worker.give(task, queue.in_parallel(task, parts))
                for connection in wait([worker.connection for worker in workers_ if worker.runs], _LOOK_EVERY_S):
                    _handle_message(
                        next(worker for worker in workers_ if worker.connection is connection), queue, display
                    )
        for worker in workers_:
            worker.end()
    finally:
        for worker in workers_:
            worker.kill()
        display.clear()
    return queue.finish()


def load_libraries_early(job: TrainingJob) -> None:
    """Start the process that workers are forked from, if it is not running; it loads the libraries of the job."""
    kinds = {settings.kind for settings in job.models.values()}
    _CONTEXT.set_forkserver_preload([*implementation_modules(kinds), "pyarrow.parquet"])
    with _ignoring_ctrl_c():
        forkserver.ensure_running()


@contextlib.contextmanager
def _ignoring_ctrl_c() -> Iterator[None]:
    """Start processes that ignore Ctrl-C, which is for this one; only the main thread can do so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _Worker:
    """A worker process, started for its first task and restarted if it dies, and its current task."""

    def __init__(self, job: TrainingJob, folds: Sequence[int], index: int, count: int) -> None:
        self._arguments = job, tuple(folds), index, count
        self.name = f"worker {index + 1}"
        self.task: Task | None = None
        self.connection: Connection
        self._process: multiprocessing.process.BaseProcess | None = None

    @property
    def runs(self) -> bool:
        return self._process is not None

    def give(self, task: Task, parts: int) -> None:
        """Assign a task to the process, which uses one of `parts` equal parts of the CPUs for it."""
        if self._process is None:
            self.connection, theirs = _CONTEXT.Pipe()
            arguments = theirs, *self._arguments
            self._process = _CONTEXT.Process(target=_work, args=arguments, name=self.name, daemon=True)
            self._process.start()
            theirs.close()  # so that the connection ends if the process dies
        self.task = task
        # the process has died, which is noticed at the end of the connection
        with contextlib.suppress(BrokenPipeError):
            self.connection.send((task, parts))

    def died(self) -> str:
        """Clean up after a dead process and return a description of its end."""
        process = self._process
        assert process is not None
        self.connection.close()
        process.join()
        code, self._process, self.task = process.exitcode or 0, None, None
        process.close()
        how = f"was killed by signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exited with code {code}"
        hint = "; the kernel does this if memory runs out, so try fewer workers" if code == -9 else ""
        return f"its process {how}{hint}. Its progress is kept up to the last checkpoint."

    def ask_to_stop(self) -> None:
        """Ask the process to save and exit."""
        if self._process is not None:
            self._process.terminate()

    def end(self) -> None:
        """Let the idle process exit."""
        if self._process is not None:
            with contextlib.suppress(BrokenPipeError):
                self.connection.send(None)
            self._process.join(_END_WITHIN_S)

    def kill(self) -> None:
        """Kill the process if it is still running."""
        if self._process is not None:
            self._process.kill()
            self.died()


def _handle_message(worker: _Worker, queue: TaskQueue, display: ProgressDisplay) -> bool:
    """Handle one message of a worker; return False if it was the last."""
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
    """Ask all workers to save and exit, and wait for them."""
    for worker in workers_:
        worker.ask_to_stop()
    for worker in workers_:
        while worker.runs:  # its remaining messages are read, so that it does not block
            try:
                worker.connection.recv()
            except (EOFError, OSError):
                worker.died()


# ---- in the worker process -----------------------------------------------------


def _work(connection: Connection, job: TrainingJob, folds: Sequence[int], index: int, count: int) -> None:
    """Perform tasks, each with its part of the CPUs, until there are no more."""
    os.setpgid(0, 0)  # Ctrl-C reaches only the main process, which stops the others once
    signal.signal(signal.SIGTERM, _raise_stopped)
    try:
        runner = None
        while (given := connection.recv()) is not None:
            task, parts = given
            limit_threads(max(1, cpu_count() // parts))
            runner = runner or _make_runner(job, index, connection)
            runner.job = dataclasses.replace(job, threads=max(1, job.threads // parts), processes=count)
            try:
                message: Message = ("done", task, task.perform(runner, folds))
            except Exception as error:  # any error: the main process reports it, and the other tasks continue
                message = ("failed", task, reason_of(error))
            connection.send(message)
    except (Stopped, KeyboardInterrupt, EOFError, BrokenPipeError):
        pass  # stop requested, or the main process has died


def _raise_stopped(number: int, frame: FrameType | None) -> None:
    raise Stopped


def _make_runner(job: TrainingJob, index: int, connection: Connection) -> FoldRunner:
    def send(message: Message) -> None:
        try:
            connection.send(message)
        except BrokenPipeError:  # the main process has died: save and exit
            signal.raise_signal(signal.SIGTERM)

    return FoldRunner(job, ProgressForwarder(send), device_of_worker(job, index))
