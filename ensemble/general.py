"""Blend class probabilities or real values, with nested scores.

Classes: probabilities are pooled linearly, or as the softmax of weighted logarithms (Newton's method on
the log loss). Real values: a weighted sum with an intercept, by least squares, shrunk toward
the mean of the models with the strength that maximises the marginal likelihood (MacKay 1992), and one with
non-negative weights.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble.averaging import averaging_weights
from ensemble.kernels import non_negative_minimum
from ensemble.nested import nested_predictions
from ensemble.predictor import (
    Array,
    GeneralPart,
    GeneralPredictor,
    Rule,
    apply_rule,
    fill_by_mean,
    log_probabilities,
    softmax,
)
from ensemble.prepare import BlendData
from ensemble.result import BlendResult
from ensemble.settings import BlendOptions
from ensemble.significance import compare, nested_interval, verdict
from ensemble.summary import MethodScore
from oof.errors import BlendError
from oof.metrics import Metric
from oof.progress import SILENT, Progress

Fit = Callable[[Array, NDArray[Any]], Array]  # from (rows, models[, classes]) and y to parameters
_SMALL = 1e-12
_BEST_SINGLE = "best single"


@dataclass(frozen=True)
class _Method:
    """A method: the function that fits its parameters, and the rule that applies them."""

    name: str
    transform: str
    fit: Fit
    rule: Rule = "linear"


@dataclass(frozen=True, eq=False)
class _Fitted:
    """A method with its parameters fitted on all rows, its fitted and its nested predictions."""

    method: _Method
    parameters: Array
    predictions: Array
    nested: Array


def fit_general(data: BlendData, options: BlendOptions, progress: Progress = SILENT) -> BlendResult:
    """Blend class probabilities (n_rows, n_models, n_classes) or real values (n_rows, n_models).

    Raises:
        BlendError: if class labels or probabilities do not match.
    """
    metric, y, fold = options.metric, data.y, data.fold
    given = np.asarray(data.oof, np.float64)
    typical = np.nanmean(given, axis=(0, 1))
    filled = fill_by_mean(given, typical)
    if filled.ndim == 3:
        _check_classes(filled, y)
    methods = _class_methods(metric) if filled.ndim == 3 else _value_methods(metric)
    fitted: list[_Fitted] = []
    with progress.task("blend", total=len(methods), unit="method") as task:
        for method in methods:
            fitted.append(_fit_nested(method, filled, y, fold))
            task.advance(1)
    averaged = [one for one in fitted if one.method.name != _BEST_SINGLE]
    weights, nested = _average([one.nested for one in averaged], y, fold, metric)
    kept = [(float(w), one) for w, one in zip(weights, averaged, strict=True) if w > 0]
    parts = tuple(GeneralPart(one.method.name, w, one.method.rule, one.parameters) for w, one in kept)
    predictor = GeneralPredictor(parts, np.asarray(typical))
    predictions = np.asarray(sum(w * one.predictions for w, one in kept))
    by_name = {one.method.name: one for one in fitted}
    others = {name: by_name[name].nested for name in (_BEST_SINGLE, "mean")}
    score = metric(y, predictions)
    comparisons = compare(metric, y, nested, others, data.groups, score)
    return BlendResult(
        weights=_shares(predictor, filled),
        score=score,
        nested_score=metric(y, nested),
        nested_interval=nested_interval(metric, y, nested, score, data.fold, data.groups),
        names=data.names,
        metric=metric.name,
        transform="+".join(dict.fromkeys(one.method.transform for _, one in kept)),
        method=", ".join(f"{one.method.name} ({w:.0%})" for w, one in kept),
        methods=_method_scores(fitted, {one.method.name: w for w, one in kept}, metric, y),
        oof=predictions,
        nested_oof=nested,
        single_scores=np.array([_single_score(given[:, model], y, metric) for model in range(given.shape[1])]),
        comparisons=comparisons,
        references={name: (metric(y, by_name[name].predictions), metric(y, by_name[name].nested)) for name in others},
        verdict=verdict(comparisons),
        warnings=(),
        predictor=predictor,
    )


def _fit_nested(method: _Method, filled: Array, y: NDArray[Any], fold: NDArray[np.int32]) -> _Fitted:
    parameters = method.fit(filled, y)
    predictions = apply_rule(method.rule, parameters, filled)

    def without(index: int) -> Array | None:
        rest = fold != index
        if not rest.any():
            return None
        return apply_rule(method.rule, method.fit(filled[rest], y[rest]), filled)

    nested = nested_predictions(fold, without, predictions, filled.mean(axis=1))
    return _Fitted(method, parameters, predictions, nested)


def _method_scores(
    fitted: list[_Fitted], share: dict[str, float], metric: Metric, y: NDArray[Any]
) -> tuple[MethodScore, ...]:
    """Return the scores of all methods, best nested score first."""
    found = []
    for one in fitted:
        name, scores = one.method.name, (metric(y, one.predictions), metric(y, one.nested))
        found.append(MethodScore(name, one.method.transform, *scores, share.get(name, 0.0), 0.0))
    return tuple(sorted(found, key=lambda item: -metric.gain(item.nested_score)))


def _single_score(column: NDArray[Any], y: NDArray[Any], metric: Metric) -> float:
    present = ~np.isnan(column.reshape(len(y), -1)).any(axis=1)
    return metric(y[present], column[present])


def _average(nested: list[Array], y: NDArray[Any], fold: NDArray[np.int32], metric: Metric) -> tuple[Array, Array]:
    """Return the mixing weights, and the nested mixture, whose weights in each fold are those of the other folds."""
    weights = _weights(nested, y, fold, metric)
    mixture = np.empty_like(nested[0])
    k = int(fold.max()) + 1
    for index in range(k):
        rows = fold == index
        by_others = _weights(nested, y, fold, metric, index) if k > 1 else weights
        mixture[rows] = sum(w * one[rows] for w, one in zip(by_others, nested, strict=True))
    return weights, mixture


def _weights(
    nested: list[Array], y: NDArray[Any], fold: NDArray[np.int32], metric: Metric, left_out: int = -1
) -> Array:
    """Return mixing weights from the nested scores of the folds, leaving out one fold."""
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
    """Return each model's share of the blend's variance, by varying one model at a time; sum 1."""
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

    return _Method(_BEST_SINGLE, "prob", fit)


def _mean_weights(oof: Array, y: NDArray[Any]) -> Array:
    return np.full(oof.shape[1], 1.0 / oof.shape[1])


# ---- real values ------------------------------------------------------------


def _value_methods(metric: Metric) -> list[_Method]:
    return [
        _best_single(metric),
        _Method("mean", "prob", _mean_weights),
        _Method("non-negative weights", "prob", _non_negative_values, "affine"),
        _Method("signed weights", "prob", _signed_values, "affine"),
    ]


def _non_negative_values(oof: Array, y: NDArray[Any]) -> Array:
    centre, mean = oof.mean(axis=0), float(np.mean(y))
    inside = oof - centre
    square = inside.T @ inside
    ridge = 1e-9 * float(np.trace(square)) / len(square) + _SMALL
    start = np.full(oof.shape[1], 1.0 / oof.shape[1])
    weights = non_negative_minimum(square + ridge * np.eye(len(square)), inside.T @ (y - mean), start, 2_000)
    return np.asarray(np.r_[mean - centre @ weights, weights])


def _signed_values(oof: Array, y: NDArray[Any]) -> Array:
    """Fit least squares, shrinking each model's own weight but not that of their mean."""
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
            f"With {count} classes, y must contain class indices from 0 to {count - 1}; it contains "
            f"{labels.min()} to {labels.max()}."
        )
    if oof.min() < 0 or oof.max() > 1 + 1e-6:
        raise BlendError(
            f"Class probabilities must be in [0, 1]; they range from {oof.min():g} to {oof.max():g}. "
            f"Apply the softmax before blending."
        )


def _class_methods(metric: Metric) -> list[_Method]:
    return [
        _best_single(metric),
        _Method("mean", "prob", _mean_weights),
        _Method("geometric mean", "geometric", _mean_log_pool, "log_pool"),
        _Method("weights of probabilities", "prob", _linear_pool),
        _Method("weights of logarithms", "logit", _log_pool, "log_pool"),
    ]


def _mean_log_pool(oof: Array, y: NDArray[Any]) -> Array:
    return np.asarray(np.r_[_mean_weights(oof, y), np.zeros(oof.shape[2])])


def _linear_pool(oof: Array, y: NDArray[Any]) -> Array:
    """Fit the weights of the linear pool with the lowest log loss, by expectation maximisation."""
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
    """Fit weights of logarithms and a bias per class with the lowest log loss, shrunk toward the geometric mean."""
    n, m, c = oof.shape
    logs = log_probabilities(oof)
    features = np.concatenate([logs, np.broadcast_to(np.eye(c), (n, c, c))], axis=1)  # (n, m + c, c)
    start = np.r_[np.full(m, 1.0 / m), np.zeros(c)]
    shrink = np.r_[np.full(m, 1.0), np.full(c, 1e-2)]
    parameters = start.copy()
    true = features[np.arange(n), :, np.asarray(y, np.intp)]  # (n, m + c)
    for _ in range(30):
        chance = softmax(np.einsum("npc,p->nc", features, parameters))
        expected = np.einsum("npc,nc->np", features, chance)
        gradient = (true - expected).sum(axis=0) - shrink * (parameters - start)
        square = np.einsum("npc,nc,nqc->pq", features, chance, features, optimize=True) - expected.T @ expected
        step = np.linalg.solve(square + np.diag(shrink), gradient)
        parameters = parameters + step * min(1.0, 2.0 / max(float(np.abs(step).max()), _SMALL))
        if np.abs(step).max() < 1e-8:
            break
    return np.asarray(parameters)
