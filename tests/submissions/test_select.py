"""Selection of two finals: simulation, conditioning on public scores, and choice."""

import numpy as np
import pytest
from numpy.typing import NDArray

from oof.errors import SubmissionError
from oof.metrics import METRICS, roc_auc
from oof.metrics.delong import auc_covariance
from submissions.finals import select
from submissions.finals.select import (
    Candidate,
    LeaderboardSplit,
    baseline_pair,
    draw_noise,
    posterior_private,
    select_pair,
)
from submissions.finals.simulate import LabelledRows, Scenario, SplitSizes, scale_of, simulate

AUC = METRICS["auc"]


def make_candidates(
    rows: int, skills: list[float], seed: int = 0, group_size: int = 1
) -> tuple[NDArray[np.int8], list[NDArray[np.float64]], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    groups = np.arange(rows) // group_size
    y = (rng.random(rows) < 0.4).astype(np.int8)
    hard = rng.normal(size=rows) + (2 * rng.normal(size=groups[-1] + 1)[groups] if group_size > 1 else 0)
    return y, [skill * y + hard + 0.7 * rng.normal(size=rows) for skill in skills], groups


@pytest.mark.parametrize("group_size", [1, 5])
def test_parts_vary_as_delong_predicts(group_size: int) -> None:
    y, columns, groups = make_candidates(1500, [1.5, 1.6, 1.2], group_size=group_size)
    grouped = groups if group_size > 1 else None
    scenario = simulate(
        LabelledRows(y, grouped),
        columns,
        SplitSizes(500, 3000, float(y.mean())),
        AUC,
        draws=1500,
        rng=np.random.default_rng(1),
    )
    aucs, covariance = auc_covariance(y, columns, grouped)
    scale = scale_of(AUC)
    np.testing.assert_allclose(scale.back(scenario.scores), aucs)
    covariance = covariance * np.outer(scale.slope(aucs), scale.slope(aucs))
    for part, rows in ((scenario.population, 1500), (scenario.public, 500), (scenario.private, 3000)):
        np.testing.assert_allclose(np.cov(part.T), covariance * 1500 / rows, rtol=0.15)
        np.testing.assert_allclose(part.mean(axis=0), 0, atol=1e-12)


def test_the_variance_depends_on_the_share_of_positives_as_delong_predicts() -> None:
    y, columns, _ = make_candidates(2000, [1.5, 1.2])
    parts = SplitSizes(1000, 1000, 0.05)
    few = simulate(LabelledRows(y), columns, parts, AUC, draws=1500, rng=np.random.default_rng(2))
    picked = np.concatenate([np.flatnonzero(y == 1)[:50], np.flatnonzero(y == 0)[:950]])
    aucs, covariance = auc_covariance(y[picked], [column[picked] for column in columns])
    variance = covariance[0, 0] * scale_of(AUC).slope(aucs)[0] ** 2
    assert np.var(few.public[:, 0]) == pytest.approx(variance, rel=0.35)
    assert np.var(few.public[:, 0]) > 3 * np.var(few.population[:, 0])


@pytest.mark.parametrize("name", ["auc", "eer", "log_loss"])
def test_a_scale_can_be_inverted(name: str) -> None:
    scale = scale_of(METRICS[name])
    scores = np.array([0.01, 0.5, 0.9, 0.99])
    found = scale.forward(scores)
    assert list(np.argsort(found)) == ([0, 1, 2, 3] if METRICS[name].higher_is_better else [3, 2, 1, 0])
    np.testing.assert_allclose(scale.back(found), scores)
    steps = (scale.forward(scores + 1e-7) - found) / 1e-7
    np.testing.assert_allclose(scale.slope(scores), np.abs(steps), rtol=1e-4)
    assert np.isnan(scale.forward(np.array([np.nan]))).all()


def gaussian_scenario(rng: np.random.Generator, draws: int) -> tuple[Scenario, list[NDArray[np.float64]]]:
    factors = [0.01 * rng.normal(size=(3, 3)) for _ in range(3)]
    parts = [rng.normal(size=(draws, 3)) @ factor for factor in factors]
    parts = [part - part.mean(axis=0) for part in parts]
    return Scenario(0.4, np.array([0.9, 0.91, 0.92]), *parts), [factor.T @ factor for factor in factors]


def test_conditioning_gives_the_conditional_normal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "SHIFT_VARIANCES", np.array([1.0]))
    monkeypatch.setattr(select, "_SHIFT_PRIOR", np.array([1.0]))
    rng = np.random.default_rng(3)
    draws = 40_000
    scenario, (population, public, private) = gaussian_scenario(rng, draws)
    seen = np.array([0.93, np.nan, 0.9])
    found, weights = posterior_private([scenario], seen, draw_noise(draws, 3, 5, rng))
    assert weights.tolist() == [[1.0]]
    shared = 2 * population + 100 * np.diag(2 * population + public).max()
    known = [0, 2]
    gain = shared[:, known] @ np.linalg.inv((shared + public)[np.ix_(known, known)])
    mean = scenario.scores + gain @ (seen - scenario.scores)[known]
    covariance = shared + private - gain @ shared[known]
    np.testing.assert_allclose(found.mean(axis=0), mean, atol=5 * np.sqrt(np.diag(covariance).max() / draws) + 1e-4)
    np.testing.assert_allclose(np.cov(found.T), covariance, atol=0.05 * np.diag(covariance).max())


def test_without_public_scores_cv_decides() -> None:
    y, columns, _ = make_candidates(1500, [1.5, 1.7, 1.1, 1.65])
    found = select_pair(
        [Candidate(name, column) for name, column in zip("abcd", columns, strict=True)],
        LabelledRows(y),
        LeaderboardSplit(1000, 0.3),
        draws=400,
        rng=np.random.default_rng(4),
    )
    assert {found.best.first, found.best.second} == {"b", "d"} == set(found.baseline)
    assert found.best.gain == 0
    assert found.best.even == 1
    assert len(found.pairs) == 6
    by_name = {item.name: item for item in found.candidates}
    assert by_name["a"].private == pytest.approx(roc_auc(y, columns[0]), abs=0.005)
    assert by_name["b"].public is None
    assert sum(item.best_share for item in found.candidates) == pytest.approx(1)
    assert sum(found.shift_weights.values()) == pytest.approx(1)


def test_cv_decides_unless_public_scores_disagree_with_it() -> None:
    skills = [1.5, 1.52, 1.48, 1.3, 1.1, 1.0]
    y, columns, _ = make_candidates(4000, skills)
    aucs = np.array([roc_auc(y, column) for column in columns])

    def choose(public: NDArray[np.float64]) -> select.Selection:
        named = [Candidate(str(i), columns[i], float(score)) for i, score in enumerate(public)]
        return select_pair(named, LabelledRows(y), LeaderboardSplit(6000, 0.3), draws=500, rng=np.random.default_rng(5))

    agreeing = choose(aucs - 0.02)  # a harder test set, the same order
    assert {agreeing.best.first, agreeing.best.second} <= {"0", "1", "2"}
    assert agreeing.shift_variance < 10
    turned = choose(aucs[::-1])
    assert turned.shift_variance > 50
    assert turned.best.first == "4"
    assert turned.best.second in ("3", "5")  # nearly equal in public score
    assert turned.best.beats + turned.best.even / 2 > 0.5
    assert turned.best.gain > 0
    assert turned.baseline == ("4", "1")


def test_the_reported_simulation_error_equals_the_spread_over_seeds() -> None:
    y, columns, _ = make_candidates(1000, [1.5, 1.55, 1.45])
    public = [0.84, 0.85, 0.86]
    candidates = [Candidate(n, c, p) for n, c, p in zip("abc", columns, public, strict=True)]
    runs = [
        select_pair(
            candidates, LabelledRows(y), LeaderboardSplit(1000, 0.3), draws=300, rng=np.random.default_rng(seed)
        )
        for seed in range(12)
    ]
    expected = [{(p.first, p.second): p for p in run.pairs} for run in runs]
    pair = (runs[0].best.first, runs[0].best.second)
    values = [run[key].expected for run in expected for key in run if set(key) == set(pair)]
    reported = np.mean([run[key].error for run in expected for key in run if set(key) == set(pair)])
    assert 0.4 < np.std(values, ddof=1) / reported < 2.5


def test_equal_candidates_are_accepted() -> None:
    y, columns, _ = make_candidates(800, [1.5, 1.4])
    found = select_pair(
        [Candidate("a", columns[0], 0.85), Candidate("copy", columns[0], 0.85), Candidate("b", columns[1], 0.84)],
        LabelledRows(y),
        LeaderboardSplit(800, 0.5),
        draws=300,
        rng=np.random.default_rng(6),
    )
    by_name = {item.name: item for item in found.candidates}
    assert by_name["a"].private == pytest.approx(by_name["copy"].private, abs=1e-4)
    assert "b" in {found.best.first, found.best.second}


def test_a_loss_is_minimized_and_reveals_the_share_of_positives() -> None:
    rng = np.random.default_rng(7)
    metric = METRICS["log_loss"]
    y, logits, _ = make_candidates(1500, [1.5, 1.0, 0.6])
    columns = [1 / (1 + np.exp(-(column - column.mean()))) for column in logits]
    more = np.concatenate([np.flatnonzero(y == 1), rng.choice(np.flatnonzero(y == 0), 150, replace=False)])
    public = [metric(y[more], column[more]) for column in columns]
    found = select_pair(
        [Candidate(n, c, p) for n, c, p in zip("abc", columns, public, strict=True)],
        LabelledRows(y),
        LeaderboardSplit(1500, 0.5),
        metric=metric,
        draws=200,
        rng=rng,
    )
    expected = [pair.expected for pair in found.pairs]
    assert expected == sorted(expected)
    assert found.positive_share > float(y.mean()) + 0.1
    assert all(pair.gain <= 1e-12 or pair.expected < expected[-1] for pair in found.pairs)


def test_the_baseline_is_one_of_each() -> None:
    nan = np.nan
    assert baseline_pair(np.array([0.9, 0.8, 0.85]), np.array([0.1, 0.3, 0.2])) == (1, 0)
    assert baseline_pair(np.array([0.9, 0.8, 0.85]), np.array([0.3, 0.1, nan])) == (0, 2)
    assert baseline_pair(np.array([0.8, 0.9, 0.85]), np.array([nan, nan, nan])) == (1, 2)


def test_impossible_simulations_are_refused() -> None:
    y, columns, _ = make_candidates(100, [1.5, 1.4])
    a, b = Candidate("a", columns[0]), Candidate("b", columns[1])
    rng = np.random.default_rng(8)
    with pytest.raises(SubmissionError, match="at least two candidates.*there are a"):
        select_pair([a], LabelledRows(y), LeaderboardSplit(100, 0.3), rng=rng)
    with pytest.raises(SubmissionError, match="leaves 1 of 100 test rows public"):
        select_pair([a, b], LabelledRows(y), LeaderboardSplit(100, 0.01), rng=rng)
    with pytest.raises(SubmissionError, match="OOF predictions with NaN: b"):
        select_pair([a, Candidate("b", columns[1] * np.nan)], LabelledRows(y), LeaderboardSplit(100, 0.3), rng=rng)
    with pytest.raises(SubmissionError, match=r"needs both classes; the OOF rows have 0.0% positives"):
        select_pair([a, b], LabelledRows(np.zeros(100)), LeaderboardSplit(100, 0.3), rng=rng)


@pytest.mark.parametrize(("rows", "advice"), [(20, "with --public-share"), (19, "choose the best by CV")])
def test_a_share_is_only_asked_for_if_some_share_would_do(rows: int, advice: str) -> None:
    with pytest.raises(SubmissionError, match=advice):
        LeaderboardSplit(rows, 0.3).sizes(0.5)


def test_variants_of_one_order_are_accepted_for_any_metric() -> None:
    """A blend before and after calibration has the same TPR in each draw; a TPR of 1 has a far larger logit."""
    y, (column, better), _ = make_candidates(300, [1.5, 5.0])
    variants = [1 / (1 + np.exp(-factor * column)) for factor in (0.25, 0.5, 1.0, 2.0, 3.0, 4.0)]
    named = [Candidate(f"c{place}", values, 0.3) for place, values in enumerate(variants)]
    found = select_pair(
        [*named, Candidate("better", better, 0.9)],
        LabelledRows(y),
        LeaderboardSplit(50, 0.5),
        metric=METRICS["tpr@fpr=0.01"],
        draws=200,
        rng=np.random.default_rng(0),
    )
    *same, best = found.candidates
    assert best.private > same[0].private
    for item in same[1:]:
        assert item.private == pytest.approx(same[0].private, abs=1e-4)
