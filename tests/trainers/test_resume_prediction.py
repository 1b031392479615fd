"""Prediction without retraining: test predictions resume, and other views use the stored weights."""

import dataclasses
import functools
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from oof.errors import StoreError, TrainingError
from oof.files import file_lock, read_json, write_json
from oof.store import PredictionStore
from tests.support.toy_kind import ToyKind, ToySettings, _ToyModels
from tests.support.training import TINY, Notes, tiny_competition, train_models, train_tiny
from trainers.jobs import test_predictions
from trainers.kinds.base import FoldOutcome, ModelContext, Probabilities
from trainers.kinds.timm.kind import TimmKind
from trainers.kinds.training.fold_trainer import FoldTrainer


def test_test_predictions_resume_at_the_last_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = train_tiny(tmp_path / "undisturbed", ToySettings())
    monkeypatch.setattr(test_predictions, "_SAVE_EVERY_S", -1.0)  # one part for each batch
    predict = _ToyModels.predict
    asked: list[int] = []

    def killed(self: _ToyModels, rows: pd.DataFrame) -> Iterator[Probabilities]:
        asked.append(len(rows))
        for number, batch in enumerate(predict(self, rows)):
            if number == 2 and len(asked) == 1:
                raise MemoryError  # leaves only files, like a kill
            yield batch

    monkeypatch.setattr(_ToyModels, "predict", killed)
    with pytest.raises(MemoryError):
        train_tiny(tmp_path / "killed", ToySettings())
    folder = tmp_path / "killed" / "work" / "trainers" / "tiny"
    assert sorted(path.name for path in folder.glob("test-*/*")) == ["0of1.0.npy", "0of1.3.npy"]
    next(folder.glob("test-*/0of1.3.npy")).write_bytes(b"half")
    assert train_tiny(tmp_path / "killed", ToySettings()) == expected
    assert asked == [8, 5]  # of 8 rows, 3 were predicted before
    assert not list(folder.glob("test-*"))


def test_parts_of_test_rows_in_another_order_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample submission sorted anew between a kill and the next run has the same ids."""
    train_tiny(tmp_path / "undisturbed", ToySettings())
    expected = PredictionStore(tmp_path / "undisturbed" / "work" / "oof").load("tiny").test
    monkeypatch.setattr(test_predictions, "_SAVE_EVERY_S", -1.0)
    competition, store = tiny_competition(tmp_path / "killed")
    models, work_dir = {"tiny": ToySettings()}, tmp_path / "killed" / "work" / "trainers"
    predict = _ToyModels.predict

    def killed(self: _ToyModels, rows: pd.DataFrame) -> Iterator[Probabilities]:
        for number, batch in enumerate(predict(self, rows)):
            if number == 2:
                raise MemoryError
            yield batch

    monkeypatch.setattr(_ToyModels, "predict", killed)
    with pytest.raises(MemoryError):
        train_models(competition, store, models, [0, 1], work_dir)
    monkeypatch.setattr(_ToyModels, "predict", predict)
    competition = dataclasses.replace(competition, test=competition.test.iloc[::-1].reset_index(drop=True))
    store.save_test_ids(store.test_ids[::-1])
    train_models(competition, store, models, [0, 1], work_dir)
    found = store.load("tiny").test
    assert found is not None
    assert expected is not None
    assert len(set(expected)) > 3
    np.testing.assert_array_equal(found[::-1], expected)


def test_a_stop_request_keeps_finished_predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predict = _ToyModels.predict

    def stopped(self: _ToyModels, rows: pd.DataFrame) -> Iterator[Probabilities]:
        for batch in predict(self, rows):
            os.kill(os.getpid(), signal.SIGINT)
            yield batch

    monkeypatch.setattr(_ToyModels, "predict", stopped)
    with pytest.raises(KeyboardInterrupt):
        train_tiny(tmp_path, ToySettings())
    (part,) = (tmp_path / "work" / "trainers" / "tiny").glob("test-*/*")
    assert np.load(part).shape == (2, 3)


def test_other_views_are_predicted_without_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one_epoch = dataclasses.replace(TINY, epochs=1, tta="none")
    flipped = dataclasses.replace(one_epoch, tta="hflip")
    expected = train_tiny(tmp_path / "other", flipped)
    before = train_tiny(tmp_path / "here", one_epoch)
    assert before != expected
    monkeypatch.setattr(FoldTrainer, "run", None)  # would fail if it were called
    notes = Notes()
    assert train_tiny(tmp_path / "here", flipped, progress=notes) == expected
    assert "tiny: tta 'none' to 'hflip'; predicting again with the stored weights" in notes.lines[0]
    assert train_tiny(tmp_path / "here", one_epoch) == before
    with pytest.raises(TrainingError, match="was trained with other settings; changed: lr 0.003 to 0.1"):
        train_tiny(tmp_path / "here", dataclasses.replace(flipped, lr=0.1))


def test_broken_weights_are_named_with_a_remedy_that_works(tmp_path: Path) -> None:
    one_epoch = dataclasses.replace(TINY, epochs=1)
    expected = train_tiny(tmp_path, one_epoch)
    weights = tmp_path / "work" / "trainers" / "tiny" / "fold1" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    for part in (tmp_path / "work" / "oof" / "models" / "tiny").glob("test*"):
        part.unlink()
    with pytest.raises(StoreError, match=r"fold1/weights\.safetensors cannot be read \(.*\)\. Remove this file"):
        train_tiny(tmp_path, one_epoch)
    weights.unlink()
    assert train_tiny(tmp_path, one_epoch) == expected


def test_probabilities_that_float32_makes_equal_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def overconfident(self: TimmKind, context: ModelContext[Any], fold: int) -> FoldOutcome:
        target = context.folds.target[context.folds.fold == fold]
        return FoldOutcome(oof=1 - 1e-9 * (2 - target), test=np.full(len(context.test), 0.5))

    monkeypatch.setattr(TimmKind, "train_fold", overconfident)
    competition, store = tiny_competition(tmp_path)
    notes = Notes()
    (result,) = train_models(competition, store, {"tiny": TINY}, (0,), tmp_path / "work" / "trainers", progress=notes)
    assert result.auc == 0.5
    expected = "tiny fold 0: predictions are stored as float32, .* AUC 1.000000 becomes 0.500000"
    assert any(re.match(expected, line) for line in notes.lines)


def test_images_that_changed_between_folds_are_detected(tmp_path: Path) -> None:
    competition, store = tiny_competition(tmp_path)
    work = tmp_path / "work" / "trainers"
    train_models(competition, store, {"tiny": ToySettings()}, (0,), work)
    for path in competition.train["path"]:
        data = bytearray(Path(path).read_bytes())
        data[-20] ^= 1  # the file keeps its size
        Path(path).write_bytes(bytes(data))
    with pytest.raises(TrainingError, match="changed: the files of the training rows"):
        train_models(competition, store, {"tiny": ToySettings()}, (1,), work)
    train_models(competition, store, {"tiny": ToySettings()}, (0, 1), work, force=True)


def test_weights_of_other_folds_do_not_predict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may have been trained on the rows that they would predict."""
    expected = train_tiny(tmp_path, ToySettings())
    work, store = tmp_path / "work" / "trainers", PredictionStore(tmp_path / "work" / "oof")
    store.archive("tiny")
    history = work / "tiny" / "fold1" / "history.json"
    write_json(history, read_json(history) | {"folds": "0" * 32})
    trained: list[int] = []
    train_fold = ToyKind.train_fold

    def counted(self: ToyKind, context: ModelContext[Any], fold: int) -> FoldOutcome:
        trained.append(fold)
        return train_fold(self, context, fold)

    monkeypatch.setattr(ToyKind, "train_fold", counted)
    assert train_tiny(tmp_path, ToySettings()) == expected
    assert trained == [1]


def test_force_does_not_touch_a_model_that_is_being_trained(tmp_path: Path) -> None:
    competition, store = tiny_competition(tmp_path)
    work = tmp_path / "work" / "trainers"
    train_models(competition, store, {"tiny": ToySettings()}, (0,), work)
    other = {"tiny": ToySettings(steps=3)}
    with (
        file_lock(work / "tiny" / "fold1" / ".lock"),
        pytest.raises(TrainingError, match="Another process is training 'tiny'"),
    ):
        train_models(competition, store, other, (0,), work, force=True)
    assert read_json(work / "tiny" / "settings.json")["settings"]["steps"] == 20


def test_a_fold_of_a_replaced_model_is_not_stored(tmp_path: Path) -> None:
    competition, store = tiny_competition(tmp_path)
    work = tmp_path / "work" / "trainers"

    def replaced(*arguments: Any, engine: Any) -> Any:
        record = read_json(work / "tiny" / "settings.json")
        write_json(work / "tiny" / "settings.json", record | {"settings": record["settings"] | {"steps": 7}})
        return engine(*arguments)

    from trainers.train import train_here

    with pytest.raises(TrainingError, match="'tiny' was replaced while this process trained it"):
        train_models(
            competition,
            store,
            {"tiny": ToySettings()},
            (0,),
            work,
            engine=functools.partial(replaced, engine=train_here),
        )
    assert not store.has("tiny", "oof", 0)
