"""The kind `linear`: its handcrafted features, and training of folds without torch."""

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from oof.errors import DataError, TrainingError
from oof.metrics import roc_auc
from tests.support.competitions import face, make_set, write_image
from tests.support.training import tiny_competition, train_models
from trainers.features.handcrafted import Matrix, file_features, pixel_features, trace_features
from trainers.kinds.base import ModelSettings
from trainers.kinds.linear import classifier as classifier_module
from trainers.kinds.linear.classifier import fit_linear_fold, linear_features
from trainers.kinds.linear.settings import Classifier, LinearSettings

Settings = partial(LinearSettings, image_size=8)


def test_the_spectrum_shows_the_frequency_of_a_wave() -> None:
    across = np.arange(256)
    for cycles in (16, 48, 100):
        wave = 128 + 100 * np.sin(2 * np.pi * cycles * across / 256)
        image = np.repeat(np.tile(wave, (256, 1))[..., None], 3, 2).astype(np.uint8)
        ring = int(trace_features(image)[:48].argmax())
        assert ring == int(cycles / 256 * 2 * 48)


def test_residuals_grow_with_noise_and_are_zero_without() -> None:
    rng = np.random.default_rng(0)
    flat = np.full((64, 64, 3), 120, np.uint8)
    noisy = [np.clip(120 + rng.normal(0, sigma, (64, 64, 3)), 0, 255).astype(np.uint8) for sigma in (2, 8)]
    magnitude = [trace_features(image)[48 + 7] for image in (flat, *noisy)]
    assert magnitude[0] == 0
    assert magnitude[0] < magnitude[1] < magnitude[2]
    assert np.isfinite(trace_features(flat)).all()
    assert trace_features(flat).shape == (88,)


def test_traces_are_measured_at_the_original_scale(tmp_path: Path) -> None:
    large = cv2.resize(face(0, size=64), (512, 512), interpolation=cv2.INTER_CUBIC)
    middle = large[128:384, 128:384]
    np.testing.assert_allclose(
        trace_features(np.asarray(large, np.uint8)), trace_features(np.asarray(middle, np.uint8))
    )


def test_features_of_files_are_those_of_their_images(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", face(0))
    write_image(tmp_path / "b.png", face(1))
    paths = [str(tmp_path / name) for name in ("a.png", "b.png")]
    found = file_features(paths, size=8, threads=2)
    assert found.dtype == np.float32
    for row, seed in zip(found, (0, 1), strict=True):
        np.testing.assert_array_equal(row, np.concatenate([trace_features(face(seed)), pixel_features(face(seed), 8)]))
    assert file_features(paths, size=0).shape == (2, 88)
    assert file_features(paths, size=8, traces=False, decode="pil").shape == (2, 192)
    (tmp_path / "c.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"c\.png is empty"):
        file_features([str(tmp_path / "c.png")], size=8)


@pytest.mark.parametrize("classifier", ["logistic", "svm", "extra_trees"])
def test_a_fold_is_learnt_reproducibly(classifier: Classifier) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 300).astype(np.int8)
    x = rng.normal(size=(300, 12)).astype(np.float32)
    x[:, 3] += 2 * y
    settings = Settings(classifier=classifier)
    results = [fit_linear_fold(settings, x[:200], y[:200], x[200:], x[:7]) for _ in range(2)]
    np.testing.assert_array_equal(results[0].oof, results[1].oof)
    assert roc_auc(y[200:], results[0].oof) > 0.85
    assert results[0].oof.dtype == np.float32
    assert results[0].test.shape == (7,)
    assert results[0].details == {"classifier": classifier, "features": 12, "rows_fitted": 200}
    assert fit_linear_fold(settings, x, y, x[:0], x[:0]).oof.shape == (0,)


def test_support_vectors_learn_a_nonlinear_boundary_and_give_probabilities() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 2)).astype(np.float32)
    inside = np.hypot(*x.T) < 1.2
    y = inside.astype(np.int8)
    found = {
        name: fit_linear_fold(Settings(classifier=name), x[:400], y[:400], x[400:], x[:0]).oof
        for name in ("logistic", "svm")
    }
    assert roc_auc(y[400:], found["logistic"]) < 0.7
    assert roc_auc(y[400:], found["svm"]) > 0.98
    assert abs(found["svm"].mean() - y[400:].mean()) < 0.05


def test_very_large_sets_are_subsampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(classifier_module._MOST_ROWS, "logistic", 50)
    rng = np.random.default_rng(0)
    y = np.arange(200).astype(np.int8) % 2
    x = rng.normal(size=(200, 3)).astype(np.float32) + y[:, None] * 3
    found = fit_linear_fold(Settings(), x, y, x, x[:0])
    assert found.details["rows_fitted"] == 50
    assert roc_auc(y, found.oof) > 0.95


def test_data_that_cannot_be_fitted_are_named() -> None:
    x = np.zeros((4, 2), np.float32)
    with pytest.raises(TrainingError, match="All 4 training labels are"):
        fit_linear_fold(Settings(), x, np.ones(4, np.int8), x, x)
    with pytest.raises(TrainingError, match=r"1 training rows of one class.*needs 2 of each"):
        fit_linear_fold(Settings(classifier="svm"), x, np.array([0, 0, 0, 1], np.int8), x, x)
    x[1, 1] = np.nan
    with pytest.raises(TrainingError, match="not finite"):
        fit_linear_fold(Settings(), x, np.array([0, 1, 0, 1], np.int8), x, x)


def test_training_and_prediction_do_not_load_torch(tmp_path: Path) -> None:
    make_set(tmp_path, "a", 12)
    code = (
        "import sys, glob, numpy as np\n"
        "class S: classifier, image_size, decode, seed = 'logistic', 8, 'area', 0\n"
        "from trainers.kinds.linear.classifier import fit_linear_fold, linear_features\n"
        f"x = linear_features(S(), sorted(glob.glob({str(tmp_path)!r} + '/*.jpg')))\n"
        "y = np.arange(12).astype(np.int8) % 2\n"
        "print(fit_linear_fold(S(), x[:8], y[:8], x[8:], x[8:]).oof.shape)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(4,)\n"
    assert linear_features(Settings(), []).shape[0] == 0


def test_folds_of_one_competition_share_their_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    competition, store = tiny_competition(tmp_path, train_rows=30)
    calls = []
    real = file_features

    def counted(paths: list[str], **more: Any) -> Matrix:
        calls.append(len(paths))
        return real(paths, **more)

    monkeypatch.setattr(classifier_module, "file_features", counted)
    models: dict[str, ModelSettings] = {"a": Settings(), "b": Settings(classifier="extra_trees")}
    train_models(competition, store, models, (0, 1), tmp_path / "work" / "trainers")
    assert calls == [38]  # training and test rows, once for all folds and models
    x = linear_features(Settings(), [*competition.train["path"], *competition.test["path"]])
    seen, target = store.folds.fold != 0, store.folds.target
    expected = fit_linear_fold(Settings(), x[:30][seen], target[seen], x[:30][~seen], x[30:])
    np.testing.assert_array_equal(store.load("a").oof[~seen], expected.oof)
    by_fold = store.load("a").test_by_fold
    assert by_fold is not None
    np.testing.assert_array_equal(by_fold[0], expected.test)
