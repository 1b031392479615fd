"""Blend binary predictions: fit and average several methods, and score them by nested cross-validation."""

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble.align import Alignment, align_folds
from ensemble.auc import auc_of_classes
from ensemble.averaging import average_methods
from ensemble.boosting import fit_boosted
from ensemble.calibration import calibrate
from ensemble.methods import (
    AVERAGES,
    BEST_SINGLE,
    LOGIT_MEAN,
    MEAN,
    RANK_MEAN,
    SECOND_LEVEL,
    TRIAL,
    FittedMethod,
    Method,
    fit_average,
    fit_best_single,
    fit_calibrated_mean,
    fit_method,
    level_of,
    weighted_methods,
)
from ensemble.mixture import Mixture, shares
from ensemble.nested import nested_predictions
from ensemble.predictor import BinaryPredictor
from ensemble.prepare import BlendData, binary_table, odd_members, single_aucs
from ensemble.result import BlendResult
from ensemble.ridge import fit_ridge
from ensemble.selection import select_members
from ensemble.settings import BlendOptions
from ensemble.significance import compare, nested_interval, verdict
from ensemble.summary import MethodScore
from ensemble.table import BinaryTable
from ensemble.transforms import Imputation
from oof.arrays import Vector
from oof.cpus import cpu_count
from oof.metrics import Metric
from oof.progress import SILENT, Progress

_LEAST_OF_A_CLASS = 10  # with fewer rows of a class, no weights are fitted
_FEW_COUNTED = 10  # negatives up to the highest false positive rate of a metric: with 3, intervals cover 71 to 93 %
_FEW = 100  # rows of the rarer class from which fitted weights are used alone
_THREADS = 2  # methods fitted in parallel; more would need more memory
_FITTERS: dict[str, Callable[..., FittedMethod]] = {
    SECOND_LEVEL["ridge"].name: fit_ridge,
    SECOND_LEVEL["boosted"].name: fit_boosted,
}
Groups = NDArray[np.intp] | None


def fit_table(data: BlendData) -> BinaryTable:
    """Return the table, with missing predictions imputed in the way that scores best out of fold."""
    table = binary_table(data)
    if not _chooses_imputation(data, table):
        return table
    other: Imputation = "mean"
    tables = [table, binary_table(data, other)]
    scores = [_auc(table, fit_method(TRIAL, table).nested) for table in tables]
    return tables[int(np.argmax(scores))]


def _chooses_imputation(data: BlendData, table: BinaryTable) -> bool:
    """Return whether predictions are missing, and there are enough rows for choosing how to impute them."""
    missing = any(np.isnan(column).any() for column in data.oof.T)
    return missing and _enough(table) and table.transforms.in_unit_range


def _enough(table: BinaryTable) -> bool:
    """Return whether there are enough rows to fit weights."""
    return min(table.positives, table.split) >= _LEAST_OF_A_CLASS and len(table.columns) > 1 and table.k > 1


def _auc(table: BinaryTable, scores: NDArray[Any]) -> float:
    return auc_of_classes(scores[: table.split], scores[table.split :])


@dataclass(frozen=True, eq=False)
class _Fitted:
    """A mixture, the methods compared for it, and their scores in the table's row order.

    without: the mixture that scores each fold, fitted without it; empty if nothing is fitted.
    """

    mixture: Mixture
    kept: list[tuple[float, FittedMethod]]
    tried: list[FittedMethod]
    seconds: dict[str, float]
    scores: NDArray[np.float64]
    nested: NDArray[np.float64]
    without: tuple[Mixture, ...] = ()

    @property
    def scores_of_weights(self) -> NDArray[np.float64]:
        """Return the scores with nested ones of trees: these separate their own rows, however certain they are."""
        found = [w * (one.nested if one.method.separates else one.scores).astype(np.float64) for w, one in self.kept]
        return np.asarray(sum(found))


def _fit_mixture(table: BinaryTable, options: BlendOptions, groups: Groups, progress: Progress) -> _Fitted:
    """Fit the methods for a transform, and average those that are not significantly worse than the best."""
    some = _enough(table) and not options.average_only
    methods = weighted_methods(options.transform, table.transforms.in_unit_range, len(table.columns)) if some else []
    methods += [SECOND_LEVEL[name] for name in options.methods] if some else []
    tried: list[FittedMethod] = []
    seconds: dict[str, float] = {}
    with progress.task("blend", total=len(methods) + 1, unit="method") as task:
        with ThreadPoolExecutor(min(_THREADS, cpu_count())) as pool:
            _ = table.ranks, table.mean_ranks  # computed once, before the methods share them
            for found, elapsed_s in pool.map(partial(_timed, table, options.metric), methods):
                tried.append(found)
                seconds[found.method.name] = elapsed_s
                task.advance(1)
        transform = "prob" if options.transform == "auto" else options.transform
        chosen = tried or [fit_average(AVERAGES[transform], table)]
        weights, by_fold = average_methods(table, chosen, options.metric, groups)
        share = _mean_share(table) if tried else 0.0
        if share:
            mean = fit_calibrated_mean(table, level=options.metric.kind == "ranking")
            chosen = [*chosen, mean]
            tried.append(mean)
            weights = np.r_[(1 - share) * weights, share]
            by_fold = np.c_[(1 - share) * by_fold, np.full(table.k, share)]
        task.advance(1)
    kept = [(float(w), one) for w, one in zip(weights, chosen, strict=True) if w > 0]
    scores = np.asarray(sum(w * one.scores.astype(np.float64) for w, one in kept))
    mixture = Mixture(tuple((w, one.formula) for w, one in kept), kept[0][1].method.output)
    without = _without_each_fold(chosen, by_fold) if tried else ()
    nested = _nested_mixture(table, chosen, by_fold, scores, level=options.metric.kind == "ranking")
    return _Fitted(mixture, kept, tried, seconds, scores, nested, without)


def _nested_mixture(
    table: BinaryTable, methods: Sequence[FittedMethod], weights: NDArray[np.float64], whole: Vector, *, level: bool
) -> Vector:
    """Return nested predictions of a mixture: of the methods fitted without each fold, on their own scales.

    Mixing predictions that were mapped to the scales of fits to all rows would give a method the weight of its spread
    there, which is larger if it agrees with the labels of the fold: noise got a nested AUC of 0.53.

    Args:
        methods: the methods. weights: (k, n_methods) chosen without each fold. whole: (n_rows,) the fit to all rows.
        level: as in `nested_predictions`.
    """
    if not any(one.method.fitted for one in methods):
        return whole

    def without(fold: int) -> Vector | None:
        if not all(fold in one.held_out for one in methods):
            return None
        found = [w * one.held_out[fold].astype(np.float64) for w, one in zip(weights[fold], methods, strict=True) if w]
        return np.asarray(sum(found))

    mean = table.mean_ranks
    scale = level_of(one.method for one in methods) if level else None
    return nested_predictions(table.fold, without, whole, mean, level=scale)


def _without_each_fold(methods: Sequence[FittedMethod], weights: NDArray[np.float64]) -> tuple[Mixture, ...]:
    """Return the mixture that scores each fold; weights: (k, n_methods)."""
    return tuple(
        Mixture(tuple((float(w), one.without.get(fold, one.formula)) for w, one in zip(row, methods, strict=True) if w))
        for fold, row in enumerate(weights)
    )


def _mean_share(table: BinaryTable) -> float:
    """Return the share of the plain mean in a blend with few positives (or negatives), 0 if there are enough.

    Over 60 generated sets each, a quarter of the mean changed the held-out AUC by +130e-5 with 10 positives, +30e-5
    with 15, -30e-5 with 25 and -100e-5 with 40, so the share falls as the number of positives grows.
    """
    rarer = min(table.positives, table.split)
    return min(0.3, 3.0 / rarer) if rarer < _FEW else 0.0


def _few_rows(table: BinaryTable, interval: tuple[float, float], metric: Metric) -> list[str]:
    """Return a warning about the uncertainty due to few positives or negatives, or few negatives that count."""
    counted, rarer = metric.max_fpr * table.split, min(table.positives, table.split)
    if metric.max_fpr < 1 and counted < _FEW_COUNTED:
        return [
            f"{metric.name} depends on about {max(1, round(counted))} of the {table.split} negative rows, those that "
            f"rank highest: scores are too high on average and intervals too narrow. It needs "
            f"{math.ceil(_FEW_COUNTED / metric.max_fpr)} negative rows; compare blends by auc or a higher rate instead."
        ]
    if rarer >= _FEW:
        return []
    which = "positive" if table.positives <= table.split else "negative"
    low, high = interval
    return [
        f"Only {rarer} {which} rows: the 95 % interval of this blend's nested {metric.name} is {low:.3f} to "
        f"{high:.3f}. Smaller differences between members or blends are not meaningful."
    ]


def _timed(table: BinaryTable, metric: Metric, method: Method) -> tuple[FittedMethod, float]:
    started = time.perf_counter()
    fit = _FITTERS.get(method.name, fit_method)
    return fit(method, table, level=metric.kind == "ranking"), time.perf_counter() - started


def _nested_with_choice(
    table: BinaryTable, options: BlendOptions, groups: Groups, fitted: _Fitted
) -> NDArray[np.float64]:
    """Return nested predictions of a blend with member selection, which is repeated without each fold, as is the fit.

    A fit without one fold may select a single member, or have too few positives for weights, and then returns
    probabilities, where others return log-odds. Scores are therefore pooled only where their order is all that counts.

    Args:
        table: all members. options: selection options. groups: (n_rows,). fitted: the fit to all rows.
    """
    level = options.metric.kind == "ranking"

    def without(fold: int) -> NDArray[np.float64] | None:
        if not table.trainable(fold):
            return None
        outside = np.flatnonzero(table.fold != fold)
        rest, rest_groups = table.rows(outside), None if groups is None else groups[outside]
        chosen = select_members(rest, options, rest_groups, fitted=_enough(rest))
        mixture = _fit_mixture(rest.only(chosen), options, rest_groups, SILENT).mixture
        columns = np.ascontiguousarray(table.columns[chosen])
        scores = mixture.scores(table.transforms.only(chosen), columns, table.features)
        return scores if level else mixture.predictions(scores)

    mean, read = table.mean_ranks, fitted.mixture.predictions
    methods = [SECOND_LEVEL[name] for name in options.methods]
    if level:
        return read(nested_predictions(table.fold, without, fitted.scores, mean, level=level_of(methods)))
    return nested_predictions(table.fold, without, read(fitted.scores), mean)


def fit_binary(data: BlendData, options: BlendOptions, progress: Progress) -> BlendResult:
    """Blend binary predictions, or average them if `options` requests no weights or there are too few rows."""
    table = fit_table(data)
    metric = options.metric
    groups = None if data.groups is None else np.unique(data.groups, return_inverse=True)[1][table.order]
    references = _references(table, options)
    fits = _enough(table) and not options.average_only
    alignment: Alignment | None = None
    if data.own_folds and fits:
        table, alignment = align_folds(table, groups)
    chosen = select_members(table, options, groups, fitted=fits)
    part = table.only(chosen)
    fitted = _fit_mixture(part, options, groups, progress)
    predictions, of_weights, nested_out = (
        fitted.mixture.predictions(scores) for scores in (fitted.scores, fitted.scores_of_weights, fitted.nested)
    )
    if options.selects and table.k > 1 and (len(chosen) < len(table.columns) or options.prune):
        nested_out = _nested_with_choice(table, options, groups, fitted)
    curve, calibration = None, None
    if options.calibrate != "none":
        curve, nested_out, calibration = calibrate(
            options.calibrate, nested_out, table.y, table.fold, level=metric.kind == "ranking"
        )
        predictions, of_weights = curve(predictions), curve(of_weights)
    score, score_of_weights = metric(table.y, predictions), metric(table.y, of_weights)
    others = {one.method.name: one.nested for one in references if one.method in (BEST_SINGLE, MEAN)}
    comparisons = compare(metric, table.y, nested_out, others, groups, score_of_weights)
    aucs = single_aucs(data.oof, data.y)
    interval = nested_interval(metric, table.y, nested_out, score_of_weights, table.fold, groups)
    weights, *fold_weights = _member_weights(fitted, part, chosen, len(table.columns))
    by_labels = {
        "weights": bool(fitted.tried),
        "members": len(chosen) < len(table.columns),
        "imputation": _chooses_imputation(data, table),
        "calibration": curve is not None,
    }
    return BlendResult(
        weights=weights,
        score=score,
        nested_score=metric(table.y, nested_out),
        nested_interval=interval,
        names=table.names,
        metric=metric.name,
        transform="+".join(dict.fromkeys(name for _, one in fitted.kept for name in one.method.transforms)),
        method=_words(fitted.kept) + ("" if alignment is None else "; fold models mapped to one scale"),
        methods=_method_scores(references, fitted, metric, table.y),
        oof=table.in_input_order(predictions),
        nested_oof=table.in_input_order(nested_out),
        single_scores=aucs if metric.is_auc else _single_scores(data.oof, data.y, metric),
        comparisons=comparisons,
        references={one.method.name: _both_scores(one, metric, table.y) for one in references},
        verdict=verdict(comparisons),
        warnings=(*odd_members(table, aucs), *_few_rows(table, interval, metric)),
        predictor=BinaryPredictor(fitted.mixture, table.transforms, chosen, alignment, curve),
        calibration=calibration,
        fold_weights=np.stack(fold_weights) if fold_weights else None,
        fitted=tuple(name for name, is_fitted in by_labels.items() if is_fitted),
    )


def _member_weights(fitted: _Fitted, part: BinaryTable, chosen: NDArray[np.intp], count: int) -> NDArray[np.float64]:
    """Return the weights of all members: those of the blend, then those of the fit without each fold, if any.

    Args:
        fitted: fit of the selected members. part: their table. chosen: their positions. count: number of all members.
    """
    mixtures = (fitted.mixture, *fitted.without)
    weights = np.zeros((len(mixtures), count))
    for row, mixture in zip(weights, mixtures, strict=True):
        row[chosen] = shares(mixture, part.transforms, part.columns)
    return weights


def _method_scores(
    references: Sequence[FittedMethod], fitted: _Fitted, metric: Metric, y: NDArray[Any]
) -> tuple[MethodScore, ...]:
    """Return the scores of all methods, best nested score first."""
    share = {one.method.name: weight for weight, one in fitted.kept}
    found = []
    for one in [*references, *fitted.tried]:
        name = one.method.name
        scores = _both_scores(one, metric, y)
        found.append(
            MethodScore(name, one.method.transform, *scores, share.get(name, 0.0), fitted.seconds.get(name, 0.0))
        )
    return tuple(sorted(found, key=lambda item: -metric.gain(item.nested_score)))


def _references(table: BinaryTable, options: BlendOptions) -> list[FittedMethod]:
    found = [fit_best_single(table, options.metric), fit_average(MEAN, table), fit_average(RANK_MEAN, table)]
    if table.transforms.in_unit_range:
        found.append(fit_average(LOGIT_MEAN, table))
    if options.transform != "auto":
        asked = AVERAGES[options.transform]
        if asked.name not in [one.method.name for one in found]:
            found.append(fit_average(asked, table))
    return found


def simpler_blends(data: BlendData, metric: Metric) -> dict[str, NDArray[Any]]:
    """Return nested predictions of the best single model and of the plain mean, by name, in the order of the input."""
    table = fit_table(data)
    found = (fit_best_single(table, metric), fit_average(MEAN, table))
    return {one.method.name: table.in_input_order(one.nested) for one in found}


def _both_scores(one: FittedMethod, metric: Metric, y: NDArray[Any]) -> tuple[float, float]:
    """Return the fitted and the nested score."""
    read: list[NDArray[Any]] = [one.scores, one.nested]
    if metric.kind != "ranking" and one.method.output != "identity":  # an output function never changes the order
        output = Mixture(((1.0, one.formula),), one.method.output)
        read = [output.predictions(scores.astype(np.float64)) for scores in read]
    return metric(y, read[0]), metric(y, read[1])


def _single_scores(oof: NDArray[Any], y: NDArray[Any], metric: Metric) -> NDArray[np.float64]:
    found = []
    for column in oof.T:
        present = ~np.isnan(column)
        found.append(metric(y[present], column[present]))
    return np.array(found)


def _words(kept: Sequence[tuple[float, FittedMethod]]) -> str:
    """Return the methods of a blend with their shares."""
    if len(kept) == 1:
        return kept[0][1].method.name
    parts = ", ".join(f"{one.method.name} ({weight:.0%})" for weight, one in sorted(kept, key=lambda item: -item[0]))
    return f"mean of {len(kept)} methods: {parts}"
