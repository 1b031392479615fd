"""Pseudo-labelled test rows in training: soft labels, selection and weights, and no leak of held-out labels."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from oof.errors import TrainingError
from oof.files import read_json
from tests.support.toy_kind import ToySettings
from tests.support.training import TINY, Notes, tiny_competition, train_models
from trainers.jobs.job import TrainingJob
from trainers.jobs.runner import FoldRunner
from trainers.kinds.base import ModelSettings
from trainers.kinds.linear.classifier import fit_classifier
from trainers.kinds.linear.settings import LinearSettings
from trainers.kinds.pseudo_labels import PseudoLabels
from trainers.kinds.repeats import PseudoSettings, RepeatSettings
from trainers.kinds.training_rows import training_rows

PSEUDO = PseudoSettings(weight=0.25, confidence=0.8)
Labels = NDArray[np.float32]


def labels_of(*rows: list[float]) -> PseudoLabels:
    """Return labels of the test rows for fold 0, fold 1 and the refit."""
    return PseudoLabels(np.array([*rows, rows[0]], np.float32), {"blend": "b", "round": 1})


SOME = labels_of([0.9, 0.1, 0.5, 0.79, 0.8, 0.2, 0.95, 0.6], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 1.0])


def runner_of(folder: Path, settings: ModelSettings, labels: PseudoLabels | None) -> FoldRunner:
    competition, store = tiny_competition(folder)
    return FoldRunner(TrainingJob(competition, store.root, {"m": settings}, folder / "trainers", pseudo=labels))


def test_the_fingerprint_of_labels_does_not_depend_on_the_order_of_the_test_rows() -> None:
    order = np.random.default_rng(0).permutation(8)
    ids = np.array([f"t{row}" for row in range(8)], object)
    moved = PseudoLabels(SOME.probabilities[:, order])
    assert moved.fingerprint_of(ids[order]) == SOME.fingerprint_of(ids)
    assert moved.fingerprint_of(ids) != SOME.fingerprint_of(ids)  # the same labels, of other rows
    assert PseudoLabels(SOME.probabilities[[1, 0, 1]]).fingerprint_of(ids) != SOME.fingerprint_of(ids)


def test_confident_labels_are_added_and_stay_soft(tmp_path: Path) -> None:
    runner = runner_of(tmp_path, dataclasses.replace(TINY, pseudo=PSEUDO), SOME)
    context = runner.context("m")
    plain = training_rows(runner_of(tmp_path, TINY, None).context("m"), 0)
    assert plain.weight is None
    rows = training_rows(context, 0)
    np.testing.assert_array_equal(rows.target[:20], plain.target)
    np.testing.assert_array_equal(rows.target[20:], np.array([0.9, 0.1, 0.8, 0.2, 0.95], np.float32))
    test = context.test["id"].to_numpy(object)[[0, 1, 4, 5, 6]]
    assert rows.table["id"].tolist()[20:] == [f"test:{id_}" for id_ in test]
    assert rows.table["path"].tolist()[20:] == context.test["path"].iloc[[0, 1, 4, 5, 6]].tolist()
    assert rows.weight is not None
    assert rows.weight.mean() == pytest.approx(1)
    np.testing.assert_allclose(rows.weight[20:] / rows.weight[0], 0.25)
    assert len(training_rows(context, 1).target) == 21
    assert len(training_rows(context, 2).target) == 45  # the refit has all rows, and the last row of labels


def test_sealed_rows_are_never_added(tmp_path: Path) -> None:
    """They follow the test rows in the table that fold models predict, but have no pseudo-labels."""
    runner = runner_of(tmp_path, dataclasses.replace(TINY, pseudo=PSEUDO), labels_of([0.95] * 8, [0.05] * 8))
    context = runner.context("m")
    sealed = context.train.iloc[:5][["id", "path"]].assign(id=lambda rows: "sealed-" + rows["id"])
    longer = dataclasses.replace(context, test=pd.concat([context.test, sealed], ignore_index=True))
    for fold in (0, 1, 2):
        rows = training_rows(longer, fold)
        assert rows.table["id"].tolist() == training_rows(context, fold).table["id"].tolist()
        assert not rows.table["id"].str.contains("sealed-").any()


def test_no_confident_label_is_an_error(tmp_path: Path) -> None:
    settings = dataclasses.replace(TINY, pseudo=PseudoSettings(confidence=0.99))
    context = runner_of(tmp_path, settings, SOME).context("m")
    expected = r"No pseudo-label of fold 0 reaches confidence = 0.99; the highest is 0.950"
    with pytest.raises(TrainingError, match=expected):
        training_rows(context, 0)


@pytest.mark.parametrize("settings", [TINY, LinearSettings()], ids=["timm", "linear"])
@pytest.mark.parametrize(("doubtful", "whose"), [(1, "fold 1"), (2, "the refit")])
def test_doubtful_labels_are_found_before_any_fold_is_trained(
    tmp_path: Path, settings: Any, doubtful: int, whose: str
) -> None:
    labels = np.full((3, 8), 0.95, np.float32)
    labels[doubtful] = 0.7
    chosen = dataclasses.replace(settings, pseudo=PSEUDO, refit=True)
    with pytest.raises(
        TrainingError, match=f"Model 'm': No pseudo-label of {whose} reaches confidence = 0.8; the high"
    ):
        runner_of(tmp_path / "refit", chosen, PseudoLabels(labels)).check((0, 1))
    if whose == "the refit":
        runner_of(tmp_path, dataclasses.replace(chosen, refit=False), PseudoLabels(labels)).check((0, 1))


def test_labels_of_the_complete_blend_are_refused_with_the_reason() -> None:
    with pytest.raises(TrainingError, match="its models have seen the held-out rows of every fold, whose labels would"):
        PseudoLabels(np.full(8, 0.5, np.float32))


def test_a_soft_label_equals_a_weighted_row_of_each_class() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(80, 5)).astype(np.float32), rng.uniform(size=80).astype(np.float32)
    y[:40] = rng.integers(0, 2, 40)
    weight = rng.uniform(0.5, 2, 80).astype(np.float32)
    predict = fit_classifier(LinearSettings(), x, y, weight)
    twice, labels = np.concatenate([x, x]), np.repeat([1, 0], 80)
    shares = np.concatenate([weight * y, weight * (1 - y)])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.02, max_iter=5000))
    model.fit(twice, labels, standardscaler__sample_weight=shares, logisticregression__sample_weight=shares)
    np.testing.assert_allclose(predict(x), model.predict_proba(x)[:, 1], atol=1e-5)


@pytest.mark.parametrize("classifier", ["svm", "extra_trees"])
def test_every_classifier_accepts_soft_labels(classifier: Any) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3)).astype(np.float32)
    y = (1 / (1 + np.exp(-3 * x[:, 0]))).astype(np.float32)
    y[:30] = y[:30] > 0.5
    found = fit_classifier(LinearSettings(classifier=classifier), x, y)(x)
    assert np.corrcoef(found, x[:, 0])[0, 1] > 0.5


@pytest.mark.parametrize("settings", [dataclasses.replace(TINY, epochs=1), LinearSettings()], ids=["timm", "linear"])
def test_models_are_trained_on_pseudo_labels(tmp_path: Path, settings: Any) -> None:
    competition, store = tiny_competition(tmp_path)
    chosen = dataclasses.replace(settings, pseudo=PSEUDO, refit=True)
    notes, work = Notes(), tmp_path / "trainers"
    train_models(competition, store, {"m": chosen}, (0, 1), work, pseudo=SOME, progress=notes)
    assert store.summary("m").complete
    assert "m fold 0: 5 of 8 test rows with pseudo-labels, 59% of them fake by their labels" in notes.lines
    assert "m fold 1: 1 of 8 test rows with pseudo-labels, 100% of them fake by their labels" in notes.lines
    history = read_json(work / "m" / "fold0" / "history.json")
    assert history["pseudo_labels"]["blend"] == "b"
    assert store.load("m").details["pseudo_labels"]["round"] == 1
    plain_competition, plain = tiny_competition(tmp_path / "plain")
    train_models(plain_competition, plain, {"m": settings}, (0, 1), tmp_path / "plain" / "trainers")
    assert not np.array_equal(plain.load("m").oof, store.load("m").oof)
    with pytest.raises(TrainingError, match="changed: the pseudo-labels"):
        train_models(competition, store, {"m": chosen}, (0, 1), work, pseudo=labels_of([0.9] * 8, [0.1] * 8))


def test_a_kind_without_soft_labels_is_refused(tmp_path: Path) -> None:
    runner = runner_of(tmp_path, PseudoToy(), SOME)
    with pytest.raises(TrainingError, match="cannot be trained on labels between 0 and 1"):
        runner.check((0, 1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class PseudoToy(RepeatSettings, ToySettings):
    """The toy kind with pseudo-labels requested."""

    pseudo: PseudoSettings | None = PSEUDO
