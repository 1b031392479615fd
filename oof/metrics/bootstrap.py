"""Stratified bootstrap of any metric, over rows or groups."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oof.errors import PredictionError
from oof.metrics.metric import Metric

Counts = NDArray[np.int64]
_MOST_CLASSES = 100


def bootstrap_scores(
    metric: Metric,
    y: NDArray[Any],
    columns: Sequence[NDArray[Any]],
    groups: NDArray[Any] | None = None,
    *,
    replicates: int = 1000,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Return the scores of models on the same resampled rows, shape (replicates, n_models).

    Rows are drawn with replacement within their class, groups among those of the same class or among those of several
    classes, so that each replicate has (nearly) the class balance of the data. For AUC the rows are sorted
    only once: 1,000 replicates of 150,000 rows take about a second.

    Args:
        metric: metric to compute.
        y: (n_rows,) labels, or a real target (then rows are drawn without strata).
        columns: predictions of each model, (n_rows,) or (n_rows, n_classes) each.
        groups: (n_rows,) of any type; groups are drawn as a whole.
        replicates: number of replicates.
        rng: random number generator.
    """
    y = np.asarray(y)
    score = [metric.on_counted_rows(y, np.asarray(column)) for column in columns]
    draw = _drawer(y, groups, rng)
    out = np.empty((replicates, len(columns)))
    for row in out:
        counts = draw()
        row[:] = [function(counts) for function in score]
    return out


def _drawer(y: NDArray[Any], groups: NDArray[Any] | None, rng: np.random.Generator) -> Callable[[], Counts]:
    """Return a function that draws one replicate and returns how often each row was drawn."""
    classes, codes = np.unique(y, return_inverse=True)
    if len(classes) > max(2, min(_MOST_CLASSES, len(y) // 2)):
        codes = np.zeros(len(y), np.intp)
    if groups is None:
        return _draw_units(codes, rng)
    found, unit = np.unique(np.asarray(groups), return_inverse=True)
    if len(unit) != len(y):
        raise PredictionError(f"Expected a group for each of {len(y)} rows; found {len(unit)}.")
    holds = np.zeros((len(found), int(codes.max()) + 1), bool)
    holds[unit, codes] = True
    # those of several classes are one stratum: of many classes, nearly each group has others, and would be drawn alone
    strata = np.where(holds.sum(axis=1) == 1, holds.argmax(axis=1), holds.shape[1])
    draw = _draw_units(strata, rng)
    return lambda: draw()[unit]


def _draw_units(strata: NDArray[np.intp], rng: np.random.Generator) -> Callable[[], Counts]:
    members = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    counts = np.zeros(len(strata), np.int64)

    def draw() -> Counts:
        for rows in members:
            drawn = rng.integers(0, len(rows), size=len(rows), dtype=np.uint32)
            counts[rows] = np.bincount(drawn, minlength=len(rows))
        return counts

    return draw
