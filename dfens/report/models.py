"""Panel "models": one row of scores per model and blend, with a baseline for comparison."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfens.report.inputs import ModelInput, ReportInputs
from oof.cpus import cpu_count
from oof.errors import DfensError
from oof.metrics import Metric, metric_by_name, roc_auc
from oof.metrics.intervals import score_interval
from oof.metrics.probabilities import reliability_bins
from oof.metrics.ranking import tprs_at_fprs

_NAN = float("nan")
RATES = (1e-2, 5e-3, 1e-3)
_BINS = 15
_LEAST_OF_A_BIN = 20  # rows; shares of fewer rows are too noisy
_MOST_GROUPS = 2000  # groups whose AUCs are averaged, evenly spaced if there are more


@dataclass(frozen=True)
class ModelScores:
    """The scores of one model or blend on the rows that it predicts out of fold.

    role: "model", "blend" (nested predictions) or "baseline". score: the competition's metric, with its 95 %
    interval. fold_auc: one value per fold, NaN where a fold is missing or has one class. group_auc: mean of the
    AUCs within groups that contain both classes; its gap to `auc` is the shift of score levels between groups.
    tpr: at the false positive rates of `RATES`. calibration_error: mean distance between probability and frequency
    over bins of equal size; NaN, like `log_loss`, if predictions are not probabilities.
    parameters (of one network), seconds (of all folds, seeds and refits), images_per_s: of the trainings, NaN where
    unknown.
    """

    name: str
    kind: str
    role: str
    rows: int
    score: float
    low: float
    high: float
    auc: float
    fold_auc: tuple[float, ...]
    fold_spread: float
    group_auc: float
    groups: int
    tpr: tuple[float, ...]
    eer: float
    average_precision: float
    log_loss: float
    calibration_error: float
    parameters: float
    seconds: float
    images_per_s: float


@dataclass(frozen=True)
class ModelsPanel:
    """The table of models: blends first, then models from the best down, then the baseline.

    grouped: whether `group_auc` is of the groups of the folds, or of the folds themselves.
    refitted: models whose test predictions are in part those of a refit on all rows, which no score here covers.
    """

    metric: str
    rows: tuple[ModelScores, ...]
    grouped: bool
    refitted: tuple[str, ...] = ()


def models_panel(inputs: ReportInputs) -> ModelsPanel:
    """Score every model and blend."""

    def scores(model: ModelInput) -> ModelScores:
        return model_scores(inputs, model.name, model.oof, model.kind, "model", model)

    with ThreadPoolExecutor(cpu_count()) as pool:  # sorting releases the interpreter lock
        found = list(pool.map(scores, inputs.models))
    found.sort(key=lambda row: (np.isnan(row.score), -inputs.metric.gain(row.score)))
    blends = [model_scores(inputs, blend.name, blend.nested_oof, "blend", "blend") for blend in reversed(inputs.blends)]
    blends.sort(key=lambda row: (np.isnan(row.score), -inputs.metric.gain(row.score)))
    share = float(inputs.target.mean()) if len(inputs.target) else _NAN
    constant = np.full(len(inputs.ids), share, np.float32)
    baseline = model_scores(inputs, "share of positives", constant, "constant", "baseline")
    refitted = tuple(model.name for model in inputs.models if model.refit_weight)
    return ModelsPanel(inputs.metric.name, (*blends, *found, baseline), inputs.blocks_of == "groups", refitted)


def model_scores(
    inputs: ReportInputs, name: str, oof: NDArray[Any], kind: str, role: str, model: ModelInput | None = None
) -> ModelScores:
    """Score predictions (n_rows,) on the rows where they are not NaN."""
    known = np.isfinite(oof)
    order = np.argsort(oof[known], kind="stable")  # each metric below sorts again, which is fast on sorted values
    y, scores = inputs.target[known][order], oof[known][order]
    training = _training([*model.histories.values(), *model.repeats] if model else [])
    if not 0 < int(y.sum()) < len(y):
        folds = (_NAN,) * inputs.k
        return ModelScores(
            name, kind, role, int(known.sum()), _NAN, _NAN, _NAN, _NAN, folds, _NAN, _NAN, 0,
            (_NAN,) * len(RATES), _NAN, _NAN, _NAN, _NAN, *training,
        )  # fmt: skip
    codes = None if inputs.group_codes is None else inputs.group_codes[known][order]
    score, low, high = _score(inputs.metric, y, scores, codes)
    by_fold = tuple(_auc(inputs, oof, known & (inputs.fold == fold)) for fold in range(inputs.k))
    if inputs.blocks_of == "groups":
        group_auc, groups = _mean_group_auc(inputs, oof, known)
    else:
        scored = [auc for auc in by_fold if np.isfinite(auc)]
        group_auc, groups = float(np.mean(scored)) if len(scored) > 1 else _NAN, len(scored)
    probabilities = bool(scores.min() >= 0 and scores.max() <= 1)
    return ModelScores(
        name,
        kind,
        role,
        int(known.sum()),
        score,
        low,
        high,
        roc_auc(y, scores),
        by_fold,
        float(np.nanstd(by_fold, ddof=1)) if np.isfinite(by_fold).sum() > 1 else _NAN,
        group_auc,
        groups,
        tprs_at_fprs(y, scores, RATES),
        metric_by_name("eer")(y, scores),
        metric_by_name("average_precision")(y, scores),
        metric_by_name("log_loss")(y, scores) if probabilities else _NAN,
        calibration_error(y, scores) if probabilities else _NAN,
        *training,
    )


def _score(
    metric: Metric, y: NDArray[Any], scores: NDArray[Any], groups: NDArray[np.intp] | None
) -> tuple[float, float, float]:
    """Return the competition's metric with its interval; on large sets bootstrapped metrics have none, to save time."""
    if metric.is_auc:
        interval = score_interval(metric, y, scores, groups)
        return interval.score, interval.low, interval.high
    try:
        return metric(y, scores), _NAN, _NAN
    except DfensError:  # predictions unsuitable for the metric, such as logits for log loss
        return _NAN, _NAN, _NAN


def _auc(inputs: ReportInputs, oof: NDArray[Any], rows: NDArray[np.bool_]) -> float:
    y = inputs.target[rows]
    return roc_auc(y, oof[rows]) if 0 < int(y.sum()) < len(y) else _NAN


def _mean_group_auc(inputs: ReportInputs, oof: NDArray[Any], known: NDArray[np.bool_]) -> tuple[float, int]:
    """Return the mean AUC within groups of both classes, and their number (arXiv 2606.19184); folds if ungrouped."""
    blocks, names = inputs.blocks
    blocks, y, scores = blocks[known], inputs.target[known], oof[known]
    positives = np.bincount(blocks, y, len(names))
    mixed = np.flatnonzero((positives > 0) & (positives < np.bincount(blocks, minlength=len(names))))
    if len(mixed) < 2:
        return _NAN, len(mixed)
    order = np.argsort(blocks, kind="stable")
    bounds = np.searchsorted(blocks[order], np.arange(len(names) + 1))
    chosen = mixed[:: -(-len(mixed) // _MOST_GROUPS)]
    aucs = [roc_auc(y[part], scores[part]) for part in (order[bounds[g] : bounds[g + 1]] for g in chosen)]
    return float(np.mean(aucs)), len(mixed)


def reliability(y: NDArray[Any], probabilities: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return mean probability, share of positives and number of rows of up to 15 bins of equal size."""
    return reliability_bins(y, probabilities, max(2, min(_BINS, len(y) // _LEAST_OF_A_BIN)))


def calibration_error(y: NDArray[Any], probabilities: NDArray[Any]) -> float:
    """Return the expected calibration error over bins of equal size (Nixon et al., CVPR workshops 2019)."""
    mean, frequency, rows = reliability(y, probabilities)
    return float(np.average(np.abs(mean - frequency), weights=rows))


def _training(histories: Sequence[Mapping[str, Any]]) -> tuple[float, float, float]:
    """Return parameters of one network, seconds of all trainings, and their mean images per second."""

    def values(key: str) -> Sequence[float]:
        return [float(item[key]) for item in histories if item.get(key) is not None]

    parameters, seconds, speed = values("parameters"), values("seconds"), values("images_per_s")
    return (
        parameters[0] if parameters else _NAN,
        sum(seconds) if seconds else _NAN,
        float(np.mean(speed)) if speed else _NAN,
    )
