"""Unusual members (with gaps, constant, copied, inverted, leaked, coarse), and tiny or huge data sets."""

import time

import numpy as np
import pytest

from ensemble.fit import fit_blend
from oof.errors import BlendError
from oof.metrics import roc_auc
from tests.support.ensemble import make_oof


def test_gaps_are_filled_and_the_partial_model_still_helps() -> None:
    oof, y = make_oof(4_000, 4, seed=1)
    oof[:, 3] = 1 / (1 + np.exp(-(2.0 * (2 * y - 1) + np.random.default_rng(0).normal(size=4_000))))
    oof[np.random.default_rng(0).random(4_000) < 0.4, 3] = np.nan
    without = fit_blend(oof[:, :3], y)
    result = fit_blend(oof, y)
    assert result.nested_score > without.nested_score + 0.01
    test = oof[:200].copy()
    assert np.isfinite(result.predict(test)).all()
    test[3] = np.nan  # a row that no model predicts
    assert np.isfinite(result.predict(test)).all()


def test_a_constant_member_adds_nothing_and_is_named() -> None:
    oof, y = make_oof(1_000, 3)
    oof = np.column_stack([oof, np.full(1_000, 0.3, np.float32)])
    result = fit_blend(oof, y, names=["a", "b", "c", "flat"])
    assert abs(result.weights[3]) < 1e-3
    assert any("'flat' predicts 0.3 for every row" in text for text in result.warnings)
    assert result.nested_score == pytest.approx(fit_blend(oof[:, :3], y).nested_score, abs=2e-3)


def test_all_members_constant_score_one_half() -> None:
    result = fit_blend(np.full((200, 3), 0.5), np.arange(200) % 2)
    assert result.score == result.nested_score == 0.5
    assert result.weights.sum() == pytest.approx(1.0)


def test_a_copied_member_changes_little_and_is_named() -> None:
    oof, y = make_oof(1_500, 4)
    result = fit_blend(np.column_stack([oof, oof[:, 0]]), y, names=list("abcde"))
    assert "'e' is identical to 'a'; leave one out." in result.warnings
    assert result.nested_score == pytest.approx(fit_blend(oof, y).nested_score, abs=2e-3)


def test_an_inverted_member_is_corrected_and_named() -> None:
    oof, y = make_oof(3_000, 4, noise=1.0)
    inverted = oof.copy()
    inverted[:, 0] = 1 - oof[:, 0]
    result = fit_blend(inverted, y, names=list("abcd"))
    assert result.weights[0] < 0
    assert any("'a' has an AUC of" in text and "may be inverted" in text for text in result.warnings)
    assert result.nested_score == pytest.approx(fit_blend(oof, y).nested_score, abs=3e-3)


def test_a_leaked_member_is_reported() -> None:
    oof, y = make_oof(2_000, 3)
    leaked = np.clip(y + np.random.default_rng(0).normal(0, 0.05, 2_000), 0, 1)
    result = fit_blend(np.column_stack([oof, leaked]), y, names=["a", "b", "c", "cheat"])
    assert any("'cheat'" in text and "may have seen the rows" in text for text in result.warnings)
    assert fit_blend(oof, y).warnings == ()


def test_coarse_predictions_blend() -> None:
    oof, y = make_oof(2_000, 4)
    result = fit_blend(np.round(oof * 10) / 10, y)
    assert result.nested_score > result.single_scores.max()


def test_a_blend_of_one_model_is_that_model() -> None:
    oof, y = make_oof(300, 1)
    result = fit_blend(oof, y)
    np.testing.assert_array_equal(result.oof, oof[:, 0])
    np.testing.assert_array_equal(result.weights, [1.0])
    assert result.score == result.nested_score == roc_auc(y, oof[:, 0])


@pytest.mark.parametrize("rows", [2, 3, 5, 12])
def test_tiny_sets_get_the_mean(rows: int) -> None:
    oof, y = make_oof(rows, 3)
    result = fit_blend(oof, y)
    np.testing.assert_allclose(result.oof, oof.mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(result.weights, 1 / 3)
    assert np.isfinite(result.nested_score)


def test_a_fold_of_one_class_is_scored_with_the_others() -> None:
    oof, y = make_oof(600, 3)
    folds = np.where(y == 0, np.arange(600) % 2, 2 + np.arange(600) % 3)
    result = fit_blend(oof, y, folds=folds)
    assert 0.5 < result.nested_score < 1


def test_with_all_positives_in_one_fold_a_method_without_fitting_is_used() -> None:
    oof, y = make_oof(600, 3)
    result = fit_blend(oof, y, folds=y)
    assert np.isfinite(result.nested_oof).all()
    assert result.nested_score > 0.5


def test_a_single_fold_can_be_blended() -> None:
    oof, y = make_oof(300, 3)
    result = fit_blend(oof, y, folds=np.zeros(300, int))
    assert np.isfinite(result.nested_score)


def test_half_precision_and_integers_are_accepted() -> None:
    oof, y = make_oof(1_000, 3)
    half = fit_blend(oof.astype(np.float16), y)
    assert half.nested_score == pytest.approx(fit_blend(oof, y).nested_score, abs=2e-3)
    assert fit_blend((oof > 0.5).astype(int), y).nested_score > 0.5


def test_scores_outside_the_unit_range_blend_by_rank_and_are_refused_by_logit() -> None:
    oof, y = make_oof(1_500, 4, seed=2)
    margins = 20 * np.log(oof / (1 - oof))
    result = fit_blend(margins, y)
    assert result.nested_score > result.single_scores.max()
    assert "logit" not in result.transform.split("+")
    for transform in ("logit", "geometric", "power"):
        with pytest.raises(BlendError, match=r"needs predictions in \[0, 1\].*rank"):
            fit_blend(margins, y, transform=transform)
    new = np.array([[1e9] * 4, [-1e9] * 4])
    assert np.isfinite(result.predict(new)).all()


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_rare_classes_blend(share: float) -> None:
    oof, y = make_oof(5_000, 6, positive_share=share)
    result = fit_blend(oof, y)
    assert result.nested_score > result.single_scores.max() - 0.01


def test_pure_noise_is_not_significant() -> None:
    rng = np.random.default_rng(0)
    found = [fit_blend(rng.random((500, 10)), np.arange(500) % 2) for _ in range(12)]
    assert not any("significantly better" in result.verdict for result in found)
    assert sum("is worse than" in result.verdict for result in found) <= 1
    assert sum(low < 0.5 < high for low, high in (result.nested_interval for result in found)) >= 10


@pytest.mark.slow
def test_a_thousand_models_of_20000_rows() -> None:  # half a minute
    rng = np.random.default_rng(0)
    y = (rng.random(20_000) < 0.5).astype(np.int8)
    oof = np.empty((20_000, 1_000), np.float32)
    for model in range(1_000):
        oof[:, model] = 0.3 * (2 * y - 1) * rng.random() + rng.normal(size=20_000)
    started = time.process_time()
    result = fit_blend(oof, y)
    assert result.nested_score > 0.99
    assert time.process_time() - started < 240
