"""List the models in the store with their scores, and move models to the archive."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfens.workspace.paths import Workspace
from oof.errors import ConfigError, PredictionError, StoreError, examples
from oof.metrics import Metric, metric_by_name
from oof.store import ModelSummary


@dataclass(frozen=True)
class StoredModel:
    """One model of the store.

    rows: number of training rows with a prediction. folds, test: stored parts, as text. fold_scores: score within each
    fold, with mean and standard deviation. score: score of all rows. state: complete, OOF only or partial.
    seeds: number of trainings of each fold. seed_scores: score of each seed on all rows, if there are several; other
    scores are of their mean. optimistic: whether the epochs were chosen by these scores. refit_weight: share of a refit
    in the test predictions; all scores are of the fold models.
    """

    model: str
    kind: str
    rows: int
    folds: str
    test: str
    optimistic: bool
    fold_scores: tuple[float, ...]
    fold_mean: float | None
    fold_sd: float | None
    score: float | None
    state: str
    seeds: int = 1
    seed_scores: tuple[float, ...] = ()
    seed_mean: float | None = None
    seed_sd: float | None = None
    refit_weight: float = 0.0


@dataclass(frozen=True)
class StoreContents:
    """The models of the store; best is the name of the one with the best score among those with the most rows."""

    metric: str
    rows: int
    k: int
    models: tuple[StoredModel, ...]
    best: str | None


def list_models(workspace: Workspace) -> StoreContents:
    """Return each model of the store with its rows, folds and scores."""
    store = workspace.predictions
    if not store.has_folds():
        raise StoreError(
            f"Nothing is stored in {store.root} yet. Run dfens folds, or import predictions with dfens oof import "
            f"FILES."
        )
    metric = metric_by_name(workspace.config.competition.metric)
    models = tuple(store.each(lambda name: _stored_model(workspace, store.summary(name), metric)))
    scored = [model for model in models if model.score is not None]
    best = max(scored, key=lambda model: (model.rows, metric.gain(model.score or 0.0)), default=None)
    return StoreContents(metric.name, len(store.folds.ids), store.folds.k, models, None if best is None else best.model)


def _stored_model(workspace: Workspace, summary: ModelSummary, metric: Metric) -> StoredModel:
    store, folds = workspace.predictions, workspace.predictions.folds
    model = store.load(summary.name)
    oof = model.oof
    present = ~np.isnan(oof)

    folds_present = [present & (folds.fold == fold) for fold in range(folds.k)]
    scores = [_score(metric, folds.target[rows], oof[rows]) for rows in folds_present]
    by_fold = [value for value in scores if value is not None]
    by_seed = _seed_scores(workspace, summary, metric)
    if summary.imported:
        covered = [fold for fold in range(folds.k) if present[folds.fold == fold].all()]
    else:
        covered = list(summary.oof_folds)
    test = "–"
    if summary.has_test:
        test = "yes" if summary.imported else f"{len(summary.test_folds)}/{summary.k}"
    return StoredModel(
        model=summary.name,
        kind=summary.kind,
        rows=summary.oof_rows,
        folds="all" if len(covered) == folds.k else ",".join(map(str, covered)) or "–",
        test=test,
        optimistic=model.is_optimistic,
        fold_scores=tuple(by_fold),
        fold_mean=_mean(by_fold),
        fold_sd=_sd(by_fold),
        score=_score(metric, folds.target[present], oof[present]),
        state=summary.state,
        seeds=summary.seeds,
        seed_scores=tuple(by_seed),
        seed_mean=_mean(by_seed),
        seed_sd=_sd(by_seed),
        refit_weight=summary.refit_weight,
    )


def _seed_scores(workspace: Workspace, summary: ModelSummary, metric: Metric) -> list[float]:
    """Return the score of each seed over the rows that it has predicted, if a model has several seeds."""
    found = []
    for seed in range(summary.seeds if summary.seeds > 1 else 0):
        oof = workspace.predictions.load(summary.name, seed=seed).oof
        rows = ~np.isnan(oof)
        score = _score(metric, workspace.predictions.folds.target[rows], oof[rows])
        found += [] if score is None else [score]
    return found


def _score(metric: Metric, target: NDArray[np.int8], predictions: NDArray[np.float32]) -> float | None:
    if not len(target):
        return None
    try:
        return float(metric(target, predictions))
    except PredictionError:  # only one class, or no probabilities although the metric needs them
        return None


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _sd(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


@dataclass(frozen=True)
class Archived:
    """Where models were moved, by name."""

    moved: Mapping[str, Path]

    def as_json(self) -> Mapping[str, Path]:
        """Return the paths at the top level."""
        return self.moved


def archive_models(workspace: Workspace, names: Sequence[str]) -> Archived:
    """Move models of the store to its archive."""
    store = workspace.predictions
    known = store.names()
    unknown = [name for name in names if name not in known]
    if unknown:
        raise StoreError(f"The store has no model {examples(unknown)}; it has {examples(known, 10) or 'none'}.")
    return Archived({name: store.archive(name) for name in dict.fromkeys(names)})


def refuse_names_of_blends(workspace: Workspace, models: Iterable[str], remedy: str) -> None:
    """Check that no model that is about to be stored has the name of a blend.

    Raises:
        ConfigError: if one has; submit and blend could not tell which of the two is meant.
    """
    blends, store = set(workspace.blends.list()), workspace.predictions
    for name in models:
        if name in blends and name not in store:
            raise ConfigError(f"There is a blend '{name}', and a model cannot have the same name. {remedy}")
