"""Compiled loops of the ensembler; plain numbers in and out, no checks of their own."""

import numpy as np
from numpy.typing import NDArray

from oof.compiled import compiled


@compiled
def count_by_bin(scores: NDArray[np.float32], low: float, per_unit: float, counts: NDArray[np.float64]) -> None:
    """Add 1 to the bin of each score; what lies beyond the ends counts in the end bins."""
    last = len(counts) - 1
    for i in range(len(scores)):
        place = int((scores[i] - low) * per_unit)
        counts[min(max(place, 0), last)] += 1.0


@compiled
def cells_of(
    scores: NDArray[np.float32], low: float, per_unit: float, cell_by_bin: NDArray[np.int64], out: NDArray[np.int64]
) -> None:
    """The cell of each score, through its bin."""
    last = len(cell_by_bin) - 1
    for i in range(len(scores)):
        place = int((scores[i] - low) * per_unit)
        out[i] = cell_by_bin[min(max(place, 0), last)]


@compiled
def residuals(
    scores: NDArray[np.float32],
    label: float,
    low: float,
    per_unit: float,
    values: NDArray[np.float64],
    slopes: NDArray[np.float64],
    residual: NDArray[np.float32],
    weight: NDArray[np.float32],
) -> None:
    """Derivative of the log-likelihood by each score, and minus its expected second derivative.

    The log-odds of a score are read from a table with linear interpolation, and go on
    straight beyond its ends.
    """
    last = len(values) - 2
    for i in range(len(scores)):
        at = (scores[i] - low) * per_unit
        place = min(max(int(at), 0), last)
        share = at - place
        odds = values[place] + share * (values[place + 1] - values[place])
        inside = min(max(share, 0.0), 1.0)
        slope = slopes[place] + inside * (slopes[place + 1] - slopes[place])
        chance = 1.0 / (1.0 + np.exp(-odds))
        residual[i] = (label - chance) * slope
        weight[i] = max(chance * (1.0 - chance), 1e-8) * slope * slope


@compiled
def loss_of(
    scores: NDArray[np.float32], label: float, low: float, per_unit: float, values: NDArray[np.float64]
) -> float:
    """Minus the log-likelihood of rows of one class."""
    last = len(values) - 2
    turn = 1.0 if label == 0.0 else -1.0
    total = 0.0
    for i in range(len(scores)):
        at = (scores[i] - low) * per_unit
        place = min(max(int(at), 0), last)
        odds = turn * (values[place] + (at - place) * (values[place + 1] - values[place]))
        total += odds + np.log1p(np.exp(-odds)) if odds > 0 else np.log1p(np.exp(odds))
    return total


@compiled
def slope_moments(
    scores: NDArray[np.float32],
    low: float,
    per_unit: float,
    values: NDArray[np.float64],
    slopes: NDArray[np.float64],
) -> tuple[float, float]:
    """Sums over rows of p (1 - p) slope² and of p (1 - p)."""
    last = len(values) - 2
    above, below = 0.0, 0.0
    for i in range(len(scores)):
        at = (scores[i] - low) * per_unit
        place = min(max(int(at), 0), last)
        odds = values[place] + (at - place) * (values[place + 1] - values[place])
        inside = min(max(at - place, 0.0), 1.0)
        slope = slopes[place] + inside * (slopes[place + 1] - slopes[place])
        chance = 1.0 / (1.0 + np.exp(-odds))
        above += chance * (1.0 - chance) * slope * slope
        below += chance * (1.0 - chance)
    return above, below


@compiled
def non_negative_minimum(
    curvature: NDArray[np.float64], pull: NDArray[np.float64], start: NDArray[np.float64], sweeps: int
) -> NDArray[np.float64]:
    """Minimise x' curvature x / 2 - pull' x over x >= 0 by coordinate descent from `start`."""
    x = start.copy()
    slope = curvature @ x - pull
    for _ in range(sweeps):
        moved = 0.0
        for j in range(len(x)):
            new = max(0.0, x[j] - slope[j] / curvature[j, j])
            change = new - x[j]
            if change != 0.0:
                slope += change * curvature[:, j]
                x[j] = new
                moved = max(moved, abs(change))
        if moved < 1e-9:
            break
    return x


@compiled
def wins_twice(negatives: NDArray[np.float32], positives: NDArray[np.float32]) -> float:
    """Twice the number of pairs in which the positive is above, ties counted once; both sorted."""
    below, upto, wins = 0, 0, 0
    count = len(negatives)
    for i in range(len(positives)):
        value = positives[i]
        while below < count and negatives[below] < value:
            below += 1
        if upto < below:
            upto = below
        while upto < count and negatives[upto] <= value:
            upto += 1
        wins += below + upto
    return float(wins)


@compiled
def ranks_of(
    values: NDArray[np.float32],
    knots: NDArray[np.float64],
    cdf: NDArray[np.float64],
    guide: NDArray[np.int64],
    out: NDArray[np.float32],
) -> None:
    """Interpolated distribution function of each value; NaN stays NaN; order is kept beyond the ends too.

    guide: for each even part of the range of the knots, the knot to begin the search at.
    """
    count = len(knots)
    low, high = knots[0], knots[count - 1]
    span = max(high - low, 1e-12)
    for i in range(len(values)):
        value = float(values[i])
        if value != value:
            out[i] = np.nan
        elif value <= low:
            out[i] = cdf[0] / (1.0 + (low - value) / span)
        elif value >= high:
            # float32 would round what lies nearer to 1 up to 1, whose logit is infinite
            out[i] = min(1.0 - (1.0 - cdf[count - 1]) / (1.0 + (value - high) / span), 0.9999998)
        else:
            part = int((value - low) / span * (len(guide) - 1))
            begin, end = guide[part], count - 1
            if part + 1 < len(guide):
                end = min(guide[part + 1] + 1, count - 1)
            while end - begin > 1:
                middle = (begin + end) // 2
                if knots[middle] <= value:
                    begin = middle
                else:
                    end = middle
            share = (value - knots[begin]) / (knots[end] - knots[begin])
            out[i] = min(cdf[begin] + share * (cdf[end] - cdf[begin]), 0.9999998)


@compiled
def auc_by_bins(
    total: NDArray[np.float32],
    column: NDArray[np.float32],
    split: int,
    low: np.float32,
    per_unit: np.float32,
    bins: int,
) -> tuple[float, float]:
    """AUC of total + column by a histogram, and the standard deviation of what the bins hide.

    All sums must lie within the bins. Rows of one bin count as ties; the order within a bin
    of p positives and q negatives is as good as random, so that its wins vary by
    p q (p + q + 1) / 12 (Mann and Whitney 1947).
    """
    negatives = np.zeros(bins, np.int32)
    positives = np.zeros(bins, np.int32)
    for i in range(split):
        negatives[np.int32((total[i] + column[i] - low) * per_unit)] += 1
    for i in range(split, len(total)):
        positives[np.int32((total[i] + column[i] - low) * per_unit)] += 1
    below, wins, hidden = 0.0, 0.0, 0.0
    for b in range(bins):
        q, p = float(negatives[b]), float(positives[b])
        wins += p * (below + 0.5 * q)
        below += q
        hidden += p * q * (p + q + 1.0) / 12.0
    pairs = float(split) * float(len(total) - split)
    return wins / pairs, np.sqrt(hidden) / pairs
