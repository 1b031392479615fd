"""Intervals of nested scores, and comparisons of a blend with simpler ones."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble.summary import Comparison
from oof.metrics import Metric
from oof.metrics.intervals import difference, score_interval

REPLICATES = 300  # bootstrap replicates, for metrics that need a bootstrap
_OF_THE_GAIN = 0.75


def nested_interval(
    metric: Metric, y: NDArray[Any], nested: NDArray[Any], score: float, groups: NDArray[Any] | None
) -> tuple[float, float]:
    """Return the 95 % interval of a nested score, including the uncertainty of the fitted weights.

    An interval for fixed predictions ignores that other rows would give other weights, and contained the true score in
    91 % of 200 generated data sets of 400 to 4,000 rows. The difference between the fitted and the nested score
    indicates the uncertainty of the weights: with three quarters of it as their standard error, the
    interval contained the true score in 94 % of them (docs/blending.md has results on fresh data sets).

    Args:
        metric: metric of the blend. y: (n_rows,). nested: nested predictions. score: fitted score. groups: (n_rows,).
    """
    found = score_interval(metric, y, nested, groups, replicates=REPLICATES)
    fitting = 1.96 * _OF_THE_GAIN * abs(score - found.score)
    low = found.score - float(np.hypot(found.score - found.low, fitting))
    high = found.score + float(np.hypot(found.high - found.score, fitting))
    return max(low, metric.range[0]), min(high, metric.range[1])


def compare(
    metric: Metric,
    y: NDArray[Any],
    nested: NDArray[Any],
    others: Mapping[str, NDArray[Any]],
    groups: NDArray[Any] | None,
) -> tuple[Comparison, ...]:
    """Compare the blend's nested predictions with others, all (n_rows,) or (n_rows, n_classes)."""
    found = []
    for name, other in others.items():
        if np.array_equal(nested, other):
            found.append(Comparison(name, 0.0, (0.0, 0.0), 1.0))
            continue
        gap = difference(metric, y, nested, other, groups, replicates=REPLICATES)
        found.append(Comparison(name, gap.gain, (gap.low, gap.high), gap.p_value))
    return tuple(found)


def verdict(comparisons: Sequence[Comparison]) -> str:
    """Return a sentence on whether the blend differs significantly from each of the others."""
    worse = [item.other for item in comparisons if item.p_value < 0.05 and item.gain < 0]
    if worse:
        return (
            f"On these rows the blend is worse than the {' and the '.join(worse)}. dfens blend --optimize none --name "
            f"plain computes the plain mean, --members NAME a single model; compare them on new rows."
        )
    unsure = [item.other for item in comparisons if not (item.p_value < 0.05 and item.gain > 0)]
    if not unsure:
        return "The blend is significantly better than the best single model and the plain mean."
    return f"The difference from the {' and the '.join(unsure)} is not statistically significant on these rows."
