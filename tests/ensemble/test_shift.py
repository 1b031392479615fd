"""Broken inference is found, correct test predictions are not reported, and weights move OOF toward the test set."""

import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from ensemble.fit import fit_blend
from ensemble.shift import adversarial_auc, fold_agreement, model_shifts, shift_weights
from oof.errors import BlendError
from oof.metrics import roc_auc


def make_data(
    n: int, seed: int, *, models: int = 5, hard: float = 0.3
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Generate probabilities (n, models) and labels; on a share of hard rows, models are weak and unsure."""
    rng = np.random.default_rng(seed)
    y = rng.random(n) < 0.5
    strength = np.where(rng.random(n) < hard, 0.3, 2.0)
    seen = (2 * y - 1) * strength + rng.normal(size=n) * 0.7
    return 1 / (1 + np.exp(-(seen[:, None] + 0.6 * rng.normal(size=(n, models))))), y


def reasons(oof: NDArray[Any], test: NDArray[Any]) -> list[tuple[str, ...]]:
    return [shift.reasons for shift in model_shifts(oof, test)]


def test_correct_test_predictions_are_not_reported() -> None:
    for seed in range(5):
        oof, test = make_data(2000, seed)[0], make_data(1000, seed + 100)[0]
        assert reasons(oof, test) == [()] * 5
        assert abs(model_shifts(oof, test)[0].auc - 0.5) < 0.05


def test_a_shift_of_the_data_is_not_blamed_on_a_single_model() -> None:
    assert reasons(make_data(2000, 0)[0], make_data(1000, 1, hard=0.9)[0]) == [()] * 5


def test_the_mean_over_fold_models_is_not_called_broken() -> None:
    oof = make_data(2000, 0)[0]
    rng = np.random.default_rng(1)
    one = make_data(1000, 2)[0]
    logits = np.log(one / (1 - one))
    parts = 1 / (1 + np.exp(-(logits + 0.3 * rng.normal(size=(5, 1000, 5)))))
    assert reasons(oof, parts.mean(axis=0)) == [()] * 5
    assert reasons(oof, parts) == [()] * 5


@pytest.mark.parametrize(
    ("breaks", "reason"),
    [
        (lambda p: 0.4 + 0.05 * p, "test predictions are shifted|far from OOF"),
        (lambda p: np.random.default_rng(0).permutation(p), "agrees with the other models on OOF, but less on test"),
        (lambda p: 1 - p, "agrees with the other models on OOF, but less on test"),
        (lambda p: np.log(p / (1 - p)), "outside the range of OOF"),
        (lambda p: np.full_like(p, 0.5), "all test predictions are 0.5"),
        (lambda p: p**8, "test predictions are shifted|far from OOF"),
    ],
)
def test_broken_inference_of_one_model_is_named(breaks: Any, reason: str) -> None:
    oof, test = make_data(2000, 0)[0], make_data(1000, 1)[0]
    test[:, 3] = breaks(test[:, 3])
    found = reasons(oof, test)
    assert any(text for text in found[3] if any(part in text for part in reason.split("|")))
    assert [bool(texts) for texts in found] == [False, False, False, True, False]


def test_two_models_that_no_longer_agree_are_both_named() -> None:
    oof, test = make_data(2000, 0, models=2)[0], make_data(1000, 1, models=2)[0]
    assert reasons(oof, test) == [(), ()]
    test[:, 1] = test[::-1, 1]
    assert all("the two models agree on OOF, but less on test" in texts[0] for texts in reasons(oof, test))


def test_distance_equals_scipy_and_nan_is_left_out() -> None:
    oof, test = make_data(300, 0)[0], make_data(200, 1, hard=0.8)[0]
    oof[:50, 0] = np.nan
    shift = model_shifts(oof, test)[0]
    assert shift.distance == pytest.approx(ks_2samp(oof[50:, 0], test[:, 0]).statistic)
    labels = np.repeat([0, 1], [250, 200])
    assert shift.auc == pytest.approx(roc_auc(labels, np.concatenate([oof[50:, 0], test[:, 0]])))


def test_one_model_alone_can_be_compared() -> None:
    shift = model_shifts(make_data(300, 0, models=1)[0], make_data(200, 1, models=1)[0])[0]
    assert shift.reasons == ()
    assert np.isnan(shift.oof_agreement)


def test_a_wrongly_loaded_fold_model_is_found() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(500)
    parts = np.stack([truth + 0.1 * rng.normal(size=500) for _ in range(5)])
    parts[2] = rng.random(500)
    found = fold_agreement(parts)
    assert found[2] < 0.2
    assert np.delete(found, 2).min() > 0.8


def test_similar_rows_cannot_be_separated_and_have_weight_one() -> None:
    oof, test = make_data(2000, 0)[0], make_data(1000, 1)[0]
    interval = adversarial_auc(oof, test)
    assert interval.low < 0.5 < interval.high
    assert shift_weights(oof, test).tolist() == [1.0] * 2000


def test_the_predictions_of_a_row_by_several_fold_models_are_one_row() -> None:
    """They are nearly equal: taken as rows of their own, they were in training and held-out rows of the classifier."""
    found = []
    for seed in range(25):
        oof, test = make_data(600, 2 * seed)[0], make_data(100, 2 * seed + 1)[0]
        noise = np.random.default_rng(seed).normal(0, 0.01, (5, 100, oof.shape[1]))
        found.append(adversarial_auc(oof, np.clip(test + noise, 1e-6, 1 - 1e-6)))
    assert np.mean([interval.score for interval in found]) < 0.52
    assert sum(interval.low > 0.5 for interval in found) <= 3


def test_shifted_rows_are_separated_even_if_only_the_spread_differs() -> None:
    oof, test = make_data(2000, 0)[0], make_data(1000, 1, hard=0.9)[0]
    assert abs(model_shifts(oof, test)[0].auc - 0.5) < 0.05  # neither higher nor lower
    assert adversarial_auc(oof, test).low > 0.6


def unsure(n: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Generate a test set that differs only in having more rows about which the models are uncertain."""
    (pool, y), rng = make_data(8 * n, seed), np.random.default_rng(seed)
    logit = np.log(pool / (1 - pool)).mean(axis=1)
    rows = np.flatnonzero(rng.random(8 * n) < np.exp(-(logit**2) / 3))[:n]
    return pool[rows], y[rows]


@pytest.mark.parametrize("seed", [0, 10, 20])
def test_weighted_oof_scores_more_like_the_test_set(seed: int) -> None:
    (oof, y), (test, y_test) = make_data(6000, seed), unsure(6000, seed + 1)
    weights = shift_weights(oof, test)
    assert weights.mean() == pytest.approx(1.0)
    assert weights.max() / weights.min() <= 100 * (1 + 1e-9)
    truth = roc_auc(y_test, test.mean(axis=1))
    plain, weighted = roc_auc(y, oof.mean(axis=1)), roc_auc(y, oof.mean(axis=1), weights)
    assert abs(weighted - truth) < 0.35 * abs(plain - truth)


def test_rows_outside_the_sample_are_also_weighted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ensemble.shift._MOST_ROWS", 1000)
    (oof, y), (test, y_test) = make_data(6000, 0), unsure(3000, 1)
    oof[::7, 2] = np.nan
    weights = shift_weights(oof, test)
    assert weights.shape == (6000,)
    truth = roc_auc(y_test, test[:, 0])
    assert abs(roc_auc(y, oof[:, 0], weights) - truth) < 0.5 * abs(roc_auc(y, oof[:, 0]) - truth)


def test_the_same_generator_gives_the_same_weights() -> None:
    oof, test = make_data(500, 0)[0], make_data(500, 1, hard=0.9)[0]
    first, second = (shift_weights(oof, test, rng=np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(BlendError, match=r"got \(10, 2\) and \(5, 3\)"):
        model_shifts(np.zeros((10, 2)), np.zeros((5, 3)))
    with pytest.raises(BlendError, match="Model 1 has no OOF predictions"):
        shift_weights(np.column_stack([np.zeros(10), np.full(10, np.nan)]), np.zeros((5, 2)))
    with pytest.raises(BlendError, match="at least 4 rows of each"):
        adversarial_auc(np.random.default_rng(0).random((10, 2)), np.random.default_rng(1).random((3, 2)))


def two_kinds(n: int, seed: int, share: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Generate two kinds of rows, each predicted well by two of four models; `share` of rows are of the second."""
    rng = np.random.default_rng(seed)
    y, kind = rng.integers(0, 2, n), rng.random(n) < share
    strength = np.where(kind[:, None] == (np.arange(4) % 2 == 1), 1.6, 0.2)
    seen = (2 * y[:, None] - 1) * strength + rng.normal(size=(n, 4)) + np.where(kind, 1.2, -1.2)[:, None]
    return 1 / (1 + np.exp(-seen)), y


def test_weighting_toward_another_mix_of_kinds_improves_the_score_on_it() -> None:
    oof, y = two_kinds(8000, 1, 0.15)
    test, truth = two_kinds(20_000, 101, 0.85)
    plain = fit_blend(oof, y, test=test)
    weighted = fit_blend(oof, y, test=test, importance_weighting=True)
    counted = re.search("for the test set, and count as ([0-9]+) of 8000 rows", weighted.warnings[-1])
    assert counted is not None
    # if predictions showed the kind of each row: weights of 0.85 / 0.15 and 0.15 / 0.85, so 1,652 rows
    assert 1652 < int(counted[1]) < 4000
    assert weighted.method.endswith("rows weighted by importance for the test set")
    assert roc_auc(truth, weighted.predict(test)) > roc_auc(truth, plain.predict(test)) + 0.005
    assert weighted.score == pytest.approx(roc_auc(y, weighted.oof))
    assert weighted.nested_score == pytest.approx(roc_auc(y, weighted.nested_oof))
    of_methods = {item.name: item.nested_score for item in weighted.methods}
    alike = weighted.references["mean of probabilities"][1]  # of all rows alike, those of methods of the weighted rows
    assert abs(of_methods["mean of probabilities"] - alike) > 0.05
    assert weighted.fold_weights is not None
    np.testing.assert_allclose(weighted.fold_weights.mean(axis=0), weighted.weights, atol=0.1)


def test_rows_have_equal_weights_if_the_test_set_has_the_same_mix() -> None:
    oof, y = two_kinds(4000, 1, 0.15)
    test, _ = two_kinds(4000, 102, 0.15)
    same = fit_blend(oof, y, test=test, importance_weighting=True)
    assert "rows are not weighted" in same.warnings[-1]
    assert same.nested_score == fit_blend(oof, y).nested_score


def test_weighting_without_test_predictions_is_refused() -> None:
    oof, y = two_kinds(200, 0, 0.5)
    with pytest.raises(BlendError, match="needs test predictions"):
        fit_blend(oof, y, importance_weighting=True)
