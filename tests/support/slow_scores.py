"""Slow reference implementations of scores from their definitions."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def pairwise_auc(y: NDArray[Any], scores: NDArray[Any], weights: NDArray[Any] | None = None) -> float:
    """Return the share of (positive, negative) pairs in the right order, ties counting half; O(n²)."""
    y, scores = np.asarray(y), np.asarray(scores, np.float64)
    weights = np.ones(len(y)) if weights is None else weights
    a, b = scores[y == 1][:, None], scores[y == 0][None, :]
    pairs = weights[y == 1][:, None] * weights[y == 0][None, :]
    return float((pairs * ((a > b) + 0.5 * (a == b))).sum() / pairs.sum())


def tied_scores(rng: np.random.Generator, n: int, levels: int = 20) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Generate labels of both classes and informative scores with many ties."""
    y = (rng.random(n) < 0.4).astype(np.int64)
    y[:2] = 0, 1
    return y, np.round(rng.normal(size=n) + y, 1 if levels == 20 else 8)
