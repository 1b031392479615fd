"""Compiled inner loops of the fit, without checks."""

import numpy as np
from numpy.typing import NDArray

from oof.compiled import compiled


@compiled
def count_by_bin(scores: NDArray[np.float32], low: float, per_unit: float, counts: NDArray[np.float64]) -> None:
    """Add 1 to the bin of each score; scores beyond the range are counted in the first or last bin."""
    last = len(counts) - 1
    for i in range(len(scores)):
        place = int((scores[i] - low) * per_unit)
        counts[min(max(place, 0), last)] += 1.0


@compiled
def cells_of(
    scores: NDArray[np.float32], low: float, per_unit: float, cell_by_bin: NDArray[np.int64], out: NDArray[np.int64]
) -> None:
    """Write the cell of each score, looked up by its bin."""
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
    """Compute the derivative of the log-likelihood for each score, and minus its expected second derivative.

    The log-odds of a score are interpolated linearly in a table, and extrapolated linearly
    beyond its ends.
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
    """Return minus the log-likelihood of the rows of one class."""
    last = len(values) - 2
    turn = 1.0 if label == 0.0 else -1.0
    total, product = 0.0, 1.0  # a product of factors from 1 to 2, so that one logarithm is enough for many rows
    for i in range(len(scores)):
        at = (scores[i] - low) * per_unit
        place = min(max(int(at), 0), last)
        odds = turn * (values[place] + (at - place) * (values[place + 1] - values[place]))
        total += max(odds, 0.0)
        product *= 1.0 + np.exp(-abs(odds))
        if i & 511 == 511:
            total += np.log(product)
            product = 1.0
    return float(total + np.log(product))


@compiled
def slope_moments(
    scores: NDArray[np.float32],
    low: float,
    per_unit: float,
    values: NDArray[np.float64],
    slopes: NDArray[np.float64],
) -> tuple[float, float]:
    """Return the sums over rows of p (1 - p) slope² and of p (1 - p)."""
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
    """Return twice the number of pairs with the positive above, ties counted once; both arrays must be sorted."""
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
    out: NDArray[np.float32] | NDArray[np.float64],
) -> None:
    """Write the interpolated distribution function of each value; NaN stays NaN, order is preserved beyond the ends.

    guide: for each of equal parts of the range of the knots, the knot at which the search starts.
    """
    count = len(knots)
    low, high = knots[0], knots[count - 1]
    span = high - low if high > low else 1.0
    for i in range(len(values)):
        value = float(values[i])
        if value != value:
            out[i] = np.nan
        elif value <= low:
            # far beyond the end of a tiny range, the rank would be rounded to 0, whose logit is infinite
            out[i] = max(cdf[0] / (1.0 + (low - value) / span), 1e-30)
        elif value >= high:
            # values closer to 1 would be rounded to 1 in float32, whose logit is infinite
            out[i] = min(1.0 - (1.0 - cdf[count - 1]) / (1.0 + (value - high) / span), 0.9999998)
        else:
            part = int((value - low) / span * (len(guide) - 1))
            begin, end = guide[part], count - 1
            if part + 1 < len(guide):
                end = min(guide[part + 1] + 1, count - 1)
            # in a range of 1e15, the part of a value is not exact
            while begin > 0 and knots[begin] > value:
                begin -= 1
            while end < count - 1 and knots[end] <= value:
                end += 1
            while end - begin > 1:
                middle = (begin + end) // 2
                if knots[middle] <= value:
                    begin = middle
                else:
                    end = middle
            share = (value - knots[begin]) / (knots[end] - knots[begin])
            out[i] = min(cdf[begin] + share * (cdf[end] - cdf[begin]), 0.9999998)


@compiled
def aucs_by_bins(
    total: NDArray[np.float32],
    columns: NDArray[np.float32],
    split: int,
    low: np.float32,
    per_unit: np.float32,
    bins: int,
) -> NDArray[np.float64]:
    """Return the AUC of total + each column by a histogram, and the standard deviation due to binning, (n_columns, 2).

    All sums must be within the bins. Rows in the same bin are treated as ties; assuming a random order within a bin
    of p positives and q negatives, the variance of its wins is
    p q (p + q + 1) / 12 (Mann and Whitney 1947).
    """
    found = np.empty((len(columns), 2))
    negatives = np.empty(bins, np.int32)
    positives = np.empty(bins, np.int32)
    pairs = float(split) * float(len(total) - split)
    for c in range(len(columns)):
        column = columns[c]
        negatives[:] = 0
        positives[:] = 0
        for i in range(split):  # with unsigned indices, numba does not check for negative ones
            negatives[np.uint32(np.int32((total[i] + column[i] - low) * per_unit))] += 1
        for i in range(split, len(total)):
            positives[np.uint32(np.int32((total[i] + column[i] - low) * per_unit))] += 1
        below, wins, hidden = 0.0, 0.0, 0.0
        for b in range(bins):
            q, p = float(negatives[b]), float(positives[b])
            wins += p * (below + 0.5 * q)
            below += q
            hidden += p * q * (p + q + 1.0) / 12.0
        found[c] = wins / pairs, np.sqrt(hidden) / pairs
    return found


@compiled
def smooth_log_odds(
    rows: NDArray[np.float64],
    wins: NDArray[np.float64],
    penalty: NDArray[np.float64],
    odds: NDArray[np.float64],
    smoothness: float,
    iterations: int,
) -> tuple[NDArray[np.float64], float]:
    """Fit log-odds to counts with a pentadiagonal penalty, whose strength maximises the marginal likelihood.

    Newton steps use a banded LDL' factorisation; the diagonal of the inverse, which the strength requires, is computed
    from the factors alone (Hutchinson and de Hoog 1985). The time is proportional to the number of nodes.

    Args:
        rows, wins: (nodes,). penalty: (3, nodes) diagonal, first and second off-diagonal.
        odds: (nodes,) initial log-odds. smoothness: initial strength.
    """
    n = len(rows)
    odds = odds.copy()
    weight = np.empty(n)
    pull = np.empty(n)
    d, one, two = np.empty(n), np.zeros(n), np.zeros(n)
    for _ in range(iterations):
        bent = 0.0
        for i in range(n):
            chance = 1.0 / (1.0 + np.exp(-min(max(odds[i], -30.0), 30.0)))
            weight[i] = rows[i] * chance * (1.0 - chance) + 1e-9
            along = penalty[0, i] * odds[i]
            if i + 1 < n:
                along += penalty[1, i] * odds[i + 1]
            if i + 2 < n:
                along += penalty[2, i] * odds[i + 2]
            if i >= 1:
                along += penalty[1, i - 1] * odds[i - 1]
            if i >= 2:
                along += penalty[2, i - 2] * odds[i - 2]
            pull[i] = wins[i] - rows[i] * chance - smoothness * along
        for i in range(n):
            d[i] = weight[i] + smoothness * penalty[0, i]
            if i >= 1:
                d[i] -= one[i - 1] * one[i - 1] * d[i - 1]
            if i >= 2:
                d[i] -= two[i - 2] * two[i - 2] * d[i - 2]
            if i + 1 < n:
                side = smoothness * penalty[1, i]
                if i >= 1:
                    side -= one[i - 1] * two[i - 1] * d[i - 1]
                one[i] = side / d[i]
            if i + 2 < n:
                two[i] = smoothness * penalty[2, i] / d[i]
        for i in range(n):
            if i >= 1:
                pull[i] -= one[i - 1] * pull[i - 1]
            if i >= 2:
                pull[i] -= two[i - 2] * pull[i - 2]
        furthest, free = 0.0, -2.0
        here, next_one, next_side = 0.0, 0.0, 0.0  # elements of the inverse: (i+1,i+1), (i+2,i+2), (i+1,i+2)
        for i in range(n - 1, -1, -1):
            step = pull[i] / d[i]
            if i + 1 < n:
                step -= one[i] * pull[i + 1]
            if i + 2 < n:
                step -= two[i] * pull[i + 2]
            pull[i] = step
            second = -one[i] * next_side - two[i] * next_one
            first = -one[i] * here - two[i] * next_side
            own = 1.0 / d[i] - one[i] * first - two[i] * second
            next_one, next_side, here = here, first, own
            free += own * weight[i]
        for i in range(n):
            step = min(max(pull[i], -2.0), 2.0)
            furthest = max(furthest, abs(step))
            odds[i] += step
        for i in range(n):
            bent += penalty[0, i] * odds[i] * odds[i]
            if i + 1 < n:
                bent += 2.0 * penalty[1, i] * odds[i] * odds[i + 1]
            if i + 2 < n:
                bent += 2.0 * penalty[2, i] * odds[i] * odds[i + 2]
        before = smoothness
        smoothness = min(max(free / max(bent, 1e-9), 1e-3), 1e6)
        if furthest < 1e-3 and abs(np.log(smoothness / before)) < 0.1:
            break
    return odds, smoothness
