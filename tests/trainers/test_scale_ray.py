"""A Ray cluster of two nodes: same predictions as one process, even if a node is killed while it trains."""

import dataclasses
import functools
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from dfens.cli import cli
from oof.errors import TrainingError
from oof.progress import SILENT, Progress
from tests.support.ray_cluster import ray_cluster
from tests.support.training import TINY, Notes, saved_position, stored_bytes, tiny_competition, train_models
from trainers.jobs.job import TrainingJob
from trainers.jobs.ray_cluster import _Needs, train_on_ray
from trainers.kinds.base import ModelSettings
from trainers.kinds.linear.settings import LinearSettings
from trainers.runtime.signals import Stopped

pytestmark = pytest.mark.slow  # starts Ray clusters

ray = pytest.importorskip("ray")

MODELS: dict[str, ModelSettings] = {"tiny": dataclasses.replace(TINY, epochs=20), "baseline": LinearSettings()}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with ray_cluster() as found:
        yield found


def train(folder: Path, address: str, progress: Progress = SILENT, rows: int = 40, **models: ModelSettings) -> bytes:
    competition, store = tiny_competition(folder, train_rows=rows)
    train_models(
        competition, store, models or MODELS, (0, 1), folder / "work" / "trainers",
        engine=functools.partial(train_on_ray, address=address), progress=progress,
    )  # fmt: skip
    return b"".join(stored_bytes(store, name) for name in models or MODELS)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The predictions of one process."""
    folder = tmp_path_factory.mktemp("undisturbed")
    competition, store = tiny_competition(folder)
    train_models(competition, store, MODELS, (0, 1), folder / "work" / "trainers")
    return b"".join(stored_bytes(store, name) for name in MODELS)


def test_killing_a_node_does_not_change_the_predictions(tmp_path: Path, cluster: Any, undisturbed: bytes) -> None:
    node = cluster.add_node(num_cpus=1)
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    notes = Notes()

    def started_folds() -> list[str]:
        """Return the folds that processes of the node have started to train."""
        pids = {child.pid for child in raylet.children(recursive=True)}
        found = [re.fullmatch(r".* \((\d+)\): tiny fold (\d)", title) for title in notes.titles]
        return [f"fold{match[2]}" for match in found if match and int(match[1]) in pids]

    def kill_when_it_has_saved() -> None:
        limit = time.monotonic() + 1000
        folder = tmp_path / "work" / "trainers" / "tiny"
        while time.monotonic() < limit and not any((folder / fold / "state.pt").exists() for fold in started_folds()):
            time.sleep(0.02)
        cluster.remove_node(node, allow_graceful=False)

    killer = threading.Thread(target=kill_when_it_has_saved)
    killer.start()
    assert train(tmp_path, cluster.address, notes) == undisturbed
    killer.join()
    assert sum("is gone; resuming on" in line for line in notes.lines) == 1, notes.lines


def test_seeds_and_a_refit_are_those_of_one_process(tmp_path: Path, cluster: Any) -> None:
    settings = dataclasses.replace(TINY, seeds=2, refit=True)
    competition, store = tiny_competition(tmp_path / "alone")
    train_models(competition, store, {"m": settings}, (0, 1), tmp_path / "alone" / "work" / "trainers")
    assert store.summary("m").seeds == 2
    assert store.summary("m").refit_weight == 0.5
    assert train(tmp_path / "ray", cluster.address, m=settings) == stored_bytes(store, "m")


def test_failures_are_reported_and_other_tasks_continue(tmp_path: Path, cluster: Any) -> None:
    models: dict[str, ModelSettings] = {
        "wrong": dataclasses.replace(TINY, backbone_options={"depht": 3}),
        "baseline": LinearSettings(),
    }
    competition, store = tiny_competition(tmp_path)
    work = tmp_path / "work" / "trainers"
    train_models(
        competition, store, {"baseline": models["baseline"]}, (0, 1), work, engine=lambda job, folds, progress: []
    )
    # passed to the engine directly, since the trial before training would refuse the broken model
    with pytest.raises(TrainingError) as caught:
        train_on_ray(TrainingJob(competition, store.root, models, work), (0, 1), SILENT, address=cluster.address)
    message = str(caught.value)
    assert "2 of the tasks failed; 2 of 4 trainings are done" in message
    assert "wrong fold 0, wrong fold 1: 'test_resnet' cannot be made with backbone_options" in message


def test_tasks_save_when_the_command_is_stopped(tmp_path: Path, cluster: Any) -> None:
    folder = tmp_path / "work" / "trainers" / "tiny"
    long = dataclasses.replace(TINY, epochs=2000, batch_size=2)
    for _ in range(5):  # a stop may coincide with the end of an epoch (100 steps), where a state is saved anyway
        stop_while_training(tmp_path, folder, cluster.address, tiny=long)
        saved = [saved_position(state)[1] for state in folder.glob("fold*/state.pt")]
        if saved and all(saved):
            return
    pytest.fail("no stop saved a state within an epoch")


def stop_while_training(root: Path, folder: Path, address: str, **models: ModelSettings) -> None:
    """Stop once a task has saved its state."""
    before = {fold: saved_position(folder / fold / "state.pt") for fold in ("fold0", "fold1")}

    def stop() -> None:
        limit = time.monotonic() + 1000
        while time.monotonic() < limit and all(
            saved_position(folder / fold / "state.pt") <= position for fold, position in before.items()
        ):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(Stopped):
        train(root, address, rows=400, **models)  # type: ignore[arg-type]
    stopper.join()


def test_each_task_releases_its_gpu(tmp_path: Path, cluster: Any) -> None:
    """A process keeps its GPU memory until it ends, so each task on a GPU has a process that ends with it.

    Ray accepts the declared GPU of a node without checking; the networks train on the CPU.
    """
    node = cluster.add_node(num_cpus=1, num_gpus=1)
    try:
        notes = Notes()
        short = dataclasses.replace(TINY, epochs=1)
        train(tmp_path, cluster.address, notes, tiny=short, other=dataclasses.replace(short, seed=1))
    finally:
        cluster.remove_node(node)
    titles = [
        match
        for title in notes.titles
        if (match := re.fullmatch(r".* \((\d+)\): (.* fold \d|.*predict test.*)", title))
    ]
    pids: dict[str, set[str]] = {}
    for match in titles:
        pids.setdefault(match[1], set()).add(match[2].split(" by ")[0])
    assert len(pids) == 6, notes.titles  # two folds and the test rows of two models
    assert all(len(tasks) == 1 for tasks in pids.values()), pids


def test_an_unreachable_address_is_reported() -> None:
    with pytest.raises(TrainingError, match=r"No Ray cluster responds at 127.0.0.1:1 .*ray start --head --port=1"):
        train_on_ray(None, (), SILENT, address="127.0.0.1:1")  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="is not HOST:PORT"):
        train_on_ray(None, (), SILENT, address="ray://somewhere:10001")  # type: ignore[arg-type]


def test_a_missing_ray_package_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(TrainingError, match=r"pip install 'dfens\[ray\]'"):
        train_on_ray(None, (), SILENT)  # type: ignore[arg-type]


def test_incompatible_options_are_refused(tmp_path: Path) -> None:
    tiny_competition(tmp_path)
    for options, message in (
        (["--address", "h:1"], "--address needs --on ray"),
        (["--share", "s3://bucket/team"], "--share needs --on ray"),
        (["--on", "ray", "--workers", "2"], "--workers is for a single machine"),
    ):
        result = CliRunner().invoke(cli, ["-C", str(tmp_path), "train", *options])
        assert result.exit_code == 2
        assert message in result.output


@pytest.mark.parametrize(
    ("machines", "share"),
    [
        ([{"CPU": 64, "GPU": 4}, {"CPU": 32, "GPU": 4}, {"CPU": 8}], (8, 1, 8)),
        ([{"CPU": 16}, {"CPU": 8}], (8, 0, 2)),
        ([{"memory": 1}, {"CPU": 2}], (2, 0, 1)),
        ([{"CPU": 2, "GPU": 4}], (1, 1, 2)),
    ],
)
def test_a_task_requests_its_share_of_a_gpu_or_a_machine(
    machines: list[dict[str, float]], share: tuple[int, ...]
) -> None:
    assert dataclasses.astuple(_Needs.of(machines)) == share
