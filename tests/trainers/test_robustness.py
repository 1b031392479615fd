"""Robustness curves and corruptions: the meaning of severity, and AUC decreases with it."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from oof.errors import TrainingError
from oof.folds import make_folds
from oof.metrics import roc_auc
from oof.metrics.intervals import Interval, score_interval
from oof.store import PredictionStore
from tests.support.competitions import face, make_table
from tests.support.training import train_models
from trainers.analysis.plots import plot_curves
from trainers.analysis.robustness import robustness_curves
from trainers.augment.corruptions import PERTURBATIONS, noise
from trainers.data.competition import Competition
from trainers.data.layouts import read_competition
from trainers.data.settings import DataSettings
from trainers.jobs.job import TrainingJob
from trainers.jobs.runner import FoldRunner
from trainers.kinds.base import ModelSettings
from trainers.kinds.images import subset
from trainers.kinds.linear.settings import LinearSettings
from trainers.kinds.timm.settings import TimmSettings
from trainers.media.settings import DeviceDecode


def prepare(tmp_path: Path, rows: int = 48, k: int = 2) -> tuple[Competition, PredictionStore]:
    root = make_table(tmp_path / "data", rows=rows, test_rows=2)
    competition = read_competition(DataSettings(root=root, id="img_name"))
    store = PredictionStore(tmp_path / "work" / "oof")
    ids = competition.train["id"].to_numpy(object)
    store.save_folds(make_folds(ids, competition.train["target"].to_numpy(), k=k, seed=0))
    store.save_test_ids(competition.test["id"].to_numpy(object))
    return competition, store


def job_of(tmp_path: Path, competition: Competition, models: Mapping[str, ModelSettings]) -> TrainingJob:
    return TrainingJob(competition, tmp_path / "work" / "oof", dict(models), tmp_path / "work" / "trainers")


@pytest.mark.parametrize("name", list(PERTURBATIONS))
def test_errors_rise_with_severity(name: str) -> None:
    image = face(3, size=64)
    kind = PERTURBATIONS[name]
    corrupted = [kind.change(image, severity, np.random.default_rng(0)) for severity in kind.severities]
    error = [float(np.abs(one.astype(float) - image).mean()) for one in corrupted]
    assert error == sorted(error)
    assert error[0] > 0
    for one in corrupted:
        assert one.shape == image.shape
        assert one.dtype == np.uint8


def test_noise_and_blur_have_their_nominal_standard_deviation() -> None:
    grey = np.full((128, 128, 3), 128, np.uint8)
    assert noise(grey, 10, np.random.default_rng(0)).std() == pytest.approx(10, rel=0.03)
    point = np.zeros((65, 65, 3), np.uint8)
    point[32, 32] = 255
    wide = PERTURBATIONS["blur"].change(cv2.resize(point, (65, 65)).astype(np.uint8), 2, np.random.default_rng(0))
    mass = wide[32, :, 0].astype(float)
    assert np.sqrt((mass * (np.arange(65) - 32) ** 2).sum() / mass.sum()) == pytest.approx(2, rel=0.25)


def test_jpeg_keeps_colors() -> None:
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 200
    found = PERTURBATIONS["jpeg"].change(red, 90, np.random.default_rng(0))
    assert np.abs(found.astype(int) - red).max() < 6


def test_the_auc_without_corruption_equals_that_of_the_oof_predictions(tmp_path: Path) -> None:
    competition, store = prepare(tmp_path)
    models = {"pixels": LinearSettings(image_size=8), "trees": LinearSettings(image_size=8, classifier="extra_trees")}
    train_models(competition, store, models, [0, 1], tmp_path / "work" / "trainers")
    points = robustness_curves(job_of(tmp_path, competition, models), corruptions=["jpeg", "noise"])
    assert len(points) == 2 * (1 + 4 + 4)
    for name in models:
        plain = next(point for point in points if point.model == name and point.corruption == "none")
        assert plain.auc == pytest.approx(roc_auc(store.folds.target, store.load(name).oof))
        assert plain.low <= plain.auc <= plain.high
    again = robustness_curves(job_of(tmp_path, competition, models), corruptions=["jpeg", "noise"])
    assert again == points
    assert plot_curves(tmp_path / "curves.png", points).read_bytes().startswith(b"\x89PNG")


def test_fewer_rows_than_folds_are_evaluated(tmp_path: Path) -> None:
    competition, store = prepare(tmp_path, rows=24, k=6)
    models = {"pixels": LinearSettings(image_size=8)}
    train_models(competition, store, models, range(6), tmp_path / "work" / "trainers")
    (point,) = robustness_curves(job_of(tmp_path, competition, models), corruptions=[], rows=3)
    assert 0 <= point.auc <= 1


def test_a_network_is_evaluated_with_its_stored_weights(tmp_path: Path) -> None:
    competition, store = prepare(tmp_path, rows=24)
    settings = TimmSettings(
        backbone="resnet10t", pretrained=False, image_size=32, epochs=1, batch_size=8, tta="none", checkpoint="last"
    )
    train_models(competition, store, {"tiny": settings}, [0, 1], tmp_path / "work" / "trainers")
    points = robustness_curves(job_of(tmp_path, competition, {"tiny": settings}), corruptions=["blur"], rows=1000)
    assert points[0].auc == pytest.approx(roc_auc(store.folds.target, store.load("tiny").oof))
    some = robustness_curves(job_of(tmp_path, competition, {"tiny": settings}), corruptions=[], rows=12)
    assert [point.corruption for point in some] == ["none"]


@pytest.mark.parametrize("decode", ["area", "scaled", "pil"])
def test_other_files_are_read_as_those_that_the_model_learns_from(decode: DeviceDecode, tmp_path: Path) -> None:
    """Corrupted images are files of their own; another way of decoding would count as a corruption."""
    competition, _ = prepare(tmp_path, rows=8)
    settings = TimmSettings(backbone="test_resnet", pretrained=False, image_size=16, decode=decode)
    context = FoldRunner(job_of(tmp_path, competition, {"tiny": settings})).context("tiny")
    copies = [shutil.copy(path, tmp_path / f"copy-{Path(path).name}") for path in context.train["path"]]
    known, copied = subset(context, context.train), subset(context, context.train.assign(path=list(map(str, copies))))
    assert copied.images is not known.images
    np.testing.assert_array_equal(copied.images.take(copied.positions), known.images.take(known.positions))


def test_a_model_without_weights_is_named(tmp_path: Path) -> None:
    competition, _ = prepare(tmp_path, rows=8)
    settings = TimmSettings(backbone="resnet10t", pretrained=False)
    with pytest.raises(TrainingError, match=r"Model 'tiny' has no weights in .*Run dfens train --model tiny"):
        robustness_curves(job_of(tmp_path, competition, {"tiny": settings}))


def test_weights_that_did_not_make_the_predictions_are_refused(tmp_path: Path) -> None:
    competition, store = prepare(tmp_path, rows=16)
    models = {"pixels": LinearSettings(image_size=8)}
    train_models(competition, store, models, [0, 1], tmp_path / "work" / "trainers")
    with pytest.raises(TrainingError, match="trained with other settings or folds than those of now"):
        robustness_curves(job_of(tmp_path, competition, {"pixels": LinearSettings(image_size=16)}), corruptions=[])
    store.archive("pixels")
    store.save_oof("pixels", store.folds.ids, np.linspace(0, 1, 16), fold=None)
    store.save_model("pixels", "import", {})
    with pytest.raises(TrainingError, match="are of kind 'import', not 'linear'"):
        robustness_curves(job_of(tmp_path, competition, models), corruptions=[])


def test_rows_are_drawn_from_the_folds_that_are_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    competition, store = prepare(tmp_path, rows=40)
    models = {"pixels": LinearSettings(image_size=8)}
    train_models(competition, store, models, [1], tmp_path / "work" / "trainers")
    scored: list[int] = []

    def interval(metric: str, target: NDArray[Any], *rest: NDArray[Any]) -> Interval:
        scored.append(len(target))
        return score_interval(metric, target, *rest)

    monkeypatch.setattr("trainers.analysis.robustness.score_interval", interval)
    robustness_curves(job_of(tmp_path, competition, models), corruptions=[], rows=16)
    assert scored == [16]
    with pytest.raises(TrainingError, match="requires both classes, and the 1 drawn rows have one"):
        robustness_curves(job_of(tmp_path, competition, models), corruptions=[], rows=1)
