"""Transforms and links: the same function for new rows, also row by row, which never changes the order."""

import numpy as np
import pytest
from scipy.stats import rankdata

from ensemble.fit import fit_blend
from ensemble.link import BINS, learnt_link, sigmoid_link
from ensemble.transforms import Distribution, fill_missing, fit_distribution, fit_transforms
from oof.errors import BlendError
from tests.support.ensemble import make_oof


def test_ranks_are_the_mid_ranks_of_the_fitted_rows() -> None:
    values = np.random.default_rng(0).random(800).astype(np.float32).round(2)
    found = fit_distribution(values).ranks(values)
    np.testing.assert_allclose(found, (rankdata(values) - 0.5) / 800, atol=1e-6)


def test_ranks_of_many_rows_are_close_and_never_change_the_order() -> None:
    values = np.random.default_rng(0).normal(size=200_000).astype(np.float32) ** 3
    found = fit_distribution(values).ranks(values)
    np.testing.assert_allclose(found, (rankdata(values) - 0.5) / 200_000, atol=6e-4)
    assert (np.diff(found[np.argsort(values)]) >= 0).all()


def test_order_is_kept_outside_the_fitted_range() -> None:
    distribution = fit_distribution(np.linspace(0.2, 0.8, 100, dtype=np.float32))
    new = np.array([-5, 0.1, 0.2, 0.5, 0.8, 0.9, 7], np.float32)
    ranks = distribution.ranks(new)
    assert (np.diff(ranks) > 0).all()
    assert ((ranks > 0) & (ranks < 1)).all()


def test_weights_of_probabilities_do_not_depend_on_their_unit() -> None:
    """Predictions in a range of 1e-9 are not constant."""
    oof, y = make_oof(250, 3)
    one, small = (fit_blend(oof * np.float32(unit), y, transform="prob") for unit in (1.0, 1e-9))
    assert small.score == pytest.approx(one.score, abs=1e-4)
    assert small.nested_score == pytest.approx(one.nested_score, abs=1e-4)


@pytest.mark.parametrize("far", [1e3, 1e15])
def test_rows_between_far_ones_keep_their_order(far: float) -> None:
    rng = np.random.default_rng(0)
    values = np.r_[-far, far, rng.normal(size=5000)].astype(np.float32)
    found = fit_distribution(values)
    new = np.sort(rng.normal(size=20_000)).astype(np.float32)
    np.testing.assert_allclose(found.exact_ranks(new), np.interp(new, found.knots, found.cdf), atol=1e-9)


def test_one_row_at_a_time_gives_the_same_transforms() -> None:
    oof, _ = make_oof(500, 3)
    columns = np.ascontiguousarray(oof.T)
    transforms = fit_transforms(columns)
    for name in ("prob", "logit", "rank", "rank-logit", "geometric", "power"):
        whole = transforms.apply(name, columns)
        one = np.concatenate(
            [transforms.apply(name, np.ascontiguousarray(columns[:, i : i + 1])) for i in range(20)], axis=1
        )
        np.testing.assert_array_equal(one, whole[:, :20])


def test_zeros_and_ones_of_coarse_predictions_stay_close_to_their_neighbours() -> None:
    columns = np.round(np.random.default_rng(0).random((1, 200)), 1).astype(np.float32)
    logits = fit_transforms(columns).apply("logit", columns)
    assert np.isfinite(logits).all()
    assert np.abs(logits).max() < 5


def test_a_gap_is_filled_by_the_rank_of_the_other_models() -> None:
    values = np.linspace(0.1, 0.9, 101).astype(np.float32)
    columns = np.stack([values, values**2, values**3])
    columns[2, 40] = np.nan
    transforms = fit_transforms(columns)
    filled = fill_missing(transforms, columns)
    assert filled[2, 40] == pytest.approx(values[40] ** 3, abs=0.01)
    np.testing.assert_array_equal(np.isnan(columns[2, 40:41]), [True])  # the input is not changed
    mean = fill_missing(fit_transforms(columns, "mean"), columns)
    assert mean[2, 40] == pytest.approx((values[40] + values[40] ** 2) / 2)


def test_a_transform_of_probabilities_refuses_margins() -> None:
    columns = np.array([[-1.0, 3.0]], np.float32)
    with pytest.raises(BlendError, match=r"'logit' needs predictions in \[0, 1\]"):
        fit_transforms(columns).apply("logit", columns)


def test_distribution_of_one_value() -> None:
    distribution = Distribution(np.array([0.3]), np.array([0.5]))
    ranks = distribution.ranks(np.array([0.0, 0.3, 1.0], np.float32))
    assert ranks[0] < ranks[1] < ranks[2]


def _counts(odds: float) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], ...]:
    at = np.linspace(-4, 4, BINS)
    rows = 400 * np.exp(-(at**2) / 2)
    chance = 1 / (1 + np.exp(-(odds * np.tanh(at))))
    return rows * chance, rows * (1 - chance)


def test_a_learned_link_finds_saturating_log_odds() -> None:
    positives, negatives = _counts(2.5)
    link = learnt_link(-4.0, 4.0, positives, negatives)
    at = np.linspace(-2.5, 2.5, 21)
    np.testing.assert_allclose(link.odds(at), 2.5 * np.tanh(at), atol=0.1)
    wide = link.odds(np.linspace(-50, 50, 2_001))
    assert (np.diff(wide) > 0).all()


def test_a_sigmoid_link_matches_the_number_of_positives() -> None:
    positives, negatives = _counts(2.5)
    link = sigmoid_link(-4.0, 4.0, positives, negatives)
    at = -4 + (np.arange(BINS) + 0.5) * 8 / BINS
    expected = ((positives + negatives) / (1 + np.exp(-link.odds(at)))).sum()
    assert expected == pytest.approx(positives.sum(), rel=1e-6)


@pytest.mark.parametrize("scale", [1e-9, 1e-12, 1e-13, 1e-20, 1e-30])
def test_ranks_do_not_depend_on_the_unit(scale: float) -> None:
    values = np.random.default_rng(0).random(3_000).astype(np.float32)
    small = (values.astype(np.float64) * scale).astype(np.float32)
    np.testing.assert_allclose(fit_distribution(small).ranks(small), fit_distribution(values).ranks(values), atol=1e-3)
    beyond = fit_distribution(small).ranks(np.array([-1.0, 1.0], np.float32))
    assert np.isfinite(np.log(beyond / (1 - beyond))).all()
