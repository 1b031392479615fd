"""A batch that does not fit into memory is reported, or split if its size is chosen automatically."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from oof.errors import TrainingError
from oof.files import read_json
from tests.support.devices import AUGMENTED, fake_cuda, picture_rows, settings
from tests.support.training import TINY, train_tiny
from trainers.augment.pipeline import augment_batch
from trainers.jobs.tasks import reason_of
from trainers.kinds.timm import fold as timm_fold
from trainers.kinds.timm.fold import ImageFoldData
from trainers.kinds.training.fold_trainer import FoldTrainer
from trainers.kinds.training.train_state import TrainState
from trainers.runtime.process_group import ProcessGroup

CPU = torch.device("cpu")


def out_of_memory(most: int) -> Callable[..., None]:
    """Return a TrainState.step that runs out of memory with more than `most` images in one part."""
    step = TrainState.step

    def fitting(self: TrainState, images: Tensor, *values: Any, **options: Any) -> None:
        if len(images) / self.parts > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        step(self, images, *values, **options)

    return fitting


def test_insufficient_memory_is_reported_with_the_settings_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainState, "step", out_of_memory(4))
    with pytest.raises(TrainingError, match=r'8 images of 32 px in 1 parts do not fit .* Set batch_size = "auto"'):
        train_tiny(tmp_path)


def test_processes_that_train_together_do_not_retry_in_smaller_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other processes would wait forever."""
    monkeypatch.setattr(TrainState, "step", out_of_memory(1))
    rows, settings = picture_rows(tmp_path, 8, size=32), dataclasses.replace(TINY, batch_size="auto")
    data = ImageFoldData(settings, rows, pd.DataFrame(), lambda table: rows, seed=0, device=CPU)
    trainer = FoldTrainer(settings, 0, data, tmp_path / "state.pt", CPU)
    trainer.group = ProcessGroup(0, 2)
    with pytest.raises(TrainingError, match="do not fit into the memory of cpu"):
        trainer._step(torch.zeros(8, 32, 32, 3, dtype=torch.uint8), np.arange(8))


def test_an_automatic_batch_is_split_until_its_parts_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrainState, "step", out_of_memory(6))
    train_tiny(tmp_path, dataclasses.replace(TINY, batch_size="auto"), (0,))
    history = read_json(tmp_path / "work" / "trainers" / "tiny" / "fold0" / "history.json")
    assert history["parts_of_a_step"] == 4  # 20 images in parts of 5


def augmented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the batches of 10 images, augmented as on CUDA."""
    rows, chosen = picture_rows(tmp_path, 10), settings(**AUGMENTED)
    data = ImageFoldData(chosen, rows, pd.DataFrame(), lambda table: rows, seed=0, device=fake_cuda(monkeypatch))
    return list(data.batches(0, [np.arange(8), np.arange(8, 10)]))


def at_most(most: int) -> Callable[..., Any]:
    """Return an augmentation for which more than so many images at once do not fit."""

    def fitting(images: Any, params: Any, size: int) -> Any:
        if len(images) > most:
            raise RuntimeError("CUDA error: out of memory")
        return augment_batch(images, params, size)

    return fitting


def test_a_batch_is_augmented_in_parts_that_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = augmented(tmp_path, monkeypatch)
    monkeypatch.setattr(timm_fold, "augment_batch", at_most(3))
    for found, whole in zip(augmented(tmp_path, monkeypatch), expected, strict=True):
        assert torch.equal(found, whole)
    monkeypatch.setattr(timm_fold, "augment_batch", at_most(0))
    with pytest.raises(TrainingError, match="One image of 64 px cannot be augmented in the free memory"):
        augmented(tmp_path, monkeypatch)


@pytest.mark.parametrize("error", [
    MemoryError("Unable to allocate 439. MiB"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    MemoryError(),
])  # fmt: skip
def test_a_task_that_exceeds_the_memory_is_reported_without_a_traceback(error: Exception) -> None:
    reason = reason_of(error)
    assert reason.startswith(f"The memory of this machine is full ({str(error) or 'no details'}). Set smaller inputs")
    assert "Traceback" not in reason
