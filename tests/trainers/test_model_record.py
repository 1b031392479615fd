"""The record of a model's settings, and models that are replaced by others of the same name."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from oof import files
from oof.errors import StoreError, TrainingError
from oof.folds import make_folds
from oof.progress import SILENT
from oof.store import PredictionStore
from tests.support.edits import edit_json
from tests.support.training import TINY, Notes, stored_bytes, tiny_competition, train_models
from trainers.jobs.model_record import RECORD, check_settings_unchanged
from trainers.jobs.run import run_job
from trainers.jobs.runner import FoldRunner
from trainers.kinds.base import WEIGHTS_FILE
from trainers.kinds.linear.settings import LinearSettings
from trainers.kinds.records import read_history, read_record
from trainers.kinds.training.fold_trainer import FoldTrainer
from trainers.train import TrainingJob, train_here

OLD, NEW = LinearSettings(image_size=8), LinearSettings(image_size=12)
predict = FoldTrainer.predict


def dies_after_training(self: FoldTrainer, **options: Any) -> Any:
    """Predict each epoch, and raise KeyboardInterrupt after the last one, as if killed."""
    if options["tta"]:
        raise KeyboardInterrupt
    return predict(self, **options)


@pytest.mark.parametrize("moves", [0, 1])
def test_a_killed_replacement_never_passes_old_predictions_off_as_new(
    moves: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    competition, store = tiny_competition(tmp_path)
    work, move, moved = tmp_path / "work" / "trainers", files.move, list[Path]()
    train_models(competition, store, {"fresh": NEW}, (0, 1), work)
    train_models(competition, store, {"m": OLD}, (0, 1), work)
    assert stored_bytes(store, "m") != stored_bytes(store, "fresh")

    def move_or_die(path: Path, target: Path) -> None:
        if len(moved) == moves:
            raise KeyboardInterrupt  # as if killed: nothing that would catch an error runs
        move(path, target)
        moved.append(path)

    monkeypatch.setattr(files, "move", move_or_die)
    with pytest.raises(KeyboardInterrupt):
        train_models(competition, store, {"m": NEW}, (0, 1), work, force=True)
    monkeypatch.setattr(files, "move", move)
    train_models(competition, store, {"m": NEW}, (0, 1), work, force=True)
    assert stored_bytes(store, "m") == stored_bytes(store, "fresh")


def test_stored_predictions_of_a_model_whose_folder_is_gone_keep_their_settings(tmp_path: Path) -> None:
    competition, store = tiny_competition(tmp_path)
    work = tmp_path / "work" / "trainers"
    train_models(competition, store, {"m": OLD}, (0, 1), work)
    before = stored_bytes(store, "m")
    shutil.rmtree(work / "m")
    with pytest.raises(TrainingError, match="trained with other settings; changed: image_size 8 to 12"):
        train_models(competition, store, {"m": NEW}, (0, 1), work)
    train_models(competition, store, {"m": OLD}, (0, 1), work)
    assert stored_bytes(store, "m") == before
    shutil.rmtree(work / "m")
    train_models(competition, store, {"m": NEW}, (0, 1), work, force=True)
    assert stored_bytes(store, "m") != before


def test_a_job_for_folds_that_were_replaced_is_refused_before_it_trains(tmp_path: Path) -> None:
    """Its models are recorded with the old folds; with fewer folds, its last one would be the refit on all rows."""
    competition, store = tiny_competition(tmp_path, k=3)
    work = tmp_path / "work" / "trainers"
    made_for = store.folds.fingerprint
    train = competition.train
    store.save_folds(make_folds(train["id"].to_numpy(object), train["target"].to_numpy(), k=2, seed=0), force=True)
    job = TrainingJob(competition, store.root, {"m": OLD}, work, folds=made_for)
    with pytest.raises(TrainingError, match="The folds were replaced by another process"):
        run_job(job, (0, 1, 2))
    with pytest.raises(TrainingError, match="The folds were replaced by another process"):
        train_here(job, (0, 1, 2), SILENT)
    assert store.names() == []


def test_settings_are_not_recorded_with_folds_that_were_replaced(tmp_path: Path) -> None:
    """The next run would refuse to train, since it would take the folds for a change of a trained model."""
    competition, store = tiny_competition(tmp_path)
    runner = FoldRunner(TrainingJob(competition, store.root, {"m": OLD}, tmp_path / "work" / "trainers"))
    context, folds = runner.context("m"), runner.store.folds
    store.save_folds(make_folds(folds.ids, folds.target, k=2, seed=7), force=True)
    with pytest.raises(StoreError, match="The folds were replaced by another process"):
        check_settings_unchanged(context, runner.store, force=False, progress=SILENT)
    assert not (context.folder / RECORD).exists()


def test_the_state_of_a_training_on_other_rows_is_not_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that goes on after its folder was archived leaves one, whose weights have seen the held-out rows."""
    competition, store = tiny_competition(tmp_path)
    work, notes = tmp_path / "work" / "trainers", Notes()
    train_models(competition, store, {"fresh": TINY}, (0, 1), work)
    ids, target = competition.train["id"].to_numpy(object), competition.train["target"].to_numpy()
    own = PredictionStore(tmp_path / "own")
    own.save_folds(make_folds(ids, target, k=2, seed=7))
    own.save_test_ids(store.test_ids)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(FoldTrainer, "predict", dies_after_training)
        train_models(competition, own, {"m": TINY}, (0, 1), work)
    (work / "m" / RECORD).unlink()
    train_models(competition, store, {"m": TINY}, (0, 1), work, progress=notes)
    assert "m fold 0: the state of a training on other rows is not used" in notes.lines
    assert stored_bytes(store, "m") == stored_bytes(store, "fresh")


def test_the_state_of_a_training_with_other_settings_is_not_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copied by hand: its rows are the same, and its weights may even fit."""
    competition, store = tiny_competition(tmp_path)
    work, notes = tmp_path / "work" / "trainers", Notes()
    train_models(competition, store, {"fresh": TINY}, (0,), work)
    others = {
        "fast": (dataclasses.replace(TINY, lr=1e-2), r"(lr 0.01 to 0.003)"),
        "vit": (dataclasses.replace(TINY, backbone="test_vit"), "(backbone 'test_vit' to 'test_resnet')"),
    }
    with monkeypatch.context() as patch:
        patch.setattr(FoldTrainer, "predict", dies_after_training)
        for name, (settings, _) in others.items():
            with pytest.raises(KeyboardInterrupt):
                train_models(competition, store, {name: settings}, (0,), work)
    for name, (_, changed) in others.items():
        (work / f"m-{name}" / "fold0").mkdir(parents=True)
        (work / name / "fold0" / "state.pt").rename(work / f"m-{name}" / "fold0" / "state.pt")
        train_models(competition, store, {f"m-{name}": TINY}, (0,), work, progress=notes)
        text = f"m-{name} fold 0: the state of a training with other settings {changed} is not used"
        assert text in notes.lines
        assert stored_bytes(store, f"m-{name}") == stored_bytes(store, "fresh")


@pytest.mark.parametrize("exchanged", ["weights", "folders", "models"])
def test_exchanged_weights_are_named(tmp_path: Path, exchanged: str) -> None:
    """Weights of another fold have seen the held-out rows, and would predict them almost perfectly."""
    competition, store = tiny_competition(tmp_path)
    work = tmp_path / "work" / "trainers"
    models = {"m": TINY, "other": dataclasses.replace(TINY, lr=1e-2)}
    train_models(competition, store, models, (0, 1), work)
    fold0, fold1, tta = work / "m" / "fold0", work / "m" / "fold1", dataclasses.replace(TINY, tta="none")
    weights, other = fold0 / WEIGHTS_FILE, work / "other" / "fold0" / WEIGHTS_FILE
    if exchanged == "folders":
        fold0.rename(tmp_path / "fold")
        fold1.rename(fold0)
        (tmp_path / "fold").rename(fold1)
    elif exchanged == "weights":
        shutil.copy(fold1 / WEIGHTS_FILE, weights)
    else:
        shutil.copy(other, weights)
    what = "history.json" if exchanged == "folders" else WEIGHTS_FILE
    with pytest.raises(StoreError, match=rf"m/fold0/{what} belongs to another training"):
        train_models(competition, store, {"m": tta}, (0, 1), work)


def test_weights_of_earlier_versions_are_read(tmp_path: Path) -> None:
    competition, store = tiny_competition(tmp_path)
    work = tmp_path / "work" / "trainers"
    train_models(competition, store, {"m": TINY}, (0, 1), work)
    for fold in ("fold0", "fold1"):
        path = work / "m" / fold / "history.json"
        history = json.loads(path.read_text())
        path.write_text(json.dumps({key: history[key] for key in history.keys() - {"fold", "weights"}}))
    train_models(competition, store, {"m": dataclasses.replace(TINY, tta="none")}, (0, 1), work)
    assert store.summary("m").complete


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("settings", 3),
        ("folds", None),
        ("loss", "0.5"),
        ("auc", [0.5, 0.6]),
        ("epoch", 1.5),
        ("seconds", True),
        ("data", []),
    ],
)
def test_a_value_of_another_type_in_a_history_is_named(tmp_path: Path, key: str, value: object) -> None:
    path = tmp_path / "history.json"
    files.write_json(
        path, {"loss": [0.7, 0.6, 0.5], "auc": [0.5, 0.6, 0.7], "epoch": 3, "seconds": 2, "data": {"files": 4}}
    )
    assert (read_history(path) or {})["epoch"] == 3
    edit_json(path, [key], value)
    with pytest.raises(StoreError, match=r"history.json is damaged \(.*\): it was edited by hand. Restore it, or move"):
        read_history(path)


@pytest.mark.parametrize(("key", "value"), [("settings", []), ("folds", 3), ("data", {}), ("pseudo_labels", "b")])
def test_a_value_of_another_type_in_a_record_of_settings_is_named(tmp_path: Path, key: str, value: object) -> None:
    path = tmp_path / RECORD
    assert read_record(path) is None
    files.write_json(path, {"settings": {"kind": "linear"}, "folds": "f", "data": "d"})
    assert read_record(path)
    edit_json(path, [key], value)
    with pytest.raises(StoreError, match=rf"{RECORD} is damaged \({key}"):
        read_record(path)
