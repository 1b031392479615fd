"""The predictor of a blend for new rows, which can be written to JSON and read back bit for bit."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ensemble.align import Alignment
from ensemble.calibration import Calibrator
from ensemble.mixture import Mixture
from ensemble.transforms import Columns, Distribution, FittedTransforms, fill_missing
from oof.errors import BlendError, StoreError

Array = NDArray[np.float64]
Rule = Literal["linear", "affine", "log_pool"]


class Predictor(Protocol):
    """The function of a blend for new rows: stateless, for any number of rows, each row independently."""

    def predict(
        self,
        rows: NDArray[Any],
        fold: int | None = None,
        *,
        averaged: NDArray[np.bool_] | None = None,
        features: NDArray[np.float32] | None = None,
    ) -> Array:
        """Return the blend, (n_rows[, n_classes]), of predictions (n_rows, n_models[, n_classes]), NaN for missing.

        Args:
            rows: predictions of the members.
            fold: the fold whose models predicted them; None for means over the fold models.
            averaged: (n_models,) whether a member's predictions are means over its fold models despite `fold`.
            features: (n_rows, n_features) features of the rows, if the blend uses any.
        """

    @property
    def n_folds(self) -> int:
        """Return the number of fold models that are treated differently; 0 if the fold makes no difference."""

    def to_json(self) -> dict[str, Any]:
        """Return the complete predictor as JSON values."""


@dataclass(frozen=True, eq=False)
class BinaryPredictor:
    """A mixture of some models' transforms.

    chosen: positions of the models in the mixture. transforms, alignment: of all models; the alignment maps fold
    models to one scale if they drift. calibrator: calibration of the mixture's predictions, or None.
    """

    mixture: Mixture
    transforms: FittedTransforms
    chosen: NDArray[np.intp]
    alignment: Alignment | None = None
    calibrator: Calibrator | None = None

    def predict(
        self,
        rows: NDArray[Any],
        fold: int | None = None,
        *,
        averaged: NDArray[np.bool_] | None = None,
        features: NDArray[np.float32] | None = None,
    ) -> Array:
        with np.errstate(over="ignore"):
            columns: Columns = np.ascontiguousarray(rows.T, dtype=np.float32)
        columns = fill_missing(self.transforms, self._on_one_scale(columns, fold, averaged))
        scores = self.mixture.scores(
            self.transforms.only(self.chosen), columns[self.chosen], self._checked(features, len(rows))
        )
        predictions = self.mixture.predictions(scores)
        return predictions if self.calibrator is None else self.calibrator(predictions)

    @property
    def n_folds(self) -> int:
        return 0 if self.alignment is None else len(self.alignment.by_fold)

    def _checked(self, features: NDArray[np.float32] | None, rows: int) -> NDArray[np.float32] | None:
        """Return features as (n_features, n_rows); None if the blend uses none."""
        wanted = self.mixture.n_features
        if not wanted:
            return None
        if features is None or features.shape != (rows, wanted):
            found = "none" if features is None else f"shape {features.shape}"
            raise BlendError(
                f"The blend uses {wanted} features of each row: expected features of shape ({rows}, {wanted}), in the "
                f"order used for fitting; got {found}."
            )
        return np.ascontiguousarray(features.T, np.float32)

    def _on_one_scale(self, columns: Columns, fold: int | None, averaged: NDArray[np.bool_] | None) -> Columns:
        if self.alignment is None:
            return columns
        found = self.alignment.apply(columns, fold, self.transforms)
        if fold is not None and averaged is not None and averaged.any():
            found[averaged] = self.alignment.apply(columns, None, self.transforms)[averaged]
        return found

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "binary",
            "chosen": self.chosen.tolist(),
            "mixture": self.mixture.to_json(),
            "transforms": self.transforms.to_json(),
            "calibrator": None if self.calibrator is None else self.calibrator.to_json(),
            "distributions": [
                {"fold": fold, "model": model, "knots": found.knots.tolist(), "cdf": found.cdf.tolist()}
                for fold, distributions in enumerate(self._distributions(), start=-1)
                for model, found in enumerate(distributions)
            ],
        }

    def _distributions(self) -> list[tuple[Distribution, ...]]:
        """Return the distributions of all rows, then those of each fold."""
        return [self.transforms.distributions, *(() if self.alignment is None else self.alignment.by_fold)]

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "BinaryPredictor":
        """Return what `to_json` wrote."""
        by_fold: dict[int, list[Distribution]] = {}
        for item in value["distributions"]:  # by fold, then model
            found = Distribution(np.array(item["knots"], np.float64), np.array(item["cdf"], np.float64))
            by_fold.setdefault(item["fold"], []).append(found)
        pooled = tuple(by_fold.pop(-1))
        calibrator = value["calibrator"]
        return BinaryPredictor(
            Mixture.from_json(value["mixture"]),
            FittedTransforms.from_json(value["transforms"], pooled),
            np.array(value["chosen"], np.intp),
            Alignment(tuple(tuple(by_fold[fold]) for fold in sorted(by_fold))) if by_fold else None,
            None if calibrator is None else Calibrator.from_json(calibrator),
        )


@dataclass(frozen=True, eq=False)
class GeneralPart:
    """One method in a blend of classes or real values.

    method: its name. weight: its share. rule: how parameters are applied: linear, weights (n_models,); affine, an
    intercept and weights (1 + n_models,); log_pool, weights of logarithms and a bias per class.
    """

    method: str
    weight: float
    rule: Rule
    parameters: Array


@dataclass(frozen=True, eq=False)
class GeneralPredictor:
    """A weighted mean of methods for classes or real values.

    typical: ([n_classes],) prediction for a row that no model predicts: the mean over all rows and models.
    """

    parts: tuple[GeneralPart, ...]
    typical: Array

    def predict(
        self,
        rows: NDArray[Any],
        fold: int | None = None,
        *,
        averaged: NDArray[np.bool_] | None = None,
        features: NDArray[np.float32] | None = None,
    ) -> Array:
        filled = fill_by_mean(np.asarray(rows, np.float64), self.typical)
        return np.asarray(sum(part.weight * apply_rule(part.rule, part.parameters, filled) for part in self.parts))

    @property
    def n_folds(self) -> int:
        return 0

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "general",
            "typical": self.typical.tolist(),
            "parts": [
                {"method": p.method, "weight": p.weight, "rule": p.rule, "parameters": p.parameters.tolist()}
                for p in self.parts
            ],
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "GeneralPredictor":
        """Return what `to_json` wrote."""
        parts = tuple(
            GeneralPart(item["method"], item["weight"], item["rule"], np.array(item["parameters"], np.float64))
            for item in value["parts"]
        )
        return GeneralPredictor(parts, np.array(value["typical"], np.float64))


def predictor_from_json(value: Mapping[str, Any]) -> Predictor:
    """Return the predictor written by `to_json`; its predictions are bit-identical.

    Raises:
        StoreError: if the kind is unknown.
    """
    if value.get("kind") == "binary":
        return BinaryPredictor.from_json(value)
    if value.get("kind") == "general":
        return GeneralPredictor.from_json(value)
    raise StoreError(f"The blend has a predictor of unknown kind {value.get('kind')!r}. Run dfens blend again.")


def predict_by_folds(
    predictor: Predictor,
    test: NDArray[Any],
    averaged: NDArray[np.bool_] | None = None,
    features: NDArray[np.float32] | None = None,
) -> Array:
    """Return the mean over fold models of the blend of their predictions, (n_rows[, n_classes]).

    Args:
        predictor: of the blend.
        test: (k, n_rows, n_models[, n_classes]), in the order of the folds. A single part is a mean over fold models.
        averaged: (n_models,) which members' predictions are means over their fold models, and so the same in each part.
        features: (n_rows, n_features) of the rows, for a blend that uses them.

    Raises:
        BlendError: if the blend treats fold models differently and their number is wrong.
    """
    if len(test) == 1:
        return predictor.predict(test[0], features=features)
    apart = predictor.n_folds
    if apart and len(test) != apart:
        raise BlendError(
            f"The blend maps the predictions of each of its {apart} fold models to a common scale, but got test "
            f"predictions of {len(test)}. Pass all {apart} in the order of the folds, or their mean."
        )
    found = sum(predictor.predict(part, fold, averaged=averaged, features=features) for fold, part in enumerate(test))
    return np.asarray(found / len(test))


def apply_rule(rule: Rule, parameters: Array, oof: Array) -> Array:
    """Return the blend (n_rows[, n_classes]) of predictions (n_rows, n_models[, n_classes])."""
    if rule == "linear":
        return np.asarray(np.tensordot(oof, parameters, axes=(1, 0)))
    if rule == "affine":
        return np.asarray(oof @ parameters[1:] + parameters[0])
    count = oof.shape[1]
    return softmax(np.tensordot(log_probabilities(oof), parameters[:count], axes=(1, 0)) + parameters[count:])


def log_probabilities(oof: Array) -> Array:
    """Return the logarithms of probabilities, clipped from below."""
    return np.asarray(np.log(np.clip(oof, 1e-6, None)))


def softmax(scores: Array) -> Array:
    """Return probabilities (n_rows, n_classes) of scores."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def fill_by_mean(oof: Array, typical: Array) -> Array:
    """Fill each NaN with the mean of the models that predict the row, or with `typical` if none does."""
    gaps = np.isnan(oof)
    if not gaps.any():
        return oof
    counts = (~gaps).sum(axis=1, keepdims=True)
    mean = np.where(gaps, 0.0, oof).sum(axis=1, keepdims=True) / np.maximum(counts, 1)
    return np.where(gaps, np.where(counts > 0, mean, typical), oof)
