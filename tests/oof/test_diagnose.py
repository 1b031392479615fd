"""oof.analysis.diagnose: planted weak clusters, wrong labels and optimistic epochs are found, and nothing else."""

import numpy as np
import pytest

from oof.analysis.diagnose import cluster_scores, find_label_issues, selection_optimism, training_curves
from oof.errors import PredictionError
from oof.folds import Folds, make_folds
from oof.metrics import roc_auc


def make(rows: int = 1200, seed: int = 0) -> tuple[Folds, np.random.Generator]:
    rng = np.random.default_rng(seed)
    ids = np.array([f"{row:05d}" for row in range(rows)], object)
    return make_folds(ids, rng.integers(0, 2, rows), k=4, seed=0), rng


def test_the_weak_cluster_is_listed_first() -> None:
    folds, rng = make()
    kind = rng.integers(0, 4, 1200)
    scores = folds.target * np.where(kind == 2, 0.3, 3.0) + rng.normal(size=1200)
    names = np.array([f"cluster {number:02d}" for number in kind], object)
    found = cluster_scores(folds, scores, names)
    assert found[0].cluster == "cluster 02"
    assert found[0].high < found[1].low
    rows = kind == 2
    assert found[0].auc == pytest.approx(roc_auc(folds.target[rows], scores[rows]))
    assert found[0].rows == rows.sum()
    fakes = (rows & (folds.target == 1)) | (folds.target == 0)
    assert found[0].auc_of_fakes == pytest.approx(roc_auc(folds.target[fakes], scores[fakes]))


def test_a_cluster_of_one_class_is_scored_against_all_other_rows() -> None:
    folds, rng = make()
    scores = folds.target + rng.normal(size=1200)
    names = np.where(folds.target == 1, np.where(rng.random(1200) < 0.5, "a", "b"), "c").astype(object)
    scores[5] = np.nan
    found = {one.cluster: one for one in cluster_scores(folds, scores, names)}
    assert np.isnan(found["a"].auc)
    assert 0.7 < found["a"].auc_of_fakes < 0.85
    assert np.isnan(found["c"].auc_of_fakes)
    assert sum(one.rows for one in found.values()) == 1199


def test_rows_of_one_group_are_not_independent_in_the_interval_of_a_cluster() -> None:
    """Four copies of each row say as much as the row alone; a cluster within one group is taken as it is."""
    folds, rng = make(200)
    scores = folds.target + rng.normal(size=200)
    (single,) = cluster_scores(folds, scores, np.full(200, "a", object))
    ids = np.array([f"{row:04d}" for row in range(800)], object)
    names = np.repeat(folds.ids, 4)
    copies = Folds(ids, np.repeat(folds.target, 4), np.repeat(folds.fold, 4), names)
    (copied,) = cluster_scores(copies, np.repeat(scores, 4), np.full(800, "a", object))
    assert copied.auc == pytest.approx(single.auc)
    assert copied.high - copied.low == pytest.approx(single.high - single.low, rel=0.05)
    alone = Folds(folds.ids, folds.target, folds.fold, np.full(200, "a", object))
    assert cluster_scores(alone, scores, np.full(200, "a", object)) == [single]


def test_planted_wrong_labels_are_found() -> None:
    folds, rng = make()
    truth = folds.target.copy()
    wrong = rng.choice(1200, 12, replace=False)
    truth[wrong] = 1 - truth[wrong]  # the true content of the images
    signal = 4.0 * truth + rng.normal(size=1200) * 0.7
    models = {f"m{number}": signal + rng.normal(size=1200) * 0.7 for number in range(3)}
    found = find_label_issues(folds, models)
    hits = [int(issue.id) in set(wrong.tolist()) for issue in found]
    assert sum(hits) >= 9  # a mislabelled row close to the other class looks like a hard one
    assert np.mean(hits) > 0.9
    assert [issue.label_error_score for issue in found] == sorted(
        (issue.label_error_score for issue in found), reverse=True
    )
    assert all(issue.models == 3 and issue.models_against >= 2 for issue in found)
    assert all(issue.target == folds.target[int(issue.id)] for issue in found)
    assert len(find_label_issues(folds, models, limit=3)) == 3


def test_models_on_other_scales_give_the_same_issues() -> None:
    folds, rng = make()
    scores = folds.target + rng.normal(size=1200)
    calibrated = 1 / (1 + np.exp(-scores))
    shifted = scores * 100 - 7 + folds.fold * 1000.0  # each fold model has a different scale
    expected = [issue.id for issue in find_label_issues(folds, {"a": scores})]
    assert [issue.id for issue in find_label_issues(folds, {"a": calibrated})] == expected
    assert [issue.id for issue in find_label_issues(folds, {"a": shifted})] == expected


def labelled(target: list[int], fold: list[int] | None = None) -> Folds:
    ids = np.array([f"{row:03d}" for row in range(len(target))], object)
    return Folds(ids, np.array(target, np.int8), np.array(fold or [0] * len(target), np.int16))


def test_constant_predictions_contradict_no_label() -> None:
    folds = labelled([0, 1, 1] * 20)
    assert find_label_issues(folds, {"a": np.full(60, 0.5)}) == []
    nearly = np.full(60, 0.5)
    nearly[[0, 1]] = 0.9, 0.6  # a real and a fake
    assert [issue.id for issue in find_label_issues(folds, {"a": nearly})] == ["000"]


def test_a_constant_model_has_no_vote() -> None:
    folds, rng = make()
    scores = folds.target + rng.normal(size=1200)
    expected = find_label_issues(folds, {"a": scores})
    assert find_label_issues(folds, {"a": scores, "b": np.zeros(1200), "c": np.ones(1200)}) == expected


def test_a_fold_of_one_class_has_no_issues() -> None:
    folds = labelled([0, 0, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1, 1, 1])
    scores = np.array([0.1, 0.9, 0.95, 0.8, 0.1, 0.2, 0.3, 0.4])
    issues = find_label_issues(folds, {"a": scores})
    assert {(issue.id, issue.models) for issue in issues} == {("001", 1), ("003", 1)}


def test_equal_predictions_of_equal_labels_are_equally_suspicious() -> None:
    """The order of rows does not matter, also if a model predicts only 0 and 1."""
    target = np.array([0] * 20 + [1] * 40)
    hard = target.copy()
    hard[[3, 7, 30]] = 1 - hard[[3, 7, 30]]
    for order in (np.arange(60), np.arange(60)[::-1]):
        found = find_label_issues(labelled(target[order].tolist()), {"a": hard[order].astype(float)})
        assert sorted(int(order[int(issue.id)]) for issue in found) == [3, 7, 30]
        for label in (0, 1):
            assert len({issue.label_error_score for issue in found if issue.target == label}) == 1


def test_rows_without_predictions_are_never_listed() -> None:
    folds, rng = make(400)
    scores = folds.target + rng.normal(size=400)
    scores[folds.fold == 1] = np.nan
    issues = {int(issue.id) for issue in find_label_issues(folds, {"a": scores})}
    assert issues
    assert not issues & set(np.flatnonzero(folds.fold == 1).tolist())
    with pytest.raises(PredictionError, match="Finding label issues needs predictions"):
        find_label_issues(folds, {})


def test_optimism_of_the_best_epoch_agrees_with_simulation() -> None:
    """A flat true curve with known noise: the best value overstates by the expected maximum of the noise."""
    rng = np.random.default_rng(0)
    for epochs in (8, 20):
        curves = 0.9 + 0.01 * rng.normal(size=(400, epochs))
        true = float((curves.max(axis=1) - 0.9).mean())
        estimated = float(np.mean([selection_optimism(curve) for curve in curves]))
        assert estimated == pytest.approx(true, rel=0.25)
    rising = 0.9 - 0.2 * np.exp(-np.arange(30) / 3)
    assert selection_optimism(rising) < 1e-3
    assert selection_optimism(np.full(10, 0.8)) == 0
    assert selection_optimism(np.array([0.7, 0.9])) == 0


def test_overfitting_is_a_falling_loss_without_a_rising_auc() -> None:
    epochs = np.arange(20)
    overfitted = {"loss": 0.7 * 0.85**epochs, "auc": 0.9 - 0.004 * np.maximum(epochs - 4, 0) - 0.05 * (epochs < 3)}
    sound = {"loss": 0.7 * 0.95**epochs, "auc": 0.7 + 0.01 * epochs}
    first, second = training_curves(
        {
            0: {key: list(value) for key, value in overfitted.items()},
            3: {key: list(value) for key, value in sound.items()},
        }
    )
    assert (first.fold, first.best_epoch, first.overfits) == (0, 4, True)
    assert first.drop == pytest.approx(0.9 - (0.9 - 0.004 * 15))
    assert (second.fold, second.best_epoch, second.epochs, second.overfits) == (3, 20, 20, False)
    assert training_curves({1: {"loss": [], "auc": []}}) == []
