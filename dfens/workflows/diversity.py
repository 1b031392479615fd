"""Compare the models in the store with each other, and their test predictions with their OOF predictions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfens.workspace.paths import Workspace
from ensemble.diversity import duplicate_members, leave_one_out, rank_correlations
from ensemble.fit import fit_blend
from ensemble.shift import adversarial_auc, fold_agreement, model_shifts, shift_weights
from oof.errors import BlendError, PredictionError, StoreError
from oof.folds import Folds
from oof.metrics import Metric, metric_by_name
from oof.progress import SILENT, Progress
from oof.store import ModelPredictions


@dataclass(frozen=True)
class Duplicate:
    """A model that duplicates a better one."""

    model: str
    of: str
    correlation: float


@dataclass(frozen=True)
class MemberGain:
    """The contribution of a model to the nested score of the blend of all models, with its 95 % interval."""

    model: str
    adds: float
    low: float
    high: float
    p: float


@dataclass(frozen=True, eq=False)
class Diversity:
    """Differences between models; rank_correlations: (n_models, n_models). metric: metric of the members' gains."""

    metric: str
    models: tuple[str, ...]
    rank_correlations: NDArray[np.float64]
    duplicates: tuple[Duplicate, ...]
    leave_one_out: tuple[MemberGain, ...]


@dataclass(frozen=True)
class ModelShiftRow:
    """The difference between one model's test and OOF predictions; looks_broken describes anything suspicious."""

    model: str
    test_above_oof: float
    distance: float
    out_of_range: float
    oof_agreement: float
    test_agreement: float
    looks_broken: str


@dataclass(frozen=True)
class AdversarialScore:
    """AUC, with its 95 % interval, of separating test rows from OOF rows by all models; 0.5 is chance."""

    auc: float
    low: float
    high: float
    effective_rows: float


@dataclass(frozen=True)
class Shift:
    """Test predictions compared with OOF predictions; together is None if there are too few rows."""

    models: tuple[ModelShiftRow, ...]
    together: AdversarialScore | None


def measure_diversity(
    workspace: Workspace, models: Sequence[str] = (), *, without_each: bool = False, progress: Progress = SILENT
) -> Diversity:
    """Compare models by rank; with `without_each`, also blend without each of them."""
    store = workspace.predictions
    chosen = _chosen(workspace, models)
    names = [model.name for model in chosen]
    oof = np.stack([model.oof for model in chosen], axis=1)  # (n_rows, n_models)
    duplicates = tuple(
        Duplicate(names[item.member], names[item.of], item.correlation)
        for item in duplicate_members(store.folds.target, oof)
    )
    metric = metric_by_name(workspace.config.competition.metric)
    gains = _member_gains(store.folds, names, oof, metric, progress) if without_each else ()
    return Diversity(metric.name, tuple(names), rank_correlations(oof), duplicates, gains)


def _member_gains(
    folds: Folds, names: Sequence[str], oof: NDArray[np.float32], metric: Metric, progress: Progress
) -> tuple[MemberGain, ...]:
    """Return the contribution of each model that covers all rows, the least useful first."""
    whole = np.flatnonzero(~np.isnan(oof).any(axis=0))
    if len(whole) < 2:
        raise BlendError("Leaving out a model needs at least 2 models that cover all rows. Run dfens oof list.")

    def blend(columns: Sequence[int]) -> NDArray[np.float64]:
        members = oof[:, whole[list(columns)]]
        return fit_blend(members, folds.target, folds=folds.fold, groups=folds.groups, optimize=metric).nested_oof

    gains = leave_one_out(folds.target, blend, len(whole), groups=folds.groups, metric=metric, progress=progress)
    return tuple(
        MemberGain(names[whole[item.member]], item.gain.gain, item.gain.low, item.gain.high, item.gain.p_value)
        for item in gains
    )


def measure_shift(workspace: Workspace, models: Sequence[str] = ()) -> Shift:
    """Compare test predictions with OOF predictions, for each model and for all together."""
    loaded = _chosen(workspace, models)
    lacking = [model.name for model in loaded if model.test_by_fold is None]
    if models and lacking:
        raise PredictionError(f"Model {lacking[0]} has no test predictions. Leave it out, or run dfens train.")
    loaded = [model for model in loaded if model.test_by_fold is not None]
    if not loaded:
        raise PredictionError("No model has test predictions yet. Run dfens train, or dfens oof import --test FILE.")
    oof = np.stack([model.oof for model in loaded], axis=1)
    parts = [model.test_by_fold for model in loaded if model.test_by_fold is not None]
    alike = len({len(part) for part in parts}) == 1
    test = np.stack(parts if alike else [part.mean(axis=0, keepdims=True) for part in parts], axis=2)
    rows = []
    for model, part, shift in zip(loaded, parts, model_shifts(oof, test), strict=True):
        reasons = [*shift.reasons, *_odd_folds(model, part)]
        rows.append(
            ModelShiftRow(
                model.name,
                shift.auc,
                shift.distance,
                shift.beyond,
                shift.oof_agreement,
                shift.test_agreement,
                "; ".join(reasons),
            )
        )
    try:
        interval = adversarial_auc(oof, test)
    except BlendError:  # a handful of rows
        return Shift(tuple(rows), None)
    weights = shift_weights(oof, test)
    effective = float(weights.sum() ** 2 / (weights**2).sum())
    return Shift(tuple(rows), AdversarialScore(interval.score, interval.low, interval.high, effective))


def _odd_folds(model: ModelPredictions, part: NDArray[np.float32]) -> list[str]:
    """List the fold models whose test predictions disagree with those of the others."""
    if len(part) <= 2:
        return []
    agreement = fold_agreement(part)
    odd = [fold for fold, value in enumerate(agreement) if value < np.median(agreement) - 0.2]
    return [f"the model of fold {model.test_folds[fold]} disagrees with those of the others" for fold in odd]


def _chosen(workspace: Workspace, models: Sequence[str]) -> list[ModelPredictions]:
    """Return the predictions of the named models, or of all."""
    store = workspace.predictions
    if models:
        return [store.load(name) for name in dict.fromkeys(models)]
    found = store.each(store.load) if store.has_folds() else []
    if not found:
        raise StoreError("The store has no models yet. Run dfens train, or dfens oof import FILES.")
    return found
