"""Weights by search on the exact AUC: greedy selection with replacement, and coordinate line search.

Both change one weight at a time and score every change exactly. Histograms tell at once which
changes cannot win, so that few need to be sorted.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble.auc import auc_of_classes
from ensemble.kernels import aucs_by_bins
from ensemble.transforms import Columns

Vector = NDArray[np.float64]
_BINS = 1 << 13
_MODELS_AT_ONCE = 4  # by one call: handing out each would cost as much as its histogram
_SURE = 6.0  # standard deviations of what a bin hides
_DIGITS = 6
_SMALL_ROWS = 4_000  # below, everything is scored exactly


@dataclass(frozen=True, eq=False)
class Selection:
    """Models picked one after another.

    weights: (n_models,) sum 1. picks: positions in the order picked, up to the best round.
    scores: AUC after each pick.
    """

    weights: Vector
    picks: tuple[int, ...]
    scores: tuple[float, ...]


def greedy_selection(
    columns: Columns, split: int, *, rounds: int = 100, sorted_start: int = 0, seed: int = 0, threads: int = 2
) -> Selection:
    """Pick the model that raises the AUC of the mean most, again and again, with replacement; keep the best prefix.

    Caruana et al., Ensemble Selection from Libraries of Models, ICML 2004; the sorted start of
    Caruana et al., Getting the Most Out of Ensemble Selection, ICDM 2006. Scores are compared
    to six digits and ties prefer models already picked, as in AutoGluon's EnsembleSelection, so
    that the same rounds give the same picks. Time grows as rounds x models x rows.

    Args:
        columns: (n_models, n_rows), negatives first. split: where the positives begin.
        rounds: picks to try.
        sorted_start: begin with so many of the best single models.
        seed: of the choice among ties.
        threads: candidates scored at once.
    """
    count = len(columns)
    total = np.zeros(columns.shape[1])
    ends = float(columns.min()), float(columns.max())
    picks: list[int] = []
    found: list[Future[float]] = []  # where one model is ahead of all, its score is not waited for
    chance = np.random.RandomState(seed)  # AutoGluon's generator, so that ties fall alike
    with ThreadPoolExecutor(threads) as pool:
        if sorted_start:
            singles = np.array([_exact(column, split) for column in columns])
            for model in np.argsort(-singles, kind="stable")[:sorted_start]:
                picks.append(int(model))
                total = total + columns[model]
                found.append(pool.submit(_exact, total, split))
        while len(picks) < rounds:
            contenders = np.arange(count)
            if picks and len(total) >= _SMALL_ROWS:
                contenders = _contenders(columns, total, split, pool, ends)
            scored = [pool.submit(_with, total, columns[model], split) for model in contenders]
            place = 0
            if len(contenders) > 1:
                losses = 1.0 - np.array([score.result() for score in scored])
                if picks:
                    losses = np.round(losses, _DIGITS)
                best = np.flatnonzero(np.isclose(losses, losses.min(), atol=0, rtol=1e-12))
                used = [place for place in best if contenders[place] in picks]
                place = int(chance.choice(used or best))
            picks.append(int(contenders[place]))
            found.append(scored[place])
            total = total + columns[picks[-1]]
            if count == 1:
                break
        scores = [round(score.result(), _DIGITS) for score in found]
    kept = int(np.argmax(scores)) + 1
    weights = np.bincount(picks[:kept], minlength=count) / kept
    return Selection(weights, tuple(picks[:kept]), tuple(scores[:kept]))


def _contenders(
    columns: Columns, total: Vector, split: int, pool: ThreadPoolExecutor, ends: tuple[float, float]
) -> NDArray[np.intp]:
    """The models that may raise the AUC of the total most: those that a histogram does not show to be beaten."""
    single = total.astype(np.float32)
    low, high = float(single.min()) + ends[0], float(single.max()) + ends[1]
    room = 1e-4 * max(high - low, 1e-9)  # for rounding
    first, per_unit = np.float32(low - room), np.float32((_BINS - 1) / (high - low + 2 * room))

    def score(part: Columns) -> Vector:
        return aucs_by_bins(single, part, split, first, per_unit, _BINS)

    found = np.concatenate(list(pool.map(score, np.array_split(columns, -(-len(columns) // _MODELS_AT_ONCE)))))
    margin = _SURE * found[:, 1] + 10.0**-_DIGITS
    return np.flatnonzero(found[:, 0] + margin >= (found[:, 0] - margin).max())


def _with(total: Vector, column: NDArray[np.floating], split: int) -> float:
    return _exact(total + column, split)


def _exact(scores: NDArray[np.floating], split: int) -> float:
    return auc_of_classes(scores[:split], scores[split:])


def bagged_selection(
    columns: Columns, split: int, *, bags: int = 10, share: float = 0.5, rounds: int = 25, seed: int = 0
) -> Vector:
    """Mean of the weights of greedy selections, each among some of the models on some of the rows; sum 1.

    Bagging of models as in Caruana et al. 2006, and of rows.

    Args:
        columns, split, rounds: as for `greedy_selection`.
        bags: how many selections. share: of the models, and of the rows of each class, in each.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    count, n = columns.shape
    total = np.zeros(count)
    for bag in range(bags):
        models = np.sort(rng.permutation(count)[: max(1, round(share * count))])
        negatives = np.sort(rng.permutation(split)[: max(1, round(share * split))])
        positives = np.sort(split + rng.permutation(n - split)[: max(1, round(share * (n - split)))])
        rows = np.concatenate([negatives, positives])
        part = np.ascontiguousarray(columns[np.ix_(models, rows)])
        total[models] += greedy_selection(part, len(negatives), rounds=rounds, seed=seed + bag).weights
    return np.asarray(total / total.sum())


def line_search(
    columns: Columns, split: int, start: Sequence[float] | Vector, *, signed: bool = False, sweeps: int = 10
) -> Vector:
    """Change one weight at a time to where the exact AUC is highest, until none helps; weights sum to 1.

    Along one weight the AUC is a step function, flat between changes of rank, so that
    gradients say nothing: the step is widened and narrowed by its successes (pattern
    search). Time grows as sweeps x models x rows.

    Args:
        columns: (n_models, n_rows), negatives first. split: where the positives begin.
        start: (n_models,) weights to begin from.
        signed: whether weights below 0 are allowed.
        sweeps: over all models, at most.
    """
    weights = np.asarray(start, np.float64).copy()
    scores = weights @ columns
    best = _exact(scores, split)
    steps = np.full(len(columns), 0.5 * max(float(np.abs(weights).max()), 1e-6))
    for _ in range(sweeps):
        before = best
        for model, column in enumerate(columns):
            moved = False
            for direction in (1.0, -1.0):
                change = direction * steps[model]
                if not signed:
                    change = max(change, -weights[model])
                if change == 0.0 or weights.sum() + change <= 1e-9:
                    continue
                trial = scores + change * column
                found = _exact(trial, split)
                if found > best:
                    best, scores, moved = found, trial, True
                    weights[model] += change
                    break
            steps[model] *= 1.5 if moved else 0.4
        if best - before < 1e-7 and steps.max() < 1e-3:
            break
    return np.asarray(weights / weights.sum())
