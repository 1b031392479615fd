"""Train models over folds: what is done is skipped, what was begun goes on, no name stands for two settings."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oof.errors import TrainingError
from oof.files import archive, file_lock, read_json, write_json
from oof.progress import SILENT, Progress
from oof.store import PredictionStore
from trainers.jobs.runner import FORMAT_VERSION, FoldResult, FoldRunner, TrainingJob
from trainers.kinds.base import ModelSettings, settings_record

if TYPE_CHECKING:
    from trainers.data.layouts import Competition

__all__ = ["FoldResult", "train_here", "train_models"]

Engine = Callable[[TrainingJob, Sequence[int], Progress], list[FoldResult]]


def train_here(job: TrainingJob, folds: Sequence[int], progress: Progress) -> list[FoldResult]:
    """Train one fold after the other in this process; the first error ends it."""
    return FoldRunner(job, progress).all(folds)


def train_models(
    competition: "Competition",
    store: PredictionStore,
    models: Mapping[str, ModelSettings],
    folds: Sequence[int],
    work_dir: Path,
    *,
    progress: Progress = SILENT,
    force: bool = False,
    threads: int = 2,
    max_parameters: int | None = None,
    root: Path = Path(),
    cache_dir: Path | None = None,
    engine: Engine = train_here,
) -> list[FoldResult]:
    """Train each model on each fold and store its OOF and test predictions.

        work_dir/
        ├── NAME/
        │   ├── settings.json           settings and what they were trained with
        │   └── fold0/
        │       ├── state.pt, good.pt   of the running training; gone when the fold is done
        │       ├── weights.safetensors what the fold predicted with
        │       └── history.json        loss and AUC by epoch, and where the model came from
        └── archive/                    what --force replaced

    Two processes may train different folds of one model at once; of one fold only one runs, the other waits.
    The test rows are predicted after the last fold of each model, by all its fold models at once.

    Args:
        competition: rows and files.
        store: of folds and predictions.
        models: settings by name.
        folds: which folds to train.
        work_dir: of this room.
        force: retrain models whose settings changed; the old ones move to the archives.
        threads: that decode images.
        max_parameters: rule of the competition, for each model.
        root: what paths of weights are relative to.
        cache_dir: of resized images (trainers/media/image_cache.py), used where it holds them.
        engine: what trains the folds: `train_here`, or one that uses many processes or machines.

    Returns:
        One for each fold, by model and fold.

    Raises:
        TrainingError: settings that differ from those a model was trained with (unless `force`), and what
            `create_model` and the training raise.
    """
    job = TrainingJob(competition, store.root, dict(models), work_dir, threads, max_parameters, root, cache_dir)
    FoldRunner(job, progress).check()  # before hours go into the models ahead of one that cannot work
    for name, settings in models.items():
        check_settings_unchanged(store, name, settings, work_dir, force=force, progress=progress)
    return engine(job, folds, progress)


def check_settings_unchanged(
    store: PredictionStore, name: str, settings: ModelSettings, work_dir: Path, *, force: bool, progress: Progress
) -> None:
    """Note the settings of a model, or refuse to mix two settings under one name."""
    path = work_dir / name / "settings.json"
    found: dict[str, Any] = {
        "version": FORMAT_VERSION,
        "settings": settings_record(settings),
        "folds": store.folds.fingerprint,
    }
    with file_lock(work_dir / ".lock"):
        if path.exists():
            before = read_json(path)
            changed = _changed(before.get("settings", {}), settings)
            if before.get("folds") != found["folds"]:
                changed.append("the folds")
            if not changed:
                return
            if not force:
                raise TrainingError(
                    f"Model '{name}' was trained with other settings; changed: {', '.join(changed)}. Give the new "
                    f"settings a name of their own in dfens.toml, or run dfens train --model {name} --force, which "
                    f"moves the old model to the archive."
                )
            moved = [archive(work_dir / name, work_dir / "archive")]
            if name in store:
                moved.append(store.archive(name))
            progress.note(f"{name}: the model of other settings lies in {' and '.join(map(str, moved))}")
        write_json(path, found)
    store.save_model(name, settings.kind, {"settings": found["settings"]})


def _changed(before: Mapping[str, Any], settings: ModelSettings) -> list[str]:
    """What differs; a setting that did not exist then stands for its default."""
    now = settings_record(settings)
    defaults = {
        item.name: item.default for item in dataclasses.fields(settings) if item.default is not dataclasses.MISSING
    }
    then = {key: before.get(key, defaults.get(key)) for key in before.keys() | now.keys()}
    then = {key: list(value) if isinstance(value, tuple) else value for key, value in then.items()}
    return [f"{key} {then[key]!r} to {now.get(key)!r}" for key in sorted(then) if then[key] != now.get(key)]
