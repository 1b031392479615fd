"""From OOF predictions to a blend: tries several ways, scores each without the fold that it is scored on."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from ensemble.candidates import BEST_SINGLE, LOGIT_MEAN, MEAN, RANK_MEAN, SEARCHED, Candidate
from ensemble.formula import Formula, shares
from ensemble.kernels import auc_of_classes
from ensemble.result import Attempt, BlendResult, Comparison
from ensemble.settings import TRANSFORMS
from ensemble.table import BinaryTable, sort_rows
from ensemble.views import fill_missing, fit_views, names_of
from oof.errors import BlendError
from oof.progress import SILENT, Progress

Scores = NDArray[np.float64]


def fit_blend(
    oof: NDArray[Any],
    y: NDArray[Any],
    *,
    folds: NDArray[Any] | None = None,
    groups: NDArray[Any] | None = None,
    optimize: str = "auc",
    transform: str = "auto",
    seed: int = 0,
    names: Sequence[str] | None = None,
    progress: Progress = SILENT,
) -> BlendResult:
    """Fit a blend of out-of-fold predictions and score it honestly.

    Args:
        oof: (n_rows, n_models) float; NaN where a model has no prediction for a row.
        y: (n_rows,) 0 or 1.
        folds: (n_rows,) int, the fold of each row; None makes 5 stratified ones.
        groups: (n_rows,) rows of one group share a fold, where folds are made here.
        optimize: metric.
        transform: what is done to predictions before they are weighed; auto chooses by nested scores.
        seed: of folds that are made.
        names: of the models, for messages.

    Raises:
        BlendError: shapes that do not fit, one class only, or a model without predictions.
    """
    if optimize != "auc":
        raise BlendError(f"optimize = {optimize!r} is not known. Use auc.")
    if transform not in TRANSFORMS:
        raise BlendError(f"transform = {transform!r} is not known. Use {', '.join(TRANSFORMS)}.")
    table = _table(np.asarray(oof), np.asarray(y), folds, groups, seed, names)
    candidates = [c for c in (BEST_SINGLE, MEAN, RANK_MEAN, LOGIT_MEAN, *SEARCHED) if _serves(c, table, transform)]
    tried: dict[str, tuple[Candidate, Formula, Scores, Scores]] = {}
    with progress.task("blend", total=len(candidates), unit="way") as task:
        for candidate in candidates:
            formula, scores, nested = _nested(candidate, table)
            tried[candidate.name] = (candidate, formula, scores, nested)
            task.advance(1)
    nested_by_name = {name: _auc(table, found[3]) for name, found in tried.items()}
    open_to_choice = [name for name, found in tried.items() if transform in ("auto", found[0].transform)]
    best = max(open_to_choice, key=lambda name: nested_by_name[name])
    chosen = _simplest_within_one_error(table, tried, open_to_choice, best)
    candidate, formula, scores, nested = tried[chosen]
    comparisons = tuple(
        _compare(table, nested, tried[name][3], name) for name in (BEST_SINGLE.name, MEAN.name) if name in tried
    )
    attempts = [
        Attempt(name, found[0].transform, _auc(table, found[2]), nested_by_name[name], name == chosen)
        for name, found in tried.items()
    ]
    error = _standard_error(table, nested)
    nested_score = nested_by_name[chosen]
    return BlendResult(
        weights=shares(formula, table.views, table.columns),
        score=_auc(table, scores),
        nested_score=nested_score,
        nested_interval=(max(0.0, nested_score - 1.96 * error), min(1.0, nested_score + 1.96 * error)),
        names=table.names,
        metric=optimize,
        transform=candidate.transform,
        method=chosen,
        attempts=tuple(sorted(attempts, key=lambda item: -item.nested_score)),
        oof=table.in_input_order(formula.linked(scores)),
        nested_oof=table.in_input_order(formula.linked(nested)),
        single_scores=np.array([auc_of_classes(c[: table.split], c[table.split :]) for c in table.columns]),
        comparisons=comparisons,
        references={name: nested_by_name[name] for name in tried if tried[name][0].rank < 2},
        verdict=_verdict(comparisons),
        warnings=(),
        formula=formula,
        views=table.views,
    )


def _table(
    oof: NDArray[Any], y: NDArray[Any], folds: Any, groups: Any, seed: int, names: Sequence[str] | None
) -> BinaryTable:
    if oof.ndim != 2 or y.shape != (len(oof),) or not oof.size:
        raise BlendError(f"Expected oof (n_rows, n_models) and y (n_rows,); got {oof.shape} and {y.shape}.")
    if set(np.unique(y).tolist()) != {0, 1}:
        raise BlendError(f"y must hold 0 and 1, both; it holds {np.unique(y)[:5].tolist()}.")
    found = names_of(names, oof.shape[1])
    empty = [name for name, column in zip(found, oof.T, strict=True) if np.isnan(column).all()]
    if empty:
        raise BlendError(f"These models have no prediction at all: {', '.join(empty)}. Leave them out.")
    fold = _folds(y, folds, groups, seed)
    order = sort_rows(y, fold)
    columns = np.ascontiguousarray(oof[order].T, dtype=np.float32)
    views = fit_views(columns)
    return BinaryTable(
        fill_missing(views, columns),
        y[order].astype(np.int8),
        fold[order],
        int(fold.max()) + 1,
        order,
        views,
        found,
        seed,
    )


def _folds(y: NDArray[Any], folds: Any, groups: Any, seed: int) -> NDArray[np.int32]:
    if folds is not None:
        found: NDArray[np.int32] = np.unique(np.asarray(folds), return_inverse=True)[1].astype(np.int32)
        if len(found) != len(y):
            raise BlendError(f"Expected one fold for each of {len(y)} rows; got {len(found)}.")
        return found
    rng = np.random.default_rng(seed)
    if groups is not None:
        members = np.unique(np.asarray(groups), return_inverse=True)[1]
        k = min(5, int(members.max()) + 1)
        deal = rng.permutation(int(members.max()) + 1) % k
        grouped: NDArray[np.int32] = deal[members].astype(np.int32)
        return grouped
    fold = np.empty(len(y), np.int32)
    k = min(5, len(y))
    for label in (0, 1):
        rows = rng.permutation(np.flatnonzero(y == label))
        fold[rows] = np.arange(len(rows)) % k
    return np.unique(fold, return_inverse=True)[1].astype(np.int32)


def _serves(candidate: Candidate, table: BinaryTable, transform: str) -> bool:
    wanted = transform in ("auto", candidate.transform) or candidate.rank < 2
    if wanted and candidate.transform == "logit" and not table.views.in_unit_range:
        if transform == "logit":
            table.views.require_probabilities("logit")
        return False
    return wanted


def _nested(candidate: Candidate, table: BinaryTable) -> tuple[Formula, Scores, Scores]:
    """The formula fitted on all rows, its scores, and the scores of each fold by a formula fitted on the others."""
    formula = candidate.fit(table, np.ones(len(table.y), bool))
    scores = formula.scores(table.views, table.columns)
    nested = np.empty_like(scores)
    for fold in range(table.k):
        inside = table.inside(fold)
        usable = table.k > 1 and 0 < table.y[inside].sum() < inside.sum()
        apart = candidate.fit(table, inside) if usable else formula
        nested[~inside] = apart.scores(table.views, np.ascontiguousarray(table.columns[:, ~inside]))
    return formula, scores, nested


def _auc(table: BinaryTable, scores: Scores) -> float:
    return auc_of_classes(scores[: table.split], scores[table.split :])


def _placements(table: BinaryTable, scores: Scores) -> tuple[Scores, Scores]:
    negatives, positives = scores[: table.split], scores[table.split :]
    low, high = np.sort(negatives), np.sort(positives)
    of_positives = (np.searchsorted(low, positives, "left") + np.searchsorted(low, positives, "right")) / 2 / len(low)
    below = (np.searchsorted(high, negatives, "left") + np.searchsorted(high, negatives, "right")) / 2 / len(high)
    return 1.0 - below, of_positives


def _standard_error(table: BinaryTable, scores: Scores, other: Scores | None = None) -> float:
    """DeLong's standard error of an AUC, or of the difference of two."""
    negatives, positives = _placements(table, scores)
    if other is not None:
        other_negatives, other_positives = _placements(table, other)
        negatives, positives = negatives - other_negatives, positives - other_positives
    if min(len(negatives), len(positives)) < 2:
        return float("nan")
    return float(np.sqrt(negatives.var(ddof=1) / len(negatives) + positives.var(ddof=1) / len(positives)))


def _simplest_within_one_error(
    table: BinaryTable, tried: dict[str, tuple[Candidate, Formula, Scores, Scores]], names: list[str], best: str
) -> str:
    top = tried[best][3]
    for name in sorted(names, key=lambda name: tried[name][0].rank):
        gap = _auc(table, top) - _auc(table, tried[name][3])
        error = _standard_error(table, top, tried[name][3])
        if gap <= (0.0 if np.isnan(error) else error):
            return name
    return best


def _compare(table: BinaryTable, nested: Scores, other: Scores, name: str) -> Comparison:
    gap = _auc(table, nested) - _auc(table, other)
    error = _standard_error(table, nested, other)
    p_value = float(2 * norm.sf(abs(gap) / error)) if error > 0 else 1.0
    return Comparison(name, gap, (gap - 1.96 * error, gap + 1.96 * error), p_value)


def _verdict(comparisons: Sequence[Comparison]) -> str:
    unsure = [c.other for c in comparisons if not (c.p_value < 0.05 and c.difference > 0)]
    if not unsure:
        return "The blend is better than the best single model and the plain mean by more than luck explains."
    return f"The gain over {' and '.join(unsure)} cannot be told from luck on these rows."
