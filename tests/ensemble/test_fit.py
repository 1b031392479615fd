"""`fit_blend`: weights, scores, predictions for new rows, and reproducibility."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import rankdata

from ensemble.fit import fit_blend
from ensemble.settings import TRANSFORMS
from oof.errors import BlendError
from oof.metrics import metric_by_name, roc_auc
from tests.support.ensemble import make_oof
from tests.support.slow_scores import pairwise_auc


def test_weights_sum_to_one_and_scores_belong_to_their_predictions() -> None:
    oof, y = make_oof(1_500, 6)
    result = fit_blend(oof, y)
    assert result.weights.shape == (6,)
    assert result.weights.sum() == pytest.approx(1.0)
    assert result.score == pytest.approx(roc_auc(y, result.oof), abs=1e-12)
    assert result.nested_score == pytest.approx(roc_auc(y, result.nested_oof), abs=1e-12)
    low, high = result.nested_interval
    assert low < result.nested_score < high
    assert result.nested_score < result.score


def test_the_blend_beats_every_member_and_the_mean_on_new_rows() -> None:
    oof, y = make_oof(8_000, 8, seed=3)
    test, test_y = make_oof(8_000, 8, seed=3_000)
    # members differ in quality, so both sets must come from the same models
    oof[:, 4:] = np.random.default_rng(0).random((8_000, 4))
    test[:, 4:] = np.random.default_rng(1).random((8_000, 4))
    result = fit_blend(oof, y)
    blended = roc_auc(test_y, result.predict(test))
    assert blended > roc_auc(test_y, test.mean(axis=1)) + 0.02
    assert np.abs(result.weights[4:]).max() < 0.05


@pytest.mark.parametrize("metric", ["brier_loss", "log_loss", "accuracy"])
@pytest.mark.parametrize(
    ("transform", "name", "mean"),
    [
        ("geometric", "geometric mean", lambda p: np.exp(np.log(p).mean(axis=1))),
        ("power", "power mean", lambda p: (p**3).mean(axis=1) ** (1 / 3)),
        ("logit", "mean of logits", lambda p: 1 / (1 + np.exp(-np.log(p / (1 - p)).mean(axis=1)))),
    ],
)
def test_a_mean_is_scored_as_a_probability(metric: str, transform: str, name: str, mean: Callable[..., Any]) -> None:
    """It is computed from logarithms or powers, which are not probabilities."""
    oof, y = make_oof(300, 4)
    oof = np.clip(oof, 0.05, 0.95)
    result = fit_blend(oof, y, optimize=metric, transform=transform)
    expected = metric_by_name(metric)(y, mean(oof))
    assert result.references[name] == pytest.approx((expected, expected), abs=1e-6)
    assert {one.name: one.nested_score for one in result.methods}[name] == pytest.approx(expected, abs=1e-6)


def test_predictions_for_the_fitted_rows_equal_the_fitted_ones() -> None:
    oof, y = make_oof(900, 4)
    result = fit_blend(oof, y)
    np.testing.assert_allclose(result.predict(oof), result.oof, atol=1e-6)
    np.testing.assert_allclose(result.predict(oof[7:8]), result.oof[7:8], atol=1e-6)  # one row at a time


def test_fold_models_are_blended_separately_and_then_averaged() -> None:
    oof, y = make_oof(600, 3)
    result = fit_blend(oof, y)
    parts = np.stack([make_oof(50, 3, seed=seed)[0] for seed in range(4)])
    expected = np.mean([result.predict(part) for part in parts], axis=0)
    np.testing.assert_allclose(result.predict(parts), expected)


def test_the_same_input_gives_the_same_numbers() -> None:
    oof, y = make_oof(1_000, 5)
    first, second = fit_blend(oof, y, seed=4), fit_blend(oof, y, seed=4)
    np.testing.assert_array_equal(first.oof, second.oof)
    np.testing.assert_array_equal(first.weights, second.weights)
    assert first.nested_score == second.nested_score


def test_the_order_of_rows_does_not_matter_with_given_folds() -> None:
    oof, y = make_oof(800, 4)
    folds = np.arange(800) % 4
    order = np.random.default_rng(0).permutation(800)
    straight = fit_blend(oof, y, folds=folds)
    shuffled = fit_blend(oof[order], y[order], folds=folds[order])
    assert shuffled.nested_score == pytest.approx(straight.nested_score, abs=2e-4)
    np.testing.assert_allclose(shuffled.oof, straight.oof[order], atol=2e-3)


@pytest.mark.parametrize("options", [
    {"prune": True},
    {"methods": ("boosted",)},
    {"optimize": "log_loss", "calibrate": "isotonic"},
    {"importance_weighting": True},
])  # fmt: skip
def test_results_are_the_same_for_rows_in_another_order(options: dict[str, Any]) -> None:
    """Rounding errors made pruning keep other members, and the interval of a bootstrap drew other rows."""
    oof, y = make_oof(200, 3, positive_share=0.9)
    oof = np.round(oof, 2)  # rows with equal predictions of the first model
    folds = np.arange(200) % 4
    if "importance_weighting" in options:
        options = options | {"test": oof[oof[:, 0] > 0.5]}
    order = np.random.default_rng(0).permutation(200)
    straight = fit_blend(oof, y, folds=folds, **options)
    shuffled = fit_blend(oof[order], y[order], folds=folds[order], **options)
    assert shuffled.nested_score == straight.nested_score
    assert shuffled.nested_interval == straight.nested_interval
    np.testing.assert_array_equal(shuffled.weights, straight.weights)
    np.testing.assert_array_equal(shuffled.nested_oof, straight.nested_oof[order])
    np.testing.assert_array_equal(shuffled.oof, straight.oof[order])


def test_input_is_not_changed() -> None:
    oof, y = make_oof(400, 3)
    oof[5, 1] = np.nan
    before = oof.copy()
    fit_blend(oof, y)
    np.testing.assert_array_equal(oof, before)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_every_transform_blends(transform: str) -> None:
    oof, y = make_oof(700, 4)
    result = fit_blend(oof, y, transform=transform)
    assert result.nested_score > result.single_scores.max()
    if transform != "auto":
        assert result.transform == transform


def test_signed_weights_help_if_a_weak_model_amplifies_the_error_of_its_family() -> None:
    rng = np.random.default_rng(0)
    y = (rng.random(6_000) < 0.5).astype(np.int8)
    shared = rng.normal(size=6_000)
    good = (2 * y - 1) + shared + 0.3 * rng.normal(size=6_000)
    weak = 2 * shared + 0.3 * rng.normal(size=6_000)
    oof = 1 / (1 + np.exp(-np.column_stack([good, weak])))
    result = fit_blend(oof, y)
    assert result.weights[1] < 0
    assert result.nested_score > roc_auc(y, good) + 0.08


def test_confident_mistakes_do_not_distort_the_weights() -> None:
    """With confident mistakes, weights fitted with the plain sigmoid are worse than the mean of probabilities."""
    rng = np.random.default_rng(0)
    y = (rng.random(12_000) < 0.4).astype(np.int8)
    truth = (2 * y - 1) * rng.gamma(6, 0.9, 12_000) + rng.normal(size=12_000)
    latent = truth[:, None] + rng.normal(size=(12_000, 6))
    lost = rng.random((12_000, 6)) < 0.1
    latent[lost] = rng.normal(0, 12, int(lost.sum()))
    oof = 1 / (1 + np.exp(-np.clip(latent, -30, 30)))
    result = fit_blend(oof, y)
    assert result.nested_score > roc_auc(y, oof.mean(axis=1)) - 1e-5


def test_max_members_is_respected_and_members_are_chosen_within_each_fold() -> None:
    oof, y = make_oof(1_200, 8)
    result = fit_blend(oof, y, max_members=3)
    assert np.count_nonzero(result.weights) == 3
    assert result.weights.sum() == pytest.approx(1.0)
    assert result.nested_score < result.score
    np.testing.assert_allclose(result.predict(oof), result.oof, atol=1e-6)
    noise = np.random.default_rng(0).random((300, 40))
    labels = np.arange(300) % 2
    chosen = fit_blend(noise, labels, max_members=2)
    assert chosen.nested_score < 0.57  # the best of 40 noise models looks good on the rows on which it was chosen
    assert chosen.score > 0.57


def test_methods_are_listed_best_first_with_their_shares() -> None:
    oof, y = make_oof(1_000, 4)
    result = fit_blend(oof, y)
    nested = [method.nested_score for method in result.methods]
    assert nested == sorted(nested, reverse=True)
    assert sum(method.share for method in result.methods) == pytest.approx(1.0)
    assert {"best single", "mean of probabilities", "four transforms of each model"} <= {a.name for a in result.methods}


def test_wrong_shapes_and_values_are_named() -> None:
    oof, y = make_oof(100, 3)
    with pytest.raises(BlendError, match=r"got \(100, 3\) and \(99,\)"):
        fit_blend(oof, y[:-1])
    with pytest.raises(BlendError, match="y must contain both 0 and 1 and nothing else; found 1"):
        fit_blend(oof, np.ones(100))
    with pytest.raises(BlendError, match="'a' is unknown|transform = 'a' is unknown"):
        fit_blend(oof, y, transform="a")
    with pytest.raises(BlendError, match="models have no predictions: b"):
        fit_blend(np.column_stack([oof[:, 0], np.full(100, np.nan)]), y, names=["a", "b"])
    with pytest.raises(BlendError, match="infinite predictions: b"):
        fit_blend(np.column_stack([oof[:, 0], np.full(100, np.inf)]), y, names=["a", "b"])
    with pytest.raises(BlendError, match="2 different names; got 2: a, a"):
        fit_blend(oof[:, :2], y, names=["a", "a"])
    with pytest.raises(BlendError, match=r"Expected test predictions of shape \(n_test, 3\)"):
        fit_blend(oof, y).predict(oof[:, :2])
    with pytest.raises(BlendError, match="max_members = 0"):
        fit_blend(oof, y, max_members=0)


@pytest.mark.parametrize("value", [1.1e15, -1e39, 1e155, 1.7e308])
@pytest.mark.parametrize("optimize", ["auc", "rmse", "none"])
def test_predictions_too_large_to_be_summed_are_named(value: float, optimize: str) -> None:
    oof, y = make_oof(100, 2)
    wide = oof.astype(np.float64)
    wide[7, 1] = value
    with pytest.raises(BlendError, match=r"predictions beyond 1e\+15: b\. Divide them by a constant"):
        fit_blend(wide, y, names=["a", "b"], optimize=optimize)
    real = np.where(np.arange(100) == 3, value, y.astype(np.float64))
    with pytest.raises(BlendError, match=r"y has values beyond 1e\+15"):
        fit_blend(oof, real, optimize="rmse")


@pytest.mark.parametrize(("rows", "models"), [(24, 4), (23, 3), (210, 7)])
def test_equal_sums_of_ranks_are_ties(rows: int, models: int) -> None:
    """Sums of ranks in float32 are put in the order of their rounding errors."""
    rng = np.random.default_rng(rows)
    oof = rng.random((rows, models))
    y = np.arange(rows) % 2
    twice = np.sum([(2 * rankdata(column)).astype(int) for column in oof.T], axis=0)
    assert len(np.unique(twice)) < rows
    result = fit_blend(oof, y, optimize="none", transform="rank")
    assert result.score == pytest.approx(pairwise_auc(y, twice), abs=1e-12)
    assert result.references["mean of ranks"] == (result.score, result.score)
    predictions = result.predict(oof[None])
    assert np.unique(predictions, return_inverse=True)[1].tolist() == np.unique(twice, return_inverse=True)[1].tolist()


@pytest.mark.parametrize("transform", ["auto", "prob", "rank"])
def test_a_positive_factor_of_all_predictions_does_not_change_a_blend(transform: str) -> None:
    oof, y = make_oof(200, 3)
    logits = np.log(oof / (1 - oof)).astype(np.float64)
    factor = 2.0**45  # about 3e13
    straight = fit_blend(logits, y, transform=transform)
    scaled = fit_blend(logits * factor, y, transform=transform)
    np.testing.assert_allclose(scaled.weights, straight.weights, atol=1e-6)
    assert scaled.nested_score == pytest.approx(straight.nested_score, abs=1e-9)


def test_weights_fitted_without_a_fold_do_not_depend_on_its_labels() -> None:
    oof, y = make_oof(1_200, 4)
    folds = np.arange(1_200) % 4
    whole = fit_blend(oof, y, folds=folds)
    turned = np.where(folds == 2, 1 - y, y)
    other = fit_blend(oof, turned, folds=folds)
    assert whole.fold_weights is not None
    assert other.fold_weights is not None
    assert whole.fold_weights.shape == (4, 4)
    np.testing.assert_allclose(whole.fold_weights.sum(axis=1), 1.0)
    np.testing.assert_allclose(whole.fold_weights.mean(axis=0), whole.weights, atol=0.05)
    np.testing.assert_allclose(whole.fold_weights[2], other.fold_weights[2], atol=0.02)
    assert np.abs(whole.fold_weights[1] - other.fold_weights[1]).max() > 0.1
    assert whole.summary.members[1].fold_weights == tuple(whole.fold_weights[:, 1])


@pytest.mark.parametrize(
    ("positives", "models", "changes", "fitted", "score_of"),
    [
        (100, 3, {}, ("weights",), "the rows that the weights were fitted on"),
        (100, 1, {}, (), "all training rows; no weights were fitted"),
        (9, 3, {}, (), "all training rows; no weights were fitted"),
        (9, 3, {"max_members": 3}, (), "all training rows; no weights were fitted"),
        (9, 3, {"max_members": 2}, ("members",), "the rows used for choosing members; no weights were fitted"),
        (
            9,
            3,
            {"max_members": 2, "calibrate": "beta"},
            ("members", "calibration"),
            "the rows used for choosing members and calibration; no weights were fitted",
        ),
        (100, 3, {"optimize": "none"}, (), "all training rows; no weights were fitted"),
    ],
)
def test_scores_name_what_was_fitted(
    positives: int, models: int, changes: dict[str, Any], fitted: tuple[str, ...], score_of: str
) -> None:
    oof, _ = make_oof(200, models)
    result = fit_blend(oof, np.arange(200) < positives, **changes)
    assert (result.fitted, result.summary.score_of) == (fitted, score_of)
    assert (result.fold_weights is not None) == ("weights" in fitted)
    nested = {
        ("weights",): "each fold, with the weights fitted without it",
        (): "all training rows; no weights were fitted",
    }
    chosen = f"each fold, with {' and '.join(fitted)} chosen without it; no weights were fitted"
    assert result.summary.nested_score_of == nested.get(fitted, chosen)
    if not fitted:
        assert result.score == result.nested_score


def test_an_average_names_the_imputation_that_was_chosen_on_its_rows() -> None:
    oof, y = make_oof(200, 3)
    oof[::7, 1] = np.nan
    summary = fit_blend(oof, y, optimize="none").summary
    assert summary.score_of == "the rows used for choosing imputation; no weights were fitted"
    assert summary.nested_score_of == summary.score_of  # it is not chosen again without each fold
