"""Other metrics, several classes and real-valued targets: one function, equally unbiased scores."""

import numpy as np
import pytest
from numpy.typing import NDArray

from ensemble.fit import fit_blend
from oof.errors import BlendError, PredictionError
from oof.metrics import metric_by_name
from tests.support.ensemble import make_oof


@pytest.mark.parametrize("name", ["log_loss", "average_precision", "tpr@fpr=0.05", "brier_loss", "accuracy"])
def test_other_metrics_of_binary_predictions(name: str) -> None:
    oof, y = make_oof(2_000, 5, noise=1.0)
    metric = metric_by_name(name)
    result = fit_blend(oof, y, optimize=name)
    assert result.metric == metric.name
    assert result.nested_score == pytest.approx(metric(y, result.nested_oof))
    assert metric.gain(result.nested_score) > metric.gain(result.references["best single"][1])


def test_any_function_can_be_optimised() -> None:
    oof, y = make_oof(1_000, 4)

    def hits(y: NDArray[np.int8], scores: NDArray[np.float64]) -> float:
        return float(((scores > 0.5) == y).mean())

    result = fit_blend(oof, y, optimize=hits)
    assert result.metric == "hits"
    assert result.nested_score == pytest.approx(hits(y, result.nested_oof))


def test_real_targets_are_blended_by_least_squares() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(50, 20, 2_000)
    errors = rng.normal(size=(2_000, 5)) * np.array([5, 8, 10, 30, 30])
    oof = 0.8 * y[:, None] + 3 + errors  # shrunk, as regularised models are
    oof[:50, 0] = np.nan
    result = fit_blend(oof, y, optimize="rmse")
    assert result.nested_score < 6
    assert result.references["mean"][1] > 8
    assert result.weights.sum() == pytest.approx(1.0)
    assert result.weights[0] > result.weights[3]
    np.testing.assert_allclose(result.predict(oof), result.oof)


def _classes(rows: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, rows)
    scores = rng.normal(size=(rows, 5, 4)) * np.array([0.5, 0.8, 1.0, 2.0, 2.0])[:, None]
    scores[np.arange(rows), :, y] += 1.2
    powers = np.exp(2 * scores)
    return powers / powers.sum(axis=2, keepdims=True), y


@pytest.mark.parametrize("name", ["log_loss", "accuracy"])
def test_several_classes(name: str) -> None:
    oof, y = _classes(1_500, 0)
    test, test_y = _classes(1_500, 1)
    metric = metric_by_name(name)
    result = fit_blend(oof, y, optimize=name)
    predicted = result.predict(test)
    assert predicted.shape == (1_500, 4)
    np.testing.assert_allclose(predicted.sum(axis=1), 1.0)
    assert metric.gain(metric(test_y, predicted)) > metric.gain(metric(test_y, test.mean(axis=1)))
    assert metric(test_y, predicted) == pytest.approx(result.nested_score, abs=0.05)
    assert result.weights[0] > result.weights[4]


def test_two_classes_in_columns_agree_with_binary_log_loss() -> None:
    oof, y = make_oof(1_500, 3, noise=1.0)
    wide = np.stack([1 - oof, oof], axis=2)
    columns = fit_blend(wide, y, optimize="log_loss")
    binary = fit_blend(oof, y, optimize="log_loss")
    assert columns.nested_score == pytest.approx(binary.nested_score, abs=0.02)


def test_class_numbers_and_probabilities_are_checked() -> None:
    oof, y = _classes(60, 0)
    with pytest.raises(BlendError, match="y must contain class indices from 0 to 3; it contains 0 to 4"):
        fit_blend(oof, np.where(np.arange(60) == 0, 4, y), optimize="log_loss")
    with pytest.raises(BlendError, match=r"must be in \[0, 1\]"):
        fit_blend(oof * 3, y, optimize="log_loss")
    with pytest.raises(BlendError, match="For more classes or a real target, name a metric"):
        fit_blend(oof[:, :, 0], y.astype(float))


def test_a_row_without_predictions_is_blended_the_same_alone_and_with_others() -> None:
    oof, y = _classes(400, 0)
    result = fit_blend(oof, y, optimize="log_loss")
    test = oof[:10].copy()
    test[3] = np.nan
    np.testing.assert_allclose(result.predict(test)[3:4], result.predict(test[3:4]))
    np.testing.assert_allclose(result.predict(test[3:4]).sum(), 1.0)


def test_with_two_folds_each_is_blended_without_its_own_labels() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=400)
    oof = y[:, None] + rng.normal(size=(400, 4)) * np.array([0.5, 1, 1, 1])
    folds = np.arange(400) % 2
    other = np.where(folds == 1, rng.permutation(y), y)  # other labels in fold 1
    before = fit_blend(oof, y, optimize="rmse", folds=folds).nested_oof
    after = fit_blend(oof, other, optimize="rmse", folds=folds).nested_oof
    np.testing.assert_array_equal(before[folds == 1], after[folds == 1])


def test_options_of_binary_blends_are_refused_for_classes() -> None:
    oof, y = _classes(100, 0)
    with pytest.raises(BlendError, match="max_members, calibrate: supported only for binary predictions"):
        fit_blend(oof, y, optimize="log_loss", max_members=2, calibrate="platt")
    with pytest.raises(BlendError, match="transform: supported only for binary predictions"):
        fit_blend(oof, y, optimize="log_loss", transform="rank")
    with pytest.raises(PredictionError, match=r"The label of row \d+ is [23]; expected 0 or 1"):
        fit_blend(oof, y, optimize="auc")


@pytest.mark.parametrize(("values", "message"), [
    (["real", "fake", "real", "fake"], "y must contain numbers; its dtype is <U4. Encode two classes as 0 and 1"),
    ([0.0, np.nan, 1.0, np.inf], "y is NaN or infinite in 2 of 4 rows, first in row 1. Leave out rows"),
    ([0, 1, None, 1], "y must contain numbers"),
])  # fmt: skip
@pytest.mark.parametrize("metric", ["auc", "rmse", "log_loss"])
def test_a_target_that_is_no_number_is_named(values: list[object], message: str, metric: str) -> None:
    for y in (np.array(values), np.array(values, object)):
        with pytest.raises(BlendError, match=message):
            fit_blend(np.linspace(0, 1, 8).reshape(4, 2), y, optimize=metric)


def test_a_target_of_python_objects_is_that_of_their_numbers() -> None:
    oof, y = make_oof(200, 2)
    assert fit_blend(oof, y.astype(object)).nested_score == fit_blend(oof, y).nested_score
