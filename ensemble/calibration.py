"""Calibration: turn predictions into probabilities with a curve fitted to nested predictions.

Platt, Probabilistic outputs for support vector machines, 1999 (a sigmoid of the logit); Zadrozny and Elkan,
Transforming classifier scores into accurate multiclass probability estimates, KDD 2002 (isotonic regression);
Kull et al., Beta calibration, AISTATS 2017.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble.nested import nested_predictions, to_distribution
from oof.arrays import Vector
from oof.errors import BlendError
from oof.metrics import metric_by_name
from oof.metrics.probabilities import reliability_bins

_EDGE = 1e-7
_BINS = 10


@dataclass(frozen=True, eq=False)
class Calibrator:
    """An increasing curve from predictions to probabilities.

    method: platt, beta or isotonic. coefficients: for platt (slope, intercept) of the logit, for beta those of ln p,
    -ln(1 - p) and 1. knots, values: for isotonic, (n_knots,) predictions and their probabilities.
    """

    method: str
    coefficients: tuple[float, ...] = ()
    knots: Vector | None = None
    values: Vector | None = None

    def __call__(self, predictions: NDArray[Any]) -> Vector:
        """Return calibrated probabilities, (n_rows,)."""
        p = np.asarray(predictions, np.float64)
        if self.knots is not None and self.values is not None:
            return np.interp(p, self.knots, self.values)
        score = _features(self.method, p) @ np.array(self.coefficients)
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(score, -700, 700))))

    def to_json(self) -> dict[str, Any]:
        """Return the curve as JSON values."""
        return {
            "method": self.method,
            "coefficients": list(self.coefficients),
            "knots": None if self.knots is None else self.knots.tolist(),
            "values": None if self.values is None else self.values.tolist(),
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "Calibrator":
        """Return what `to_json` wrote."""
        knots, values = (None if value[key] is None else np.array(value[key]) for key in ("knots", "values"))
        return Calibrator(value["method"], tuple(value["coefficients"]), knots, values)


@dataclass(frozen=True)
class ReliabilityBin:
    """Number of rows, mean prediction and share of positives in one range of predictions."""

    rows: int
    mean_prediction: float
    positive_share: float


@dataclass(frozen=True)
class CalibrationReport:
    """The effect of calibration on the nested predictions.

    log_loss, calibration_error: (before, after); the calibration error is the mean distance between prediction and
    share of positives over bins of equal size. before, after: those bins.
    """

    method: str
    log_loss: tuple[float, float]
    calibration_error: tuple[float, float]
    before: tuple[ReliabilityBin, ...]
    after: tuple[ReliabilityBin, ...]


def calibrate(
    method: str, nested: NDArray[Any], y: NDArray[Any], fold: NDArray[np.int32], *, level: bool = False
) -> tuple[Calibrator, Vector, CalibrationReport]:
    """Fit a curve to nested predictions; the curve that scores a fold is fitted to the other folds.

    Nested predictions are used because fitted predictions are overconfident.

    Args:
        method: platt, isotonic or beta. nested: (n_rows,) probabilities. y: (n_rows,) 0 or 1. fold: (n_rows,).
        level: for metrics that depend only on the order, as in `nested_predictions`: otherwise the curves of folds with
            different shares of positives mix up their order. The report is always of the curves as they were fitted.

    Returns:
        The curve for new rows, the calibrated nested predictions, and a report of the effect.

    Raises:
        BlendError: if predictions are outside [0, 1].
    """
    if nested.min() < 0 or nested.max() > 1:
        raise BlendError(
            f"calibrate = '{method}' needs predictions in [0, 1]; those of this blend are from {nested.min():g} to "
            f"{nested.max():g}. Average log-odds (transform = 'rank-logit'), or do not calibrate."
        )

    @cache
    def without(index: int) -> Vector | None:
        rest = fold != index
        if not 0 < y[rest].sum() < rest.sum():
            return None
        return fit_calibrator(method, nested[rest], y[rest])(nested)

    curve = fit_calibrator(method, nested, y)
    whole, plain = curve(nested), np.asarray(nested, np.float64)
    calibrated = nested_predictions(fold, without, whole, plain)
    log_loss = metric_by_name("log_loss")
    before, after = reliability(nested, y), reliability(calibrated, y)
    losses = log_loss(y, nested), log_loss(y, calibrated)
    report = CalibrationReport(method, losses, (_error(before), _error(after)), before, after)
    if level:
        calibrated = nested_predictions(fold, without, whole, plain, level=to_distribution)
    return curve, calibrated, report


def fit_calibrator(method: str, predictions: NDArray[Any], y: NDArray[Any]) -> Calibrator:
    """Fit the curve of a method to predictions (n_rows,) and labels (n_rows,)."""
    p = np.asarray(predictions, np.float64)
    if method == "isotonic":
        return _isotonic(p, y)
    features = _features(method, p)
    free = np.ones(features.shape[1], bool)
    while True:  # a negative coefficient would reverse the order, so it is set to 0, as in Kull et al.
        fitted = _logistic(features[:, free], y)
        coefficients = np.zeros(features.shape[1])
        coefficients[free] = fitted
        wrong = free & (coefficients < 0) & (np.arange(len(free)) < len(free) - 1)
        if not wrong.any():
            return Calibrator(method, tuple(coefficients.tolist()))
        free &= ~wrong


def _features(method: str, p: Vector) -> NDArray[np.float64]:
    inside = np.clip(p, _EDGE, 1 - _EDGE)
    high, low = np.log(inside), -np.log1p(-inside)
    ones = np.ones_like(p)
    return np.stack([high + low, ones] if method == "platt" else [high, low, ones], axis=-1)


def _logistic(features: NDArray[np.float64], y: NDArray[Any]) -> Vector:
    """Fit coefficients by Newton steps, with Platt's smoothed targets and a weak prior for separable rows."""
    positives = float(np.sum(y))
    target = np.where(y == 1, (positives + 1) / (positives + 2), 1 / (len(y) - positives + 2))
    coefficients = np.zeros(features.shape[1])
    ridge = 1e-6 * np.eye(features.shape[1])
    for _ in range(100):
        chance = 1.0 / (1.0 + np.exp(-np.clip(features @ coefficients, -500, 500)))
        gradient = features.T @ (target - chance) - ridge @ coefficients
        weight = np.maximum(chance * (1 - chance), 1e-9)
        step = np.linalg.solve((features * weight[:, None]).T @ features + ridge, gradient)
        largest = float(np.abs(step).max())
        coefficients += step * min(1.0, 2.0 / max(largest, 1e-12))
        if largest < 1e-10:
            break
    return np.asarray(coefficients)


def _isotonic(p: Vector, y: NDArray[Any]) -> Calibrator:
    """Fit an isotonic curve, with its ends smoothed by one row so that no probability is 0 or 1."""
    from sklearn.isotonic import isotonic_regression

    order = np.argsort(p, kind="stable")
    knots, first, counts = np.unique(p[order], return_index=True, return_counts=True)
    shares = np.add.reduceat(np.asarray(y, np.float64)[order], first) / counts
    values = isotonic_regression(shares, sample_weight=counts.astype(np.float64))
    begins = np.flatnonzero(np.r_[True, np.diff(values) > 0])
    sizes = np.add.reduceat(counts, begins)
    values = np.repeat((values[begins] * sizes + 0.5) / (sizes + 1.0), np.diff(np.r_[begins, len(values)]))
    values = np.maximum.accumulate(values)
    kept = np.r_[True, (values[1:-1] != values[:-2]) | (values[1:-1] != values[2:]), True][: len(values)]
    return Calibrator("isotonic", (), knots[kept], values[kept])


def reliability(predictions: NDArray[Any], y: NDArray[Any]) -> tuple[ReliabilityBin, ...]:
    """Return mean prediction and share of positives in ten bins of equal size."""
    columns = (values.tolist() for values in reliability_bins(y, predictions, _BINS))
    return tuple(ReliabilityBin(rows, mean, share) for mean, share, rows in zip(*columns, strict=True))


def _error(bins: tuple[ReliabilityBin, ...]) -> float:
    rows = np.array([item.rows for item in bins])
    return float(np.average([abs(item.mean_prediction - item.positive_share) for item in bins], weights=rows))
