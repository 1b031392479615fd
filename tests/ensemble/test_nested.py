"""The nested score: no row is scored by weights that have seen it, nor its group, nor flatters a choice."""

import numpy as np
import pytest

from ensemble.fit import fit_blend
from oof.errors import BlendError
from oof.metrics import roc_auc
from oof.metrics.intervals import score_interval
from tests.support.ensemble import make_world


def test_labels_of_a_fold_do_not_reach_its_nested_predictions() -> None:
    """Turn the labels of one fold over: its own nested predictions stay in order, the others' change."""
    oof, y = make_world(3_000, 6)
    folds = np.arange(3_000) % 5
    straight = fit_blend(oof, y, folds=folds)
    turned = y.copy()
    inside = folds == 2
    turned[inside] = np.random.default_rng(0).permutation(y[inside])
    other = fit_blend(oof, turned, folds=folds)
    before, after = straight.nested_oof[inside], other.nested_oof[inside]
    assert np.corrcoef(np.argsort(np.argsort(before)), np.argsort(np.argsort(after)))[0, 1] > 0.9999
    assert np.abs(straight.nested_oof[~inside] - other.nested_oof[~inside]).max() > 1e-3


def test_folds_with_unlike_shares_of_positives_do_not_lower_the_nested_score() -> None:
    rng = np.random.default_rng(0)
    y = (rng.random(1000) < 0.5).astype(int)
    folds = ((rng.random(1000) + 0.5 * y) / 1.5 * 5).astype(int)  # from no positive at all to nothing else
    truth = rng.normal(size=1000) + 1.5 * y
    oof = 1 / (1 + np.exp(-(truth[:, None] + rng.normal(size=(1000, 3)))))
    result = fit_blend(oof, y, folds=folds)
    fixed = result.references["mean of probabilities"][1]  # 0.825; unlevelled fits fell to 0.777
    assert result.nested_score == pytest.approx(fixed, abs=0.005)


def test_nested_scores_are_not_flattered_by_choosing() -> None:
    """On noise every fitted score lies above one half, the nested ones around it."""
    rng = np.random.default_rng(1)
    results = [fit_blend(rng.random((240, 8)), np.arange(240) % 2) for _ in range(8)]
    fitted = np.array([result.score for result in results])
    nested = np.array([result.nested_score for result in results])
    assert fitted.mean() > 0.55
    assert abs(nested.mean() - 0.5) < 3 * nested.std(ddof=1) / np.sqrt(len(nested)) + 0.01


def test_groups_stay_whole_where_folds_are_made() -> None:
    """Each group repeats one row: with rows of a group on both sides, noise would score above one half."""
    rng = np.random.default_rng(0)
    oof = np.repeat(rng.random((100, 20)), 10, axis=0)
    y = np.repeat(np.arange(100) % 2, 10)
    groups = np.repeat([f"g{i}" for i in range(100)], 10)
    split = fit_blend(oof, y)
    whole = fit_blend(oof, y, groups=groups)
    assert split.nested_score > whole.nested_score + 0.1
    low, high = whole.nested_interval
    assert low < 0.5 < high
    width = whole.nested_interval[1] - whole.nested_interval[0]
    assert width > 2 * (split.nested_interval[1] - split.nested_interval[0])  # 100 groups tell less than 1,000 rows


def test_given_folds_that_split_a_group_are_refused() -> None:
    oof, y = make_world(100, 3)
    groups = np.repeat(np.arange(50), 2)
    with pytest.raises(BlendError, match="50 groups stand in more than one fold: 0, 1"):
        fit_blend(oof, y, folds=np.arange(100) % 2, groups=groups)


def test_the_best_single_is_chosen_without_the_fold_it_is_scored_on() -> None:
    rng = np.random.default_rng(0)
    oof = rng.random((200, 60))
    y = np.arange(200) % 2
    score, nested = fit_blend(oof, y).references["best single"]
    assert score > 0.56
    assert nested < score - 0.03


def test_comparisons_tell_gain_interval_and_p_value() -> None:
    oof, y = make_world(3_000, 5)
    result = fit_blend(oof, y)
    for item in result.comparisons:
        assert item.interval[0] <= item.gain <= item.interval[1]
        assert 0 <= item.p_value <= 1
    nested_mean = result.references["mean of probabilities"][1]
    by_name = {item.other: item for item in result.comparisons}
    assert by_name["mean of probabilities"].gain == pytest.approx(result.nested_score - nested_mean, abs=1e-7)
    assert nested_mean == pytest.approx(roc_auc(y, oof.mean(axis=1)), abs=1e-6)


def test_a_loss_is_told_with_its_direction() -> None:
    oof, y = make_world(1_500, 4, noise=1.0)
    result = fit_blend(oof, y, optimize="log_loss")
    assert result.nested_score > result.score  # a loss: flattered means lower
    by_name = {item.other: item for item in result.comparisons}
    gain = by_name["mean of probabilities"].gain
    assert gain == pytest.approx(result.references["mean of probabilities"][1] - result.nested_score)
    assert gain > 0


def test_the_interval_knows_that_weights_were_fitted() -> None:
    """Many noisy models of few rows: wider than DeLong's interval of the same predictions; of an average, equal."""
    oof, y = make_world(300, 30)
    fitted, plain = fit_blend(oof, y), fit_blend(oof, y, optimize="none")
    for result, wider in ((fitted, True), (plain, False)):
        fixed = score_interval("auc", y, result.nested_oof)
        assert (result.nested_interval[0] < fixed.low - 1e-4) == wider
        assert (result.nested_interval[1] > fixed.high + 1e-4) == wider
        assert result.nested_interval[1] <= 1
