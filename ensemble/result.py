"""The result of fitting a blend: weights, fitted and nested scores, and the predictor for new rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble.calibration import CalibrationReport
from ensemble.notebook import blend_html
from ensemble.predictor import Predictor, predict_by_folds
from ensemble.summary import BlendSummary, Comparison, MemberScore, MethodScore
from oof.errors import BlendError


@dataclass(frozen=True, eq=False)
class BlendResult:
    """A fitted blend.

    weights: (n_models,) float, sum to 1: the share of each model.
    score: metric on the rows on which the weights were fitted; optimistic by construction, except for plain averages.
    nested_score: metric with weights fitted without the fold that is scored; the score to expect on new rows.
    nested_interval: (low, high), 95 %.
    names: names of the models. metric: metric optimised. transform: transforms of the predictions, joined by +.
    method: description of the methods in the blend. methods: all methods compared, best nested score first.
    oof: (n_rows,) the blend on the rows fitted. nested_oof: (n_rows,) with the weights of the other folds.
    single_scores: (n_models,) each model's own score, on the rows it covers.
    comparisons: comparisons with the best single model and the plain mean.
    references: name -> (score, nested score) of the best single model and the plain averages.
    verdict: a sentence on whether the gain is significant.
    warnings: sentences on suspicious members, or on uncertainty due to few rows.
    predictor: the blend as a function.
    calibration: effect of calibration on the nested predictions; None without calibration.
    fold_weights: (k, n_models) the weights without each fold, in the order of the folds; None if none are fitted.
    fitted: what was fitted or chosen by the labels: weights, members, imputation, calibration.
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
    calibration: CalibrationReport | None = None
    fold_weights: NDArray[np.float64] | None = None
    fitted: tuple[str, ...] = ("weights",)

    def predict(
        self,
        test: NDArray[Any],
        *,
        averaged: NDArray[np.bool_] | None = None,
        features: NDArray[Any] | None = None,
    ) -> NDArray[np.float64]:
        """Blend new rows, shape (n_test,), or (n_test, n_classes).

        Args:
            test: (n_test, n_models[, n_classes]) float, means over the fold models, or predictions of each fold model
                (k, n_test, n_models[, n_classes]), in the order of the folds. In the latter case each part is
                blended and the blends are averaged, since the weights were fitted to predictions
                of single fold models. NaN means no prediction. A single part is treated as a mean.
            averaged: (n_models,) which members' predictions are means over their fold models, and therefore equal in
                all parts; None if there are none.
            features: (n_test, n_features) features of the rows, if the blend was fitted with features.

        Raises:
            BlendError: if the shape is wrong.
        """
        test = np.asarray(test)
        features = None if features is None else np.asarray(features, np.float32)
        axes = self.oof.ndim + 1
        if test.ndim != axes + 1:
            self._check(test)
            return self.predictor.predict(test, features=features)
        for part in test:
            self._check(part)
        return predict_by_folds(self.predictor, test, averaged, features)

    def _check(self, test: NDArray[Any]) -> None:
        """Raise BlendError unless test has the shape (n_test, n_models[, n_classes])."""
        shape = (len(self.weights), *self.oof.shape[1:])
        if test.ndim != len(shape) + 1 or test.shape[1:] != shape:
            text = ", ".join(map(str, shape))
            raise BlendError(
                f"Expected test predictions of shape (n_test, {text}), or (k, n_test, {text}) by fold model, one "
                f"column per model of the blend; got {test.shape}."
            )

    def _repr_html_(self) -> str:
        """Return the HTML that a notebook shows for this blend."""
        return blend_html(self.summary)

    @property
    def summary(self) -> BlendSummary:
        """Return the blend without its predictions."""
        by_fold = np.empty((0, len(self.names))) if self.fold_weights is None else self.fold_weights
        scored = zip(self.names, self.weights, self.single_scores, by_fold.T.tolist(), strict=True)
        return BlendSummary(
            metric=self.metric,
            method=self.method,
            transform=self.transform,
            score=self.score,
            nested_score=self.nested_score,
            nested_interval=self.nested_interval,
            members=tuple(
                MemberScore(name, float(weight), float(score), tuple(folds)) for name, weight, score, folds in scored
            ),
            comparisons=self.comparisons,
            methods=self.methods,
            references=self.references,
            calibration=self.calibration,
            verdict=self.verdict,
            warnings=self.warnings,
            fitted=self.fitted,
        )
