"""What a fit of a blend gives: weights, scores that are never confused, and the function for new rows."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensemble.align import Alignment
from ensemble.formula import Mixture
from ensemble.transforms import Columns, FittedTransforms, fill_missing
from oof.errors import BlendError


@dataclass(frozen=True)
class MethodScore:
    """One method to blend that was tried.

    score: on the rows that its weights were fitted on. nested_score: with the weights fitted without the
    fold that is scored. share: of this method in the blend. seconds: it took.
    """

    name: str
    transform: str
    score: float
    nested_score: float
    share: float
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """The blend against another, by nested scores on the same rows.

    other: what it is compared with. gain: positive where the blend is better, also for losses.
    interval: 95 %. p_value: of no difference, two-sided.
    """

    other: str
    gain: float
    interval: tuple[float, float]
    p_value: float


class Predictor(Protocol):
    """The function of a blend on new rows."""

    def predict(self, rows: NDArray[Any], fold: int | None = None) -> NDArray[np.float64]:
        """(n_rows,) or (n_rows, n_classes) from (n_rows, n_models[, n_classes]); `fold` if of one fold model."""

    def to_json(self) -> dict[str, Any]:
        """The function as JSON values."""

    def tables(self) -> pd.DataFrame:
        """Distribution functions of the members: fold (-1 for all), model (position), knot, cdf."""


@dataclass(frozen=True, eq=False)
class BinaryPredictor:
    """A mixture of the chosen models (positions), the transforms of all models, and the alignment of fold models."""

    mixture: Mixture
    transforms: FittedTransforms
    chosen: NDArray[np.intp]
    alignment: Alignment | None

    def predict(self, rows: NDArray[Any], fold: int | None = None) -> NDArray[np.float64]:
        with np.errstate(over="ignore"):
            columns: Columns = np.ascontiguousarray(rows.T, dtype=np.float32)
        columns = fill_missing(self.transforms, columns)
        if self.alignment is not None and fold is not None and fold < len(self.alignment.by_fold):
            columns = self.alignment.apply(columns, fold, self.transforms)
        scores = self.mixture.scores(self.transforms.only(self.chosen), columns[self.chosen])
        return self.mixture.predictions(scores)

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "binary",
            "missing": self.transforms.imputation,
            "chosen": self.chosen.tolist(),
            "margins": self.transforms.margins.tolist(),
            **self.mixture.to_json(),
        }

    def tables(self) -> pd.DataFrame:
        kept = {-1: self.transforms.distributions}
        if self.alignment is not None:
            kept |= dict(enumerate(self.alignment.by_fold))
        parts = [
            pd.DataFrame({"fold": fold, "model": index, "knot": found.knots, "cdf": found.cdf})
            for fold, distributions in kept.items()
            for index, found in enumerate(distributions)
        ]
        return pd.concat(parts, ignore_index=True)


@dataclass(frozen=True, eq=False)
class BlendResult:
    """A fitted blend.

    weights: (n_models,) float, sum to 1: the share that each model carries.
    score: metric on the rows that the weights were fitted on; flattered by construction.
    nested_score: metric with the weights fitted without the fold that is scored; what to expect of new rows.
    nested_interval: (low, high), 95 %.
    names: of the models. metric: what was optimised. transform: transform or transforms of the predictions.
    method: in words, the methods of blending that went in. methods: all that were tried, best nested score first.
    oof: (n_rows,) the blend on the rows fitted. nested_oof: (n_rows,) with the weights of the other folds.
    single_scores: (n_models,) each model's own score, on the rows it covers.
    comparisons: against the best single model and the plain mean.
    references: name -> (score, nested score) of the best single model and the plain averages.
    verdict: in a plain sentence, whether the gain can be told from luck.
    warnings: sentences on members that look wrong.
    predictor: the blend as a function.
    """

    weights: NDArray[np.float64]
    score: float
    nested_score: float
    nested_interval: tuple[float, float]
    names: tuple[str, ...]
    metric: str
    transform: str
    method: str
    methods: tuple[MethodScore, ...]
    oof: NDArray[np.float64]
    nested_oof: NDArray[np.float64]
    single_scores: NDArray[np.float64]
    comparisons: tuple[Comparison, ...]
    references: Mapping[str, tuple[float, float]]
    verdict: str
    warnings: tuple[str, ...]
    predictor: Predictor

    def predict(self, test: NDArray[Any]) -> NDArray[np.float64]:
        """Blend new rows, shape (n_test,), or (n_test, n_classes).

        Args:
            test: (n_test, n_models[, n_classes]) float, or with the fold models apart
                (k, n_test, n_models[, n_classes]), in the order of the folds: then each part is
                blended and the blends are averaged, since the weights were fitted to predictions
                of single fold models. NaN where a model has no prediction.

        Raises:
            BlendError: if the shape is another, naming both.
        """
        test = np.asarray(test)
        axes = self.oof.ndim + 1
        if test.ndim == axes + 1:
            for part in test:
                self._check(part)
            found = sum(self.predictor.predict(part, fold) for fold, part in enumerate(test))
            return np.asarray(found / len(test))
        self._check(test)
        return self.predictor.predict(test)

    def _check(self, test: NDArray[Any]) -> None:
        """Raise unless test is (n_test, n_models[, n_classes])."""
        shape = (len(self.weights), *self.oof.shape[1:])
        if test.ndim != len(shape) + 1 or test.shape[1:] != shape:
            text = ", ".join(map(str, shape))
            raise BlendError(
                f"Expected test predictions of shape (n_test, {text}), or (k, n_test, {text}) by fold model, one "
                f"column for each model of the blend; got {test.shape}."
            )

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
            "methods": [asdict(item) for item in self.methods],
            "references": {
                name: {"score": score, "nested_score": nested} for name, (score, nested) in self.references.items()
            },
            "verdict": self.verdict,
            "warnings": list(self.warnings),
            "formula": self.predictor.to_json(),
        }

    def distributions(self) -> pd.DataFrame:
        """The stored distribution functions of the members: model, knot, cdf."""
        table = self.predictor.tables()
        table["model"] = [self.names[index] for index in table["model"]]
        return table
