"""The blend of binary predictions: methods tried, mixed, scored without the fold that is scored, and told of."""

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble.align import align_folds
from ensemble.auc import auc_of_classes
from ensemble.averaging import as_metric_input, average_methods
from ensemble.formula import Mixture, shares
from ensemble.methods import (
    AVERAGES,
    BEST_SINGLE,
    LOGIT_MEAN,
    MEAN,
    RANK_MEAN,
    FittedMethod,
    Method,
    fit_average,
    fit_best_single,
    fit_method,
    weighted_methods,
)
from ensemble.prepare import binary_table, odd_members, single_aucs
from ensemble.result import BinaryPredictor, BlendResult, MethodScore
from ensemble.selection import choose_members
from ensemble.significance import compare, nested_interval, verdict
from ensemble.table import BinaryTable
from ensemble.transforms import Imputation
from oof.metrics import Metric
from oof.progress import SILENT, Progress

_LEAST_OF_A_CLASS = 10  # below, weights are not fitted
_THREADS = 2  # methods that are fitted at once; more would need more memory


def fit_table(
    oof: NDArray[Any], y: NDArray[Any], fold: NDArray[np.int32], names: tuple[str, ...], seed: int
) -> BinaryTable:
    """The table; where predictions are missing, with the stand-ins that score best out of fold."""
    if not any(np.isnan(column).any() for column in oof.T):
        return binary_table(oof, y, fold, names, seed)
    method = Method("trial", ("rank-logit",))
    options: list[Imputation] = ["rank", "mean"]
    tables = [binary_table(oof, y, fold, names, seed, missing) for missing in options]
    if not _enough(tables[0]) or not tables[0].transforms.in_unit_range:
        return tables[0]
    scores = [_auc(table, fit_method(method, table).nested) for table in tables]
    return tables[int(np.argmax(scores))]


def _enough(table: BinaryTable) -> bool:
    return min(table.positives, table.split) >= _LEAST_OF_A_CLASS and len(table.columns) > 1 and table.k > 1


def _auc(table: BinaryTable, scores: NDArray[Any]) -> float:
    return auc_of_classes(scores[: table.split], scores[table.split :])


@dataclass(frozen=True, eq=False)
class _Fitted:
    """A mixture, the methods that were tried for it, and their scores in the table's row order."""

    mixture: Mixture
    kept: list[tuple[float, FittedMethod]]
    tried: list[FittedMethod]
    seconds: dict[str, float]
    scores: NDArray[np.float64]
    nested: NDArray[np.float64]


def _fit_mixture(
    table: BinaryTable,
    transform: str,
    metric: Metric,
    groups: NDArray[np.intp] | None,
    progress: Progress,
    *,
    plain: bool = False,
) -> _Fitted:
    """Try the methods that serve a transform, and mix those that cannot be told from the best; or the plain average."""
    some = _enough(table) and not plain
    methods = weighted_methods(transform, table.transforms.in_unit_range, len(table.columns)) if some else []
    tried: list[FittedMethod] = []
    seconds: dict[str, float] = {}
    with progress.task("blend", total=len(methods) + 1, unit="method") as task:
        with ThreadPoolExecutor(min(_THREADS, len(os.sched_getaffinity(0)))) as pool:
            _ = table.ranks  # made once, before the methods share it
            for found, elapsed_s in pool.map(partial(_timed, table, metric), methods):
                tried.append(found)
                seconds[found.method.name] = elapsed_s
                task.advance(1)
        chosen = tried or [fit_average(AVERAGES["prob" if transform == "auto" else transform], table)]
        weights, nested = average_methods(table, chosen, metric, groups)
        task.advance(1)
    kept = [(float(w), one) for w, one in zip(weights, chosen, strict=True) if w > 0]
    scores = np.asarray(sum(w * one.scores.astype(np.float64) for w, one in kept))
    mixture = Mixture(tuple((w, one.formula) for w, one in kept), kept[0][1].method.output)
    return _Fitted(mixture, kept, tried, seconds, scores, nested)


def _nested_choice(
    table: BinaryTable,
    limit: int,
    transform: str,
    metric: Metric,
    groups: NDArray[np.intp] | None,
) -> NDArray[np.float64]:
    """Nested scores of a blend of few members: each fold by members chosen, and weights fitted, without it."""
    nested = np.empty(len(table.y))
    for fold in range(table.k):
        inside = np.flatnonzero(table.fold == fold)
        outside = np.flatnonzero(table.fold != fold)
        rest = table.rows(outside) if len(outside) and table.trainable(fold) else table
        chosen = choose_members(rest, limit)
        part = _fit_mixture(
            rest.only(chosen), transform, metric, None if groups is None else groups[outside], SILENT
        ).mixture
        columns = np.ascontiguousarray(table.columns[chosen][:, inside])
        nested[inside] = part.scores(table.transforms.only(chosen), columns)
    return nested


def fit_binary(
    table: BinaryTable,
    oof: NDArray[Any],
    y: NDArray[Any],
    groups: NDArray[Any] | None,
    metric: Metric,
    transform: str,
    max_members: int | None,
    progress: Progress,
    *,
    by_fold_model: bool,
    plain: bool = False,
) -> BlendResult:
    """Blend a table.

    `by_fold_model`: its folds are those of the models that predicted the rows. `plain`: no weights, the average.
    """
    sorted_groups = None
    if groups is not None:
        sorted_groups = np.unique(np.asarray(groups), return_inverse=True)[1][table.order]
    references = _references(table, transform)
    alignment = None
    if by_fold_model and _enough(table) and not plain:
        table, alignment = align_folds(table)
    count = len(table.columns)
    chosen = np.arange(count) if max_members is None else choose_members(table, max_members)
    part = table.only(chosen)
    fitted = _fit_mixture(part, transform, metric, sorted_groups, progress, plain=plain)
    nested = fitted.nested
    if len(chosen) < count and table.k > 1:
        nested = _nested_choice(table, len(chosen), transform, metric, sorted_groups)
    predictions, nested_predictions = fitted.mixture.predictions(fitted.scores), fitted.mixture.predictions(nested)
    score = metric(table.y, predictions)
    by_name = {one.method.name: one for one in references}
    others = {name: by_name[name].nested for name in (BEST_SINGLE.name, MEAN.name)}
    comparisons = compare(metric, table.y, nested_predictions, others, sorted_groups)
    share = {one.method.name: w for w, one in fitted.kept}
    methods = [
        MethodScore(
            one.method.name,
            one.method.transform,
            *_both_scores(one, metric, table.y),
            share.get(one.method.name, 0.0),
            fitted.seconds.get(one.method.name, 0.0),
        )
        for one in [*references, *fitted.tried]
    ]
    aucs = single_aucs(oof, y)
    weights = np.zeros(count)
    weights[chosen] = shares(fitted.mixture, part.transforms, part.columns)
    return BlendResult(
        weights=weights,
        score=score,
        nested_score=metric(table.y, nested_predictions),
        nested_interval=nested_interval(metric, table.y, nested_predictions, score, sorted_groups),
        names=table.names,
        metric=metric.name,
        transform="+".join(dict.fromkeys(name for _, one in fitted.kept for name in one.method.transform.split("+"))),
        method=_method(fitted.kept) + ("" if alignment is None else "; fold models brought to one scale"),
        methods=tuple(sorted(methods, key=lambda item: -metric.gain(item.nested_score))),
        oof=table.in_input_order(predictions),
        nested_oof=table.in_input_order(nested_predictions),
        single_scores=aucs if metric.is_auc else _single_scores(oof, y, metric),
        comparisons=comparisons,
        references={one.method.name: _both_scores(one, metric, table.y) for one in references},
        verdict=verdict(comparisons),
        warnings=tuple(odd_members(table, aucs)),
        predictor=BinaryPredictor(fitted.mixture, table.transforms, chosen, alignment),
    )


def _timed(table: BinaryTable, metric: Metric, method: Method) -> tuple[FittedMethod, float]:
    begun = time.perf_counter()
    return fit_method(method, table, level=metric.kind == "ranking"), time.perf_counter() - begun


def _references(table: BinaryTable, transform: str) -> list[FittedMethod]:
    found = [fit_best_single(table), fit_average(MEAN, table), fit_average(RANK_MEAN, table)]
    if table.transforms.in_unit_range:
        found.append(fit_average(LOGIT_MEAN, table))
    if transform != "auto" and AVERAGES[transform].name not in [one.method.name for one in found]:
        found.append(fit_average(AVERAGES[transform], table))
    return found


def simpler_blends(table: BinaryTable) -> dict[str, NDArray[Any]]:
    """Nested predictions of the best single model and of the plain mean, by name, in the order of the input."""
    found = (fit_best_single(table), fit_average(MEAN, table))
    return {one.method.name: table.in_input_order(one.nested) for one in found}


def _both_scores(one: FittedMethod, metric: Metric, y: NDArray[Any]) -> tuple[float, float]:
    """Score on the rows fitted, and nested score."""
    read = [as_metric_input(s, metric) if one.method.output == "sigmoid" else s for s in (one.scores, one.nested)]
    return metric(y, read[0]), metric(y, read[1])


def _single_scores(oof: NDArray[Any], y: NDArray[Any], metric: Metric) -> NDArray[np.float64]:
    found = []
    for column in oof.T:
        present = ~np.isnan(column)
        found.append(metric(y[present], column[present]))
    return np.array(found)


def _method(kept: Sequence[tuple[float, FittedMethod]]) -> str:
    if len(kept) == 1:
        return kept[0][1].method.name
    parts = ", ".join(f"{one.method.name} ({weight:.0%})" for weight, one in sorted(kept, key=lambda item: -item[0]))
    return f"mean of {len(kept)} methods: {parts}"
