"""The table of metrics by name."""

import math
from collections.abc import Callable
from difflib import get_close_matches
from functools import partial

from oof.errors import ConfigError
from oof.metrics.metric import Metric, MetricFunction
from oof.metrics.probabilities import accuracy, brier_loss, log_loss
from oof.metrics.ranking import average_precision, equal_error_rate, partial_auc, roc_auc, tpr_at_fpr
from oof.metrics.regression import rmse

_AT_FPR: dict[str, Callable[[float], Metric]] = {
    "partial_auc": lambda fpr: _roc(f"partial_auc@fpr={fpr:g}", partial(partial_auc, fpr=fpr), max_fpr=fpr),
    "tpr": lambda fpr: _roc(f"tpr@fpr={fpr:g}", partial(tpr_at_fpr, fpr=fpr), chance=fpr, max_fpr=fpr),
}
_OTHER_NAMES = {
    "ap": "average_precision",
    "brier": "brier_loss",
    "brier_score": "brier_loss",
    "logloss": "log_loss",
    "roc_auc": "auc",
}


def _roc(
    name: str, function: MetricFunction, *, chance: float = 0.5, higher_is_better: bool = True, max_fpr: float = 1.0
) -> Metric:
    """Return a metric computed from the ROC curve."""
    return Metric(
        name, function, "ranking", higher_is_better, chance=chance, depends_on_prevalence=False, max_fpr=max_fpr
    )


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _roc("auc", roc_auc),
        _AT_FPR["partial_auc"](0.1),
        _AT_FPR["tpr"](1e-2),
        _AT_FPR["tpr"](5e-3),
        _AT_FPR["tpr"](1e-3),
        _roc("eer", equal_error_rate, higher_is_better=False),
        Metric("average_precision", average_precision, "ranking"),
        Metric("log_loss", log_loss, "probability", higher_is_better=False, range=(0.0, math.inf)),
        Metric("brier_loss", brier_loss, "probability", higher_is_better=False),
        Metric("accuracy", accuracy, "probability"),
        Metric("rmse", rmse, "value", higher_is_better=False, range=(0.0, math.inf)),
    )
}


def metric_label(name: str) -> str:
    """Return the name of a metric for people, also of one that is not in the table.

    >>> metric_label("auc"), metric_label("log_loss")
    ('AUC', 'log loss')
    """
    return METRICS[name].label if name in METRICS else name.replace("_", " ")


def metric_by_name(name: str | MetricFunction | Metric) -> Metric:
    """Return the metric with a name such as `auc`, `log_loss` or `tpr@fpr=1e-3`, or one made from a function.

    A function (y, scores) -> float is used as it is; its direction follows from its name, as
    in scikit-learn: lower is better for `*_loss` and `*_error`, higher for all others. It is assumed to
    depend on more than the order of the scores.

    Raises:
        ConfigError: if the name is unknown (suggesting the nearest ones) or a rate is out of range.

    >>> metric_by_name("tpr@fpr=0.001").name
    'tpr@fpr=0.001'
    """
    if isinstance(name, Metric):
        return name
    if callable(name):
        title = getattr(name, "__name__", type(name).__name__)
        return Metric(title, name, "value", not title.endswith(("_loss", "_error")), (-math.inf, math.inf))
    key = name.strip().lower()
    key = _OTHER_NAMES.get(key, key)
    if key in METRICS:
        return METRICS[key]
    kind, at, rate = key.partition("@fpr=")
    if at and kind in _AT_FPR:
        try:
            fpr = float(rate)
        except ValueError:
            fpr = math.nan
        if not 0 < fpr <= 1:
            raise ConfigError(f"Metric {name!r}: the false positive rate must be a number above 0 and at most 1.")
        return _AT_FPR[kind](fpr)
    close = get_close_matches(key, METRICS, n=2, cutoff=0.5)
    hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else "."
    raise ConfigError(f"Unknown metric {name!r}{hint} Known: {', '.join(METRICS)}; any rate may follow '@fpr='.")
