"""Log loss, Brier score, accuracy and RMSE compared with loops from their definitions, and the table of metrics."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sk

from oof.errors import ConfigError, PredictionError
from oof.metrics import METRICS, metric_by_name
from oof.metrics.probabilities import accuracy, brier_loss, log_loss, reliability_bins
from oof.metrics.regression import rmse


def _binary(n: int = 200) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, n)
    return y, np.clip(rng.random(n) * 0.6 + 0.3 * y, 0, 1)


def _classes(n: int = 200) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    rng = np.random.default_rng(1)
    y = rng.integers(0, 4, n)
    return y, rng.dirichlet(np.ones(4), n)


def test_binary_scores_equal_a_loop_over_rows() -> None:
    y, p = _binary()
    rows = list(zip(y.tolist(), p.tolist(), strict=True))
    assert log_loss(y, p) == pytest.approx(-sum(math.log(v if t else 1 - v) for t, v in rows) / len(rows), abs=1e-12)
    assert brier_loss(y, p) == pytest.approx(sum((v - t) ** 2 for t, v in rows) / len(rows), abs=1e-12)
    assert accuracy(y, p) == sum((v > 0.5) == bool(t) for t, v in rows) / len(rows)
    assert rmse(y, p) == pytest.approx(math.sqrt(brier_loss(y, p)), abs=1e-12)


def test_multi_class_scores_equal_a_loop_over_rows() -> None:
    y, p = _classes()
    assert log_loss(y, p) == pytest.approx(-sum(math.log(p[i, t]) for i, t in enumerate(y)) / len(y), abs=1e-12)
    assert accuracy(y, p) == sum(int(max(range(4), key=lambda c: p[i, c]) == t) for i, t in enumerate(y)) / len(y)
    assert log_loss(y, 3 * p / 4) == pytest.approx(log_loss(y, p), abs=1e-12)  # rows are divided by their sum


def test_two_columns_score_as_one() -> None:
    y, p = _binary()
    both = np.column_stack([1 - p, p])
    assert log_loss(y, both) == pytest.approx(log_loss(y, p), abs=1e-12)
    assert accuracy(y, both) == accuracy(y, p)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log_loss_of_confident_mistakes_equals_scikit_learn(dtype: type[np.floating[Any]]) -> None:
    y, p = np.array([0, 1, 1]), np.array([1.0, 0.0, 1.0], dtype)
    assert log_loss(y, p) == pytest.approx(sk.log_loss(y, p), rel=1e-6)


@pytest.mark.parametrize("function", [log_loss, brier_loss, accuracy])
def test_values_that_are_not_probabilities_are_named(function: Any) -> None:
    with pytest.raises(PredictionError, match=r"Row 1 has the value 1\.5; this metric needs probabilities"):
        function(np.array([0, 1]), np.array([0.5, 1.5]))
    with pytest.raises(PredictionError, match="row 1 is NaN"):
        function(np.array([0, 1]), np.array([0.5, np.nan]))


def test_wrong_classes_are_named() -> None:
    p = np.full((3, 3), 1 / 3)
    with pytest.raises(PredictionError, match="label of row 2 is .*3.*from 0 to 2"):
        log_loss(np.array([0, 1, 3]), p)
    with pytest.raises(PredictionError, match="a row of probabilities for each label"):
        accuracy(np.array([0, 1]), p)
    p[1] = 0
    with pytest.raises(PredictionError, match="probabilities of row 1 are 0"):
        log_loss(np.array([0, 1, 2]), p)
    p[1] = 0.5, np.nan, 0.5
    with pytest.raises(PredictionError, match="row 1 is NaN"):
        log_loss(np.array([0, 1, 2]), p)


def test_bins_of_equal_probabilities_do_not_depend_on_the_order_of_the_rows() -> None:
    """Of rows sorted by class, some bins would have only negatives, others only positives."""
    p = np.repeat([0.2, 0.8], 100)
    y = np.concatenate([np.arange(100) >= 80, np.arange(100) >= 20]).astype(np.int64)
    means, shares, rows = reliability_bins(y, p, 10)
    np.testing.assert_allclose(means, shares)
    assert rows.tolist() == [20] * 10
    y, p = _binary()
    rng, p = np.random.default_rng(0), p.round(1)
    order = rng.permutation(len(y))
    expected = reliability_bins(y, p, 7)
    np.testing.assert_allclose(reliability_bins(y[order], p[order], 7), expected)
    # equal probabilities in random order have these shares on average
    drawn = [np.lexsort((rng.random(len(y)), p)) for _ in range(2000)]
    shares = np.mean([[y[part].mean() for part in np.array_split(one, 7)] for one in drawn], axis=0)
    np.testing.assert_allclose(shares, expected[1], atol=0.01)


def test_bins_of_distinct_probabilities_are_their_means() -> None:
    y, p = _binary()
    order = np.argsort(p)
    means, shares, rows = reliability_bins(y, p, 6)
    parts = np.array_split(order, 6)
    np.testing.assert_allclose(means, [p[part].mean() for part in parts])
    np.testing.assert_allclose(shares, [y[part].mean() for part in parts])
    assert rows.tolist() == [len(part) for part in parts]
    assert len(reliability_bins(y[:3], p[:3], 6)[2]) == 3


def test_rmse_errors() -> None:
    with pytest.raises(PredictionError, match="one prediction per target"):
        rmse(np.array([1.0, 2.0]), np.array([1.0]))
    with pytest.raises(PredictionError, match="row 0 is NaN"):
        rmse(np.array([1.0]), np.array([np.nan]))


def test_every_metric_prefers_the_better_predictions() -> None:
    y, p = _binary(2000)
    better, worse = np.clip(p + 0.2 * (y - 0.5), 0, 1), np.full(len(y), 0.5)
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.gain(metric(y, better)) > metric.gain(metric(y, worse)), name
        assert metric.higher_is_better == (not name.endswith("_loss") and name not in ("eer", "rmse"))


def test_the_properties_of_every_metric_are_correct() -> None:
    """Range, chance level, kind and dependence on prevalence agree with the function."""
    y, p = _binary(4000)
    rng = np.random.default_rng(3)
    noise = rng.random(len(y))
    rare = np.r_[np.flatnonzero(y == 0), np.flatnonzero(y == 1)[:1000]]
    for name, metric in METRICS.items():
        low, high = metric.range
        perfect, wrong = metric(y, y.astype(float)), metric(y, 1.0 - y)
        assert low <= min(perfect, wrong) < max(perfect, wrong) <= high, name
        assert perfect == pytest.approx(high if metric.higher_is_better else low, abs=1e-12), name
        if not math.isnan(metric.chance):
            assert metric(y, noise) == pytest.approx(metric.chance, abs=0.05), name
        order_alone = metric(y, p) == pytest.approx(metric(y, p / 3), abs=1e-12)
        assert order_alone == (metric.kind == "ranking"), name
        if not metric.depends_on_prevalence:
            assert metric(y[rare], p[rare]) == pytest.approx(metric(y, p), abs=0.05), name
        counts = rng.integers(0, 3, len(y))
        repeated = np.repeat(np.arange(len(y)), counts)
        assert metric.on_counted_rows(y, p)(counts) == pytest.approx(metric(y[repeated], p[repeated]), abs=1e-12), name
    assert [name for name, metric in METRICS.items() if metric.is_auc] == ["auc"]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("auc", "auc"),
        ("ROC_AUC", "auc"),
        ("tpr@fpr=1e-3", "tpr@fpr=0.001"),
        ("tpr@fpr=0.002", "tpr@fpr=0.002"),
        ("partial_auc@fpr=0.05", "partial_auc@fpr=0.05"),
        ("brier", "brier_loss"),
    ],
)
def test_metrics_are_found_by_name(given: str, name: str) -> None:
    assert metric_by_name(given).name == name


def test_a_rate_in_the_name_reaches_the_function() -> None:
    y, p = _binary()
    assert metric_by_name("tpr@fpr=0.5")(y, p) > metric_by_name("tpr@fpr=0.01")(y, p)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("acu", "Unknown metric 'acu'; did you mean 'auc'"),
        ("log-loss", "did you mean 'log_loss'"),
        ("xyz", "Known: auc, "),
        ("tpr@fpr=much", "must be a number above 0"),
        ("tpr@fpr=0", "must be a number above 0"),
        ("partial_auc@fpr=2", "at most 1"),
    ],
)
def test_an_unknown_name_is_an_error_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        metric_by_name(name)


def test_a_function_is_a_metric_with_the_direction_of_its_name() -> None:
    def huber_loss(y: NDArray[Any], scores: NDArray[Any]) -> float:
        return float(np.abs(y - scores).mean())

    def f1(y: NDArray[Any], scores: NDArray[Any]) -> float:
        return 1.0

    assert not metric_by_name(huber_loss).higher_is_better
    assert metric_by_name(f1).higher_is_better
    assert metric_by_name(huber_loss)(np.array([1.0]), np.array([0.5])) == 0.5
    assert metric_by_name(METRICS["auc"]) is METRICS["auc"]
