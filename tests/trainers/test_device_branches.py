"""The CUDA branches of a fold, run on CPU tensors, give the same numbers as the CPU branches."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tests.support.devices import AUGMENTED, EDGE, fake_cuda, part_of, picture_rows, settings
from trainers.augment.pipeline import start_on_host
from trainers.kinds.timm import fold as timm_fold
from trainers.kinds.timm.fold import ImageFoldData
from trainers.kinds.timm.predict import Predictor
from trainers.kinds.timm.settings import TimmSettings
from trainers.kinds.training.fold_trainer import FoldTrainer, TrainedFold
from trainers.kinds.training.train_state import TrainState
from trainers.media.image_store import Subset
from trainers.networks.backbone import create_model
from trainers.runtime.device import set_up


def train(chosen: TimmSettings, rows: Subset, folder: Path, device: torch.device) -> TrainedFold:
    """Train on three quarters of the rows; the last quarter is held out."""
    count = len(rows.ids)
    train, held_out = part_of(rows, np.arange(count * 3 // 4)), part_of(rows, np.arange(count * 3 // 4, count))
    table = pd.DataFrame({"id": held_out.ids, "target": held_out.target})
    data = ImageFoldData(chosen, train, table, lambda asked: held_out, seed=0, device=device)
    return FoldTrainer(chosen, 0, data, folder / "state.pt", device).run()


@pytest.mark.parametrize("changes", [
    {},
    {"hflip": 0.5, "translate": 0.5, "color_jitter": 0.5, "grid_cutout": 0.3},
    {"accumulate": 2, "grad_clip": 1.0, "ema": 0.9},
    {"self_blend": 0.3, "face_cutout": 0.3, "webp": 0.3, "randaugment": 1},
    {"mixup": 0.4, "cutmix": 0.4, "inputs": ("rgb", "srm")},
])  # fmt: skip
def test_a_fold_on_cuda_gives_the_numbers_of_the_cpu(
    changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = picture_rows(tmp_path, 48)
    chosen = settings(**changes)
    expected = train(chosen, rows, tmp_path / "cpu", torch.device("cpu"))
    found = train(chosen, rows, tmp_path / "cuda", fake_cuda(monkeypatch))
    np.testing.assert_allclose(found.oof, expected.oof, atol=1e-5, rtol=0)
    assert found.history.loss == pytest.approx(expected.history.loss, abs=1e-5)


def test_a_fold_with_all_augmentations_trains_on_cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = picture_rows(tmp_path, 48, size=72)
    chosen = settings(webp=0.2, randaugment=1, crop=72, **AUGMENTED)
    outcome = train(chosen, rows, tmp_path, fake_cuda(monkeypatch))
    assert np.isfinite(outcome.oof).all()
    assert outcome.history.skipped == 0


@pytest.mark.parametrize("processes", [0, 2])
def test_the_host_starts_the_augmentation_where_images_are_decoded(
    processes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows, colours, WebP and RandAugment of single images would block the thread that trains."""
    monkeypatch.setattr(timm_fold, "process_count", lambda *arguments: processes)
    threads: list[str] = []

    def noted(*arguments: Any) -> Any:
        threads.append(threading.current_thread().name)
        return start_on_host(*arguments)

    monkeypatch.setattr(timm_fold, "start_on_host", noted)
    rows = picture_rows(tmp_path, 12)
    chosen, held_out = settings(webp=0.5, hflip=0.5), pd.DataFrame({"id": [], "target": []})
    device, every = fake_cuda(monkeypatch), [np.arange(12)]
    there = ImageFoldData(chosen, rows, held_out, lambda table: rows, seed=0, device=device)
    (images,) = there.batches(0, every)
    there.close()
    assert len(threads) == (12 if processes == 0 else 0)
    assert all(name.startswith("decode") for name in threads)
    here = ImageFoldData(chosen, rows, held_out, lambda table: rows, seed=0, device=torch.device("cpu"))
    (expected,) = here.batches(0, every)
    assert isinstance(images, torch.Tensor)
    assert isinstance(expected, torch.Tensor)
    np.testing.assert_array_equal(images.numpy(), expected.numpy())


def make_state(device: torch.device) -> None:
    TrainState(settings(), create_model(settings(), EDGE), device, lambda batch, weights, rng: (batch, weights))


def make_predictor(device: torch.device) -> None:
    Predictor(settings(), [create_model(settings(), EDGE)], device)


@pytest.mark.parametrize("use", [set_up, make_state, make_predictor])
def test_float32_on_cuda_is_not_tf32(use: Callable[[torch.device], None], monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    try:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
        use(torch.device("cpu"))
        assert torch.backends.cudnn.allow_tf32
        use(fake_cuda(monkeypatch))
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
