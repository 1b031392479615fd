"""Blends of class probabilities and of real values: the same honesty, with weights that suit them.

Classes: probabilities are pooled, linearly or as the softmax of weighted logarithms (Newton on
the log loss). Real values: a weighted sum with an intercept, by least squares, shrunk toward
the mean of the models by as much as marginal likelihood says (MacKay 1992), and one without
negative weights.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensemble.averaging import averaging_weights
from ensemble.kernels import non_negative_minimum
from ensemble.result import BlendResult, MethodScore
from ensemble.significance import compare, nested_interval, verdict
from oof.errors import BlendError
from oof.metrics import Metric
from oof.progress import SILENT, Progress

Array = NDArray[np.float64]
Fit = Callable[[Array, NDArray[Any]], Array]  # (rows, models[, classes]) and y to parameters
Apply = Callable[[Array, Array], Array]  # parameters and predictions to a blend
_SMALL = 1e-12


@dataclass(frozen=True)
class _Method:
    name: str
    transform: str
    fit: Fit
    apply: Apply


@dataclass(frozen=True, eq=False)
class GeneralPredictor:
    """The mean of some methods of blending, each with its parameters."""

    parts: tuple[tuple[float, _Method, Array], ...]

    def predict(self, rows: NDArray[Any], fold: int | None = None) -> Array:
        filled = fill_by_mean(np.asarray(rows, np.float64))
        return np.asarray(sum(weight * method.apply(parameters, filled) for weight, method, parameters in self.parts))

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "general",
            "parts": [
                {"weight": weight, "method": method.name, "parameters": parameters.tolist()}
                for weight, method, parameters in self.parts
            ],
        }

    def tables(self) -> pd.DataFrame:
        return pd.DataFrame(
            {"fold": np.empty(0, int), "model": np.empty(0, int), "knot": np.empty(0), "cdf": np.empty(0)}
        )


def fill_by_mean(oof: Array) -> Array:
    """Put the mean of the models that predict a row at the gaps of the others."""
    gaps = np.isnan(oof)
    if not gaps.any():
        return oof
    counts = (~gaps).sum(axis=1, keepdims=True)
    mean = np.where(gaps, 0.0, oof).sum(axis=1, keepdims=True) / np.maximum(counts, 1)
    whole = np.nanmean(oof, axis=(0, 1), keepdims=True)
    return np.where(gaps, np.where(counts > 0, mean, whole), oof)


def fit_general(
    oof: NDArray[Any],
    y: NDArray[Any],
    fold: NDArray[np.int32],
    groups: NDArray[Any] | None,
    metric: Metric,
    names: tuple[str, ...],
    progress: Progress = SILENT,
) -> BlendResult:
    """Blend class probabilities (n_rows, n_models, n_classes) or real values (n_rows, n_models).

    Raises:
        BlendError: class labels or probabilities that do not fit.
    """
    filled = fill_by_mean(np.asarray(oof, np.float64))
    if filled.ndim == 3:
        _check_classes(filled, y)
    methods = _class_methods(metric) if filled.ndim == 3 else _value_methods(metric)
    k = int(fold.max()) + 1
    fitted: list[tuple[_Method, Array, Array, Array]] = []
    with progress.task("blend", total=len(methods), unit="method") as task:
        for method in methods:
            parameters = method.fit(filled, y)
            nested = np.empty_like(filled[:, 0])
            for index in range(k):
                held_out = fold == index
                apart = method.fit(filled[~held_out], y[~held_out]) if k > 1 else parameters
                nested[held_out] = method.apply(apart, filled[held_out])
            fitted.append((method, parameters, method.apply(parameters, filled), nested))
            task.advance(1)
    open_methods = [item for item in fitted if item[0].name != "best single"]
    weights = _weights([nested for _, _, _, nested in open_methods], y, fold, metric)
    nested = np.empty_like(filled[:, 0])
    for index in range(k):
        rows = fold == index
        by_others = _weights([item[3] for item in open_methods], y, fold, metric, index) if k > 2 else weights
        nested[rows] = sum(w * item[3][rows] for w, item in zip(by_others, open_methods, strict=True))
    kept = [(float(w), item) for w, item in zip(weights, open_methods, strict=True) if w > 0]
    predictor = GeneralPredictor(tuple((w, item[0], item[1]) for w, item in kept))
    predictions = np.asarray(sum(w * item[2] for w, item in kept))
    by_name = {item[0].name: item for item in fitted}
    others = {name: by_name[name][3] for name in ("best single", "mean")}
    comparisons = compare(metric, y, nested, others, groups)
    score = metric(y, predictions)
    share = {item[0].name: w for w, item in kept}
    compared = [
        MethodScore(m.name, m.transform, metric(y, scores), metric(y, apart), share.get(m.name, 0.0), 0.0)
        for m, _, scores, apart in fitted
    ]
    return BlendResult(
        weights=_shares(predictor, filled),
        score=score,
        nested_score=metric(y, nested),
        nested_interval=nested_interval(metric, y, nested, score, groups),
        names=names,
        metric=metric.name,
        transform="+".join(dict.fromkeys(item[0].transform for _, item in kept)),
        method=", ".join(f"{item[0].name} ({w:.0%})" for w, item in kept),
        methods=tuple(sorted(compared, key=lambda item: -metric.gain(item.nested_score))),
        oof=predictions,
        nested_oof=nested,
        single_scores=np.array([_single_score(oof[:, model], y, metric) for model in range(oof.shape[1])]),
        comparisons=comparisons,
        references={
            name: (metric(y, by_name[name][2]), metric(y, by_name[name][3])) for name in ("best single", "mean")
        },
        verdict=verdict(comparisons),
        warnings=(),
        predictor=predictor,
    )


def _single_score(column: NDArray[Any], y: NDArray[Any], metric: Metric) -> float:
    present = ~np.isnan(column.reshape(len(y), -1)).any(axis=1)
    return metric(y[present], column[present])


def _weights(
    nested: list[Array], y: NDArray[Any], fold: NDArray[np.int32], metric: Metric, left_out: int = -1
) -> Array:
    """Mixing weights from nested scores fold by fold, without one fold."""
    folds = [index for index in range(int(fold.max()) + 1) if index != left_out]
    rows = fold != left_out
    gains = np.array([metric.gain(metric(y[rows], scores[rows])) for scores in nested])
    by_fold = np.array(
        [[metric.gain(metric(y[fold == index], scores[fold == index])) for scores in nested] for index in folds]
    )
    covariance = np.atleast_2d(np.cov(by_fold, rowvar=False)) / len(folds) if len(folds) > 1 else None
    if covariance is None:
        return np.full(len(nested), 1.0 / len(nested))
    return averaging_weights(gains, covariance)


def _shares(predictor: GeneralPredictor, oof: Array) -> Array:
    """How much the blend moves with each model: its part of the variance, by moving one model at a time; sum 1."""
    sample = oof[:: max(1, len(oof) // 2_000)]
    whole = predictor.predict(sample)
    centred = whole - whole.mean(axis=0)
    found = np.empty(oof.shape[1])
    for model in range(oof.shape[1]):
        without = sample.copy()
        without[:, model] = sample[:, model].mean(axis=0)
        found[model] = float(((whole - predictor.predict(without)) * centred).sum())
    total = found.sum()
    return found / total if abs(total) > _SMALL else np.full(len(found), 1.0 / len(found))


def _best_single(metric: Metric) -> _Method:
    def fit(oof: Array, y: NDArray[Any]) -> Array:
        chosen = int(np.argmax([metric.gain(metric(y, oof[:, model])) for model in range(oof.shape[1])]))
        return np.asarray(np.eye(oof.shape[1])[chosen])

    return _Method("best single", "prob", fit, _linear)


def _linear(weights: Array, oof: Array) -> Array:
    return np.asarray(np.tensordot(oof, weights, axes=(1, 0)))


def _mean_weights(oof: Array, y: NDArray[Any]) -> Array:
    return np.full(oof.shape[1], 1.0 / oof.shape[1])


# ---- real values ------------------------------------------------------------


def _value_methods(metric: Metric) -> list[_Method]:
    return [
        _best_single(metric),
        _Method("mean", "prob", _mean_weights, _linear),
        _Method("non-negative weights", "prob", _non_negative_values, _affine),
        _Method("signed weights", "prob", _signed_values, _affine),
    ]


def _affine(parameters: Array, oof: Array) -> Array:
    return np.asarray(oof @ parameters[1:] + parameters[0])


def _non_negative_values(oof: Array, y: NDArray[Any]) -> Array:
    centre, mean = oof.mean(axis=0), float(np.mean(y))
    inside = oof - centre
    square = inside.T @ inside
    ridge = 1e-9 * float(np.trace(square)) / len(square) + _SMALL
    start = np.full(oof.shape[1], 1.0 / oof.shape[1])
    weights = non_negative_minimum(square + ridge * np.eye(len(square)), inside.T @ (y - mean), start, 2_000)
    return np.asarray(np.r_[mean - centre @ weights, weights])


def _signed_values(oof: Array, y: NDArray[Any]) -> Array:
    """Least squares with the mean of the models free and each model's own weight shrunk."""
    n, m = oof.shape
    columns = np.column_stack([oof.mean(axis=1), oof])
    centre, mean = columns.mean(axis=0), float(np.mean(y))
    scale = np.maximum(columns.std(axis=0), _SMALL)
    inside = (columns - centre) / scale
    target = np.asarray(y, np.float64) - mean
    square, pull = inside.T @ inside, inside.T @ target
    shrink, noise = 1.0, max(float(target.var()), _SMALL)
    weights = np.zeros(m + 1)
    for _ in range(100):
        prior = np.r_[1e-6, np.full(m, shrink)]
        inverse = np.linalg.inv(square / noise + np.diag(prior))
        before, weights = weights, inverse @ (pull / noise)
        free = m - shrink * float(np.trace(inverse[1:, 1:]))
        shrink = float(np.clip(max(free, 1e-3) / max(float(weights[1:] @ weights[1:]), _SMALL), 1e-6, 1e9))
        rest = target - inside @ weights
        noise = max(float(rest @ rest) / max(n - free - 1, 1.0), _SMALL)
        if np.abs(weights - before).max() < 1e-8 * scale.max():
            break
    raw = weights / scale
    own = raw[1:] + raw[0] / m
    return np.asarray(np.r_[mean - centre @ raw, own])


# ---- classes ----------------------------------------------------------------


def _check_classes(oof: Array, y: NDArray[Any]) -> None:
    count = oof.shape[2]
    labels = np.unique(y)
    if (labels != labels.astype(int)).any() or labels.min() < 0 or labels.max() >= count:
        raise BlendError(
            f"With {count} classes, y must hold class numbers from 0 to {count - 1}; it holds "
            f"{labels.min()} to {labels.max()}."
        )
    if oof.min() < 0 or oof.max() > 1 + 1e-6:
        raise BlendError(
            f"Class probabilities must lie in [0, 1]; they run from {oof.min():g} to {oof.max():g}. "
            f"Apply the softmax before blending."
        )


def _class_methods(metric: Metric) -> list[_Method]:
    return [
        _best_single(metric),
        _Method("mean", "prob", _mean_weights, _linear),
        _Method("geometric mean", "geometric", _mean_weights, _pooled_logs),
        _Method("weights of probabilities", "prob", _linear_pool, _linear),
        _Method("weights of logarithms", "logit", _log_pool, _pooled_logs_with_bias),
    ]


def _logs(oof: Array) -> Array:
    return np.log(np.clip(oof, 1e-6, None))


def _softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _pooled_logs(weights: Array, oof: Array) -> Array:
    return _softmax(_linear(weights, _logs(oof)))


def _pooled_logs_with_bias(parameters: Array, oof: Array) -> Array:
    count = oof.shape[1]
    return _softmax(_linear(parameters[:count], _logs(oof)) + parameters[count:])


def _linear_pool(oof: Array, y: NDArray[Any]) -> Array:
    """Weights of the linear pool with the least log loss, by expectation maximisation."""
    true = np.maximum(oof[np.arange(len(y)), :, np.asarray(y, np.intp)], _SMALL)
    weights = np.full(oof.shape[1], 1.0 / oof.shape[1])
    for _ in range(500):
        before = weights
        part = true * weights
        weights = (part / part.sum(axis=1, keepdims=True)).mean(axis=0)
        if np.abs(weights - before).max() < 1e-6:
            break
    return weights


def _log_pool(oof: Array, y: NDArray[Any]) -> Array:
    """Weights of logarithms and a bias for each class with the least log loss, shrunk toward the geometric mean."""
    n, m, c = oof.shape
    logs = _logs(oof)
    features = np.concatenate([logs, np.broadcast_to(np.eye(c), (n, c, c))], axis=1)  # (n, m + c, c)
    start = np.r_[np.full(m, 1.0 / m), np.zeros(c)]
    shrink = np.r_[np.full(m, 1.0), np.full(c, 1e-2)]
    parameters = start.copy()
    true = features[np.arange(n), :, np.asarray(y, np.intp)]  # (n, m + c)
    for _ in range(30):
        chance = _softmax(np.einsum("npc,p->nc", features, parameters))
        expected = np.einsum("npc,nc->np", features, chance)
        gradient = (true - expected).sum(axis=0) - shrink * (parameters - start)
        square = np.einsum("npc,nc,nqc->pq", features, chance, features, optimize=True) - expected.T @ expected
        step = np.linalg.solve(square + np.diag(shrink), gradient)
        parameters = parameters + step * min(1.0, 2.0 / max(float(np.abs(step).max()), _SMALL))
        if np.abs(step).max() < 1e-8:
            break
    return np.asarray(parameters)
