"""The formula of a blend: the mean log-odds of one or several weighted sums of its members' transforms."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ensemble.link import Link
from ensemble.transforms import POWER, Columns, FittedTransforms

Output = Literal["identity", "sigmoid", "exp", "root"]
Vector = NDArray[np.float64]
_BLOCK = 1 << 15


@dataclass(frozen=True, eq=False)
class Formula:
    """Log-odds of a weighted sum: intercept + sum over transforms and models of coefficient x transform(prediction).

    terms: transform name -> (n_models,) coefficients. link: log-odds of the sum; None leaves the sum as it is.
    """

    intercept: float
    terms: Mapping[str, Vector]
    link: Link | None = None

    def sums(self, by_transform: Mapping[str, NDArray[np.float64]]) -> Vector:
        """Return the sum before the link, (n_rows,), from each transform of all models, (n_models, n_rows)."""
        found = np.asarray(sum(coefficients @ by_transform[name] for name, coefficients in self.terms.items()))
        return found + self.intercept

    def scores(self, by_transform: Mapping[str, NDArray[np.float64]]) -> Vector:
        """Return the log-odds, (n_rows,)."""
        sums = self.sums(by_transform)
        return sums if self.link is None else self.link.odds(sums)

    def to_json(self) -> dict[str, Any]:
        """Return the formula as JSON values."""
        return {
            "intercept": self.intercept,
            # a list, since floating-point sums depend on the order, which JSON objects do not preserve
            "terms": [{"transform": name, "coefficients": found.tolist()} for name, found in self.terms.items()],
            "link": None if self.link is None else self.link.to_json(),
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "Formula":
        """Return what `to_json` wrote."""
        terms = {item["transform"]: np.array(item["coefficients"], np.float64) for item in value["terms"]}
        return Formula(value["intercept"], terms, None if value["link"] is None else Link.from_json(value["link"]))


@dataclass(frozen=True, eq=False)
class Mixture:
    """A blend: output(sum of weight x formula).

    parts: formulas with their weights, which sum to 1. output: function from the mean to the prediction;
    it never changes the order of rows.
    """

    parts: tuple[tuple[float, Formula], ...]
    output: Output = "sigmoid"

    @property
    def transforms(self) -> tuple[str, ...]:
        """Return the names of the transforms that are needed."""
        return tuple(dict.fromkeys(name for _, formula in self.parts for name in formula.terms))

    def scores(self, transforms: FittedTransforms, columns: Columns) -> Vector:
        """Return the mean before the output function, (n_rows,), from (n_models, n_rows) without NaN."""
        found = np.empty(columns.shape[1])
        for begin in range(0, columns.shape[1], _BLOCK):
            rows = slice(begin, begin + _BLOCK)
            by_transform = {
                transform: transforms.apply(transform, columns[:, rows]).astype(np.float64)
                for transform in self.transforms
            }
            found[rows] = np.sum([weight * formula.scores(by_transform) for weight, formula in self.parts], axis=0)
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
        return Mixture(tuple((part["weight"], Formula.from_json(part)) for part in value["parts"]), value["output"])


def shares(mixture: Mixture, transforms: FittedTransforms, columns: Columns) -> Vector:
    """Return the share of each model in the blend, shape (n_models,), sum 1.

    For one transform with non-negative weights, the shares are the weights. Otherwise a
    model's share is the covariance of its term with the sum, divided by the variance
    of the sum; it is negative if the model has a negative effect. At most
    20,000 rows are used.
    """
    count = len(columns)
    if len(mixture.parts) == 1 and len(mixture.transforms) == 1:
        (weights,) = mixture.parts[0][1].terms.values()
        if (weights >= 0).all() and weights.sum() > 0:
            return np.asarray(weights / weights.sum())
    stride = max(1, columns.shape[1] // 20_000)
    sample = np.ascontiguousarray(columns[:, ::stride])
    parts = np.zeros(sample.shape)
    by_transform = {name: transforms.apply(name, sample).astype(np.float64) for name in mixture.transforms}
    for weight, formula in mixture.parts:
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
