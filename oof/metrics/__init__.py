"""Scores of predictions: one table of metrics for trainers, blends, the command line and the report."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any, Literal

from numpy.typing import NDArray

from oof.errors import ConfigError
from oof.metrics.ranking import average_precision, equal_error_rate, partial_auc, roc_auc, roc_auc_columns, tpr_at_fpr
from oof.metrics.values import accuracy, brier_loss, log_loss, rmse

MetricFunction = Callable[[NDArray[Any], NDArray[Any]], float]


@dataclass(frozen=True)
class Metric:
    """One score of predictions.

    name: as in the configuration and in tables.
    function: (y, scores) -> float; y (n_rows,), scores (n_rows,), or (n_rows, n_classes) for
        log_loss and accuracy.
    higher_is_better: False for losses and errors.
    needs: "order" where any scores do and only their order counts, "probabilities" in [0, 1],
        or "values" in the unit of a real target.
    """

    name: str
    function: MetricFunction
    higher_is_better: bool = True
    needs: Literal["order", "probabilities", "values"] = "order"

    def __call__(self, y: NDArray[Any], scores: NDArray[Any]) -> float:
        """The score of predictions, in the metric's own direction."""
        return float(self.function(y, scores))

    def gain(self, score: float) -> float:
        """The score with its sign turned where that makes higher better."""
        return score if self.higher_is_better else -score

    @property
    def worst(self) -> float:
        """A score that every other one beats."""
        return -math.inf if self.higher_is_better else math.inf


_RATES: dict[str, Callable[..., float]] = {
    "partial_auc": partial_auc,
    "tpr": tpr_at_fpr,
}
_OTHER_NAMES = {
    "ap": "average_precision",
    "brier": "brier_loss",
    "brier_score": "brier_loss",
    "logloss": "log_loss",
    "roc_auc": "auc",
}


def _at_rate(kind: str, fpr: float) -> Metric:
    return Metric(f"{kind}@fpr={fpr:g}", partial(_RATES[kind], fpr=fpr))


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("auc", roc_auc),
        _at_rate("partial_auc", 0.1),
        _at_rate("tpr", 1e-2),
        _at_rate("tpr", 5e-3),
        _at_rate("tpr", 1e-3),
        Metric("eer", equal_error_rate, higher_is_better=False),
        Metric("average_precision", average_precision),
        Metric("log_loss", log_loss, higher_is_better=False, needs="probabilities"),
        Metric("brier_loss", brier_loss, higher_is_better=False, needs="probabilities"),
        Metric("accuracy", accuracy, needs="probabilities"),
        Metric("rmse", rmse, higher_is_better=False, needs="values"),
    )
}


def metric_by_name(name: "str | MetricFunction | Metric") -> Metric:
    """The metric of a name such as `auc`, `log_loss` or `tpr@fpr=1e-3`, or made of a function.

    A function (y, scores) -> float is taken as it is; its direction follows from its name, as
    in scikit-learn: `*_loss` and `*_error` fall, everything else rises. Its values are assumed
    to depend on more than the order of the scores.

    Raises:
        ConfigError: an unknown name, with the nearest ones, or a rate out of range.

    >>> metric_by_name("tpr@fpr=0.001").name
    'tpr@fpr=0.001'
    """
    if isinstance(name, Metric):
        return name
    if callable(name):
        title = getattr(name, "__name__", type(name).__name__)
        return Metric(title, name, not title.endswith(("_loss", "_error")), "values")
    key = name.strip().lower()
    key = _OTHER_NAMES.get(key, key)
    if key in METRICS:
        return METRICS[key]
    kind, at, rate = key.partition("@fpr=")
    if at and kind in _RATES:
        try:
            fpr = float(rate)
        except ValueError:
            fpr = math.nan
        if not 0 < fpr <= 1:
            raise ConfigError(f"Metric {name!r}: the false positive rate must be a number above 0 and at most 1.")
        return _at_rate(kind, fpr)
    close = get_close_matches(key, METRICS, n=2, cutoff=0.5)
    hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else "."
    raise ConfigError(f"Unknown metric {name!r}{hint} Known: {', '.join(METRICS)}; any rate may follow '@fpr='.")


__all__ = ["METRICS", "Metric", "metric_by_name", "roc_auc", "roc_auc_columns"]
