"""From OOF predictions to a blend: tries several ways, scores each without the fold that it is scored on."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ensemble.auc import auc_of_classes
from ensemble.formula import Mixture, shares
from ensemble.mix import as_read, is_auc, mix
from ensemble.prepare import binary_table, check_shapes, make_folds_of, odd_members, single_aucs
from ensemble.result import Attempt, BinaryPredictor, BlendResult, Comparison
from ensemble.settings import TRANSFORMS
from ensemble.table import BinaryTable
from ensemble.views import Missing
from ensemble.ways import (
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
from oof.errors import BlendError
from oof.intervals import difference, score_interval
from oof.metrics import Metric, metric_by_name
from oof.progress import SILENT, Progress

Scores = NDArray[np.float64]
_LEAST_OF_A_CLASS = 10  # below, weights are not fitted
_REPLICATES = 300


def fit_blend(
    oof: NDArray[Any],
    y: NDArray[Any],
    *,
    folds: NDArray[Any] | None = None,
    groups: NDArray[Any] | None = None,
    optimize: str | Callable[..., float] | Metric = "auc",
    transform: str = "auto",
    seed: int = 0,
    names: Sequence[str] | None = None,
    max_members: int | None = None,
    progress: Progress = SILENT,
) -> BlendResult:
    """Fit a blend of out-of-fold predictions and score it honestly.

    Args:
        oof: (n_rows, n_models) float; NaN where a model has no prediction for a row.
        y: (n_rows,) 0 or 1.
        folds: (n_rows,) the fold of each row, of any kind; None makes 5, stratified.
        groups: (n_rows,) rows of one group share a fold, and count as dependent in intervals.
        optimize: name of a metric (oof.metrics), or a function (y, scores) -> float, higher is better.
        transform: what is done to predictions before they are weighed; auto chooses by nested scores.
        seed: of folds that are made.
        names: of the models, for messages.
        max_members: most models with a weight.
        progress: where to tell how far the work is.

    Returns:
        The blend. The same input and seed give the same numbers on one machine.

    Raises:
        BlendError: shapes that do not fit, one class only, a model without predictions, or a
            transform that these predictions do not allow.

    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(400) % 2
    >>> oof = 1 / (1 + np.exp(-(y[:, None] - 0.5 + rng.normal(size=(400, 3)))))
    >>> result = fit_blend(oof, y)
    >>> bool(result.nested_score < result.score), round(float(result.weights.sum()), 6)
    (True, 1.0)
    """
    oof, y = np.asarray(oof), np.asarray(y)
    found_names = check_shapes(oof, y, names)
    if transform not in TRANSFORMS:
        raise BlendError(f"transform = {transform!r} is unknown. Use {', '.join(TRANSFORMS)}.")
    metric = metric_by_name(optimize)
    fold = make_folds_of(y, folds, groups, seed)
    # BLAS threads wait for each other in busy loops, which on a shared machine costs more than they save
    with threadpool_limits(1, user_api="blas"):
        table = _table(oof, y, fold, found_names, seed)
        return _fit_binary(table, oof, y, groups, metric, transform, progress)


def _table(
    oof: NDArray[Any], y: NDArray[Any], fold: NDArray[np.int32], names: tuple[str, ...], seed: int
) -> BinaryTable:
    """The table; where predictions are missing, with the stand-ins that score best out of fold."""
    if not np.isnan(oof).any():
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


def _auc(table: BinaryTable, scores: Scores) -> float:
    return auc_of_classes(scores[: table.split], scores[table.split :])


def _fit_binary(
    table: BinaryTable,
    oof: NDArray[Any],
    y: NDArray[Any],
    groups: NDArray[Any] | None,
    metric: Metric,
    transform: str,
    progress: Progress,
) -> BlendResult:
    sorted_groups = None
    if groups is not None:
        sorted_groups = np.unique(np.asarray(groups), return_inverse=True)[1][table.order]
    references = _references(table, transform)
    ways = fitted_ways(transform, table.views.in_unit_range, len(table.columns)) if _enough(table) else []
    fitted: list[Tried] = []
    seconds: dict[str, float] = {}
    with progress.task("blend", total=len(ways) + 1, unit="way") as task:
        for way in ways:
            begun = time.perf_counter()
            fitted.append(try_weights(way, table))
            seconds[way.name] = time.perf_counter() - begun
            task.advance(1)
        chosen = fitted or _unfitted(references, transform)
        weights, nested = mix(table, chosen, metric, sorted_groups)
        kept = [(float(w), one) for w, one in zip(weights, chosen, strict=True) if w > 0]
        scores = np.asarray(sum(w * one.scores for w, one in kept))
        mixture = Mixture(tuple((w, one.formula) for w, one in kept), kept[0][1].way.output)
        task.advance(1)
    predictor = BinaryPredictor(mixture, table.views)
    shown_y = table.y
    predictions, nested_predictions = mixture.predictions(scores), mixture.predictions(nested)
    interval = score_interval(metric, shown_y, nested_predictions, sorted_groups, replicates=_REPLICATES)
    by_name = {one.way.name: one for one in references}
    comparisons = []
    for name in (BEST_SINGLE.name, MEAN.name):
        gap = difference(
            metric, shown_y, nested_predictions, by_name[name].nested, sorted_groups, replicates=_REPLICATES
        )
        comparisons.append(Comparison(name, gap.gain, (gap.low, gap.high), gap.p_value))
    share = {one.way.name: w for w, one in kept}
    attempts = [
        Attempt(
            one.way.name,
            one.way.transform,
            *_both_scores(one, metric, shown_y),
            share.get(one.way.name, 0.0),
            seconds.get(one.way.name, 0.0),
        )
        for one in [*references, *fitted]
    ]
    aucs = single_aucs(oof, y)
    singles = aucs if is_auc(metric) else _single_scores(oof, y, metric)
    return BlendResult(
        weights=shares(mixture, table.views, table.columns),
        score=metric(shown_y, predictions),
        nested_score=metric(shown_y, nested_predictions),
        nested_interval=(interval.low, interval.high),
        names=table.names,
        metric=metric.name,
        transform="+".join(dict.fromkeys(kind for _, one in kept for kind in one.way.transform.split("+"))),
        method=_method(kept),
        attempts=tuple(sorted(attempts, key=lambda item: -metric.gain(item.nested_score))),
        oof=table.in_input_order(predictions),
        nested_oof=table.in_input_order(nested_predictions),
        single_scores=singles,
        comparisons=tuple(comparisons),
        references={one.way.name: _both_scores(one, metric, shown_y) for one in references},
        verdict=_verdict(comparisons),
        warnings=tuple(odd_members(table, aucs)),
        predictor=predictor,
    )


def _references(table: BinaryTable, transform: str) -> list[Tried]:
    found = [try_best_single(table), try_average(MEAN, table), try_average(RANK_MEAN, table)]
    if table.views.in_unit_range:
        found.append(try_average(LOGIT_MEAN, table))
    if transform != "auto" and AVERAGES[transform].name not in [one.way.name for one in found]:
        found.append(try_average(AVERAGES[transform], table))
    return found


def _unfitted(references: list[Tried], transform: str) -> list[Tried]:
    """What is left where weights cannot be fitted: the average of the transform, of probabilities for auto."""
    name = AVERAGES["prob" if transform == "auto" else transform].name
    return [one for one in references if one.way.name == name]


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


def _verdict(comparisons: Sequence[Comparison]) -> str:
    unsure = [item.other for item in comparisons if not (item.p_value < 0.05 and item.gain > 0)]
    if not unsure:
        return "The blend beats the best single model and the plain mean by more than luck explains."
    return f"The gain over the {' and the '.join(unsure)} cannot be told from luck on these rows."
