"""What single settings are worth: a model and its variants trained on the same folds, apart from the real models."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from oof.analysis.compare import Comparison, compare_models
from oof.errors import ConfigError
from oof.files import read_json
from oof.ids import join_positions
from oof.progress import SILENT, Progress
from oof.store import PredictionStore
from trainers.jobs.run import Engine, run_job, train_here
from trainers.jobs.runner import TrainingJob
from trainers.kinds.base import ModelSettings

if TYPE_CHECKING:
    from trainers.data.competition import Competition


def ablation_store(work_dir: Path, name: str) -> PredictionStore:
    """Where the predictions of a model's variants lie: not among those that blends are made of."""
    return PredictionStore(work_dir / "ablations" / name / "oof")


def ablate(
    competition: "Competition",
    store: PredictionStore,
    name: str,
    settings: ModelSettings,
    variants: Mapping[str, ModelSettings],
    folds: Sequence[int],
    work_dir: Path,
    *,
    metric: str = "auc",
    threads: int = 2,
    root: Path = Path(),
    cache_dir: Path | None = None,
    engine: Engine = train_here,
    progress: Progress = SILENT,
) -> Comparison:
    """Train variants of a model on the same folds and compare each with it.

        work_dir/ablations/NAME/
        ├── oof/            a store of its own: same folds, one test row
        └── VARIANT/        weights and histories, as of any model

    What was trained before is not trained again: neither a variant, nor the model itself where
    its folds are in the real store with the same settings.

    Args:
        competition: rows and files. store: of folds and predictions.
        name, settings: the model as it is.
        variants: changed settings by the name of the change.
        folds: which folds to train; few are enough for a first look.
        work_dir: of this room.
        metric: to compare by.
        threads, root, cache_dir: as in `TrainingJob`. engine: as for `trainers.train.train_models`.

    Raises:
        ConfigError: no variants, or one that changes nothing.
    """
    if not variants:
        raise ConfigError("An ablation needs changes: give --set KEY=VALUE, once for each variant.")
    for change, variant in variants.items():
        if variant == settings:
            raise ConfigError(f"The variant {change} changes nothing: '{name}' has that setting already.")
    own = ablation_store(work_dir, name)
    own.save_folds(store.folds, force=True)
    first_row = competition.test.iloc[:1].reset_index(drop=True)
    own.save_test_ids(first_row["id"].to_numpy(object))
    _reuse(store, own, name, settings, folds, work_dir)
    variants_job = TrainingJob(
        dataclasses.replace(competition, test=first_row),
        own.root,
        {name: settings, **variants},
        own.root.parent,
        threads,
        root=root,
        cache_dir=cache_dir,
    )
    run_job(variants_job, folds, engine=engine, force=True, progress=progress)
    return compare_models(own, [name, *variants], metric=metric)


def _reuse(
    store: PredictionStore,
    own: PredictionStore,
    name: str,
    settings: ModelSettings,
    folds: Sequence[int],
    work_dir: Path,
) -> None:
    """Copy what the real store holds of the unchanged model."""
    path = work_dir / name / "settings.json"
    if not path.exists() or read_json(path).get("settings") != json.loads(json.dumps(dataclasses.asdict(settings))):
        return
    model = store.load(name)
    row = join_positions(own.test_ids, store.test_ids, "the test ids", extra="ignore")
    own.save_model(name, settings.kind, {"settings": dataclasses.asdict(settings)})
    for fold in folds:
        if fold in model.oof_folds and fold in model.test_folds and model.test_by_fold is not None:
            inside = store.folds.rows(fold)
            own.save_oof(name, store.folds.ids[inside], model.oof[inside], fold=fold)
            test = model.test_by_fold[model.test_folds.index(fold)][row]
            own.save_test(name, own.test_ids, test, fold=fold)
