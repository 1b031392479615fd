"""Steps that are not finite are skipped; many of them restore a good state at a smaller learning rate."""

import dataclasses
import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from oof.errors import TrainingError
from oof.files import read_json
from tests.support.training import TINY, Notes, train_tiny
from trainers.kinds.training.fold_trainer import FoldTrainer
from trainers.kinds.training.train_state import TrainState
from trainers.runtime import checkpoint


@pytest.fixture
def bad_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Steps (counted over the run from 0) whose images become NaN; filled in by the test."""
    steps: list[int] = []
    step = FoldTrainer._step
    calls = 0

    def spoil(self: FoldTrainer, images: Tensor, rows: object) -> None:
        nonlocal calls
        if calls in steps:
            images = images.float() * np.nan
        calls += 1
        step(self, images, rows)  # type: ignore[arg-type]

    monkeypatch.setattr(FoldTrainer, "_step", spoil)
    return steps


LONG = dataclasses.replace(TINY, epochs=8)  # 2 steps each


def test_a_step_with_a_non_finite_loss_is_skipped_and_reported(tmp_path: Path, bad_steps: list[int]) -> None:
    bad_steps += [3]
    notes = Notes()
    train_tiny(tmp_path, LONG, (0,), progress=notes)
    assert "1 steps up to step 2 of epoch 2 had a non-finite loss or gradient and were skipped" in notes.lines[0]
    history = read_json(tmp_path / "work" / "trainers" / "tiny" / "fold0" / "history.json")
    assert (history["steps_skipped"], history["returns_to_good_state"]) == (1, 0)
    assert np.isfinite(history["loss"]).all()


def test_many_bad_steps_in_a_row_restore_a_good_state(tmp_path: Path, bad_steps: list[int]) -> None:
    bad_steps += range(4, 9)
    notes = Notes()
    train_tiny(tmp_path, LONG, (0,), progress=notes)
    assert any("back to epoch 3, step 0, with 0.5 times the learning rate" in line for line in notes.lines)
    history = read_json(tmp_path / "work" / "trainers" / "tiny" / "fold0" / "history.json")
    assert (history["steps_skipped"], history["returns_to_good_state"]) == (5, 1)
    assert len(history["loss"]) == 8


def test_a_good_state_is_restored_even_if_files_cannot_be_linked(
    tmp_path: Path, bad_steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("trainers.runtime.checkpoint.os.link", refused)
    test_many_bad_steps_in_a_row_restore_a_good_state(tmp_path, bad_steps)


class Kill(Exception):
    """Simulates a kill."""


def test_divergence_in_the_last_step_of_an_epoch_restores_a_good_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch ends with a prediction, which must not use non-finite weights; the run can then be resumed."""
    step, calls = FoldTrainer._step, 0

    def diverging(self: FoldTrainer, images: Tensor, rows: object) -> None:
        nonlocal calls
        step(self, images, rows)  # type: ignore[arg-type]
        calls += 1
        if calls == 4:  # the second of two steps in the second epoch
            with torch.no_grad():
                next(self.model.parameters()).fill_(np.inf)
        if calls == 5:
            raise Kill

    monkeypatch.setattr(FoldTrainer, "_step", diverging)
    with pytest.raises(Kill):
        train_tiny(tmp_path, LONG, (0,))
    folder = tmp_path / "work" / "trainers" / "tiny" / "fold0"
    state = checkpoint.load(folder / "state.pt")
    assert (state["epoch"], state["step"], state["rate_factor"]) == (1, 0, 0.5)
    assert all(torch.isfinite(value).all() for value in state["averaged"])
    notes = Notes()
    train_tiny(tmp_path, LONG, (0,), progress=notes)
    history = read_json(folder / "history.json")
    assert (history["returns_to_good_state"], len(history["auc"])) == (1, 8)
    assert np.isfinite(history["loss"]).all()


def test_non_finite_predictions_restore_a_good_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finite weights can overflow on rows that they were not trained on."""
    predict, calls = FoldTrainer.predict, 0

    def overflowing(self: FoldTrainer, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        return predict(self, **options) * (np.nan if calls == 2 else 1)

    monkeypatch.setattr(FoldTrainer, "predict", overflowing)
    notes = Notes()
    train_tiny(tmp_path, LONG, (0,), progress=notes)
    assert (
        "predictions of held-out rows are not finite; back to epoch 2, step 0, with 0.5 times the learning rate"
        in notes.lines[0]
    )


def test_a_non_finite_gradient_is_skipped_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    update, calls = TrainState._update, 0

    def spoiling(self: TrainState, loss: Tensor) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:  # the last step of the second epoch; the loss is finite
            gradient = next(value.grad for value in self.model.parameters() if value.grad is not None)
            gradient.fill_(np.nan)
        update(self, loss)

    monkeypatch.setattr(TrainState, "_update", spoiling)
    notes = Notes()
    train_tiny(tmp_path, LONG, (0,), progress=notes)
    assert "1 steps up to step 2 of epoch 2 had a non-finite loss or gradient and were skipped" in notes.lines[0]
    history = read_json(tmp_path / "work" / "trainers" / "tiny" / "fold0" / "history.json")
    assert (history["steps_skipped"], history["returns_to_good_state"]) == (1, 0)


def test_a_loss_that_stays_nan_stops_with_advice(tmp_path: Path, bad_steps: list[int]) -> None:
    bad_steps += range(1000)
    with pytest.raises(TrainingError, match=r"also after 3 returns to a good state at smaller rates. Lower lr"):
        train_tiny(tmp_path, LONG)
