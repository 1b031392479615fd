"""The function of a blend: the mean log-odds of the functions of one or several methods."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ensemble.formula import Features, Formula
from ensemble.transforms import POWER, Columns, FittedTransforms
from ensemble.tree_formula import TreeFormula
from oof.arrays import Vector

Output = Literal["identity", "sigmoid", "exp", "root"]
_BLOCK = 1 << 15


class Part(Protocol):
    """One method's function from the transforms of all models, and features of the rows, to log-odds."""

    @property
    def transforms(self) -> tuple[str, ...]:
        """Return the names of the transforms that are needed."""

    @property
    def n_features(self) -> int:
        """Return the number of features of a row that are needed."""

    @property
    def linear(self) -> Formula:
        """Return the weighted sum that approximates it, from which the share of each model is computed."""

    def scores(self, by_transform: Mapping[str, NDArray[np.float64]], features: Features = None) -> Vector:
        """Return log-odds, (n_rows,), from each transform (n_models, n_rows) and features (n_features, n_rows)."""

    def to_json(self) -> dict[str, Any]:
        """Return the function as JSON values."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """A blend: output(sum of weight x formula).

    parts: formulas with their weights, which sum to 1. output: function from the mean to the prediction;
    it never changes the order of rows.
    """

    parts: tuple[tuple[float, Part], ...]
    output: Output = "sigmoid"

    @property
    def transforms(self) -> tuple[str, ...]:
        """Return the names of the transforms that are needed."""
        return tuple(dict.fromkeys(name for _, formula in self.parts for name in formula.transforms))

    @property
    def n_features(self) -> int:
        """Return the number of features of a row that are needed."""
        return max(formula.n_features for _, formula in self.parts)

    def scores(self, transforms: FittedTransforms, columns: Columns, features: Features = None) -> Vector:
        """Return the mean before the output function, (n_rows,), from (n_models, n_rows) without NaN and features."""
        if self.transforms == ("rank",) and self.output == "identity":  # the mean of ranks
            return transforms.mean_ranks(columns)
        found = np.empty(columns.shape[1])
        for begin in range(0, columns.shape[1], _BLOCK):
            rows = slice(begin, begin + _BLOCK)
            by_transform = {
                transform: transforms.apply(transform, columns[:, rows]).astype(np.float64)
                for transform in self.transforms
            }
            inside = None if features is None else features[:, rows]
            found[rows] = np.sum([weight * part.scores(by_transform, inside) for weight, part in self.parts], axis=0)
        return found

    def predictions(self, scores: Vector) -> Vector:
        """Return predictions from scores."""
        if self.output == "sigmoid":
            return np.asarray(1.0 / (1.0 + np.exp(-np.clip(scores, -700, 700))))
        if self.output == "exp":
            return np.exp(scores)
        if self.output == "root":
            return np.asarray(np.maximum(scores, 0.0) ** (1.0 / POWER))
        return scores

    def to_json(self) -> dict[str, Any]:
        """Return the mixture as JSON values."""
        return {
            "output": self.output,
            "parts": [{"weight": weight} | formula.to_json() for weight, formula in self.parts],
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "Mixture":
        """Return what `to_json` wrote."""
        return Mixture(tuple((part["weight"], _part(part)) for part in value["parts"]), value["output"])


def _part(value: Mapping[str, Any]) -> Part:
    return TreeFormula.from_json(value) if "trees" in value else Formula.from_json(value)


def shares(mixture: Mixture, transforms: FittedTransforms, columns: Columns) -> Vector:
    """Return the share of each model in the blend, shape (n_models,), sum 1.

    For one transform with non-negative weights, the shares are the weights. Otherwise a
    model's share is the covariance of its term with the sum, divided by the variance
    of the sum; it is negative if the model has a negative effect. At most
    20,000 rows are used.
    """
    count = len(columns)
    if len(mixture.parts) == 1 and len(mixture.transforms) == 1:
        (weights,) = mixture.parts[0][1].linear.terms.values()
        if (weights >= 0).all() and weights.sum() > 0:
            return np.asarray(weights / weights.sum())
    stride = max(1, columns.shape[1] // 20_000)
    sample = np.ascontiguousarray(columns[:, ::stride])
    parts = np.zeros(sample.shape)
    by_transform = {name: transforms.apply(name, sample).astype(np.float64) for name in mixture.transforms}
    for weight, part in mixture.parts:
        formula = part.linear
        sums = formula.sums(by_transform)
        slope = 1.0
        if formula.link is not None and sums.std() > 0:
            slope = float(np.cov(sums, formula.link.odds(sums))[0, 1] / sums.var(ddof=1))
        for name, coefficients in formula.terms.items():
            parts += (weight * slope) * coefficients[:, None] * by_transform[name]
    parts -= parts.mean(axis=1, keepdims=True)
    whole = parts.sum(axis=0)
    variance = float(whole @ whole)
    if variance <= 1e-18:
        return np.full(count, 1.0 / count)
    found = parts @ whole / variance
    return np.asarray(found / found.sum())
