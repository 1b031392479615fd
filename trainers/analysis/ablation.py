"""Ablation: train variants of a model on the same folds, stored separately, and compare them with it."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from oof.analysis.compare import Comparison, compare_models
from oof.errors import ConfigError, PredictionError, StoreError
from oof.ids import join_positions
from oof.progress import SILENT, Progress
from oof.store import PredictionStore
from trainers.jobs.job import TrainingJob
from trainers.jobs.model_record import check_settings_unchanged, is_unchanged
from trainers.jobs.run import run_job
from trainers.jobs.runner import FoldRunner
from trainers.jobs.side_by_side import start_early, train_side_by_side
from trainers.kinds.base import ModelSettings, settings_record
from trainers.kinds.repeats import RepeatSettings, repeats_of


def ablation_store(work_dir: Path, name: str) -> PredictionStore:
    """Return the store of the predictions of a model's variants, which no blend reads."""
    return PredictionStore(work_dir / "ablations" / name / "oof")


def ablate(
    job: TrainingJob,
    name: str,
    variants: Mapping[str, ModelSettings],
    folds: Sequence[int],
    *,
    metric: str = "auc",
    progress: Progress = SILENT,
) -> Comparison:
    """Train variants of a model on the same folds and compare each with it.

        work_dir/ablations/NAME/
        ├── oof/            a separate store: same folds, one test row
        └── VARIANT/        weights and histories, as for any model

    Each is trained once on each fold, regardless of `seeds` unless these are the change; refits are left out.

    Nothing is trained twice: neither a variant, nor the model itself if
    its folds are in the real store with the same settings.

    Args:
        job: the job for training the model `name`, which must be one of its models.
        variants: changed settings by the name of the change.
        folds: folds to train; a few are enough for a first impression.
        metric: metric to compare.

    Raises:
        ConfigError: if there are no variants, or one changes nothing or has the name of the model.
    """
    if not variants:
        raise ConfigError("An ablation needs changes: give --set KEY=VALUE once per variant.")
    store, seeds = PredictionStore(job.store_root), repeats_of(job.models[name]).seeds
    variants = {change: _trained(variant, unless=seeds) for change, variant in variants.items()}
    settings = _trained(job.models[name], unless=seeds)
    for change, variant in variants.items():
        if change == name:
            raise ConfigError(f"The variant {change} has the name of the model. Rename the model in dfens.toml.")
        if variant == settings:
            raise ConfigError(f"The variant {change} changes nothing: '{name}' already has this setting.")
    own = ablation_store(job.work_dir, name)
    own.save_folds(store.folds, force=True)
    first_row = job.competition.test.iloc[:1].reset_index(drop=True)
    own.save_test_ids(first_row["id"].to_numpy(object))
    variants_job = dataclasses.replace(
        job,
        competition=dataclasses.replace(job.competition, test=first_row),
        store_root=own.root,
        models={name: settings, **variants},
        work_dir=own.root.parent,
    )
    # before predictions are copied: those of other settings move to the archive
    check_settings_unchanged(FoldRunner(variants_job).context(name), own, force=True, progress=progress)
    _archive_damaged(own, progress)
    _reuse(job, own, name, folds)
    start_early(variants_job, folds)
    run_job(variants_job, folds, engine=train_side_by_side, force=True, progress=progress)
    return compare_models(own, [name, *variants], metric=metric)


def _archive_damaged(own: PredictionStore, progress: Progress) -> None:
    """Move variants whose predictions cannot be read to the archive: they are predicted or trained again."""
    for variant in own.names():
        try:
            own.load(variant)
        except (StoreError, PredictionError):
            progress.note(f"The predictions of '{variant}' were damaged, and moved to {own.archive(variant)}.")


def _trained(settings: ModelSettings, *, unless: int) -> ModelSettings:
    """Return the settings without a refit, and with one seed unless its number differs from that of the model."""
    if not isinstance(settings, RepeatSettings):
        return settings
    changed: Any = settings
    seeds = 1 if settings.seeds == unless else settings.seeds
    found: ModelSettings = dataclasses.replace(changed, refit=False, seeds=seeds)
    return found


def _reuse(job: TrainingJob, own: PredictionStore, name: str, folds: Sequence[int]) -> None:
    """Copy the predictions of the unchanged model from the real store, if it was trained on the data of now."""
    settings, store = job.models[name], PredictionStore(job.store_root)
    if not is_unchanged(FoldRunner(job).context(name), store):
        return
    model = store.load(name, seed=0)
    row = join_positions(own.test_ids, store.test_ids, "the test ids", extra="ignore")
    own.save_model(name, settings.kind, {"settings": settings_record(settings)})
    for fold in folds:
        if fold in model.oof_folds and fold in model.test_folds and model.test_by_fold is not None:
            inside = store.folds.rows(fold)
            own.save_oof(name, store.folds.ids[inside], model.oof[inside], fold=fold)
            test = model.test_by_fold[model.test_folds.index(fold)][row]
            own.save_test(name, own.test_ids, test, fold=fold)
