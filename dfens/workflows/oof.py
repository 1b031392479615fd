"""What `dfens oof list`, `diversity` and `shift` tell of the store, as values."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dfens.app import App
from ensemble.diversity import leave_one_out
from ensemble.shift import adversarial_auc, fold_agreement, model_shifts, shift_weights
from oof.errors import BlendError, PredictionError
from oof.metrics import Metric
from oof.store import ModelPredictions, ModelSummary


def best_row(rows: Sequence[dict[str, Any]], metric: Metric) -> dict[str, Any] | None:
    """Return the row of the model with the best score among those with the most predictions; None without a score."""
    scored = [row for row in rows if row["score"] is not None]
    return max(scored, key=lambda row: (row["rows"], metric.gain(row["score"])), default=None)


def spread(row: Mapping[str, Any]) -> str:
    """Mean and standard deviation of the scores by fold, for people."""
    if row["fold_mean"] is None:
        return "–"
    spread = "" if row["fold_sd"] is None else f" ± {row['fold_sd']:.5f}"
    return f"{row['fold_mean']:.5f}{spread}"


def model_row(app: App, summary: ModelSummary, metric: Metric) -> dict[str, Any]:
    """Rows, folds, test predictions and scores of one model of the store."""
    folds = app.predictions.folds
    model = app.predictions.load(summary.name)
    present = ~np.isnan(model.oof)

    def score(rows: Any) -> float | None:
        if not rows.any():
            return None
        try:
            return float(metric(folds.target[rows], model.oof[rows]))
        except PredictionError:  # one class, or no probabilities where the metric needs them
            return None

    by_fold = [
        value for value in (score(present & (folds.fold == fold)) for fold in range(folds.k)) if value is not None
    ]
    if summary.imported:
        covered = [fold for fold in range(folds.k) if present[folds.fold == fold].all()]
    else:
        covered = list(summary.oof_folds)
    whole = summary.oof_rows == summary.rows
    if summary.complete:
        state = "complete"
    elif whole and not summary.has_test:
        state = "OOF only"
    else:
        state = "partial"
    return {
        "model": summary.name,
        "kind": summary.kind,
        "rows": summary.oof_rows,
        "folds": "all" if len(covered) == folds.k else ",".join(map(str, covered)) or "–",
        "test": "–"
        if not summary.has_test
        else "yes"
        if summary.imported
        else f"{len(summary.test_folds)}/{summary.k}",
        "fold_scores": by_fold,
        "fold_mean": float(np.mean(by_fold)) if by_fold else None,
        "fold_sd": float(np.std(by_fold, ddof=1)) if len(by_fold) > 1 else None,
        "score": score(present),
        "state": state,
    }


def member_gains(app: App, names: list[str], oof: Any) -> list[dict[str, Any]]:
    """What each model that covers all rows adds to the nested score of their blend, the least useful first."""
    from ensemble.fit import fit_blend

    whole = np.flatnonzero(~np.isnan(oof).any(axis=0))
    if len(whole) < 2:
        raise BlendError("Leaving out a model needs at least 2 models that cover all rows. Run dfens oof list.")
    folds = app.predictions.folds

    def blend(columns: Sequence[int]) -> Any:
        return fit_blend(oof[:, whole[list(columns)]], folds.target, folds=folds.fold).nested_oof

    gains = leave_one_out(folds.target, blend, len(whole), groups=folds.groups, progress=app.progress)
    return [
        {
            "model": names[whole[item.member]],
            "adds": item.gain.gain,
            "low": item.gain.low,
            "high": item.gain.high,
            "p": item.gain.p_value,
        }
        for item in gains
    ]


def shift_rows(loaded: Sequence[ModelPredictions]) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """How each model's test predictions differ from its OOF ones, and how all do together (None: too few rows)."""
    oof = np.stack([model.oof for model in loaded], axis=1)
    parts = [model.test_by_fold for model in loaded if model.test_by_fold is not None]
    alike = len({len(part) for part in parts}) == 1
    test = np.stack(parts if alike else [part.mean(axis=0, keepdims=True) for part in parts], axis=2)
    rows = []
    for model, part, shift in zip(loaded, parts, model_shifts(oof, test), strict=True):
        reasons = list(shift.reasons)
        if len(part) > 2:
            agreement = fold_agreement(part)
            odd = [fold for fold, value in enumerate(agreement) if value < np.median(agreement) - 0.2]
            reasons += [
                f"the model of fold {model.test_folds[fold]} disagrees with those of the others" for fold in odd
            ]
        rows.append(
            {
                "model": model.name,
                "test_above_oof": shift.auc,
                "distance": shift.distance,
                "out_of_range": shift.beyond,
                "oof_agreement": shift.oof_agreement,
                "test_agreement": shift.test_agreement,
                "looks_broken": "; ".join(reasons),
            }
        )
    try:
        interval = adversarial_auc(oof, test)
    except BlendError:  # a handful of rows
        return rows, None
    weights = shift_weights(oof, test)
    return rows, {
        "auc": interval.score,
        "low": interval.low,
        "high": interval.high,
        "effective_rows": float(weights.sum() ** 2 / (weights**2).sum()),
    }
