"""The blend of binary predictions: ways tried, mixed, scored without the fold that is scored, and told of."""

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
from ensemble.averaging import as_read, mix
from ensemble.formula import Mixture, shares
from ensemble.methods import (
    AVERAGES,
    BEST_SINGLE,
    LOGIT_MEAN,
    MEAN,
    RANK_MEAN,
    Tried,
    Way,
    fitted_ways,
    try_average,
    try_best_single,
    try_weights,
)
from ensemble.prepare import binary_table, odd_members, single_aucs
from ensemble.result import Attempt, BinaryPredictor, BlendResult
from ensemble.selection import choose_members
from ensemble.significance import compare, nested_interval, verdict
from ensemble.table import BinaryTable
from ensemble.transforms import Missing
from oof.metrics import Metric
from oof.progress import SILENT, Progress

_LEAST_OF_A_CLASS = 10  # below, weights are not fitted
_THREADS = 2  # ways that are fitted at once; more would need more memory


def fit_table(
    oof: NDArray[Any], y: NDArray[Any], fold: NDArray[np.int32], names: tuple[str, ...], seed: int
) -> BinaryTable:
    """The table; where predictions are missing, with the stand-ins that score best out of fold."""
    if not any(np.isnan(column).any() for column in oof.T):
        return binary_table(oof, y, fold, names, seed)
    way = Way("trial", ("rank-logit",))
    options: list[Missing] = ["rank", "mean"]
    tables = [binary_table(oof, y, fold, names, seed, missing) for missing in options]
    if not _enough(tables[0]) or not tables[0].views.in_unit_range:
        return tables[0]
    scores = [_auc(table, try_weights(way, table).nested) for table in tables]
    return tables[int(np.argmax(scores))]


def _enough(table: BinaryTable) -> bool:
    return min(table.positives, table.split) >= _LEAST_OF_A_CLASS and len(table.columns) > 1 and table.k > 1


def _auc(table: BinaryTable, scores: NDArray[Any]) -> float:
    return auc_of_classes(scores[: table.split], scores[table.split :])


@dataclass(frozen=True, eq=False)
class _Fitted:
    """A mixture, the ways that were tried for it, and their scores in the table's row order."""

    mixture: Mixture
    kept: list[tuple[float, Tried]]
    tried: list[Tried]
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
    """Try the ways that serve a transform, and mix those that cannot be told from the best; or the plain average."""
    some = _enough(table) and not plain
    ways = fitted_ways(transform, table.views.in_unit_range, len(table.columns)) if some else []
    tried: list[Tried] = []
    seconds: dict[str, float] = {}
    with progress.task("blend", total=len(ways) + 1, unit="way") as task:
        with ThreadPoolExecutor(min(_THREADS, len(os.sched_getaffinity(0)))) as pool:
            _ = table.ranks  # made once, before the ways share it
            for found, elapsed_s in pool.map(partial(_timed, table, metric), ways):
                tried.append(found)
                seconds[found.way.name] = elapsed_s
                task.advance(1)
        chosen = tried or [try_average(AVERAGES["prob" if transform == "auto" else transform], table)]
        weights, nested = mix(table, chosen, metric, groups)
        task.advance(1)
    kept = [(float(w), one) for w, one in zip(weights, chosen, strict=True) if w > 0]
    scores = np.asarray(sum(w * one.scores.astype(np.float64) for w, one in kept))
    mixture = Mixture(tuple((w, one.formula) for w, one in kept), kept[0][1].way.output)
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
        nested[inside] = part.scores(table.views.only(chosen), np.ascontiguousarray(table.columns[chosen][:, inside]))
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
    by_name = {one.way.name: one for one in references}
    others = {name: by_name[name].nested for name in (BEST_SINGLE.name, MEAN.name)}
    comparisons = compare(metric, table.y, nested_predictions, others, sorted_groups)
    share = {one.way.name: w for w, one in fitted.kept}
    attempts = [
        Attempt(
            one.way.name,
            one.way.transform,
            *_both_scores(one, metric, table.y),
            share.get(one.way.name, 0.0),
            fitted.seconds.get(one.way.name, 0.0),
        )
        for one in [*references, *fitted.tried]
    ]
    aucs = single_aucs(oof, y)
    weights = np.zeros(count)
    weights[chosen] = shares(fitted.mixture, part.views, part.columns)
    return BlendResult(
        weights=weights,
        score=score,
        nested_score=metric(table.y, nested_predictions),
        nested_interval=nested_interval(metric, table.y, nested_predictions, score, sorted_groups),
        names=table.names,
        metric=metric.name,
        transform="+".join(dict.fromkeys(kind for _, one in fitted.kept for kind in one.way.transform.split("+"))),
        method=_method(fitted.kept) + ("" if alignment is None else "; fold models brought to one scale"),
        attempts=tuple(sorted(attempts, key=lambda item: -metric.gain(item.nested_score))),
        oof=table.in_input_order(predictions),
        nested_oof=table.in_input_order(nested_predictions),
        single_scores=aucs if metric.is_auc else _single_scores(oof, y, metric),
        comparisons=comparisons,
        references={one.way.name: _both_scores(one, metric, table.y) for one in references},
        verdict=verdict(comparisons),
        warnings=tuple(odd_members(table, aucs)),
        predictor=BinaryPredictor(fitted.mixture, table.views, chosen, alignment),
    )


def _timed(table: BinaryTable, metric: Metric, way: Way) -> tuple[Tried, float]:
    begun = time.perf_counter()
    return try_weights(way, table, level=metric.kind == "ranking"), time.perf_counter() - begun


def _references(table: BinaryTable, transform: str) -> list[Tried]:
    found = [try_best_single(table), try_average(MEAN, table), try_average(RANK_MEAN, table)]
    if table.views.in_unit_range:
        found.append(try_average(LOGIT_MEAN, table))
    if transform != "auto" and AVERAGES[transform].name not in [one.way.name for one in found]:
        found.append(try_average(AVERAGES[transform], table))
    return found


def simpler_blends(table: BinaryTable) -> dict[str, NDArray[Any]]:
    """Nested predictions of the best single model and of the plain mean, by name, in the order of the input."""
    found = (try_best_single(table), try_average(MEAN, table))
    return {one.way.name: table.in_input_order(one.nested) for one in found}


def _both_scores(one: Tried, metric: Metric, y: NDArray[Any]) -> tuple[float, float]:
    """Score on the rows fitted, and nested score."""
    read = [as_read(s, metric) if one.way.output == "sigmoid" else s for s in (one.scores, one.nested)]
    return metric(y, read[0]), metric(y, read[1])


def _single_scores(oof: NDArray[Any], y: NDArray[Any], metric: Metric) -> NDArray[np.float64]:
    found = []
    for column in oof.T:
        present = ~np.isnan(column)
        found.append(metric(y[present], column[present]))
    return np.array(found)


def _method(kept: Sequence[tuple[float, Tried]]) -> str:
    if len(kept) == 1:
        return kept[0][1].way.name
    parts = ", ".join(f"{one.way.name} ({weight:.0%})" for weight, one in sorted(kept, key=lambda item: -item[0]))
    return f"mean of {len(kept)} ways: {parts}"
