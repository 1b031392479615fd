"""The function that a blend is: a weighted sum of views of its members, then a link."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ensemble.views import POWER, Columns, Views

Link = Literal["identity", "sigmoid", "exp", "root"]
_BLOCK = 1 << 16


@dataclass(frozen=True, eq=False)
class Formula:
    """blend(row) = link(intercept + sum over views and models of coefficient x view(prediction)).

    terms: view name -> (n_models,) coefficients. link: what makes the sum a prediction; it
    never changes the order of rows.
    """

    intercept: float
    terms: Mapping[str, NDArray[np.float64]]
    link: Link = "identity"

    def scores(self, views: Views, columns: Columns) -> NDArray[np.float64]:
        """The weighted sum before the link, shape (n_rows,), from (n_models, n_rows) without NaN."""
        total = np.full(columns.shape[1], self.intercept)
        for begin in range(0, columns.shape[1], _BLOCK):
            rows = slice(begin, begin + _BLOCK)
            for kind, coefficients in self.terms.items():
                used = np.flatnonzero(coefficients)
                if len(used):
                    total[rows] += coefficients[used] @ views.only(used).apply(kind, columns[used, rows])
        return total

    def linked(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores as predictions."""
        if self.link == "sigmoid":
            return 1.0 / (1.0 + np.exp(-np.clip(scores, -700, 700)))
        if self.link == "exp":
            return np.exp(scores)
        if self.link == "root":
            root: NDArray[np.float64] = np.maximum(scores, 0.0) ** (1.0 / POWER)
            return root
        return scores

    @property
    def used(self) -> NDArray[np.intp]:
        """Positions of the models that have a coefficient."""
        return np.flatnonzero(np.any([c != 0 for c in self.terms.values()], axis=0))

    def to_json(self) -> dict[str, Any]:
        return {
            "intercept": self.intercept,
            "link": self.link,
            "terms": {kind: coefficients.tolist() for kind, coefficients in self.terms.items()},
        }


def shares(formula: Formula, views: Views, columns: Columns) -> NDArray[np.float64]:
    """How much each model carries, shape (n_models,), sum 1.

    A blend of one view with weights that add up has its weights as shares. Otherwise a
    model's share is the covariance of its part of the sum with the whole, over the variance
    of the whole; negative where a model is used against what it says.
    """
    count = len(columns)
    if len(formula.terms) == 1:
        (weights,) = formula.terms.values()
        total = weights.sum()
        if total > 0 and (weights >= 0).all():
            return np.asarray(weights / total)
    parts = np.zeros((count, columns.shape[1]), np.float32)
    for kind, coefficients in formula.terms.items():
        parts += coefficients[:, None].astype(np.float32) * views.apply(kind, columns)
    parts -= parts.mean(axis=1, keepdims=True)
    whole = parts.sum(axis=0, dtype=np.float64)
    variance = float(whole @ whole)
    if variance <= 0:
        return np.full(count, 1.0 / count)
    found = parts @ whole / variance
    return np.asarray(found / found.sum(), dtype=np.float64)
