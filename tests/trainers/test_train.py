"""Training is bit-reproducible, also after interruptions; finished folds are skipped; settings are recorded by name."""

import dataclasses
import errno
import functools
import itertools
import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from oof.errors import DfensError, StoreError, TrainingError
from oof.files import read_json
from oof.ids import text_fingerprint
from tests.support.training import TINY, Notes, stored_bytes, tiny_competition, train_models, train_tiny
from trainers.kinds.base import RUNNING_FILES
from trainers.kinds.timm.predict import Predictor
from trainers.kinds.training.fold_trainer import FoldTrainer
from trainers.networks.weights import load_fold_weights, save_fold_weights
from trainers.runtime import checkpoint
from trainers.runtime.device import EnergyMeter
from trainers.runtime.signals import Stopped


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The predictions of an undisturbed run."""
    return train_tiny(tmp_path_factory.mktemp("undisturbed"))


def test_the_same_seed_gives_the_same_bits(undisturbed: bytes, tmp_path: Path) -> None:
    assert train_tiny(tmp_path / "again") == undisturbed
    assert train_tiny(tmp_path / "other", dataclasses.replace(TINY, seed=1)) != undisturbed


def test_stored_files_and_predictions(tmp_path: Path) -> None:
    competition, store = tiny_competition(tmp_path)
    results = train_models(competition, store, {"tiny": TINY}, (0, 1), tmp_path / "work" / "trainers")
    summary = store.summary("tiny")
    assert summary.complete
    assert summary.kind == "timm"
    model = store.load("tiny")
    assert model.details["settings"]["backbone"] == "test_resnet"
    assert ((model.oof > 0) & (model.oof < 1)).all()
    assert [result.skipped for result in results] == [False, False]
    folder = tmp_path / "work" / "trainers" / "tiny" / "fold0"
    assert sorted(path.name for path in folder.iterdir() if path.name[0] != ".") == [
        "history.json",
        "weights.safetensors",
    ]


def test_the_history_has_the_documented_keys(tmp_path: Path) -> None:
    train_tiny(tmp_path, dataclasses.replace(TINY, epochs=1), (0,))
    history = read_json(tmp_path / "work" / "trainers" / "tiny" / "fold0" / "history.json")
    text = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()
    table = text[text.index("`history.json`, version 1:") : text.index("The history of a `linear` model")]
    keys = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    listed = {key for cell in keys for key in re.findall(r"`(\w+)`", cell)}
    assert set(history) - listed == {"version"}
    assert listed - {"pseudo_labels"} <= set(history)
    assert history["timm_model"] == "test_resnet"


def test_finished_folds_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = train_tiny(tmp_path)
    monkeypatch.setattr(FoldTrainer, "run", None)  # would fail if it were called
    competition, store = tiny_competition(tmp_path)
    results = train_models(competition, store, {"tiny": TINY}, (0, 1), tmp_path / "work" / "trainers")
    assert [result.skipped for result in results] == [True, True]
    assert stored_bytes(store, "tiny") == before


def test_the_state_of_a_finished_fold_is_removed_after_a_kill_at_its_end(tmp_path: Path) -> None:
    """It takes several times the size of the weights, and weights beside it count as unfinished."""
    before = train_tiny(tmp_path)
    folder = tmp_path / "work" / "trainers" / "tiny" / "fold0"
    for name in RUNNING_FILES:
        (folder / name).touch()
    assert train_tiny(tmp_path) == before
    assert not any((folder / name).exists() for name in RUNNING_FILES)


def test_an_interrupted_epoch_resumes_where_it_stopped(
    undisturbed: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = FoldTrainer._step
    calls = 0

    def interrupt(self: FoldTrainer, *batch: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            os.kill(os.getpid(), signal.SIGINT)
        step(self, *batch)  # type: ignore[arg-type]

    monkeypatch.setattr(FoldTrainer, "_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_tiny(tmp_path)
    assert calls == 4
    assert (tmp_path / "work" / "trainers" / "tiny" / "fold0" / "state.pt").exists()
    assert train_tiny(tmp_path) == undisturbed
    assert calls == 2 * 2 * 2  # folds x epochs x steps, none of them twice


def test_a_stop_is_noticed_during_validation(
    undisturbed: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On large sets, validation takes longer than the grace period of a preempted machine."""
    predict, calls = Predictor._batch, 0

    def interrupt(self: Predictor, images: Tensor, tta: bool) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return predict(self, images, tta)

    monkeypatch.setattr(Predictor, "_batch", interrupt)
    with pytest.raises(Stopped):
        train_tiny(tmp_path)
    assert calls < 3  # 20 rows are three batches; the second is already in progress when the first is done
    assert train_tiny(tmp_path) == undisturbed


def test_time_and_energy_of_all_runs_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr("trainers.kinds.training.fold_trainer.time.monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(EnergyMeter, "joules", property(lambda self: 10.0))
    step, calls = FoldTrainer._step, 0

    def interrupt(self: FoldTrainer, *batch: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            os.kill(os.getpid(), signal.SIGINT)
        step(self, *batch)  # type: ignore[arg-type]

    monkeypatch.setattr(FoldTrainer, "_step", interrupt)
    folder = tmp_path / "work" / "trainers" / "tiny" / "fold0"
    with pytest.raises(KeyboardInterrupt):
        train_tiny(tmp_path, folds=(0,))
    before = checkpoint.load(folder / "state.pt")["history"]["seconds"]
    assert before > 0
    train_tiny(tmp_path, folds=(0,))
    history = read_json(folder / "history.json")
    assert history["seconds"] > before
    assert history["energy_joules"] == 20


def test_each_fold_has_a_peak_of_memory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allocated, step = 0, FoldTrainer._step

    def reset(device: torch.device) -> None:
        nonlocal allocated
        allocated = 0

    def allocating(self: FoldTrainer, *batch: object) -> None:
        nonlocal allocated
        allocated += 1
        step(self, *batch)  # type: ignore[arg-type]

    monkeypatch.setattr("trainers.kinds.training.outcome.reset_peak", reset)
    monkeypatch.setattr("trainers.kinds.training.outcome.peak_memory", lambda device: {"device": allocated})
    monkeypatch.setattr(FoldTrainer, "_step", allocating)
    train_tiny(tmp_path, dataclasses.replace(TINY, epochs=1))
    folder = tmp_path / "work" / "trainers" / "tiny"
    histories = [read_json(folder / fold / "history.json") for fold in ("fold0", "fold1")]
    assert [history["peak_memory_bytes"]["device"] for history in histories] == [2, 2]


@pytest.mark.parametrize(("seconds_of_a_save", "saves"), [(0.0, 9), (30.0, 1)])
def test_saving_takes_a_small_part_of_the_time_even_on_slow_disks(
    seconds_of_a_save: float, saves: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 10 steps of 100 s in an epoch, quick saves follow each step; a save of 30 s is due after 600 s."""
    now, step, save, made = 0.0, FoldTrainer._step, checkpoint.save, 0

    def slow_step(self: FoldTrainer, *batch: object) -> None:
        nonlocal now
        now += 100
        step(self, *batch)  # type: ignore[arg-type]

    def slow_save(path: Path, state: dict[str, Any]) -> None:
        nonlocal now, made
        now += seconds_of_a_save
        made += state["epoch"] == 1 and state["step"] < 10
        save(path, state)

    monkeypatch.setattr("trainers.kinds.training.fold_trainer.time.monotonic", lambda: now)
    monkeypatch.setattr(FoldTrainer, "_step", slow_step)
    monkeypatch.setattr(checkpoint, "save", slow_save)
    train_tiny(tmp_path, dataclasses.replace(TINY, batch_size=2, epochs=2), (0,))
    assert made == saves + 1  # one at the end of the first epoch


def test_networks_with_tied_weights_are_saved(tmp_path: Path) -> None:
    settings = dataclasses.replace(TINY, backbone="coat_lite_tiny", epochs=1, batch_size=20)
    stored = np.frombuffer(train_tiny(tmp_path, settings, (0,)), np.float32)
    assert np.isfinite(stored[-8:]).all()  # test rows, predicted with the reloaded weights


def test_changed_settings_under_an_old_name_are_refused(tmp_path: Path) -> None:
    before = train_tiny(tmp_path)
    other = dataclasses.replace(TINY, epochs=1)
    with pytest.raises(TrainingError, match="'tiny' was trained with other settings; changed: epochs 2 to 1"):
        train_tiny(tmp_path, other)
    assert train_tiny(tmp_path, other, force=True) != before
    archives = [tmp_path / "work" / folder / "archive" for folder in ("trainers", "oof")]
    assert all(any(path.name.endswith("-tiny") for path in archive.iterdir()) for archive in archives)


def test_changed_row_weights_under_an_old_name_are_refused(tmp_path: Path) -> None:
    competition, store = tiny_competition(tmp_path)
    weight, work_dir = np.arange(1.0, len(competition.train) + 1), tmp_path / "work" / "trainers"
    settings = dataclasses.replace(TINY, epochs=1, weight_column="weight")

    def train(weight: NDArray[Any], fold: int, *, backwards: bool = False) -> None:
        rows = competition.train.assign(weight=weight.astype(str))
        changed = dataclasses.replace(competition, train=rows.iloc[::-1] if backwards else rows)
        train_models(changed, store, {"tiny": settings}, [fold], work_dir)

    train(weight, 0)
    with pytest.raises(TrainingError, match="other settings; changed: the values of weight_column or pair_column"):
        train(weight[::-1], 1)
    train(weight.astype(int), 1, backwards=True)  # the same weights, written as 1 instead of 1.0
    assert store.summary("tiny").complete


def test_originals_in_another_spelling_are_not_a_change(tmp_path: Path) -> None:
    competition, store = tiny_competition(tmp_path)
    settings = dataclasses.replace(TINY, epochs=1, pair_mix=0.5, pair_column="made_from")
    ids, is_fake = competition.train["id"], competition.train["target"] == 1
    reals = ids[~is_fake].to_numpy()
    real = pd.Series(np.resize(reals, len(ids)), ids.index)

    def train(column: "pd.Series[str]", fold: int) -> None:
        changed = dataclasses.replace(competition, train=competition.train.assign(made_from=column))
        train_models(changed, store, {"tiny": settings}, [fold], tmp_path / "work" / "trainers")

    train(real.where(is_fake, ""), 0)
    record = tmp_path / "work" / "trainers" / "tiny" / "settings.json"
    fingerprint = json.loads(record.read_text())["columns"]
    other = real.map(lambda id_: f"./Real/{id_.upper()}")  # also for reals, which have no original
    with pytest.raises(TrainingError, match="changed: the values of weight_column or pair_column"):
        train(other.where(ids != ids[is_fake].iloc[0], reals[-1]), 1)
    train(other, 1)
    assert json.loads(record.read_text())["columns"] == fingerprint
    assert store.summary("tiny").complete


def test_a_record_with_originals_as_they_were_spelled_is_still_valid(tmp_path: Path) -> None:
    competition, store = tiny_competition(tmp_path)
    settings = dataclasses.replace(TINY, epochs=1, pair_mix=0.5, pair_column="made_from")
    ids, is_fake = competition.train["id"], competition.train["target"] == 1
    spelled = pd.Series(np.resize(ids[~is_fake].str.upper().to_numpy(), len(ids)), ids.index).where(is_fake, "")
    rows = dataclasses.replace(competition, train=competition.train.assign(made_from=spelled))
    work_dir = tmp_path / "work" / "trainers"
    train_models(rows, store, {"tiny": settings}, [0], work_dir)
    record = json.loads((work_dir / "tiny" / "settings.json").read_text())
    texts = [f"pair_column\t{id_}\t{text}" for id_, text in zip(ids, spelled, strict=True)]
    record["columns"] = text_fingerprint(sorted(texts))
    (work_dir / "tiny" / "settings.json").write_text(json.dumps(record))
    train_models(rows, store, {"tiny": settings}, [1], work_dir)
    assert store.summary("tiny").complete


def test_the_score_of_the_best_epoch_is_reported_as_optimistic(tmp_path: Path) -> None:
    competition, store = tiny_competition(tmp_path)
    notes = Notes()
    settings = dataclasses.replace(TINY, checkpoint="best", epochs=3)
    (result,) = train_models(
        competition, store, {"tiny": settings}, (0,), tmp_path / "work" / "trainers", progress=notes
    )
    assert result.optimistic
    assert 1 <= result.epoch <= 3
    assert "slightly optimistic" in notes.lines[0]


def test_a_model_above_max_parameters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"parameters; the competition allows 1,000"):
        train_tiny(tmp_path, max_parameters=1000)


def test_a_full_disk_is_reported_and_the_run_can_be_resumed(
    undisturbed: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("torch.save", full)
        with pytest.raises(DfensError, match="The disk is full"):
            train_tiny(tmp_path)
    assert train_tiny(tmp_path) == undisturbed


def test_a_broken_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "work" / "trainers" / "tiny" / "fold0" / "state.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half")
    with pytest.raises(StoreError, match=r"state\.pt cannot be read .* Move it away"):
        train_tiny(tmp_path)


@pytest.mark.parametrize("damage", ["changed bits", "a list", "a tensor"])
def test_a_checkpoint_with_other_values_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "state.pt"
    checkpoint.save(path, {"w": torch.arange(5000.0)})
    assert checkpoint.load(path)["w"].tolist() == list(range(5000))
    if damage == "changed bits":
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 64
        path.write_bytes(data)
    else:
        torch.save([1] if damage == "a list" else torch.zeros(3), path)
    with pytest.raises(StoreError, match=r"state\.pt cannot be read .* Move it away; the fold then restarts"):
        checkpoint.load(path)


def test_changed_bits_of_weights_are_named(tmp_path: Path) -> None:
    network, path = (
        torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)),
        tmp_path / "weights.safetensors",
    )
    save_fold_weights(network.state_dict(), path)
    load_fold_weights(network, path)
    load_fold_weights(network[0], path, "0.")
    data = bytearray(path.read_bytes())
    data[-5] ^= 64
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"its checksums do not match.*dfens train then trains the fold again"):
        load_fold_weights(network, path)
    save_file(network.state_dict(), path)  # as earlier versions did
    load_fold_weights(network, path)


@pytest.mark.parametrize(("error", "raised", "message"), [
    (PermissionError(errno.EACCES, "Permission denied"), StoreError, "may be intact: give this user permission"),
    (OSError(errno.EIO, "Input/output error"), StoreError, "may be intact: check the disk"),
    (MemoryError("no memory"), MemoryError, "no memory"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory"), RuntimeError, "can't allocate"),
])  # fmt: skip
def test_no_error_of_the_machine_advises_to_remove_a_training(
    error: Exception, raised: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("torch.load", failing)
    monkeypatch.setattr("trainers.networks.weights.load_file", failing)
    readers: tuple[Callable[[Path], object], ...] = (
        checkpoint.load,
        functools.partial(load_fold_weights, torch.nn.Linear(1, 1)),
    )
    for read in readers:
        with pytest.raises(raised, match=message):
            read(tmp_path / "file")


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "work" / "trainers" / "tiny" / "fold0" / "state.pt"
    path.parent.mkdir(parents=True)
    torch.save({"version": 99}, path)
    with pytest.raises(StoreError, match=r"state\.pt has format version 99; this dfens reads 1\. Move it away"):
        train_tiny(tmp_path)


def test_a_misspelt_backbone_is_reported_before_any_model_is_trained(tmp_path: Path) -> None:
    competition, store = tiny_competition(tmp_path)
    models = {"tiny": TINY, "other": dataclasses.replace(TINY, backbone="test_resnett")}
    with pytest.raises(TrainingError, match=r"'test_resnett' is not a model of timm .* Nearest: test_resnet"):
        train_models(competition, store, models, (0,), tmp_path / "work" / "trainers")
    assert not (tmp_path / "work" / "trainers" / "tiny").exists()
