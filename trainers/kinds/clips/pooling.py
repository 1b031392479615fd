"""Pool the predictions of moments to a prediction of the clip."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from oof.arrays import Matrix, Vector
from oof.metrics import roc_auc


def pool_mean(probabilities: Matrix, weight: Matrix) -> Vector:
    """Return the weighted mean."""
    pooled: Vector = (probabilities * weight).sum(1) / weight.sum(1)
    return pooled


def pool_top_k(probabilities: Matrix, weight: Matrix) -> Vector:
    """Return the mean of the highest third, since a forgery may not be visible all the time."""
    found = [np.sort(values)[::-1][: -(-len(values) // 3)].mean() for values in _present(probabilities, weight)]
    return np.array(found)


def pool_confidence(probabilities: Matrix, weight: Matrix) -> Vector:
    """Return the mean weighted by the distance from 0.5 (third place of the Deepfake Detection Challenge, 2020)."""
    return pool_mean(probabilities, weight * (np.abs(probabilities - 0.5) + 1e-3))


def pool_dfdc(probabilities: Matrix, weight: Matrix) -> Vector:
    """Return the winner's rule of the Deepfake Detection Challenge (selimsef, 2020).

    If more than 40 % of the frames (and more than 11 of the 32 for which it was designed) exceed 0.8, their mean; if
    more than 90 % are below 0.2, the mean of these; otherwise the mean of all.
    """
    found = []
    for values in _present(probabilities, weight):
        high, low = values[values > 0.8], values[values < 0.2]
        if len(high) > 0.4 * len(values) and len(high) > 11 / 32 * len(values):
            found.append(high.mean())
        elif len(low) > 0.9 * len(values):
            found.append(low.mean())
        else:
            found.append(values.mean())
    return np.array(found)


def _present(probabilities: Matrix, weight: Matrix) -> list[Vector]:
    return [row[there > 0] for row, there in zip(probabilities, weight, strict=True)]


RULES: dict[str, Callable[[Matrix, Matrix], Vector]] = {
    "mean": pool_mean,
    "top_k": pool_top_k,
    "confidence": pool_confidence,
    "dfdc": pool_dfdc,
}


def choose_rule(probabilities: Matrix, weight: Matrix, target: NDArray[np.int8]) -> str:
    """Return the rule with the highest AUC; the mean if none is better, or if there is only one class."""
    if len(np.unique(target)) < 2:
        return "mean"
    scores = {name: roc_auc(target, rule(probabilities, weight)) for name, rule in RULES.items()}
    return max(scores, key=lambda name: (scores[name], name == "mean"))


def pool_nested(
    probabilities: Matrix, weight: Matrix, target: NDArray[np.int8], seed: int
) -> tuple[Vector, str, tuple[str, str]]:
    """Pool held-out rows, each half with the rule that is best on the other half, so that no row chooses its own rule.

    Returns:
        The predictions of the rows; the rule that is best on all of them, for rows that were not held out; and the
        rules of both halves.
    """
    half = np.zeros(len(target), bool)
    rng = np.random.default_rng(seed)
    for value in (0, 1):  # split each class into halves
        rows = rng.permutation(np.flatnonzero(target == value))
        half[rows[: len(rows) // 2]] = True
    pooled = np.zeros(len(target))
    rules = []
    for part in (half, ~half):
        rule = choose_rule(probabilities[~part], weight[~part], target[~part])
        pooled[part] = RULES[rule](probabilities[part], weight[part])
        rules.append(rule)
    return pooled, choose_rule(probabilities, weight, target), (rules[0], rules[1])
