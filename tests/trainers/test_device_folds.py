"""Complete folds on every device: training, resuming, out of memory, prediction, several processes, commands."""

import dataclasses
import functools
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

import dfens
from oof.errors import TrainingError
from oof.files import read_json
from oof.metrics import roc_auc
from oof.metrics.intervals import score_interval
from tests.support.devices import AUGMENTED, DEVICES, part_of, picture_rows, settings
from tests.support.training import TINY, Notes, tiny_competition, train_models
from trainers.jobs.multiprocess import train_in_workers
from trainers.kinds.timm.fold import ImageFoldData
from trainers.kinds.timm.predict import Predictor
from trainers.kinds.timm.settings import TimmSettings
from trainers.kinds.training.fold_trainer import FoldTrainer, TrainedFold
from trainers.media.image_store import Subset
from trainers.media.loader import Loader, batch_plan
from trainers.networks.backbone import create_model
from trainers.runtime.settings import Precision


def fold_trainer(
    chosen: TimmSettings, rows: Subset, folder: Path, device: str | torch.device, notes: Notes | None = None
) -> FoldTrainer:
    """Return a trainer on three quarters of the rows, with the last quarter held out."""
    count = len(rows.ids)
    train, held_out = part_of(rows, np.arange(count * 3 // 4)), part_of(rows, np.arange(count * 3 // 4, count))
    table = pd.DataFrame({"id": held_out.ids, "target": held_out.target})

    def images_of(asked: pd.DataFrame) -> Subset:
        return part_of(held_out, np.flatnonzero(table["id"].isin(asked["id"])))

    where = torch.device(device) if type(device) is str else cast("torch.device", device)  # not that of fake_cuda
    data = ImageFoldData(chosen, train, table, images_of, seed=0, device=where)
    return FoldTrainer(chosen, 0, data, folder / "state.pt", where, progress=notes or Notes())


def train(chosen: TimmSettings, rows: Subset, folder: Path, device: str) -> TrainedFold:
    return fold_trainer(chosen, rows, folder, device).run()


def predicted(predictor: Predictor, rows: Subset) -> NDArray[np.float64]:
    return np.concatenate(list(predictor.subset(rows, 2)), axis=1)


@pytest.mark.parametrize("device", DEVICES)
def test_a_fold_learns(device: str, tmp_path: Path) -> None:
    rows = picture_rows(tmp_path, 96)
    chosen = settings(epochs=6, ema=0.0, hflip=0.5, tta="hflip", precision="auto")
    outcome = train(chosen, rows, tmp_path, device)
    assert roc_auc(rows.target[72:], outcome.oof) > 0.9
    assert outcome.history.skipped == 0


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("device", DEVICES)
def test_16_bits_score_within_the_interval_of_float32(device: str, precision: Precision, tmp_path: Path) -> None:
    """On a CPU, autocast keeps float32 weights as on CUDA; benchmarks/precision.py uses more rows.

    The images are small, since many CPUs emulate float16.
    """
    rows = picture_rows(tmp_path, 160, size=32)
    chosen = settings(image_size=32, epochs=4, ema=0.0)
    exact = train(chosen, rows, tmp_path / "exact", device)
    rough = train(dataclasses.replace(chosen, precision=precision), rows, tmp_path / "rough", device)
    target = rows.target[120:]
    interval = score_interval("auc", target, exact.oof)
    assert interval.score > 0.7
    assert interval.low <= roc_auc(target, rough.oof) <= interval.high
    assert not np.array_equal(rough.oof, exact.oof)


@pytest.mark.gpu
def test_every_augmentation_on_the_device_learns(tmp_path: Path) -> None:
    rows = picture_rows(tmp_path, 96, size=72)
    chosen = settings(epochs=8, ema=0.0, precision="auto", webp=0.2, randaugment=1, crop=72, **AUGMENTED)
    outcome = train(chosen, rows, tmp_path, "cuda")
    assert roc_auc(rows.target[72:], outcome.oof) > 0.8
    assert outcome.history.skipped == 0


@pytest.mark.gpu
def test_self_blending_mixing_and_side_channels_run_on_the_device(tmp_path: Path) -> None:
    rows = picture_rows(tmp_path, 64)
    chosen = settings(self_blend=0.3, mixup=0.4, cutmix=0.4, inputs=("rgb", "srm", "dct", "phase", "ycbcr"))
    outcome = train(chosen, rows, tmp_path, "cuda")
    assert np.isfinite(outcome.oof).all()


@pytest.mark.parametrize("device", DEVICES)
def test_an_interrupted_fold_ends_like_an_undisturbed_one(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit-identical on a CPU; OOF probabilities within 1e-4 on CUDA with deterministic convolutions."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    rows = picture_rows(tmp_path, 64)
    chosen = settings(**AUGMENTED)
    undisturbed = train(chosen, rows, tmp_path / "undisturbed", device)
    step, calls = FoldTrainer._step, 0

    def interrupt(self: FoldTrainer, *batch: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            os.kill(os.getpid(), signal.SIGINT)
        step(self, *batch)  # type: ignore[arg-type]

    monkeypatch.setattr(FoldTrainer, "_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(chosen, rows, tmp_path / "cut", device)
    resumed = train(chosen, rows, tmp_path / "cut", device)
    assert calls == 6
    np.testing.assert_allclose(resumed.oof, undisturbed.oof, atol=0 if device == "cpu" else 1e-4, rtol=0)
    assert resumed.history.loss == pytest.approx(undisturbed.history.loss, rel=1e-4)


@pytest.mark.gpu
def test_a_step_that_exceeds_the_memory_is_split_into_parts(tmp_path: Path) -> None:
    rows, notes = picture_rows(tmp_path, 96, size=224), Notes()
    chosen = settings(backbone="resnet18", image_size=224, batch_size="auto", epochs=1)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 1.5e9) / total)
    try:
        trainer = fold_trainer(chosen, rows, tmp_path, "cuda", notes)
        outcome = trainer.run()
        assert trainer.state.parts > 1
        assert any("out of memory" in line for line in notes.lines)
        assert np.isfinite(outcome.oof).all()
        fixed = dataclasses.replace(chosen, batch_size=64)
        with pytest.raises(TrainingError, match=r'do not fit into the memory of cuda.*Set batch_size = "auto"'):
            train(fixed, rows, tmp_path / "fixed", "cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


@pytest.mark.gpu
def test_prediction_uses_smaller_parts_if_memory_is_short() -> None:
    chosen = settings(backbone="resnet18", image_size=224, batch_size=256, tta="d4")
    model = create_model(chosen, chosen.image_size).to(device="cuda", memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = np.random.default_rng(0).integers(0, 255, (256, 224, 224, 3), np.uint8)
    expected = Predictor(chosen, [model], torch.device("cuda")).images(images)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 6e8) / total)
    try:
        found = Predictor(chosen, [model], torch.device("cuda"))
        np.testing.assert_allclose(found.images(images), expected, atol=1e-4)
        assert found._micro_batch < 256
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "most"), [("float32", 1e-4), ("bfloat16", 0.02), ("float16", 0.004)])
def test_folds_and_views_in_one_pass_give_the_predictions_of_the_cpu(
    precision: str, most: float, tmp_path: Path
) -> None:
    rows = picture_rows(tmp_path, 40)
    chosen = settings(tta="d4", precision="float32")
    models = []
    for fold in range(5):
        torch.manual_seed(fold)
        models.append(create_model(chosen, chosen.image_size))
    expected = predicted(Predictor(chosen, models, torch.device("cpu")), rows)
    device = torch.device("cuda")
    there = [model.to(device=device, memory_format=torch.channels_last) for model in models]  # type: ignore[call-overload]
    found = predicted(Predictor(settings(tta="d4", precision=precision), there, device), rows)
    assert found.shape == (5, 40)
    assert np.abs(found - expected).max() < most


@pytest.mark.parametrize("device", DEVICES)
def test_batches_for_a_device_are_pinned_and_contain_the_right_images(device: str, tmp_path: Path) -> None:
    rows = picture_rows(tmp_path, 20)
    loader = Loader(3, pin=device == "cuda")
    try:
        for part, images in zip(
            batch_plan(20, 8), loader.rows(batch_plan(20, 8), rows, torch.device(device)), strict=True
        ):
            assert images.is_pinned() == (device == "cuda")
            np.testing.assert_array_equal(images.numpy(), rows.images.take(part))
    finally:
        loader.close()


@pytest.mark.gpu
def test_a_fold_decoded_on_the_device_learns(tmp_path: Path) -> None:
    rows = picture_rows(tmp_path, 96, size=128, decode="gpu", ending=".jpg")
    chosen = settings(epochs=6, ema=0.0, image_size=128, decode="gpu", precision="auto")
    outcome = train(chosen, rows, tmp_path, "cuda")
    assert roc_auc(rows.target[72:], outcome.oof) > 0.9


# ---- commands ----


def command(
    folder: Path, *arguments: str, launcher: tuple[str, ...] = ("-m", "dfens")
) -> subprocess.CompletedProcess[str]:
    """Start `dfens` in a separate process."""
    return subprocess.run(
        [sys.executable, *launcher, "-C", str(folder), *arguments], capture_output=True, text=True, timeout=240
    )


@pytest.mark.gpu
def test_two_workers_on_one_device(tmp_path: Path) -> None:
    competition, store = tiny_competition(tmp_path)
    engine = functools.partial(train_in_workers, workers=2)
    models = {"a": dataclasses.replace(TINY, precision="float32"), "b": dataclasses.replace(TINY, seed=3)}
    results = train_models(competition, store, models, (0, 1), tmp_path / "work" / "trainers", engine=engine)
    assert [(result.model, result.fold) for result in results] == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    for name in models:
        assert store.summary(name).complete
        history = read_json(tmp_path / "work" / "trainers" / name / "fold0" / "history.json")
        assert "NVIDIA" in history["device"]
        assert history["peak_memory_bytes"]["device"] > 0


@pytest.mark.gpu
def test_torchrun_with_one_process_trains(tmp_path: Path) -> None:
    _, store = tiny_competition(tmp_path)
    done = command(
        tmp_path,
        "train",
        launcher=("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1", "-m", "dfens"),
    )
    assert done.returncode == 0, done.stderr
    assert store.summary("tiny").complete


@pytest.mark.gpu
def test_a_terminated_command_saves_and_the_next_finishes_and_blends(tmp_path: Path) -> None:
    _, store = tiny_competition(tmp_path)
    toml = tmp_path / "dfens.toml"
    text = toml.read_text()
    toml.write_text(text.replace("epochs = 3", "epochs = 60"))
    process = subprocess.Popen(
        [sys.executable, "-m", "dfens", "-C", str(tmp_path), "train"], stderr=subprocess.PIPE, text=True
    )
    state = tmp_path / "work" / "trainers" / "tiny" / "fold0" / "state.pt"
    while not state.exists() and process.poll() is None:
        pass
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 143, errors
    done = command(tmp_path, "train")
    assert done.returncode == 0, done.stderr
    assert store.summary("tiny").complete
    blended = command(tmp_path, "blend")
    assert blended.returncode == 0, blended.stderr
    model = store.load("tiny")
    result = dfens.fit_blend(model.oof[:, None], store.folds.target, folds=store.folds.fold)
    assert result.score == pytest.approx(roc_auc(store.folds.target, model.oof))
