"""Several processes on one machine: same predictions as one, failures reported at the end, none left running."""

import contextlib
import dataclasses
import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from oof.cpus import cpu_count
from oof.errors import TrainingError
from oof.files import read_json
from oof.progress import SILENT, Progress
from oof.store import PredictionStore
from tests.support.training import TINY, Notes, saved_position, stored_bytes, tiny_competition, train_models
from trainers.jobs import side_by_side
from trainers.jobs.job import TrainingJob
from trainers.jobs.multiprocess import train_in_workers
from trainers.jobs.tasks import Message, ProgressDisplay, ProgressForwarder
from trainers.kinds.base import ModelSettings
from trainers.kinds.linear.settings import LinearSettings
from trainers.train import Engine, FoldResult, train_here

pytestmark = pytest.mark.slow  # starts processes that train

MODELS: dict[str, ModelSettings] = {"tiny": TINY, "baseline": LinearSettings()}


class NotesWithEnds(Notes):
    """Record notes, and the start and end of tasks."""

    def __exit__(self, *_: object) -> None:
        self.titles.append("end")


def train(
    folder: Path, models: dict[str, ModelSettings], engine: Engine = train_here, progress: Progress = SILENT
) -> tuple[PredictionStore, list[FoldResult]]:
    competition, store = tiny_competition(folder)
    work_dir = folder / "work" / "trainers"
    return store, train_models(competition, store, models, (0, 1), work_dir, engine=engine, progress=progress)


def workers_of(pid: int | None = None) -> list[psutil.Process]:
    """Return the processes that a process started, except multiprocessing's helpers, which end with it."""
    return [
        child
        for child in psutil.Process(pid).children(recursive=True)
        if child.status() != "zombie" and child.parent() != psutil.Process(pid)
    ]


def test_two_workers_give_the_predictions_of_one_process(tmp_path: Path) -> None:
    alone, _ = train(tmp_path / "alone", MODELS, engine=train_here)
    notes = NotesWithEnds()
    store, results = train(
        tmp_path / "two", MODELS, engine=functools.partial(train_in_workers, workers=2), progress=notes
    )
    assert [(result.model, result.fold, result.skipped) for result in results] == [
        ("tiny", 0, False), ("tiny", 1, False), ("baseline", 0, False), ("baseline", 1, False),
    ]  # fmt: skip
    for name in MODELS:
        assert stored_bytes(store, name) == stored_bytes(alone, name)
    assert {"worker 1: tiny fold 0", "worker 2: tiny fold 1"} <= set(notes.titles)
    assert 2 * notes.titles.count("end") == len(notes.titles)
    assert sum("AUC" in line for line in notes.lines) == 4
    assert not workers_of()
    _, again = train(tmp_path / "two", MODELS, engine=functools.partial(train_in_workers, workers=1))
    assert all(result.skipped for result in again)


def test_the_last_fold_of_an_odd_number_has_all_processors(tmp_path: Path) -> None:
    tiny_competition(tmp_path, k=3)
    toml = tmp_path / "dfens.toml"
    toml.write_text(toml.read_text().replace("k = 2", "k = 3"))
    folder = tmp_path / "work" / "trainers" / "tiny"
    subprocess.run(
        [sys.executable, "-m", "dfens", "-C", str(tmp_path), "train", "--workers", "2", "--fold", "0-2"],
        check=True,
        env={key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"},
        capture_output=True,
    )
    threads = [read_json(folder / f"fold{fold}" / "history.json")["threads"] for fold in range(3)]
    assert threads == [max(1, cpu_count() // 2), max(1, cpu_count() // 2), cpu_count()]


def test_a_process_with_more_processors_for_the_last_fold_keeps_its_images(tmp_path: Path) -> None:
    competition, store = tiny_competition(tmp_path, k=3)
    notes, work_dir = Notes(), tmp_path / "work" / "trainers"
    engine = functools.partial(train_in_workers, workers=2)
    train_models(competition, store, {"tiny": TINY}, (0, 1, 2), work_dir, engine=engine, progress=notes)
    decoded = [title for title in notes.titles if title.endswith("decode at 32 px")]
    assert sorted(decoded) == ["worker 1: decode at 32 px", "worker 2: decode at 32 px"]


@pytest.mark.parametrize(("given", "expected"), [(None, ["1", "2", "1"]), ("1", ["1", "1", "1"])])
def test_more_threads_later_are_still_limited_by_the_user(given: str | None, expected: list[str]) -> None:
    code = (
        "import os\nimport numpy\nfrom threadpoolctl import threadpool_info\n"
        "from trainers.runtime.threads import limit_threads\n"
        "for count in (1, 2, 1):\n"
        "    limit_threads(count)\n"
        "    print(os.environ['OMP_NUM_THREADS'])\n"
        "    assert {str(pool['num_threads']) for pool in threadpool_info()} == {os.environ['OMP_NUM_THREADS']}\n"
    )
    env = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    env |= {} if given is None else {"OMP_NUM_THREADS": given}
    run = subprocess.run([sys.executable, "-c", code], check=True, env=env, capture_output=True, text=True)
    assert run.stdout.split() == expected


@pytest.mark.parametrize(
    ("models", "workers", "cpus", "driver", "trained", "expected"),
    [
        (MODELS, None, 2, False, False, True),
        (MODELS, None, 1, False, False, False),
        (MODELS, None, 2, True, False, False),  # with a GPU the default is one process
        (MODELS, 2, 1, True, False, True),
        (MODELS, 1, 2, False, False, False),
        ({"baseline": LinearSettings()}, None, 2, False, False, False),
        ({"baseline": LinearSettings()}, None, 2, False, True, False),
        ({"baseline": LinearSettings()}, 2, 2, False, False, True),
        ({"baseline": LinearSettings()}, 2, 2, False, True, False),
    ],
)
def test_libraries_of_workers_load_early_if_there_will_be_workers(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    models: dict[str, ModelSettings],
    workers: int | None,
    cpus: int,
    driver: bool,
    trained: bool,
    expected: bool,
) -> None:
    competition, store = tiny_competition(tmp_path)
    work_dir = tmp_path / "work" / "trainers"
    if trained:
        train_models(competition, store, models, (0, 1), work_dir)
    started: list[TrainingJob] = []
    monkeypatch.setattr(side_by_side, "load_libraries_early", started.append)
    monkeypatch.setattr(side_by_side, "cpu_count", lambda: cpus)
    (tmp_path / "driver").touch()
    monkeypatch.setattr(side_by_side, "_GPU_DRIVERS", (tmp_path / ("driver" if driver else "none"),))
    side_by_side.start_early(TrainingJob(competition, store.root, models, work_dir), (0, 1), workers)
    assert bool(started) == expected


def test_ctrl_c_does_not_reach_the_server_that_loads_libraries(tmp_path: Path) -> None:
    code = (
        "import signal, sys\nfrom multiprocessing import forkserver\nfrom pathlib import Path\n"
        "from trainers.jobs import multiprocess\n"
        "class Job:\n    models = {}\n"
        "multiprocess.load_libraries_early(Job)\n"
        "status = Path('/proc', str(forkserver._forkserver._forkserver_pid), 'status').read_text()\n"
        "ignored = int(status.split('SigIgn:')[1].split()[0], 16)\n"
        "print(bool(ignored >> signal.SIGINT - 1 & 1), signal.getsignal(signal.SIGINT).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "default_int_handler"]


class KillAtFirstStep(Notes):
    """Kill the process that trains fold 1 of `tiny`."""

    def task(self, title: str, total: float | None = None, unit: str = "") -> "Notes":
        if title.endswith("tiny fold 1"):
            (victim,) = (child for child in workers_of() if child.pid == self.pid_of(title))
            victim.kill()
        return super().task(title, total, unit)

    def pid_of(self, title: str) -> int:
        (pid,) = (child.pid for child in multiprocessing.active_children() if title.startswith(f"{child.name}:"))
        assert pid is not None
        return pid


def test_failed_folds_are_reported_once_the_others_are_done(tmp_path: Path) -> None:
    undisturbed, _ = train(tmp_path / "undisturbed", {"tiny": TINY})
    engine = functools.partial(train_in_workers, workers=2)
    models: dict[str, ModelSettings] = {
        **MODELS,
        "wrong": dataclasses.replace(TINY, backbone_options={"depht": 3}, refit=True),
    }
    store, _ = train(tmp_path / "killed", MODELS, engine=lambda job, folds, progress: [])
    # passed to the engine directly, since the trial before training would refuse the broken model
    work = tmp_path / "killed" / "work" / "trainers"
    job = TrainingJob(tiny_competition(tmp_path / "killed")[0], store.root, models, work)
    with pytest.raises(TrainingError) as caught:
        engine(job, (0, 1), KillAtFirstStep())
    message = str(caught.value)
    assert "3 of the tasks failed; 3 of 6 trainings are done" in message
    assert "tiny fold 1: its process was killed by signal 9 (SIGKILL)" in message
    assert "wrong fold 0, wrong fold 1: 'test_resnet' cannot be made with backbone_options" in message
    assert "The refit of 'wrong' follows its folds." in message
    assert not workers_of()
    store, results = train(tmp_path / "killed", MODELS, engine=engine)
    assert [result.skipped for result in results] == [True, False, True, True]
    assert stored_bytes(store, "tiny") == stored_bytes(undisturbed, "tiny")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_of_a_stopped_command_save_and_stop(tmp_path: Path, number: signal.Signals) -> None:
    tiny_competition(tmp_path, train_rows=400)
    toml = tmp_path / "dfens.toml"
    toml.write_text(toml.read_text().replace("epochs = 3", "epochs = 3000").replace("batch_size = 8", "batch_size = 2"))
    states = [tmp_path / "work" / "trainers" / "tiny" / f"fold{fold}" / "state.pt" for fold in (0, 1)]
    for _ in range(5):  # a stop may coincide with the end of an epoch (100 steps), where a state is saved anyway
        stop_while_training(tmp_path, states, number)
        if all(saved_position(state)[1] > 0 for state in states):
            return
    pytest.fail("no stop saved a state within an epoch")


def stop_while_training(folder: Path, states: list[Path], number: signal.Signals) -> None:
    """Stop a command with two workers once both have saved their state, and check how it ends."""
    before = [saved_position(state) for state in states]
    log = folder / "log"
    with log.open("w") as output:
        command = subprocess.Popen(
            [sys.executable, "-m", "dfens", "-C", str(folder), "train", "--workers", "2"],
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    with ended(command):
        wait_for(lambda: all(saved_position(state) > old for state, old in zip(states, before, strict=True)))
        children = psutil.Process(command.pid).children(recursive=True)
        if number == signal.SIGKILL:
            command.kill()
        else:  # like a terminal or a scheduler
            os.killpg(command.pid, number)
        code = command.wait(1200)
        wait_for(lambda: not any(child.is_running() for child in children))
    text = log.read_text()
    assert code == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[number], text
    assert "Traceback" not in text
    if number != signal.SIGKILL:
        assert "un the same command again to resume" in text


@contextlib.contextmanager
def ended(command: "subprocess.Popen[bytes]") -> Iterator[None]:
    """End all processes of a command, even if the block fails."""
    found: dict[int, psutil.Process] = {}

    def look() -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.update((child.pid, child) for child in psutil.Process(command.pid).children(recursive=True))

    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.5):  # the children of a dead command can no longer be found
            look()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        look()
        command.kill()
        command.wait()
        for child in found.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


def wait_for(condition: Callable[[], bool], seconds: float = 240) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


def test_progress_of_another_process_is_displayed() -> None:
    notes, sent = NotesWithEnds(), list[Message]()
    display, forwarder = ProgressDisplay(notes), ProgressForwarder(sent.append)
    with forwarder.task("decode", total=3, unit="image") as task:
        for _ in range(3):
            task.advance(1, loss="0.1")
    forwarder.note("done")
    forwarder.task("left open")
    for message in sent:
        display.show("worker 1", message)
    assert [message[0] for message in sent] == ["begin", "advance", "end", "note", "begin"]
    assert sent[1][2:] == (3, {"loss": "0.1"})
    assert notes.lines == ["done"]
    display.clear("worker 1")
    assert notes.titles == ["worker 1: decode", "end", "worker 1: left open", "end"]
