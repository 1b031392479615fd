"""Compare two submissions: their order, their rows, and the expected score if either of them is right."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oof.arrays import Vector
from oof.errors import SubmissionError, examples
from oof.ids import Ids


@dataclass(frozen=True)
class Move:
    """A row that the two submissions rank differently; ranks are from 1 (lowest) to the number of rows."""

    id: str
    first: float
    second: float
    first_rank: float
    second_rank: float


@dataclass(frozen=True)
class Difference:
    """The difference between two submissions.

    rank_correlation: Spearman's. kendall: tau-b.
    swapped_pairs: number of pairs of rows in opposite order; swapped_share: their share of all pairs.
    tied_share: share of pairs that are tied in exactly one of the two.
    moves: the rows whose ranks differ most, largest difference first.
    if_first_is_true, if_second_is_true: expected AUC of (first, second) in that case; see `expected_auc`.
    """

    rows: int
    rank_correlation: float
    kendall: float
    swapped_pairs: int
    swapped_share: float
    tied_share: float
    moves: tuple[Move, ...]
    if_first_is_true: tuple[float, float]
    if_second_is_true: tuple[float, float]


def compare(
    first: tuple[Ids, Vector],
    second: tuple[Ids, Vector],
    *,
    most_moves: int = 10,
    scores: tuple[float | None, float | None] = (None, None),
    positive_share: float | None = None,
) -> Difference:
    """Compare two submissions of the same rows, in any order.

    Args:
        first, second: ids and predictions.
        most_moves: number of rows to list.
        scores: the assumed AUC of each (its CV), which determines how reliable its
            order is; if None, the predictions are treated as calibrated probabilities.
        positive_share: share of positives, e.g. that of the training rows; None for the mean prediction.

    Raises:
        SubmissionError: if ids differ, there are fewer than two rows, or there are NaN.
    """
    ids, a = first
    b = _joined(ids, *second)
    if len(a) < 2 or np.isnan(a).any() or np.isnan(b).any():
        raise SubmissionError(f"Comparing submissions needs at least 2 rows without NaN; these have {len(a)}.")
    ranks = np.stack([_ranks(a), _ranks(b)])
    kendall, swapped, tied, pairs = _pairs(ranks[0], ranks[1])
    steps = np.argsort(-np.abs(ranks[1] - ranks[0]), kind="stable")[:most_moves]
    moves = tuple(
        Move(str(ids[row]), float(a[row]), float(b[row]), float(ranks[0][row]), float(ranks[1][row]))
        for row in steps
        if ranks[0][row] != ranks[1][row]
    )
    truths = [_probabilities(x, score, positive_share) for x, score in zip((a, b), scores, strict=True)]
    expected = [(expected_auc(truth, a), expected_auc(truth, b)) for truth in truths]
    return Difference(
        len(a), _correlation(ranks), kendall, swapped, swapped / pairs, tied / pairs, moves, expected[0], expected[1]
    )


def expected_auc(probabilities: Vector, scores: NDArray[Any]) -> float:
    """Return the expected AUC of scores if each row is positive with its own probability, independently.

    It is the expected number of pairs (i positive, j negative) that the scores order correctly, divided by the
    expected number of such pairs: sums of p_i (1 - p_j) over i != j, ties half.
    (The expectation of the ratio differs by a term of order 1 / n_rows.)

    Args:
        probabilities: (n_rows,) in [0, 1].
        scores: (n_rows,) on any scale.

    >>> round(expected_auc(np.array([0.0, 1.0, 0.5]), np.array([0.1, 0.9, 0.5])), 3)
    1.0
    """
    order = np.argsort(scores, kind="stable")
    p, s = probabilities[order], np.asarray(scores)[order]
    q = 1.0 - p
    starts = np.flatnonzero(np.append(True, s[1:] != s[:-1]))
    positive, negative = np.add.reduceat(p, starts), np.add.reduceat(q, starts)  # by distinct score
    below = np.cumsum(negative) - negative
    own = float(p @ q)  # a row does not form a pair with itself
    total = p.sum() * q.sum() - own
    if total <= 0:
        return float("nan")
    return float((positive @ (below + negative / 2) - own / 2) / total)


def binormal_probabilities(scores: NDArray[Any], auc: float, positive_share: float) -> Vector:
    """Return the probability of each row being positive, given the AUC of the scores.

    Predictions of a rank blend are not probabilities, but their AUC is known from CV. The
    scores are assumed to be a monotone function of a binormal model with equal variances (negatives
    N(0, 1), positives N(d, 1), d from the AUC), which has no free parameters: the row at
    quantile u of the mixture has the model's probability there.

    Args:
        scores: (n_rows,) on any scale; only their order matters.
        auc: AUC of these scores, 0.5 to 1.
        positive_share: share of positives among the rows, 0 to 1.
    """
    from scipy.special import ndtr, ndtri

    distance = float(np.sqrt(2) * ndtri(np.clip(auc, 0.5, 1 - 1e-9)))
    grid = np.linspace(-9.0, distance + 9.0, 20_001)
    share = float(np.clip(positive_share, 1e-9, 1 - 1e-9))
    quantiles = share * ndtr(grid - distance) + (1 - share) * ndtr(grid)
    at = np.interp((_ranks(scores) - 0.5) / len(scores), quantiles, grid)
    odds = np.log(share / (1 - share)) + distance * at - distance**2 / 2
    found: Vector = 1 / (1 + np.exp(-odds))
    return found


def _probabilities(values: Vector, score: float | None, positive_share: float | None) -> Vector:
    if score is not None and not np.isnan(score):
        share = float(np.clip(values, 0, 1).mean()) if positive_share is None else positive_share
        return binormal_probabilities(values, score, share)
    return np.clip(values, 0.0, 1.0)


def _ranks(values: NDArray[Any]) -> Vector:
    from scipy.stats import rankdata

    found: Vector = rankdata(values).astype(np.float64)
    return found


def _correlation(ranks: NDArray[np.float64]) -> float:
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    spread = np.sqrt((centred**2).sum(axis=1))
    return float(centred[0] @ centred[1] / spread.prod()) if spread.all() else float("nan")


def _pairs(first: Vector, second: Vector) -> tuple[float, int, int, int]:
    """Return Kendall's tau-b and the numbers of swapped pairs, pairs tied in exactly one, and all pairs; O(n log n)."""
    from scipy.stats import kendalltau

    pairs = len(first) * (len(first) - 1) // 2
    ties = [_tied_pairs(first), _tied_pairs(second)]
    both = _tied_pairs(first * (2 * len(first) + 1) + second)
    if pairs in ties:
        return float("nan"), 0, sum(ties) - 2 * both, pairs
    tau = float(kendalltau(first, second, method="asymptotic").statistic)
    # tau-b is (concordant - discordant) / sqrt(untied in first x untied in second), from which the integer number
    # of discordant pairs follows; the rounding error is below one half up to about 20 million rows
    balance = round(tau * float(np.sqrt(pairs - ties[0])) * float(np.sqrt(pairs - ties[1])))
    swapped = (pairs - sum(ties) + both - balance) // 2
    return tau, swapped, sum(ties) - 2 * both, pairs


def _tied_pairs(values: Vector) -> int:
    counts = np.unique(values, return_counts=True)[1].astype(np.int64)
    return int((counts * (counts - 1) // 2).sum())


def _joined(wanted: Ids, ids: Ids, values: Vector) -> Vector:
    places = {value: position for position, value in enumerate(ids)}
    missing = [value for value in wanted if value not in places]
    if missing or len(places) != len(wanted):
        strange = sorted(set(places) - set(wanted))
        raise SubmissionError(
            f"The two submissions have different ids: {len(missing)} only in the first "
            f"({examples(missing) or 'none'}), {len(strange)} only in the second ({examples(strange) or 'none'}). "
            f"Compare files of the same competition."
        )
    return values[[places[value] for value in wanted]]
