"""Intervals and differences: DeLong against its definition, the bootstrap against DeLong, and coverage of both."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from oof.errors import PredictionError
from oof.metrics import METRICS, Metric, roc_auc
from oof.metrics.auc_interval import auc_interval
from oof.metrics.bootstrap import bootstrap_scores
from oof.metrics.delong import auc_covariance, placements
from oof.metrics.intervals import difference, score_interval
from tests.support.slow_scores import pairwise_auc, tied_scores


def slow_covariance(y: NDArray[Any], columns: list[NDArray[Any]]) -> NDArray[np.float64]:
    """DeLong's covariance from all pairs: the structural components and their sample covariances."""
    v10, v01 = [], []
    for scores in columns:
        x, z = scores[y == 1], scores[y == 0]
        psi = (x[:, None] > z[None, :]) + 0.5 * (x[:, None] == z[None, :])
        v10.append(psi.mean(axis=1))
        v01.append(psi.mean(axis=0))
    s10, s01 = np.atleast_2d(np.cov(v10)), np.atleast_2d(np.cov(v01))
    covariance: NDArray[np.float64] = s10 / (y == 1).sum() + s01 / (y == 0).sum()
    return covariance


@pytest.mark.parametrize("levels", [20, 1000])
@pytest.mark.parametrize("n", [8, 300])
def test_delong_equals_its_definition_over_all_pairs(n: int, levels: int) -> None:
    rng = np.random.default_rng(n)
    y, a = tied_scores(rng, n, levels)
    y[:4] = 0, 1, 0, 1
    columns: list[NDArray[Any]] = [a, np.round(a + rng.normal(size=n), 1), a.astype(np.float32)]
    aucs, covariance = auc_covariance(y, columns)
    np.testing.assert_allclose(aucs, [pairwise_auc(y, column) for column in columns], atol=1e-12)
    np.testing.assert_allclose(covariance, slow_covariance(y, columns), atol=1e-12)


def test_the_mean_placement_of_either_class_is_the_auc() -> None:
    y, scores = tied_scores(np.random.default_rng(1), 500)
    placed = placements(y, scores)
    assert placed[y == 1].mean() == pytest.approx(roc_auc(y, scores), abs=1e-12)
    assert placed[y == 0].mean() == pytest.approx(roc_auc(y, scores), abs=1e-12)


def slow_group_variance(y: NDArray[Any], scores: NDArray[Any], groups: NDArray[Any]) -> float:
    """Obuchowski's variance, its three sums written out over the groups, one degree of freedom for all of them."""
    placed, auc = placements(y, scores), roc_auc(y, scores)
    m, n, names = (y == 1).sum(), (y == 0).sum(), sorted(set(groups))
    total = 0.0
    for name in names:
        inside = groups == name
        up = (placed[inside & (y == 1)] - auc).sum()
        down = (placed[inside & (y == 0)] - auc).sum()
        total += up**2 / m**2 + down**2 / n**2 + 2 * up * down / (m * n)
    return float(total * len(names) / (len(names) - 1))


def test_group_variance_equals_its_definition() -> None:
    rng = np.random.default_rng(2)
    y, scores = tied_scores(rng, 300)
    groups = rng.integers(0, 40, 300).astype(str)
    assert auc_covariance(y, [scores], groups)[1][0, 0] == pytest.approx(slow_group_variance(y, scores, groups))


def test_duplicated_rows_of_a_group_do_not_narrow_the_interval() -> None:
    y, scores = tied_scores(np.random.default_rng(3), 200, 1000)
    alone = score_interval("auc", y, scores)
    groups = np.repeat(np.arange(200), 10)
    copied = score_interval("auc", np.repeat(y, 10), np.repeat(scores, 10), groups)
    blind = score_interval("auc", np.repeat(y, 10), np.repeat(scores, 10))
    assert copied.standard_error == pytest.approx(alone.standard_error, rel=0.02)
    assert blind.standard_error < 0.4 * alone.standard_error
    assert copied.method == "DeLong, 200 groups"


def test_intervals_have_their_nominal_coverage() -> None:
    truth = float(norm.cdf(1.2 / np.sqrt(2)))
    rng = np.random.default_rng(4)
    held = 0
    for _ in range(1000):
        y = np.arange(120) < 30
        interval = score_interval("auc", y, rng.normal(size=120) + 1.2 * y)
        held += interval.low <= truth <= interval.high
    assert 0.93 <= held / 1000 <= 0.97


def test_group_intervals_have_their_nominal_coverage() -> None:
    # each group of 8 rows of one class shares half of its variance
    truth = float(norm.cdf(1.2 / np.sqrt(2)))
    rng = np.random.default_rng(5)
    held = blind = 0
    groups = np.repeat(np.arange(60), 8)
    for _ in range(600):
        y = groups < 25
        scores = np.sqrt(0.5) * (rng.normal(size=60)[groups] + rng.normal(size=480)) + 1.2 * y
        interval, naive = score_interval("auc", y, scores, groups), score_interval("auc", y, scores)
        held += interval.low <= truth <= interval.high
        blind += naive.low <= truth <= naive.high
    assert 0.92 <= held / 600 <= 0.975
    assert blind / 600 < 0.8


@pytest.mark.parametrize(("groups_of_positives", "sizes"), [(6, "equal"), (8, "uneven"), (20, "uneven")])
def test_intervals_of_few_groups_have_their_nominal_coverage(groups_of_positives: int, sizes: str) -> None:
    """It was 0.88 to 0.93, with groups counted alike whatever their size, and quantiles of independent rows."""
    truth = float(norm.cdf(2 / np.sqrt(2)))
    rng = np.random.default_rng(8)
    held = 0
    for _ in range(600):
        rows = rng.geometric(0.1, groups_of_positives + 60) if sizes == "uneven" else [10] * (groups_of_positives + 60)
        groups = np.repeat(np.arange(len(rows)), rows)
        y = groups < groups_of_positives
        noise = np.sqrt(0.5) * (rng.normal(size=len(rows))[groups] + rng.normal(size=len(groups)))
        interval = score_interval("auc", y, noise + 2 * y, groups)
        held += interval.low <= truth <= interval.high
    assert 0.935 <= held / 600 <= 0.98


def test_one_group_of_a_class_says_nothing_about_others() -> None:
    rng = np.random.default_rng(9)
    y, groups = np.arange(200) < 20, np.where(np.arange(200) < 20, 0, np.arange(200) // 5)
    scores = rng.normal(size=(2, 200)) + y
    found = score_interval("auc", y, scores[0], groups)
    assert (found.low, found.high) == (0, 1)
    gap = difference("auc", y, scores[0], scores[1], groups)
    assert (gap.low, gap.high, gap.p_value) == (-1, 1, 1)


def test_p_values_of_equal_models_are_uniform() -> None:
    rng = np.random.default_rng(6)
    found = []
    for _ in range(800):
        y = np.arange(150) < 60
        shared = rng.normal(size=150) + y
        found.append(difference("auc", y, shared + rng.normal(size=150), shared + rng.normal(size=150)).p_value)
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(found) < level) == pytest.approx(level, abs=0.045)


def test_bootstrap_agrees_with_delong() -> None:
    rng = np.random.default_rng(7)
    y, a = tied_scores(rng, 800)
    b = np.round(a + 0.5 * rng.normal(size=800), 1)
    groups = rng.integers(0, 200, 800)
    for chosen in (None, groups):
        exact, drawn = (score_interval("auc", y, a, chosen, method=m) for m in ("delong", "bootstrap"))
        assert drawn.standard_error == pytest.approx(exact.standard_error, rel=0.12)
        assert (drawn.low, drawn.high) == pytest.approx((exact.low, exact.high), abs=0.006)
        gain, drawn_gain = (difference("auc", y, a, b, chosen, method=m) for m in ("delong", "bootstrap"))
        assert drawn_gain.gain == pytest.approx(gain.gain, abs=1e-12)
        assert drawn_gain.standard_error == pytest.approx(gain.standard_error, rel=0.12)


def test_counted_rows_have_the_score_of_copied_rows() -> None:
    rng = np.random.default_rng(8)
    y, a = tied_scores(rng, 120)
    drawn = bootstrap_scores(METRICS["auc"], y, [a, a.astype(np.float32)], replicates=20, rng=np.random.default_rng(9))

    def slow(y: NDArray[Any], scores: NDArray[Any]) -> float:
        return pairwise_auc(y, scores)

    copied = bootstrap_scores(Metric("slow", slow, "ranking"), y, [a, a], replicates=20, rng=np.random.default_rng(9))
    np.testing.assert_allclose(drawn, copied, atol=1e-12)


def test_groups_are_drawn_whole() -> None:
    y = np.array([0, 0, 1, 1, 0, 1])
    groups = np.array(["a", "a", "b", "b", "c", "d"])
    seen = []

    def keep(y: NDArray[Any], rows: NDArray[Any]) -> float:
        seen.append(np.bincount(rows, minlength=6))
        return 0.0

    metric = Metric("keep", keep, "ranking")
    bootstrap_scores(metric, y, [np.arange(6)], groups, replicates=200, rng=np.random.default_rng(0))
    counts = np.array(seen)
    assert (counts[:, 0] == counts[:, 1]).all()
    assert (counts[:, 2] == counts[:, 3]).all()
    # groups a and c have only negatives, b and d only positives: two of each are drawn
    assert (counts[:, 0] + counts[:, 4] == 2).all()
    assert (counts[:, 2] + counts[:, 5] == 2).all()


@pytest.mark.parametrize("name", ["log_loss", "brier_loss", "accuracy", "average_precision", "tpr@fpr=0.01", "eer"])
def test_every_metric_has_an_interval(name: str) -> None:
    rng = np.random.default_rng(10)
    y, scores = tied_scores(rng, 300)
    p = 1 / (1 + np.exp(-scores))
    interval = score_interval(name, y, p, replicates=200)
    assert interval.low <= interval.score <= interval.high
    assert interval.low < interval.high
    assert interval.method == "bootstrap of 200"
    worse = 1 / (1 + np.exp(-scores - 3 * rng.normal(size=300)))
    gain = difference(name, y, p, worse, replicates=200)
    assert gain.gain > 0
    assert gain.high > gain.gain > gain.low


def test_groups_of_many_classes_vary_between_replicates() -> None:
    """Each group has other classes; drawn only among groups of the same classes, it would be in every replicate."""
    rng = np.random.default_rng(0)
    y, groups, scores = rng.integers(0, 8, 120), np.repeat(np.arange(30), 4), rng.dirichlet(np.ones(8), 120)
    mean = np.array([[METRICS["log_loss"](y[groups == group], scores[groups == group])] for group in range(30)])
    found = score_interval("log_loss", y, scores, groups)
    assert found.standard_error == pytest.approx(mean.std(ddof=1) / np.sqrt(30), rel=0.15)


@pytest.mark.parametrize("name", ["auc", "average_precision", "log_loss"])
def test_two_or_three_rows_are_drawn_within_their_class(name: str) -> None:
    for y in ([0, 1], [0, 1, 1]):
        found = score_interval(name, np.array(y), np.linspace(0.2, 0.8, len(y)), method="bootstrap", replicates=50)
        assert found.low <= found.score <= found.high
    with pytest.raises(PredictionError, match="needs both classes"):
        score_interval("auc", np.ones(3), np.arange(3.0), method="bootstrap")


def test_classes_and_real_targets_have_intervals() -> None:
    rng = np.random.default_rng(11)
    y = rng.integers(0, 3, 200)
    interval = score_interval("log_loss", y, rng.dirichlet(np.ones(3), 200), replicates=100)
    assert interval.low < interval.score < interval.high
    target = rng.normal(size=200)
    interval = score_interval("rmse", target, target + rng.normal(size=200), replicates=300)
    assert interval.standard_error == pytest.approx(interval.score / np.sqrt(2 * 200), rel=0.25)


def test_equal_models_do_not_differ() -> None:
    y, scores = tied_scores(np.random.default_rng(12), 300)
    for method in ("delong", "bootstrap"):
        same = difference("auc", y, scores, 3 * scores, method=method, replicates=100)
        assert (same.gain, same.low, same.high, same.p_value) == (0, 0, 0, 1)
        assert not same.is_significant


def test_a_clear_difference_is_significant_and_changes_sign_with_the_order() -> None:
    rng = np.random.default_rng(13)
    y, a = tied_scores(rng, 2000, 1000)
    b = a + 2 * rng.normal(size=2000)
    assert difference("auc", y, a, b).is_significant
    there, back = difference("auc", y, a, b), difference("auc", y, b, a)
    assert (back.gain, back.low, back.high) == pytest.approx((-there.gain, -there.high, -there.low))


def test_a_perfect_auc_of_few_rows_has_a_wide_interval() -> None:
    y = np.array([0, 0, 0, 1, 1, 1])
    interval = score_interval("auc", y, y)
    assert (interval.score, interval.high) == (1, 1)
    assert interval.low == pytest.approx(0.025 ** (1 / 3))
    assert score_interval("auc", y, 1 - y).high == pytest.approx(1 - 0.025 ** (1 / 3))
    assert difference("auc", y, y, 1 - y).p_value == pytest.approx(2 * 0.5**3)


def test_one_row_of_a_class_gives_the_widest_interval() -> None:
    y = np.array([0, 0, 0, 1])
    interval = score_interval("auc", y, np.array([0.1, 0.5, 0.2, 0.4]))
    assert (interval.low, interval.high) == (0, 1)
    gain = difference("auc", y, np.array([0.1, 0.5, 0.2, 0.4]), np.array([0.1, 0.2, 0.3, 0.4]))
    assert (gain.low, gain.high, gain.p_value) == (-1, 1, 1)


def test_wrong_input_is_named() -> None:
    y = np.array([0, 1, 0, 1])
    with pytest.raises(PredictionError, match="row 2 is NaN"):
        score_interval("auc", y, np.array([0.1, 0.2, np.nan, 0.4]))
    with pytest.raises(PredictionError, match="needs both classes"):
        score_interval("auc", y * 0, np.array([0.1, 0.2, 0.3, 0.4]))
    with pytest.raises(PredictionError, match="interval exists only for auc, not for log_loss"):
        score_interval("log_loss", y, np.full(4, 0.5), method="delong")
    with pytest.raises(PredictionError, match="a group for each of 4 rows; found 3"):
        score_interval("log_loss", y, np.full(4, 0.5), np.arange(3))


def test_the_same_generator_gives_the_same_interval() -> None:
    y, scores = tied_scores(np.random.default_rng(14), 200)
    first, second = (
        score_interval("auc", y, scores, method="bootstrap", rng=np.random.default_rng(1), replicates=50)
        for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize("positives", [10, 15, 25, 40, 60])
@pytest.mark.parametrize("auc", [0.8, 0.95])
def test_intervals_are_valid_with_few_positives(positives: int, auc: float) -> None:
    rng = np.random.default_rng(positives)
    y = np.arange(300) < positives
    held = 0
    for _ in range(400):
        interval = score_interval("auc", y, rng.normal(size=300) + np.sqrt(2) * norm.ppf(auc) * y)
        held += interval.low <= auc <= interval.high
    assert 0.92 <= held / 400 <= 0.99  # 0.97, and two standard errors of 400 sets


def test_with_many_rows_the_interval_is_that_of_delong() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(20_000) % 2
    scores = rng.normal(size=20_000) + y
    found = score_interval("auc", y, scores)
    assert found.low == pytest.approx(found.score - 1.96 * found.standard_error, abs=2e-4)
    assert found.high == pytest.approx(found.score + 1.96 * found.standard_error, abs=2e-4)


@pytest.mark.parametrize("positives", [10, 25, 60])
@pytest.mark.parametrize("aucs", [(0.8, 0.8), (0.95, 0.9), (0.99, 0.97)])
def test_intervals_of_differences_are_valid_with_few_positives(positives: int, aucs: tuple[float, float]) -> None:
    rng = np.random.default_rng(positives)
    y = np.arange(300) < positives
    held, significant = 0, 0
    for _ in range(300):
        scores = 0.95 * rng.normal(size=(300, 1)) + 0.3 * rng.normal(size=(300, 2))  # correlation 0.9
        scores += np.hypot(0.95, 0.3) * np.sqrt(2) * norm.ppf(aucs) * y[:, None]
        found = difference("auc", y, scores[:, 0], scores[:, 1])
        held += found.low <= aucs[0] - aucs[1] <= found.high
        significant += found.is_significant
        assert found.is_significant == (found.low > 0 or found.high < 0)
    assert held / 300 >= 0.92
    if aucs[0] == aucs[1]:
        assert significant / 300 <= 0.08


def test_models_that_are_both_perfect_or_both_blind_may_differ_on_other_rows() -> None:
    """No row of the sample distinguishes the models, or all do equally, so DeLong's variance is 0."""
    y = np.repeat([0, 1], 12)
    perfect = difference("auc", y, y + np.linspace(0, 0.5, 24), y - np.linspace(0, 0.5, 24))
    assert (perfect.gain, perfect.p_value) == (0, 1)
    assert -0.4 < perfect.low < -0.05 < 0.05 < perfect.high < 0.4
    blind = difference("auc", y, y, np.zeros(24))
    assert blind.gain == 0.5
    assert 0 < blind.low < 0.5 < blind.high < 1


def test_with_many_rows_the_interval_of_a_difference_is_that_of_delong() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(20_000) % 2
    shared = rng.normal(size=20_000)
    found = difference("auc", y, shared + y + rng.normal(size=20_000), shared + y + 1.1 * rng.normal(size=20_000))
    assert found.low == pytest.approx(found.gain - 1.96 * found.standard_error, rel=2e-3)
    assert found.high == pytest.approx(found.gain + 1.96 * found.standard_error, rel=2e-3)


@pytest.mark.parametrize("positives", [2, 5, 10, 60])
def test_the_interval_does_not_jump_where_the_variance_exceeds_that_of_the_model(positives: int) -> None:
    rows = 1 / positives + 1 / 200
    units = (positives, positives), (200, 200)
    variances = np.linspace(0.5, 2.5, 401) * 0.0135 * rows  # around the model's for an AUC of 0.9
    lows, highs = np.array([auc_interval(0.9, float(variance), *units) for variance in variances]).T
    assert (np.diff(lows) < 0).all()
    assert (np.diff(highs) > 0).all()
    assert np.abs(np.diff(lows)).max() < 0.02
