"""Methods of blending: averages, which fit nothing, and weights fitted to transforms of the models."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble.auc import auc_of_classes
from ensemble.design import Design
from ensemble.formula import Formula, Output
from ensemble.solver import Fit, fit_weights
from ensemble.table import BinaryTable
from ensemble.transforms import PROBABILITY_TRANSFORMS

Scores = NDArray[np.float32]
FOUR_TRANSFORMS = ("prob", "logit", "rank-logit", "rank")
_FEWER: dict[tuple[str, ...], tuple[str, ...]] = {  # where the columns would be too many
    FOUR_TRANSFORMS: ("prob", "logit", "rank-logit"),
    ("prob", "logit", "rank-logit"): ("prob", "rank-logit"),
    ("prob", "rank-logit"): ("rank-logit",),
}
_START_ROWS = 40_000  # a fit to more rows begins from a fit to about so many
_KNOTS = 100_000  # of a distribution function: more would not lie in the caches
_MOST_COLUMNS = 1_200


@dataclass(frozen=True)
class Method:
    """One method of blending.

    name: for people. transforms: of the predictions. fitted: whether it has weights. learnt: whether the link of
    the fit is learnt. non_negative: whether weights below 0 are barred. output: of an average.
    """

    name: str
    transforms: tuple[str, ...]
    fitted: bool = True
    learnt: bool = True
    non_negative: bool = False
    output: Output = "sigmoid"

    @property
    def transform(self) -> str:
        """The transform, or transforms joined by +."""
        return "+".join(self.transforms)


@dataclass(frozen=True, eq=False)
class FittedMethod:
    """A method with its formula and scores.

    formula: fitted on all rows. scores: (n_rows,) of it. nested: (n_rows,), each fold by a
    formula fitted without it. Scores are log-odds where the method is fitted.
    """

    method: Method
    formula: Formula
    scores: Scores
    nested: Scores


MEAN = Method("mean of probabilities", ("prob",), fitted=False, output="identity")
RANK_MEAN = Method("mean of ranks", ("rank",), fitted=False, output="identity")
LOGIT_MEAN = Method("mean of logits", ("logit",), fitted=False)
BEST_SINGLE = Method("best single", ("prob",), fitted=False, output="identity")
AVERAGES: dict[str, Method] = {
    "prob": MEAN,
    "rank": RANK_MEAN,
    "logit": LOGIT_MEAN,
    "rank-logit": Method("mean of rank-logits", ("rank-logit",), fitted=False),
    "geometric": Method("geometric mean", ("geometric",), fitted=False, output="exp"),
    "power": Method("power mean", ("power",), fitted=False, output="root"),
}


def weighted_methods(transform: str, in_unit_range: bool, models: int) -> list[Method]:
    """The methods with weights that serve a transform, simple ones first."""
    if transform != "auto":
        return [
            Method(f"non-negative weights, {transform}", (transform,), non_negative=True),
            Method(f"signed weights, {transform}", (transform,)),
        ]
    methods = [Method(f"non-negative weights, {name}", (name,), non_negative=True) for name in ("prob", "rank-logit")]
    methods += [Method(f"signed weights, {name}", (name,)) for name in ("prob", "logit", "rank-logit")]
    transforms: tuple[str, ...] = FOUR_TRANSFORMS
    while len(transforms) > 1 and len(transforms) * models > _MOST_COLUMNS:
        transforms = _FEWER[transforms]
    if not in_unit_range:
        methods = [method for method in methods if method.transforms != ("logit",)]
        transforms = tuple(name for name in transforms if name != "logit")
    if len(transforms) > 1:
        count = {2: "two", 3: "three", 4: "four"}[len(transforms)]
        methods.append(Method(f"{count} transforms of each model, sigmoid", transforms, learnt=False))
        methods.append(Method(f"{count} transforms of each model", transforms))
    return methods


def fit_average(method: Method, table: BinaryTable) -> FittedMethod:
    """An average of one transform of all models; nothing is fitted, so both scores are one."""
    name = method.transforms[0]
    if name in PROBABILITY_TRANSFORMS:
        table.transforms.require_probabilities(name)
    count = len(table.columns)
    formula = Formula(0.0, {name: np.full(count, 1.0 / count)})
    scores = np.empty(len(table.y), np.float32)
    for rows in table.blocks():
        inside = slice(rows.begin, rows.end)
        values = table.ranks[:, inside] if name == "rank" else table.transforms.apply(name, table.columns[:, inside])
        scores[inside] = values.mean(axis=0, dtype=np.float64)
    return FittedMethod(method, formula, scores, scores)


def fit_best_single(table: BinaryTable) -> FittedMethod:
    """The model with the best AUC; nested, each fold gets the model that is best on the others."""
    chosen = [best_model(table, fold) for fold in range(-1, table.k)]
    weights = np.zeros(len(table.columns))
    weights[chosen[0]] = 1.0
    nested = np.empty(len(table.y), np.float32)
    for segment in table.segments:
        inside = slice(segment.begin, segment.end)
        nested[inside] = table.columns[chosen[segment.fold + 1], inside]
    return FittedMethod(BEST_SINGLE, Formula(0.0, {"prob": weights}), table.columns[chosen[0]], nested)


def best_model(table: BinaryTable, left_out: int) -> int:
    """The model with the best AUC on the rows outside a fold (-1: on all)."""
    found = []
    for column in table.columns:
        parts: tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]] = ([], [])
        for segment in table.segments:
            if segment.fold != left_out:
                parts[segment.label].append(column[segment.begin : segment.end])
        found.append(auc_of_classes(*(np.concatenate(part) if part else np.empty(0) for part in parts)))
    return int(np.argmax(found))


def fit_method(method: Method, table: BinaryTable, *, level: bool = True) -> FittedMethod:
    """Weights fitted to all rows and, for the nested scores, without each fold.

    The fits without each fold differ in height and steepness: a fold with many positives leaves few to its
    fit, which then says less for all of its rows. Pooled, that feigns disorder; it cost nested AUC up to 0.01.
    So with `level`, for metrics of which order alone counts, the scores of each fit take the distribution, over
    all rows, of the fit to all rows. That moves a fold as a whole and needs none of its labels.
    """
    design = Design(table, method.transforms)
    left_out = tuple(fold for fold in range(table.k) if table.trainable(fold)) if table.k > 1 else ()
    start: Fit | None = None
    iterations = 12
    if len(table.y) > 2 * _START_ROWS:
        thin = design.like(table.thin(_START_ROWS))
        start = fit_weights(thin, learnt=method.learnt, non_negative=method.non_negative)
        iterations = 4
    fit = fit_weights(
        design,
        learnt=method.learnt,
        non_negative=method.non_negative,
        left_out=(-1, *left_out),
        start=start,
        iterations=iterations,
    )
    scores = fit.links[0].odds(fit.scores[0]).astype(np.float32)
    nested = np.full(len(table.y), np.nan, np.float32)
    tasks = {fold: task for task, fold in enumerate(left_out, start=1)}
    knots = np.linspace(0, len(scores) - 1, min(len(scores), _KNOTS)).astype(np.intp)
    whole = np.sort(scores)[knots]
    for fold, task in tasks.items():
        ordered = np.sort(fit.scores[task])[knots] if level else None
        for segment in table.segments:
            if segment.fold != fold:
                continue
            inside = slice(segment.begin, segment.end)
            if ordered is None:
                nested[inside] = fit.links[task].odds(fit.scores[task][inside])
            else:
                nested[inside] = np.interp(fit.scores[task][inside], ordered, whole)
    untrained = np.isnan(nested)
    if untrained.any():  # no fit without this fold: what fits nothing stands in
        rows = np.flatnonzero(untrained)
        ranks = table.ranks[:, rows].mean(axis=0, dtype=np.float64)
        nested[rows] = np.log(ranks / (1 - ranks))
    return FittedMethod(method, design.formula(fit.weights[0], fit.links[0]), scores, nested)
