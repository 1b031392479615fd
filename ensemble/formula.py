"""A weighted sum of the members' transforms as log-odds: the function of one method of blending."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble.link import Link
from oof.arrays import Vector

Features = NDArray[np.float32] | None  # (n_features, n_rows)


@dataclass(frozen=True, eq=False)
class Formula:
    """Log-odds of a weighted sum: intercept + sum over transforms and models of coefficient x transform(prediction).

    terms: transform name -> (n_models,) coefficients. link: log-odds of the sum; None for the sum itself.
    """

    intercept: float
    terms: Mapping[str, Vector]
    link: Link | None = None

    @property
    def transforms(self) -> tuple[str, ...]:
        """The transforms that are needed."""
        return tuple(self.terms)

    @property
    def n_features(self) -> int:
        """Number of features of a row that are needed."""
        return 0

    @property
    def linear(self) -> "Formula":
        """The weighted sum from which the share of each model is computed."""
        return self

    def sums(self, by_transform: Mapping[str, NDArray[np.float64]]) -> Vector:
        """Return the sum before the link, (n_rows,), from each transform of all models, (n_models, n_rows)."""
        found = np.asarray(sum(coefficients @ by_transform[name] for name, coefficients in self.terms.items()))
        return found + self.intercept

    def scores(self, by_transform: Mapping[str, NDArray[np.float64]], features: Features = None) -> Vector:
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
