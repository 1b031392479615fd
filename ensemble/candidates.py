"""The ways to blend that are tried, from simple to rich; each gives a formula fitted on some of the rows."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble.formula import Formula, Link
from ensemble.kernels import auc_of_classes
from ensemble.search import greedy_weights, line_search_weights
from ensemble.table import BinaryTable

Fit = Callable[[BinaryTable, NDArray[np.bool_]], Formula]


@dataclass(frozen=True)
class Candidate:
    """One way to blend; `rank` orders ways by how much they may fit."""

    name: str
    transform: str
    rank: int
    fit: Fit


def _average(kind: str, link: Link) -> Fit:
    def fit(table: BinaryTable, rows: NDArray[np.bool_]) -> Formula:
        table.views.apply(kind, table.columns[:, :1])  # refuses here what it cannot serve
        count = len(table.columns)
        return Formula(0.0, {kind: np.full(count, 1.0 / count)}, link)

    return fit


def _best_single(table: BinaryTable, rows: NDArray[np.bool_]) -> Formula:
    inside = table.columns[:, rows]
    split = int((table.y[rows] == 0).sum())
    found = [auc_of_classes(values[:split], values[split:]) for values in inside]
    weights = np.zeros(len(table.columns))
    weights[int(np.argmax(found))] = 1.0
    return Formula(0.0, {"prob": weights})


def _searched(kind: str, link: Link) -> Fit:
    def fit(table: BinaryTable, rows: NDArray[np.bool_]) -> Formula:
        inside = table.views.apply(kind, table.columns[:, rows])
        split = int((table.y[rows] == 0).sum())
        weights = line_search_weights(inside, split, greedy_weights(inside, split))
        return Formula(0.0, {kind: weights}, link)

    return fit


BEST_SINGLE = Candidate("best single", "prob", 0, _best_single)
MEAN = Candidate("mean of probabilities", "prob", 1, _average("prob", "identity"))
RANK_MEAN = Candidate("mean of ranks", "rank", 1, _average("rank", "identity"))
LOGIT_MEAN = Candidate("mean of logits", "logit", 1, _average("logit", "sigmoid"))
SEARCHED = (
    Candidate("non-negative weights on probabilities", "prob", 2, _searched("prob", "identity")),
    Candidate("non-negative weights on ranks", "rank", 2, _searched("rank", "identity")),
    Candidate("non-negative weights on logits", "logit", 2, _searched("logit", "sigmoid")),
)
