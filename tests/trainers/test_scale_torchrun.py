"""One fold trained by two processes (gloo) has the weights of one process with two micro-batches in each step."""

import dataclasses
import multiprocessing
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dfens.cli import cli
from oof.errors import TrainingError
from oof.files import read_json
from oof.progress import SILENT
from oof.store import PredictionStore
from tests.support.training import DATA_TOML, TINY, tiny_competition, train_models
from trainers.jobs.job import TrainingJob
from trainers.jobs.torchrun import train_with_torchrun
from trainers.kinds.registry import implementation_modules
from trainers.kinds.timm.settings import TimmSettings
from trainers.runtime.process_group import ProcessGroup

pytestmark = pytest.mark.slow  # starts processes that train together

EPOCHS = 30
# only layer norm: statistics of batch norm are separate in each process
SETTINGS = dataclasses.replace(TINY, backbone="test_vit", epochs=EPOCHS, lr=1e-3, checkpoint="best")
TOML = (
    DATA_TOML
    + """
[models.vit]
backbone = "test_vit"
pretrained = false
image_size = 32
epochs = 30
batch_size = 8
lr = 1e-3
checkpoint = "best"
jpeg = 0.3
blur = 0.3

[models.parts]
backbone = "test_vit"
pretrained = false
image_size = 32
epochs = 10
batch_size = 8
accumulate = 2
lr = 1e-3
jpeg = 0.3
blur = 0.3

[models.baseline]
kind = "linear"
"""
)


def run_rank(rank: int, port: int, folder: str) -> None:
    """Run `dfens train` as one of two processes of torchrun."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    os.dup2(os.open(f"{folder}/log{rank}", os.O_WRONLY | os.O_CREAT), 2)
    cli(["-C", folder, "train", "--fold", "0"])


def stop_after_the_first_save(folder: Path, state: Path) -> list[int | None]:
    """Start two processes, stop one of them, and return both exit codes."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    context = multiprocessing.get_context("forkserver")  # loads the libraries once
    context.set_forkserver_preload(implementation_modules(["timm", "linear"]))
    team = [context.Process(target=run_rank, args=(rank, port, str(folder)), daemon=True) for rank in range(2)]
    for process in team:
        process.start()
    limit = time.monotonic() + 200
    while not state.exists() and all(process.is_alive() for process in team) and time.monotonic() < limit:
        time.sleep(0.02)
    team[1].terminate()
    for process in team:
        process.join(200)
        if process.exitcode is None:  # the test fails, and leaves no process running
            process.kill()
            process.join()
    return [process.exitcode for process in team]


def torchrun(folder: Path) -> str:
    """Run `dfens train` with torchrun and return its output."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "dfens"]
    done = subprocess.run(
        [*command, "-C", str(folder), "train", "--fold", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def alone(folder: Path, settings: TimmSettings) -> tuple[PredictionStore, Path]:
    """Train fold 0 in this process with one thread, as torchrun's processes do."""
    competition, store = tiny_competition(folder)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    train_models(competition, store, {"vit": settings}, (0,), folder / "work" / "trainers")
    torch.set_num_threads(threads)
    return store, folder / "work" / "trainers" / "vit" / "fold0"


def test_two_processes_train_one_fold_even_if_stopped_once(tmp_path: Path) -> None:
    _, store = tiny_competition(tmp_path / "team")
    (tmp_path / "team" / "dfens.toml").write_text(TOML)
    folder = tmp_path / "team" / "work" / "trainers" / "vit" / "fold0"
    assert stop_after_the_first_save(tmp_path / "team", folder / "state.pt") == [143, 143]
    logs = [(tmp_path / "team" / f"log{rank}").read_text() for rank in range(2)]
    assert "Stopped by SIGTERM; everything is saved" in logs[0]
    assert not logs[1]
    done = torch.load(folder / "state.pt", weights_only=True)["epoch"]
    assert 1 <= done < EPOCHS
    assert torchrun(tmp_path / "team").count("AUC on the held-out rows") == 1
    history = read_json(folder / "history.json")
    assert history["processes"] == 2

    # halves of a step in two processes or one after the other: the sums are identical to the last bit
    parts_store, parts = alone(tmp_path / "parts", dataclasses.replace(SETTINGS, accumulate=2))
    for name, weights in load_file(parts / "weights.safetensors").items():
        assert torch.equal(load_file(folder / "weights.safetensors")[name], weights), name
    assert history["loss"] == read_json(parts / "history.json")["loss"]
    inside = store.folds.rows(0)
    np.testing.assert_allclose(store.load("vit").oof[inside], parts_store.load("vit").oof[inside], rtol=1e-5)
    vit_test, parts_test = store.load("vit").test, parts_store.load("vit").test
    assert vit_test is not None
    assert parts_test is not None
    np.testing.assert_allclose(vit_test, parts_test, rtol=1e-5)

    # a step in one part adds in a different order
    whole_store, _ = alone(tmp_path / "whole", SETTINGS)
    np.testing.assert_allclose(store.load("vit").oof[inside], whole_store.load("vit").oof[inside], rtol=0.02)
    four_store, _ = alone(tmp_path / "four", dataclasses.replace(SETTINGS, epochs=10, checkpoint="last", accumulate=4))
    np.testing.assert_allclose(store.load("parts").oof[inside], four_store.load("vit").oof[inside], rtol=0.02)
    assert store.has("baseline", "oof", 0)


def test_a_batch_that_cannot_be_split_evenly_is_refused(tmp_path: Path) -> None:
    competition, store = tiny_competition(tmp_path)
    job = TrainingJob(competition, store.root, {"tiny": dataclasses.replace(TINY, batch_size=9)}, tmp_path)
    with pytest.raises(TrainingError, match="batch_size = 9 rows cannot be split evenly among 2 processes"):
        train_with_torchrun(job, (0,), SILENT, rank=0, size=2, local_rank=0, local_size=2)


@pytest.mark.parametrize(("count", "unit", "size"), [(20, 8, 2), (0, 8, 2), (5, 8, 3), (64, 8, 3), (7, 1, 2)])
def test_shares_consist_of_full_batches_and_cover_all_rows(count: int, unit: int, size: int) -> None:
    rows = np.arange(count)
    shares = [rows[ProcessGroup(rank, size).share(count, unit)] for rank in range(size)]
    assert np.array_equal(np.concatenate(shares), rows)
    ends = np.cumsum([len(share) for share in shares])
    assert all(end % unit == 0 or end == count for end in ends)
