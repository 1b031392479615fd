"""Metrics that depend only on the order of predictions: AUC and other scores from the ROC curve.

Every function takes y (n_rows,) of 0 and 1 and scores (n_rows,) on any scale, higher
meaning more likely positive; equal scores are one step of the curve.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oof.arrays import Vector
from oof.cpus import cpu_count
from oof.errors import PredictionError
from oof.metrics.inputs import as_floats, as_labels, checked, nan_error

_ROWS_WORTH_A_THREAD = 20_000  # below this, starting a thread costs as much as the work itself
_COLUMNS_AT_ONCE = 4


def roc_auc(y: NDArray[Any], scores: NDArray[Any], weights: NDArray[Any] | None = None) -> float:
    """Return the exact area under the ROC curve.

    It is the probability that a positive scores above a negative, with ties counted half. The result is within
    1e-12 of scikit-learn's and about 40 times as fast (0.7 ms for 150,000 rows). float32
    scores are a little faster than float64; a boolean or 8-bit y saves a conversion.

    Args:
        y: (n_rows,) 0 or 1, both classes.
        scores: (n_rows,) float16, float32 or float64; infinities are allowed, -0.0 equals 0.0.
        weights: (n_rows,) non-negative row weights; 5 times as slow.

    Raises:
        PredictionError: if there are NaN (naming the first such row), only one class, labels other than
            0 and 1, or different lengths.

    >>> roc_auc(np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.4, 0.8]))
    0.875
    """
    labels, values = checked(y, scores)
    if weights is not None:
        return _weighted_auc(labels, values, np.asarray(weights))
    return _auc(labels, values)


def roc_auc_columns(y: NDArray[Any], matrix: NDArray[Any], *, threads: int | None = None) -> Vector:
    """Return the AUC of each column, shape (n_models,), computed in several threads.

    Args:
        y: (n_rows,) 0 or 1.
        matrix: (n_rows, n_models); Fortran order saves a copy.
        threads: maximum number of threads; None for the number of available CPUs.

    Raises:
        PredictionError: as `roc_auc`, naming row and column.
    """
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or len(matrix) != len(y):
        raise PredictionError(
            f"Expected a matrix of {len(y)} rows with one column per model; found shape {matrix.shape}."
        )
    labels = as_labels(y)
    columns = range(0, matrix.shape[1], _COLUMNS_AT_ONCE)

    def block(first: int) -> list[float]:
        values = as_floats(np.ascontiguousarray(matrix[:, first : first + _COLUMNS_AT_ONCE].T))
        found = []
        for offset, column in enumerate(values):
            try:
                found.append(_auc(labels, column))
            except PredictionError as err:
                raise PredictionError(f"Column {first + offset}: {err}") from err
        return found

    if threads is None:
        threads = cpu_count()
    threads = min(threads, len(columns), 1 + matrix.size // _ROWS_WORTH_A_THREAD)
    if threads <= 1:
        blocks = [block(first) for first in columns]
    else:
        with ThreadPoolExecutor(threads) as pool:
            blocks = list(pool.map(block, columns))
    return np.array([auc for part in blocks for auc in part], np.float64)


def _sorted_words(labels: NDArray[np.uint8], values: NDArray[Any]) -> NDArray[Any]:
    from oof.metrics.auc_kernel import sorted_words

    try:
        return sorted_words(labels, values)
    except ValueError as err:
        raise nan_error(values) from err


def _both_classes(negatives: float, positives: float) -> None:
    if not (negatives > 0 and positives > 0):
        raise PredictionError(
            f"This metric needs both classes; found {negatives:g} negatives and {positives:g} positives. "
            f"Check the labels, or score over more rows."
        )


def _auc(labels: NDArray[np.uint8], values: NDArray[Any]) -> float:
    from oof.metrics.auc_kernel import pairs_won_twice

    won, negatives = pairs_won_twice(_sorted_words(labels, values))
    positives = len(labels) - int(negatives)
    _both_classes(int(negatives), positives)
    return int(won) / (2 * int(negatives) * positives)


def _weighted_auc(labels: NDArray[np.uint8], values: NDArray[Any], weights: NDArray[Any]) -> float:
    from oof.metrics.auc_kernel import weighted_pairs_won_twice

    weights = np.ascontiguousarray(weights, np.float64)
    if weights.shape != labels.shape or not (weights >= 0).all() or not np.isfinite(weights).all():
        raise PredictionError(f"Weights must be {len(labels)} finite non-negative numbers, one per row.")
    if np.isnan(values).any():
        raise nan_error(values)
    won, negatives, positives = weighted_pairs_won_twice(labels, values, weights, np.argsort(values))
    _both_classes(negatives, positives)
    return float(won / (2 * negatives * positives))


def counted_auc(y: NDArray[Any], scores: NDArray[Any]) -> Callable[[NDArray[np.signedinteger[Any]]], float]:
    """Return the AUC as a function of the number of times that each row is repeated, (n_rows,); sorts only once."""
    from oof.metrics import interval_kernel

    labels, values = checked(y, scores)
    _both_classes(len(labels) - int(labels.sum()), int(labels.sum()))
    order = np.lexsort((labels, values)).astype(np.int32)  # half the memory to read, 1.5 times as fast
    ordered, ordered_labels = values[order], labels[order]
    begins = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    return lambda counts: float(interval_kernel.counted_auc(order, begins, ordered_labels, counts))


def class_counts(y: NDArray[Any], scores: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the number of negatives and of positives at each distinct score, from the highest score down."""
    from oof.metrics.auc_kernel import count_ties

    labels, values = checked(y, scores)
    words = _sorted_words(labels, values)
    negatives, positives = np.empty(len(words), np.int64), np.empty(len(words), np.int64)
    distinct = count_ties(words, negatives, positives)
    negatives, positives = negatives[:distinct][::-1], positives[:distinct][::-1]
    _both_classes(int(negatives.sum()), int(positives.sum()))
    return negatives, positives


def roc_curve(y: NDArray[Any], scores: NDArray[Any]) -> tuple[Vector, Vector]:
    """Return false and true positive rates at each distinct score from the highest down, starting with (0, 0)."""
    negatives, positives = class_counts(y, scores)
    fpr = np.concatenate([[0], np.cumsum(negatives)]) / negatives.sum()
    tpr = np.concatenate([[0], np.cumsum(positives)]) / positives.sum()
    return fpr, tpr


def tpr_at_fpr(y: NDArray[Any], scores: NDArray[Any], fpr: float) -> float:
    """Return the true positive rate at a false positive rate; see `tprs_at_fprs`."""
    return tprs_at_fprs(y, scores, (fpr,))[0]


def tprs_at_fprs(y: NDArray[Any], scores: NDArray[Any], fprs: Sequence[float]) -> tuple[float, ...]:
    """Return true positive rates at false positive rates, e.g. the share of fakes found with 0.1 % false alarms.

    The ROC curve is interpolated linearly between its points (one for each distinct score); where it
    rises vertically, the upper end is used. If ties or few negatives leave no threshold with exactly
    this rate, the value is therefore that of a random choice between the two neighbouring
    thresholds.

    Args:
        fprs: each 0 to 1.
    """
    wrong = [fpr for fpr in fprs if not 0 <= fpr <= 1]
    if wrong:
        raise PredictionError(f"A false positive rate must be between 0 and 1, not {wrong[0]:g}.")
    xs, ys = roc_curve(y, scores)

    def tpr(fpr: float) -> float:
        after = int(np.searchsorted(xs, fpr, side="right"))
        if after == len(xs):
            return 1.0
        share = (fpr - xs[after - 1]) / (xs[after] - xs[after - 1])
        return float(ys[after - 1] + share * (ys[after] - ys[after - 1]))

    return tuple(map(tpr, fprs))


def partial_auc(y: NDArray[Any], scores: NDArray[Any], fpr: float = 0.1) -> float:
    """Return the area under the ROC curve up to a false positive rate, standardised so that chance is 0.5, perfect 1.

    McClish, Analyzing a portion of the ROC curve, Medical Decision Making 1989; the same as
    scikit-learn's `roc_auc_score(max_fpr=…)`.

    Args:
        fpr: maximum false positive rate of the area, above 0 and at most 1.
    """
    if not 0 < fpr <= 1:
        raise PredictionError(f"The partial AUC needs a false positive rate above 0 and at most 1, not {fpr:g}.")
    xs, ys = roc_curve(y, scores)
    inside = xs <= fpr
    xs, ys = np.append(xs[inside], fpr), np.append(ys[inside], tpr_at_fpr(y, scores, fpr))
    area = float(((ys[1:] + ys[:-1]) / 2 * np.diff(xs)).sum())
    chance = fpr * fpr / 2
    return (1 + (area - chance) / (fpr - chance)) / 2 if fpr < 1 else area


def equal_error_rate(y: NDArray[Any], scores: NDArray[Any]) -> float:
    """Return the rate at which false positive and false negative rates are equal on the interpolated ROC curve."""
    fpr, tpr = roc_curve(y, scores)
    excess = fpr - (1 - tpr)  # increases from -1 to 1
    after = int(np.argmax(excess >= 0))
    before = after - 1
    share = -excess[before] / (excess[after] - excess[before])
    return float(fpr[before] + share * (fpr[after] - fpr[before]))


def average_precision(y: NDArray[Any], scores: NDArray[Any]) -> float:
    """Return the mean precision at the positives, without interpolation, ties as one step, as in scikit-learn."""
    negatives, positives = class_counts(y, scores)
    caught = np.cumsum(positives)
    precision = caught / (caught + np.cumsum(negatives))
    return float((precision * positives).sum() / caught[-1])
