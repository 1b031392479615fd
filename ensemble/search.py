"""Search for weights on the exact AUC: greedy selection with replacement, and coordinate line search.

Both change one weight at a time and score changes exactly. Histograms quickly rule out
changes that cannot win, so that few candidates need to be sorted.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble.auc import auc_of_classes
from ensemble.kernels import aucs_by_bins
from ensemble.transforms import Columns
from oof.arrays import Vector

_BINS = 1 << 13
_MODELS_AT_ONCE = 4  # models per call; submitting each alone would cost as much as its histogram
_SURE = 6.0  # safety margin in standard deviations of the binning error
_DIGITS = 6
_SMALL_ROWS = 4_000  # with fewer rows, everything is scored exactly


@dataclass(frozen=True, eq=False)
class Selection:
    """The result of a greedy selection.

    weights: (n_models,) sum 1. picks: positions in the order of selection, up to the best round.
    scores: AUC after each pick.
    """

    weights: Vector
    picks: tuple[int, ...]
    scores: tuple[float, ...]


def greedy_selection(
    columns: Columns, split: int, *, rounds: int = 100, sorted_start: int = 0, seed: int = 0, threads: int = 2
) -> Selection:
    """Repeatedly select, with replacement, the model that increases the AUC of the mean most; return the best prefix.

    Caruana et al., Ensemble Selection from Libraries of Models, ICML 2004; sorted initialisation as in
    Caruana et al., Getting the Most Out of Ensemble Selection, ICDM 2006. Scores are compared
    to six digits and ties prefer models already selected, as in AutoGluon's EnsembleSelection, so
    that the same rounds give the same picks. The time is proportional to rounds x models x rows.

    Args:
        columns: (n_models, n_rows), negatives first. split: index of the first positive.
        rounds: number of rounds.
        sorted_start: number of best single models to start with.
        seed: seed for breaking ties.
        threads: number of threads that score candidates.
    """
    count = len(columns)
    total = np.zeros(columns.shape[1])
    ends = float(columns.min()), float(columns.max())
    picks: list[int] = []
    found: list[Future[float]] = []  # if one model is clearly ahead, there is no need to wait for its score
    chance = np.random.RandomState(seed)  # AutoGluon's generator, so that ties are broken in the same way
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
    """Return the models that may increase the AUC of the total most, i.e. that a histogram does not rule out."""
    single = (total - total.mean()).astype(np.float32)  # a constant changes no AUC, and would cost precision
    low, high = float(single.min()) + ends[0], float(single.max()) + ends[1]
    # for rounding errors, also of sums that are far from 0 or nearly equal: the kernel does not check its bins
    rounding = 1e-4 * (high - low) + 1e-6 * max(abs(low), abs(high)) + 1e-9
    first, per_unit = np.float32(low - rounding), np.float32((_BINS - 1) / (high - low + 2 * rounding))

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
    """Return the mean weights, sum 1, of greedy selections among random models on random rows.

    Bagging over models as in Caruana et al. 2006, and over rows.

    Args:
        columns, split, rounds: as for `greedy_selection`.
        bags: number of selections. share: fraction of the models, and of the rows of each class, in each.
        seed: seed of the draws.
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
    """Maximise the exact AUC over one weight at a time until no change helps; weights sum to 1.

    Along one weight the AUC is a step function, flat between changes of rank, so
    gradients carry no information: the step size grows after successes and shrinks after failures
    (pattern search). The time is proportional to sweeps x models x rows.

    Args:
        columns: (n_models, n_rows), negatives first. split: index of the first positive.
        start: (n_models,) initial weights.
        signed: whether negative weights are allowed.
        sweeps: maximum number of sweeps over all models.
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
