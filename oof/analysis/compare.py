"""Compare models by paired differences on the same held-out rows, with intervals."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from oof.errors import PredictionError, examples
from oof.folds import Folds
from oof.metrics import Metric, metric_by_name
from oof.metrics.intervals import Difference, difference, score_interval
from oof.store import PredictionStore


@dataclass(frozen=True)
class ModelScore:
    """A model's score on the compared rows, its 95 % interval, and its score fold by fold (NaN: fold not covered)."""

    name: str
    score: float
    low: float
    high: float
    by_fold: tuple[float, ...]


@dataclass(frozen=True)
class Gain:
    """The improvement of a model over the reference.

    gain: positive if the model is better, also for losses. low, high: 95 % interval. p_value: of this comparison alone;
    p_adjusted: after Holm's correction for all comparisons. folds_better: number of `folds` in which the model is
    better. by_fold: gain in each fold, NaN where a model does not cover it.
    """

    name: str
    reference: str
    gain: float
    low: float
    high: float
    p_value: float
    p_adjusted: float
    folds_better: int
    folds: int
    by_fold: tuple[float, ...]

    @property
    def verdict(self) -> str:
        """Describe the result in words."""
        if self.p_adjusted >= 0.05:
            return "no significant difference"
        return "better" if self.gain > 0 else "worse"


@dataclass(frozen=True)
class Comparison:
    """Models compared on the rows that all of them predict."""

    metric: str
    rows: int
    rows_left_out: int
    scores: tuple[ModelScore, ...]
    gains: tuple[Gain, ...]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self) | {"gains": [asdict(gain) | {"verdict": gain.verdict} for gain in self.gains]}


def compare_models(store: PredictionStore, names: Sequence[str], *, metric: str = "auc") -> Comparison:
    """Compare models with the first of them on the same rows.

    Errors that both models share cancel, so a difference much smaller than either model's own interval
    can be significant. For AUC the intervals are DeLong's, which treat each group as one unit if the
    folds have groups; other metrics are bootstrapped.

    Args:
        store: folds and out-of-fold predictions.
        names: models of the store, the reference first.
        metric: name of a metric in `oof.metrics`.

    Raises:
        PredictionError: fewer than two models, or no rows in common with both classes.
    """
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise PredictionError(
            f"A comparison needs at least two different models; given: {', '.join(names) or 'none'}. dfens oof list "
            f"shows the available ones."
        )
    folds, measure = store.folds, metric_by_name(metric)
    columns = {name: store.load(name).oof for name in names}
    covered = np.asarray(~np.isnan(np.stack(list(columns.values()))).any(axis=0), bool)
    y = folds.target[covered]
    if len(set(y.tolist())) < 2:
        counts = [f"{name} {int((~np.isnan(column)).sum())}" for name, column in columns.items()]
        raise PredictionError(
            f"Only {int(covered.sum())} rows are predicted by all of these models (rows of each: {examples(counts)}), "
            f"and both classes are needed. Run dfens train for the same folds of each."
        )
    groups = None if folds.groups is None else folds.groups[covered]
    scores = []
    for name, column in columns.items():
        interval = score_interval(measure, y, column[covered], groups)
        by_fold = tuple(_fold_scores(folds, column, covered, measure))
        scores.append(ModelScore(name, interval.score, interval.low, interval.high, by_fold))
    reference = columns[names[0]][covered]
    found = [difference(measure, y, columns[name][covered], reference, groups) for name in names[1:]]
    notes = [
        "The intervals show how much the difference varies with the rows; it also varies with the seed. "
        "Train a model again under another name and seed to see by how much."
    ]
    left_out = int((~covered).sum())
    if left_out:
        notes.append(f"{left_out} of {len(covered)} rows are not predicted by all models and are left out.")
    gains = _gains(measure, scores, found)
    return Comparison(metric, int(covered.sum()), left_out, tuple(scores), gains, tuple(notes))


def _gains(metric: Metric, scores: Sequence[ModelScore], found: Sequence[Difference]) -> tuple[Gain, ...]:
    """Return the gain of each model over the first one, with p-values adjusted for their number."""
    reference, *others = scores
    adjusted = holm([one.p_value for one in found])
    gains = []
    for model, one, p_adjusted in zip(others, found, adjusted, strict=True):
        by_fold = tuple(metric.gain(a - b) for a, b in zip(model.by_fold, reference.by_fold, strict=True))
        known = [step for step in by_fold if not np.isnan(step)]
        better = sum(step > 0 for step in known)
        interval = (one.gain, one.low, one.high)
        gains.append(Gain(model.name, reference.name, *interval, one.p_value, p_adjusted, better, len(known), by_fold))
    return tuple(gains)


def _fold_scores(folds: Folds, column: Any, covered: Any, metric: Metric) -> list[float]:
    """Return the score of each fold that is covered and has both classes, otherwise NaN."""
    found = []
    for fold in range(folds.k):
        rows = (folds.fold == fold) & covered
        both = len(set(folds.target[rows].tolist())) == 2
        found.append(metric(folds.target[rows], column[rows]) if both else float("nan"))
    return found


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values with Holm's correction for their number, in the order given.

    Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 1979.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    highest = 0.0
    for rank, at in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[at]))
        adjusted[at] = highest
    return [float(value) for value in adjusted]
