"""Panel "curves": ROC, precision-recall, reliability, and the training curves of each fold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfens.report.inputs import ReportInputs
from dfens.report.models import ModelsPanel, reliability
from oof.metrics.ranking import class_counts

Points = tuple[tuple[float, float], ...]
MOST_CURVES = 6  # more would not be distinguishable in one plot
_POINTS = 160


@dataclass(frozen=True)
class Curve:
    """One line of a plot: (x, y) points, thinned."""

    name: str
    points: Points


@dataclass(frozen=True)
class TrainingCurves:
    """Loss and validation AUC by epoch of one model; one curve per fold."""

    model: str
    loss: tuple[Curve, ...]
    auc: tuple[Curve, ...]


@dataclass(frozen=True)
class CurvesPanel:
    """Curves of the newest blend and the best models; reliability only if predictions are probabilities."""

    roc: tuple[Curve, ...]
    precision_recall: tuple[Curve, ...]
    reliability: tuple[Curve, ...]
    training: tuple[TrainingCurves, ...]
    left_out: int


def curves_panel(inputs: ReportInputs, models: ModelsPanel) -> CurvesPanel | None:
    """Compute the curves of the best models; None if nothing is predicted."""
    predictions: dict[str, NDArray[Any]] = {model.name: model.oof for model in inputs.models}
    predictions |= {blend.name: blend.nested_oof for blend in inputs.blends}
    wanted = [row for row in models.rows if row.role != "baseline" and np.isfinite(row.auc)]
    blends = [row for row in wanted if row.role == "blend" and row.name == inputs.blends[-1].name]
    chosen = [*blends, *[row for row in wanted if row.role == "model"]][:MOST_CURVES]
    if not chosen:
        return None
    roc, precision, reliable = [], [], []
    for row in chosen:
        known = np.isfinite(predictions[row.name])
        y, scores = inputs.target[known], predictions[row.name][known]
        title = f"{row.name} (nested)" if row.role == "blend" else row.name
        negatives, positives = class_counts(y, scores)
        roc.append(Curve(title, roc_points(negatives, positives)))
        precision.append(Curve(title, precision_points(negatives, positives)))
        if np.isfinite(row.calibration_error):
            mean, frequency, _ = reliability(y, scores)
            reliable.append(Curve(title, _pairs(mean, frequency)))
    training = tuple(found for model in inputs.models if (found := _training(model.name, model.histories)) is not None)[
        :MOST_CURVES
    ]
    return CurvesPanel(tuple(roc), tuple(precision), tuple(reliable), training, len(wanted) - len(chosen))


def roc_points(negatives: NDArray[np.int64], positives: NDArray[np.int64]) -> Points:
    """Return points of the ROC curve, with enough of them at low false positive rates.

    Args:
        negatives, positives: number of rows of each class at each distinct score, from the highest score down.
    """
    fpr = np.concatenate([[0.0], np.cumsum(negatives)]) / negatives.sum()
    tpr = np.concatenate([[0.0], np.cumsum(positives)]) / positives.sum()
    low = np.geomspace(max(1 / negatives.sum(), 1e-6), 0.1, _POINTS // 2)
    wanted = np.concatenate([[0], low, np.linspace(0.1, 1, _POINTS // 2)])
    places = np.unique(np.clip(np.searchsorted(fpr, wanted, side="right") - 1, 0, len(fpr) - 1))
    return _pairs(fpr[places], tpr[places])


def precision_points(negatives: NDArray[np.int64], positives: NDArray[np.int64]) -> Points:
    """Return points (recall, precision), evenly spaced in recall."""
    true, false = np.cumsum(positives), np.cumsum(negatives)
    recall, precision = true / true[-1], true / (true + false)
    places = np.unique(np.clip(np.searchsorted(recall, np.linspace(0, 1, _POINTS)), 0, len(recall) - 1))
    return _pairs(recall[places], precision[places])


def _training(model: str, histories: Any) -> TrainingCurves | None:
    loss, auc = list[Curve](), list[Curve]()
    for fold, history in sorted(histories.items()):
        for found, key in ((loss, "loss"), (auc, "auc")):
            values: Sequence[float] = history.get(key) or []
            if len(values) > 1:
                found.append(Curve(f"fold {fold}", _pairs(np.arange(1, len(values) + 1), np.asarray(values))))
    return TrainingCurves(model, tuple(loss), tuple(auc)) if auc else None


def _pairs(x: NDArray[Any], y: NDArray[Any]) -> Points:
    return tuple((round(float(a), 6), round(float(b), 6)) for a, b in zip(x, y, strict=True))
