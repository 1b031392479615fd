"""Weights by search on the exact AUC: greedy selection with replacement, then coordinate line search.

Caruana et al., Ensemble Selection from Libraries of Models, ICML 2004.
"""

import numpy as np
from numpy.typing import NDArray

from ensemble.auc import auc_of_classes
from ensemble.views import Columns


def _auc(scores: NDArray[np.float32], split: int) -> float:
    return auc_of_classes(scores[:split], scores[split:])


def greedy_weights(columns: Columns, split: int, rounds: int = 25) -> NDArray[np.float64]:
    """Add the model that helps most, again and again, and keep the best prefix; weights sum to 1.

    Args:
        columns: (n_models, n_rows) negatives first. split: where the positives begin.
    """
    total = np.zeros(columns.shape[1], np.float32)
    counts = np.zeros(len(columns))
    best, best_counts = -1.0, counts.copy()
    for _ in range(rounds):
        found = [_auc(total + values, split) for values in columns]
        top = max(found)
        tied = np.flatnonzero(np.array(found) == top)
        chosen = int(tied[np.argmax(counts[tied])])
        counts[chosen] += 1
        total += columns[chosen]
        if top > best + 1e-12:
            best, best_counts = top, counts.copy()
    return np.asarray(best_counts / best_counts.sum())


def line_search_weights(
    columns: Columns, split: int, start: NDArray[np.float64], sweeps: int = 3
) -> NDArray[np.float64]:
    """Change one weight at a time to the best of a shrinking set of steps; never below 0; weights sum to 1."""
    weights = start.copy()
    scores = (weights @ columns).astype(np.float32)
    best = _auc(scores, split)
    reach = 0.5 / len(weights) + 0.05
    for _ in range(sweeps):
        before = best
        for model, values in enumerate(columns):
            tried = np.unique(np.maximum(weights[model] + reach * np.array([-1.0, -0.5, -0.2, 0.2, 0.5, 1.0]), 0.0))
            for weight in tried:
                changed = scores + np.float32(weight - weights[model]) * values
                found = _auc(changed, split)
                if found > best and weights.sum() - weights[model] + weight > 0:
                    best, scores, weights[model] = found, changed, weight
        if best - before < 1e-6:
            reach /= 3
    return np.asarray(weights / weights.sum())
