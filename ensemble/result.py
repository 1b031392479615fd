"""What a fit of a blend gives: weights, scores that are never confused, and the function for new rows."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensemble.formula import Formula
from ensemble.views import Columns, Views, fill_missing
from oof.errors import BlendError


@dataclass(frozen=True)
class Attempt:
    """One way to blend that was tried.

    score: on the rows that its weights were fitted on. nested_score: with the weights fitted without the
    fold that is scored. kept: whether it is in the blend.
    """

    name: str
    transform: str
    score: float
    nested_score: float
    kept: bool


@dataclass(frozen=True)
class Comparison:
    """The blend's nested score less another's, on the same rows.

    other: what it is compared with. interval: 95 %. p_value: of no difference, two-sided.
    """

    other: str
    difference: float
    interval: tuple[float, float]
    p_value: float


@dataclass(frozen=True, eq=False)
class BlendResult:
    """A fitted blend.

    weights: (n_models,) float, sum to 1: the share that each model carries.
    score: metric on the rows that the weights were fitted on; too high by construction.
    nested_score: metric with the weights fitted without the fold that is scored; what to expect of new rows.
    nested_interval: (low, high), 95 %.
    names: of the models. metric: what was optimised. transform: view or views of the predictions.
    method: the way of blending that was chosen. attempts: all that were tried, best nested score first.
    oof: (n_rows,) the blend on the rows fitted. nested_oof: (n_rows,) with the weights of the other folds.
    single_scores: (n_models,) each model's own score, on the rows it covers.
    comparisons: against the best single model and the plain mean.
    references: nested score of the simple blends, by name.
    verdict: in a plain sentence, whether the gain can be told from luck.
    warnings: sentences on members that look wrong.
    """

    weights: NDArray[np.float64]
    score: float
    nested_score: float
    nested_interval: tuple[float, float]
    names: tuple[str, ...]
    metric: str
    transform: str
    method: str
    attempts: tuple[Attempt, ...]
    oof: NDArray[np.float64]
    nested_oof: NDArray[np.float64]
    single_scores: NDArray[np.float64]
    comparisons: tuple[Comparison, ...]
    references: Mapping[str, float]
    verdict: str
    warnings: tuple[str, ...]
    formula: Formula
    views: Views

    def predict(self, test: NDArray[Any]) -> NDArray[np.float64]:
        """Blend new rows, shape (n_test,).

        Args:
            test: (n_test, n_models) float, or (k, n_test, n_models) with the predictions of each
                fold model apart: then each is blended and the blends are averaged. NaN where a
                model has no prediction.

        Raises:
            BlendError: if the number of models differs from the one fitted.
        """
        test = np.asarray(test)
        if test.ndim == 3:
            found: NDArray[np.float64] = np.mean([self.predict(part) for part in test], axis=0)
            return found
        if test.ndim != 2 or test.shape[1] != len(self.weights):
            raise BlendError(
                f"Expected test predictions of shape (n_test, {len(self.weights)}) or (k, n_test, "
                f"{len(self.weights)}), one column for each model of the blend; got {test.shape}."
            )
        with np.errstate(over="ignore"):
            columns: Columns = np.ascontiguousarray(test.T, dtype=np.float32)
        columns = fill_missing(self.views, columns)
        return self.formula.linked(self.formula.scores(self.views, columns))

    def facts(self) -> dict[str, Any]:
        """The blend as JSON values, without predictions and distribution functions."""
        return {
            "metric": self.metric,
            "method": self.method,
            "transform": self.transform,
            "score": self.score,
            "score_of": "the rows that the weights were fitted on",
            "nested_score": self.nested_score,
            "nested_score_of": "each fold, with the weights fitted without it",
            "nested_interval": list(self.nested_interval),
            "members": [
                {"name": name, "weight": float(weight), "score": float(score)}
                for name, weight, score in zip(self.names, self.weights, self.single_scores, strict=True)
            ],
            "comparisons": [asdict(item) for item in self.comparisons],
            "attempts": [asdict(item) for item in self.attempts],
            "references": dict(self.references),
            "verdict": self.verdict,
            "warnings": list(self.warnings),
            "formula": self.formula.to_json(),
            "margins": self.views.margins.tolist(),
        }

    def distributions(self) -> pd.DataFrame:
        """The stored distribution functions of the members: model, knot, cdf."""
        parts = [
            pd.DataFrame({"model": name, "knot": found.knots, "cdf": found.cdf})
            for name, found in zip(self.names, self.views.distributions, strict=True)
        ]
        return pd.concat(parts, ignore_index=True)
