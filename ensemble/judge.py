"""Whether a blend is better than what is simpler: comparisons on the same rows, and a plain sentence."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble.result import Comparison
from oof.intervals import difference
from oof.metrics import Metric

REPLICATES = 300  # of a bootstrap, where the metric needs one


def compare(
    metric: Metric,
    y: NDArray[Any],
    nested: NDArray[Any],
    others: Mapping[str, NDArray[Any]],
    groups: NDArray[Any] | None,
) -> tuple[Comparison, ...]:
    """The blend's nested predictions against others', all (n_rows,) or (n_rows, n_classes)."""
    found = []
    for name, other in others.items():
        if np.array_equal(nested, other):
            found.append(Comparison(name, 0.0, (0.0, 0.0), 1.0))
            continue
        gap = difference(metric, y, nested, other, groups, replicates=REPLICATES)
        found.append(Comparison(name, gap.gain, (gap.low, gap.high), gap.p_value))
    return tuple(found)


def verdict(comparisons: Sequence[Comparison]) -> str:
    """In a plain sentence, whether the gain can be told from luck."""
    worse = [item.other for item in comparisons if item.p_value < 0.05 and item.gain < 0]
    if worse:
        return (
            f"On these rows the blend is worse than the {' and the '.join(worse)}. dfens blend --optimize none --name "
            f"plain makes the plain mean, --members NAME a single model; compare them on new rows."
        )
    unsure = [item.other for item in comparisons if not (item.p_value < 0.05 and item.gain > 0)]
    if not unsure:
        return "The blend beats the best single model and the plain mean by more than luck explains."
    return f"The gain over the {' and the '.join(unsure)} cannot be told from luck on these rows."
