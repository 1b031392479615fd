"""Train on a Ray cluster: each fold is a Ray task, which is restarted elsewhere if its machine dies."""

import _thread
import contextlib
import dataclasses
import logging
import os
import platform
import signal
import socket
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from oof.cpus import wait_passively
from oof.errors import TrainingError
from oof.progress import Progress
from trainers.jobs.job import FoldResult, TrainingJob
from trainers.jobs.object_store import RemoteWorkspace
from trainers.jobs.runner import FoldRunner, without_gpu
from trainers.jobs.tasks import Message, ProgressDisplay, ProgressForwarder, Task, TaskQueue, reason_of
from trainers.kinds.registry import kind_of
from trainers.runtime.signals import Stopped, StopRequest
from trainers.runtime.threads import limit_threads

_RETRIES = 20  # restarts of a task whose machine or process died; preemptible machines may be taken away often
_LOOK_EVERY_S = 0.3
_CONNECT_WITHIN_S = 5.0
_SAVE_WITHIN_S = 60.0


def train_on_ray(
    job: TrainingJob, folds: Sequence[int], progress: Progress, *, address: str | None = None, share: str | None = None
) -> list[FoldResult]:
    """Train all folds of all models on a Ray cluster.

    Every machine must have dfens installed and the images under the same paths, and also the workspace unless there
    is a share. If a machine dies, its tasks resume elsewhere from the last checkpoint. A task
    takes one GPU and that GPU's share of the CPUs; without GPUs, a whole machine.

    Args:
        job, folds, progress: as for `trainers.train.train_here`.
        address: HOST:PORT of the cluster; None: the cluster of this machine, or a new one on this machine alone.
        share: URL through which the machines exchange their work; None if they share one workspace.

    Raises:
        TrainingError: if Ray is missing, the cluster or the share cannot be reached, or tasks failed (naming each).
        KeyboardInterrupt, Stopped: on Ctrl-C or SIGTERM; everything is saved.
    """
    shared = None if share is None else RemoteWorkspace.of(share, job)
    if shared is not None:
        shared.begin(job, folds, progress.note)
    with _cluster(address) as ray:
        return _Driver(ray, job, folds, progress, shared).run()


class _Driver:
    """Submits tasks to a cluster and shows their progress and results."""

    def __init__(
        self,
        ray: Any,
        job: TrainingJob,
        folds: Sequence[int],
        progress: Progress,
        remote: RemoteWorkspace | None = None,
    ) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._ray, self._folds, self._progress = ray, tuple(folds), progress
        self._queue, self._display = TaskQueue(job, folds), ProgressDisplay(progress)
        self._needs = _Needs.of([node["Resources"] for node in ray.nodes() if node["Alive"]])
        self._needs.check(job)
        self._own, self._remote = job, remote
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._mailbox = ray.remote(_Mailbox).options(num_cpus=0, scheduling_strategy=here).remote()
        self._job = ray.put(
            dataclasses.replace(
                job,
                store_root=job.store_root.resolve(),
                work_dir=job.work_dir.resolve(),
                root=job.root.resolve(),
                cache_dir=job.cache_dir and job.cache_dir.resolve(),
                threads=self._needs.cpus,
                processes=self._needs.tasks_of_a_machine,
            )
        )
        self._run = uuid.uuid4().hex
        self._running: dict[Any, Task] = {}
        self._places: dict[str, str] = {}  # the machine on which each task was last started

    def run(self) -> list[FoldResult]:
        """Run all tasks and return their results."""
        try:
            with StopRequest() as request:
                while self._queue.waiting or self._running:
                    if request.is_requested:
                        self._stop()
                        request.stop()
                    while self._queue.waiting:
                        self._submit(self._queue.waiting.popleft())
                    done, _ = self._ray.wait(list(self._running), timeout=_LOOK_EVERY_S)
                    self._show()
                    for reference in done:
                        self._collect(reference, self._running.pop(reference))
        finally:
            self._display.clear()
        return self._queue.finish()

    def _submit(self, task: Task) -> None:
        settings = self._own.models[task.model]
        resources = kind_of(settings).resources(settings)
        gpus = self._needs.gpus if resources.gpu else 0
        # max_calls: Ray's processes keep their GPU memory allocated, so each one exits after its task; Ray does this by
        # itself for tasks declared with num_gpus, but not for those that get it as an option (remote_function.py)
        perform = self._ray.remote(max_calls=1)(_perform) if gpus else self._ray.remote(_perform)
        memory = resources.memory or None
        perform = perform.options(
            name=task.title, num_cpus=self._needs.cpus, num_gpus=gpus, memory=memory, max_retries=_RETRIES
        )
        self._running[perform.remote(self._job, self._run, task, self._folds, self._mailbox, self._remote)] = task

    def _collect(self, reference: Any, task: Task) -> None:
        try:
            result, reason = self._ray.get(reference)
            if reason is None and self._remote is not None:
                self._remote.fetch_result(self._own, task.model, task.fold, task.seed)
        except TrainingError as err:  # the share cannot be read, perhaps temporarily
            result, reason = None, reason_of(err)
        except self._ray.exceptions.RayError as err:  # the task's machines died too often, or Ray itself failed
            result, reason = None, f"Ray gave up on it: {str(err).strip().splitlines()[0]}"
        if reason is None:
            self._queue.end(task, result)
        else:
            self._queue.fail(task, reason)

    def _show(self) -> None:
        for source, message in self._ray.get(self._mailbox.take.remote()):
            match message:
                case ("start", title):
                    if title in self._places:
                        self._display.clear(self._places[title])
                        self._progress.note(
                            f"{title}: {self._places[title]} is gone; resuming on {source} from the last checkpoint"
                        )
                    self._places[title] = source
                case _:
                    self._display.show(source, message)

    def _stop(self) -> None:
        """Ask all tasks to save and exit, and wait for them.

        Running tasks are asked through the mailbox, since Ray's own cancellation kills a process that responds late
        before it has saved (github.com/ray-project/ray/pull/58018).
        """
        self._progress.note("Stopping: all tasks save their state.")
        self._ray.get(self._mailbox.stop.remote())
        self._show()
        asked = [reference for reference, task in self._running.items() if task.title in self._places]
        done, _ = self._ray.wait(asked, num_returns=len(asked), timeout=_SAVE_WITHIN_S) if asked else ([], [])
        rest = [reference for reference in self._running if reference not in done]
        for reference in rest:  # not started, or started on a machine that is gone
            self._ray.cancel(reference)
        if rest:
            self._ray.wait(rest, num_returns=len(rest))


@dataclasses.dataclass(frozen=True)
class _Needs:
    """The CPUs and GPUs of a task, and the maximum number of tasks per machine."""

    cpus: int
    gpus: int
    tasks_of_a_machine: int

    @classmethod
    def of(cls, machines: Sequence[Mapping[str, float]]) -> "_Needs":
        """Return the resources of a task: one GPU with its share of the CPUs, or a machine, by the smallest machine."""
        cpus = [int(machine.get("CPU", 0)) for machine in machines]
        gpus = [int(machine.get("GPU", 0)) for machine in machines]
        shares = [cpu // gpu if gpu else cpu for cpu, gpu in zip(cpus, gpus, strict=True) if gpu or not any(gpus)]
        least = max(1, min((share for share in shares if share), default=1))
        return cls(least, int(any(gpus)), max(1, max(cpus, default=1) // least))

    def check(self, job: TrainingJob) -> None:
        """Raise TrainingError if a model of the job needs a GPU, and no machine has one."""
        for name, settings in job.models.items():
            if not self.gpus and kind_of(settings).resources(settings).only_gpu is not None:
                raise without_gpu(name, settings, "no machine of the Ray cluster has one")


# ---- the cluster ---------------------------------------------------------------


@contextlib.contextmanager
def _cluster(address: str | None) -> Iterator[Any]:
    """Yield the ray module, connected to a cluster."""
    try:
        import ray
    except ImportError as err:
        raise TrainingError("Ray is not installed. Run pip install 'dfens[ray]' on every machine.") from err
    if address is not None:
        _check_reachable(address)
    try:
        ray.init(
            address=address,
            logging_level=logging.WARNING,
            log_to_driver=False,
            include_dashboard=False if address is None else None,
        )
    except (OSError, RuntimeError, ValueError) as err:
        raise TrainingError(
            f"Ray could not be joined at {address or 'this machine'}: {str(err).strip().splitlines()[0]} "
            f"This machine must belong to the cluster: run ray start --address={address or 'HOST:PORT'}, and try again."
        ) from err
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raise TrainingError if no cluster responds; Ray itself would wait for minutes and then exit."""
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        raise TrainingError(
            f"--address {address!r} is not HOST:PORT. Use the one printed by ray start --head, for instance "
            f"10.0.0.1:6379, and run dfens on a machine of that cluster."
        )
    try:
        socket.create_connection((host, int(port)), _CONNECT_WITHIN_S).close()
    except OSError as err:
        raise TrainingError(
            f"No Ray cluster responds at {address} ({err}). Start one with ray start --head --port={port} on {host}, "
            f"and check for a firewall in between."
        ) from err


# ---- on the remote machine -----------------------------------------------------


class _Mailbox:
    """An actor on the driver's machine through which tasks send messages."""

    def __init__(self) -> None:
        self._messages: list[tuple[str, Message]] = []
        self._stopping = False

    def put(self, source: str, message: Message) -> None:
        self._messages.append((source, message))

    def take(self) -> list[tuple[str, Message]]:
        """Return all messages since the last call."""
        found, self._messages = self._messages, []
        return found

    def stop(self) -> None:
        """Request all tasks to save and exit."""
        self._stopping = True

    def is_stopping(self) -> bool:
        return self._stopping


_runners: dict[str, FoldRunner] = {}  # by run: Ray reuses a process for many tasks, which share decoded images


def _perform(
    job: TrainingJob, run: str, task: Task, folds: Sequence[int], mailbox: Any, remote: RemoteWorkspace | None = None
) -> tuple[FoldResult | None, str | None]:
    """Perform a task; return its result, or the reason of its failure."""
    source = f"{platform.node()} ({os.getpid()})"

    def send(message: Message) -> None:
        mailbox.put.remote(source, message)

    wait_passively()
    send(("start", task.title))
    try:
        _check_access(job, remote)
        if run not in _runners:
            _runners.clear()
            _runners[run] = _make_runner(job)
        runner = _runners[run]
        runner.progress = ProgressForwarder(send)
        if remote is None:
            with _stoppable(mailbox):
                return task.perform(runner, folds), None
        with tempfile.TemporaryDirectory(prefix="dfens-") as folder:
            mine = dataclasses.replace(job, store_root=Path(folder) / "oof", work_dir=Path(folder) / "trainers")
            shared = remote.task(mine, task.model, task.fold, runner.progress.note, seed=task.seed)
            with shared, _stoppable(mailbox):
                return task.perform(dataclasses.replace(runner, job=mine), folds), None
    except Stopped as error:  # the machine is being taken away
        raise SystemExit(128 + signal.SIGTERM) from error
    except Exception as error:
        return None, reason_of(error)


@contextlib.contextmanager
def _stoppable(mailbox: Any) -> Iterator[None]:
    """Interrupt the block, as Ctrl-C would, once all tasks are requested to save and exit."""
    import ray

    over = threading.Event()

    def listen() -> None:
        with contextlib.suppress(ray.exceptions.RayError):  # the driver is gone, and Ray terminates its tasks
            while not over.wait(_LOOK_EVERY_S):
                if ray.get(mailbox.is_stopping.remote()):
                    _thread.interrupt_main()
                    return

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield
    finally:
        over.set()
        listener.join()


def _check_access(job: TrainingJob, remote: RemoteWorkspace | None) -> None:
    """Check that this machine has access to everything under the paths of the driver."""
    if remote is None and not job.store_root.exists():
        raise TrainingError(
            f"{platform.node()} has no access to {job.store_root}. All machines must have the workspace and the images "
            f"under the same paths: share the folder, for instance by NFS, or the workspace by --share URL."
        )
    image = Path(job.competition.train["path"].iloc[0])
    if not image.exists():
        raise TrainingError(
            f"{platform.node()} has no access to the image {image}. All machines must have the images under the same "
            f"paths: share the folder, or copy it to each machine."
        )


def _make_runner(job: TrainingJob) -> FoldRunner:
    limit_threads(job.threads)
    return FoldRunner(job)
