"""Blending methods: averages without fitting, and weights fitted to transforms of the models."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from ensemble.calibration import fit_calibrator
from ensemble.design import Design
from ensemble.formula import Formula
from ensemble.mixture import Output, Part
from ensemble.nested import Level, nested_predictions, to_distribution, to_scale
from ensemble.solver import Fit, fit_weights
from ensemble.table import BinaryTable
from ensemble.transforms import PROBABILITY_TRANSFORMS
from oof.arrays import Vector
from oof.metrics import Metric

Scores = NDArray[np.float32]
FOUR_TRANSFORMS = ("prob", "logit", "rank-logit", "rank")
_FEWER: dict[tuple[str, ...], tuple[str, ...]] = {  # used if there would be too many columns
    FOUR_TRANSFORMS: ("prob", "logit", "rank-logit"),
    ("prob", "logit", "rank-logit"): ("prob", "rank-logit"),
    ("prob", "rank-logit"): ("rank-logit",),
}
_START_ROWS = 40_000  # a fit to more rows is initialised by a fit to about this many
_MOST_COLUMNS = 1_200


@dataclass(frozen=True)
class Method:
    """One blending method.

    name: description for display. transforms: transforms of the predictions. fitted: whether weights are fitted.
    learnt: whether the link is learned or the sigmoid. non_negative: whether weights must not be negative.
    output: output function of an average. separates: whether it separates the rows to which it was fitted further than
    others, as trees do.
    """

    name: str
    transforms: tuple[str, ...]
    fitted: bool = True
    learnt: bool = True
    non_negative: bool = False
    output: Output = "sigmoid"
    separates: bool = False

    @property
    def transform(self) -> str:
        """Return the names of the transforms, joined by +."""
        return "+".join(self.transforms)


@dataclass(frozen=True, eq=False)
class FittedMethod:
    """A method with its formula and scores.

    formula: fitted on all rows. scores: (n_rows,) of this formula. nested: (n_rows,), each fold by a
    formula fitted without it. Scores of fitted methods are log-odds.
    without: fold -> formula fitted without that fold; empty if nothing is fitted.
    held_out: fold -> (n_rows,) scores of all rows by that formula, on its own scale.
    """

    method: Method
    formula: Part
    scores: Scores
    nested: Scores
    without: Mapping[int, Part] = field(default_factory=dict)
    held_out: Mapping[int, Scores] = field(default_factory=dict)


MEAN = Method("mean of probabilities", ("prob",), fitted=False, output="identity")
TRIAL = Method("trial", ("rank-logit",))  # a single fit, used to choose rows, members or scales
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


SECOND_LEVEL: dict[str, Method] = {
    "ridge": Method("ridge on three transforms", ("prob", "rank-logit", "rank")),
    "boosted": Method("boosted trees", ("rank-logit",), separates=True),
}


def level_of(methods: Iterable[Method]) -> Level:
    """Return how fits of a mixture of methods are brought to one scale, for metrics that depend only on the order."""
    return to_scale if any(method.separates for method in methods) else to_distribution


def weighted_methods(transform: str, in_unit_range: bool, models: int) -> list[Method]:
    """Return the methods with fitted weights for a transform, simple ones first."""
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
    """Average one transform of all models; nothing is fitted, so the fitted and nested scores are equal."""
    name = method.transforms[0]
    if name in PROBABILITY_TRANSFORMS:
        table.transforms.require_probabilities(name)
    count = len(table.columns)
    formula = Formula(0.0, {name: np.full(count, 1.0 / count)})
    scores = np.empty(len(table.y), np.float32)
    for rows in table.blocks():
        inside = slice(rows.begin, rows.end)
        scores[inside] = (
            table.mean_ranks[inside]
            if name == "rank"
            else table.transforms.apply(name, table.columns[:, inside]).mean(axis=0, dtype=np.float64)
        )
    return FittedMethod(method, formula, scores, scores)


def fit_calibrated_mean(table: BinaryTable, *, level: bool = True) -> FittedMethod:
    """Fit slope and intercept of the mean of rank-logits; with two parameters, few rows are enough."""
    mean = fit_average(AVERAGES["rank-logit"], table).scores.astype(np.float64)

    def without(fold: int) -> NDArray[Any] | None:
        if table.k < 2 or not table.trainable(fold):
            return None
        formulas[fold], held_out[fold] = fit(table.fold != fold)
        return held_out[fold]

    def fit(rows: NDArray[np.bool_]) -> tuple[Formula, Scores]:
        slope, intercept = to_log_odds(mean, table.y, rows)
        formula = Formula(intercept, {"rank-logit": np.full(count, slope / count)})
        return formula, (slope * mean + intercept).astype(np.float32)

    count = len(table.columns)
    formula, scores = fit(np.ones(len(mean), bool))
    formulas: dict[int, Part] = {}
    held_out: dict[int, Scores] = {}
    nested = nested_predictions(table.fold, without, scores, mean, level=to_distribution if level else None)
    method = Method("mean of rank-logits, calibrated", ("rank-logit",))
    return FittedMethod(method, formula, scores, nested.astype(np.float32), formulas, held_out)


def to_log_odds(scores: Vector, y: NDArray[np.int8], rows: NDArray[np.bool_]) -> tuple[float, float]:
    """Return slope and intercept that make scores (n_rows,) log-odds, fitted to some of the rows."""
    mean, spread = float(scores[rows].mean()), float(scores[rows].std())
    if spread <= 1e-9 * abs(mean):  # equal but for rounding
        spread = 1.0
    # standardised, since the calibrator clips logits at 16: weak predictions around 0.5 differ by less than 0.5 / 16
    slope, intercept = fit_calibrator("platt", expit((scores[rows] - mean) / spread), y[rows]).coefficients
    return slope / spread, intercept - slope / spread * mean


def fit_best_single(table: BinaryTable, metric: Metric) -> FittedMethod:
    """Choose the model with the best score; for the nested scores, the choice for each fold uses the other folds."""
    chosen = best_model(table, metric)
    weights = np.zeros(len(table.columns))
    weights[chosen] = 1.0
    by_fold = [best_model(table, metric, left_out=fold) for fold in range(table.k)]
    scores = table.columns[chosen]
    nested = scores.copy()
    if set(by_fold) != {chosen}:  # models differ in scale, so the chosen ones are mapped to a common scale
        level = to_distribution if metric.kind == "ranking" else None
        mean = table.columns.mean(axis=0, dtype=np.float64)
        found = nested_predictions(table.fold, lambda fold: table.columns[by_fold[fold]], scores, mean, level=level)
        nested = found.astype(np.float32)
    return FittedMethod(BEST_SINGLE, Formula(0.0, {"prob": weights}), scores, nested)


def best_model(table: BinaryTable, metric: Metric, left_out: int = -1) -> int:
    """Return the model with the best score on the rows outside a fold (-1: on all)."""
    rows = table.fold != left_out
    y = table.y[rows]
    if not 0 < y.sum() < len(y):
        return 0
    return int(np.argmax([metric.gain(metric(y, column[rows])) for column in table.columns]))


def fit_method(method: Method, table: BinaryTable, *, level: bool = True) -> FittedMethod:
    """Fit weights to all rows and, for the nested scores, without each fold.

    Args:
        method: a method with fitted weights. table: the rows.
        level: whether to map all fits to the same distribution, for metrics that depend only on the order.
    """
    design = Design(table, method.transforms)
    left_out = tuple(fold for fold in range(table.k) if table.trainable(fold)) if table.k > 1 else ()
    start: Fit | None = None
    iterations = 12
    if len(table.y) > 2 * _START_ROWS:
        thin = design.like(table.thin(_START_ROWS))
        # of each task its own: from a start that has seen a fold, the few steps do not lead away from its labels
        start = fit_weights(thin, learnt=method.learnt, non_negative=method.non_negative, left_out=(-1, *left_out))
        iterations = 4
    fit = fit_weights(
        design,
        learnt=method.learnt,
        non_negative=method.non_negative,
        left_out=(-1, *left_out),
        start=start,
        iterations=iterations,
    )
    tasks = {fold: task for task, fold in enumerate(left_out, start=1)}
    scores = fit.links[0].odds(fit.scores[0]).astype(np.float32)

    held_out = {fold: fit.links[task].odds(fit.scores[task]).astype(np.float32) for fold, task in tasks.items()}
    mean, scale = table.mean_ranks, to_distribution if level else None
    nested = nested_predictions(table.fold, held_out.get, scores, mean, level=scale)
    formula, *others = map(design.formula, fit.weights, fit.links)
    by_fold = dict(zip(left_out, others, strict=True))
    return FittedMethod(method, formula, scores, nested.astype(np.float32), by_fold, held_out)
