"""The difference of two submissions, compared with slow versions from the definitions."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from oof.arrays import Vector
from oof.errors import SubmissionError
from oof.metrics import roc_auc
from submissions.compare import binormal_probabilities, compare, expected_auc


def make_ids(count: int) -> NDArray[np.object_]:
    return np.array([f"r{row}" for row in range(count)], dtype=object)


def two(count: int, seed: int, *, decimals: int = 6) -> tuple[Vector, Vector]:
    rng = np.random.default_rng(seed)
    first = rng.random(count)
    return first.round(decimals), (0.7 * first + 0.3 * rng.random(count)).round(decimals)


@pytest.mark.parametrize("decimals", [6, 1])
def test_swapped_and_tied_pairs_are_those_of_the_definition(decimals: int) -> None:
    a, b = two(60, 1, decimals=decimals)
    found = compare((make_ids(60), a), (make_ids(60), b))
    swapped = tied = 0
    for i, j in itertools.combinations(range(60), 2):
        swapped += (a[i] - a[j]) * (b[i] - b[j]) < 0
        tied += (a[i] == a[j]) != (b[i] == b[j])
    assert found.swapped_pairs == swapped
    assert found.swapped_share == pytest.approx(swapped / (60 * 59 / 2))
    assert found.tied_share == pytest.approx(tied / (60 * 59 / 2))


def test_a_large_pair_count_is_exact_to_the_last_pair() -> None:
    count = 200_000
    values = np.arange(count, dtype=np.float64)
    other = values.copy()
    other[[5, 6]] = other[[6, 5]]
    found = compare((make_ids(count), values / count), (make_ids(count), other / count))
    assert found.swapped_pairs == 1
    reversed_ = compare((make_ids(count), values / count), (make_ids(count), 1 - other / count))
    assert reversed_.swapped_pairs == count * (count - 1) // 2 - 1


def test_rows_are_joined_by_id_and_the_largest_moves_named() -> None:
    a = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    b = np.array([0.9, 0.2, 0.3, 0.4, 0.5])
    ids = make_ids(5)
    order = np.array([3, 0, 4, 2, 1])
    found = compare((ids, a), (ids[order], b[order]), most_moves=2)
    assert (found.moves[0].id, found.moves[0].first_rank, found.moves[0].second_rank) == ("r0", 1.0, 5.0)
    assert (found.moves[0].first, found.moves[0].second) == (0.1, 0.9)
    assert len(found.moves) == 2
    same = compare((ids, a), (ids[order], 2 * a[order]))
    assert same.rank_correlation == pytest.approx(1.0)
    assert same.moves == ()
    assert same.swapped_pairs == 0


def test_expected_auc_is_the_sum_over_pairs() -> None:
    rng = np.random.default_rng(3)
    p, scores = rng.random(30), rng.random(30).round(1)
    won = total = 0.0
    for i, j in itertools.permutations(range(30), 2):
        pair = p[i] * (1 - p[j])
        total += pair
        won += pair * ((scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j]))
    assert expected_auc(p, scores) == pytest.approx(won / total)


def test_expected_auc_is_the_mean_over_drawn_labels() -> None:
    rng = np.random.default_rng(4)
    p, scores = rng.random(400), rng.random(400)
    drawn = [roc_auc((rng.random(400) < p).astype(np.int8), scores) for _ in range(400)]
    assert expected_auc(p, scores) == pytest.approx(np.mean(drawn), abs=float(4 * np.std(drawn) / 20))


def test_with_certain_labels_it_is_the_auc() -> None:
    a, _ = two(100, 5)
    y = (np.random.default_rng(6).random(100) < 0.3).astype(np.float64)
    assert expected_auc(y, a) == pytest.approx(roc_auc(y, a))


@pytest.mark.parametrize(("auc", "share"), [(0.6, 0.5), (0.9, 0.2), (0.99, 0.6)])
def test_the_binormal_truth_has_the_requested_auc_and_share(auc: float, share: float) -> None:
    scores = np.random.default_rng(7).random(20_000) ** 3
    p = binormal_probabilities(scores, auc, share)
    assert p.mean() == pytest.approx(share, abs=1e-3)
    assert expected_auc(p, scores) == pytest.approx(auc, abs=2e-3)


def test_the_true_submission_scores_higher_and_by_more_at_a_higher_auc() -> None:
    a, b = two(3000, 8)
    ids = make_ids(3000)
    found = compare((ids, a), (ids, b), scores=(0.9, 0.9), positive_share=0.4)
    assert found.if_first_is_true[0] == pytest.approx(0.9, abs=3e-3)
    assert found.if_first_is_true[0] > found.if_first_is_true[1]
    assert found.if_second_is_true[1] > found.if_second_is_true[0]
    surer = compare((ids, a), (ids, b), scores=(0.99, 0.99), positive_share=0.4)
    assert np.subtract(*surer.if_first_is_true) > np.subtract(*found.if_first_is_true)


def test_other_ids_are_named() -> None:
    a, b = two(3, 9)
    with pytest.raises(SubmissionError, match=r"1 only in the first \(r2\), 1 only in the second \(x\)"):
        compare((make_ids(3), a), (np.array(["r0", "x", "r1"], dtype=object), b))


def test_a_constant_submission_has_no_correlation() -> None:
    a, _ = two(5, 10)
    found = compare((make_ids(5), a), (make_ids(5), np.full(5, 0.5)))
    assert np.isnan(found.kendall)
    assert np.isnan(found.rank_correlation)
    assert found.swapped_pairs == 0
    assert found.tied_share == 1.0
