"""Robustness curves: a model's AUC after recompression, blur, noise and downscaling."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from oof.errors import TrainingError
from oof.metrics.intervals import score_interval
from oof.progress import SILENT, Progress
from trainers.augment.corruptions import PERTURBATIONS, Perturbation, corrupted_file
from trainers.jobs.job import TrainingJob
from trainers.jobs.runner import FoldRunner
from trainers.kinds.base import FoldModels
from trainers.kinds.prediction import predict_rows
from trainers.kinds.registry import kind_of
from trainers.media.clip_changes import CLIP_CHANGES, ClipChange, changed_clip
from trainers.media.image import decode_image, is_clip

if TYPE_CHECKING:
    import pandas as pd

_BATCH = 32
Severity = tuple[str, float]  # name of a corruption and its severity; ("none", 0.0) for unchanged images


@dataclass(frozen=True)
class CurvePoint:
    """A model's AUC at one severity of one corruption ("none" for the images as they are), with its 95 % interval."""

    model: str
    corruption: str
    severity: float
    auc: float
    low: float
    high: float


def robustness_curves(
    job: TrainingJob,
    *,
    rows: int = 500,
    corruptions: Sequence[str] | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> list[CurvePoint]:
    """Return the AUC of each model on corrupted held-out images or clips.

    Images are corrupted at their original size and written to files, which each model reads like all its
    images. Each fold model predicts rows that it has not seen; all models see the same rows and the same noise.
    Test-time augmentation is not used, so that only the model is measured.

    Args:
        job: the models, whose folds must be trained.
        rows: maximum number of rows over all folds.
        corruptions: names in PERTURBATIONS, or for clips in CLIP_CHANGES; default all.
        seed: seed of the sampled rows and of the noise.
        progress: reports each batch and severity.

    Raises:
        TrainingError: if a model has no weights, or only those of other settings, folds or predictions; if the models
            have no fold in common; or if the drawn rows are of one class.
    """
    known: Mapping[str, Perturbation | ClipChange] = (
        PERTURBATIONS if job.competition.media == "images" else CLIP_CHANGES
    )
    names = known if corruptions is None else corruptions
    runner = FoldRunner(job, progress)
    folds = runner.store.folds
    common = _common_folds(runner)
    usable = np.flatnonzero(np.isin(folds.fold, common))
    chosen = usable[_draw(folds.target[usable], folds.fold[usable], rows, seed)]
    if len(np.unique(folds.target[chosen])) < 2:
        raise TrainingError(f"An AUC requires both classes, and the {len(chosen)} drawn rows have one. Draw more rows.")
    severities = [("none", 0.0), *((name, value) for name in names for value in known[name].severities)]
    points = []
    groups = None if folds.groups is None else folds.groups[chosen]
    for (name, corruption, value), predictions in _predictions(runner, chosen, common, severities, seed).items():
        interval = score_interval("auc", folds.target[chosen], predictions[chosen], groups)
        points.append(CurvePoint(name, corruption, value, interval.score, interval.low, interval.high))
    return points


def _predictions(
    runner: FoldRunner,
    chosen: NDArray[np.intp],
    common: Sequence[int],
    severities: Sequence[Severity],
    seed: int,
) -> dict[tuple[str, str, float], NDArray[np.float64]]:
    """Return the predictions of the chosen rows, (n_rows,), by model, corruption and severity."""
    job, fold_of = runner.job, runner.store.folds.fold
    found = {(name, *severity): np.zeros(len(fold_of)) for name in job.models for severity in severities}
    total = len(chosen) * len(severities)
    with runner.progress.task(f"corrupted {job.competition.media}", total=total, unit="row") as task:
        for fold in [fold for fold in common if (fold_of[chosen] == fold).any()]:  # fewer rows than folds
            models = {
                name: kind_of(settings).load(runner.context(name), [fold], tta=False)
                for name, settings in job.models.items()
            }
            held_out = chosen[fold_of[chosen] == fold]
            for batch in np.array_split(held_out, -(-len(held_out) // _BATCH)):
                for severity in severities:
                    for name, values in _predict(models, runner, batch, severity, seed).items():
                        found[name, *severity][batch] = values
                    task.advance(len(batch))
    return found


def _predict(
    models: dict[str, FoldModels], runner: FoldRunner, rows: NDArray[np.intp], severity: Severity, seed: int
) -> dict[str, NDArray[np.float64]]:
    """Predict some training rows with each model, on corrupted images."""
    table = runner.train_table.iloc[rows].reset_index(drop=True)
    with tempfile.TemporaryDirectory(prefix="dfens-corrupted-") as folder:
        if severity[0] != "none":
            table["path"] = _corrupted(table, rows, severity, seed, Path(folder))
        return {name: predict_rows(model, table)[0] for name, model in models.items()}


def _corrupted(table: "pd.DataFrame", rows: NDArray[np.intp], severity: Severity, seed: int, folder: Path) -> list[str]:
    """Write the corrupted image or clip of each row to a file, and return the paths."""
    name, value = severity
    paths = []
    for row, path in zip(rows.tolist(), table["path"], strict=True):
        rng = np.random.default_rng([seed, row])
        if name in CLIP_CHANGES and is_clip(path):
            paths.append(str(changed_clip(path, folder / f"{row}.mp4", name, value, rng)))
            continue
        suffix, data = corrupted_file(decode_image(path), name, value, rng)
        target = folder / f"{row}{suffix}"
        target.write_bytes(data)
        paths.append(str(target))
    return paths


def _draw(target: NDArray[Any], fold: NDArray[Any], rows: int, seed: int) -> NDArray[np.intp]:
    """Draw rows, stratified by fold and class."""
    if rows >= len(target):
        return np.arange(len(target))
    shuffled = np.random.default_rng(seed).permutation(len(target))
    order = shuffled[np.lexsort((target[shuffled], fold[shuffled]))]
    return np.sort(order[np.linspace(0, len(order) - 1, rows).astype(int)])


def _common_folds(runner: FoldRunner) -> list[int]:
    """Return the folds for which all models have weights of their present settings and predictions."""
    found = [_usable_folds(runner, name) for name in runner.job.models]
    common = sorted(set.intersection(*found))
    if not common:
        raise TrainingError("These models have no trained fold in common. Run dfens train for the same folds of each.")
    return common


def _usable_folds(runner: FoldRunner, name: str) -> set[int]:
    """Return the folds whose weights are those that made the model's predictions.

    Weights of other settings, or beside predictions that were imported, would give curves of another model.
    """
    settings, folder = runner.job.models[name], runner.job.work_dir / name
    stored = runner.store.load(name).kind if name in runner.store else settings.kind
    if stored != settings.kind:
        raise TrainingError(
            f"The predictions of '{name}' are of kind '{stored}', not '{settings.kind}' as in the configuration, so "
            f"the weights in {folder} did not make them. Train the model under a different name, and compare that one."
        )
    folds = range(runner.store.folds.k)
    found = {fold for fold in folds if runner.has_trained_weights(name, fold)}
    if found:
        return found
    if any(kind_of(settings).has_weights(runner.folder(name, fold)) for fold in folds):
        raise TrainingError(
            f"The weights in {folder} were trained with other settings or folds than those of now. Restore the "
            f"settings, or train model '{name}' with those of now: dfens train --model {name} --force."
        )
    raise TrainingError(f"Model '{name}' has no weights in {folder}. Run dfens train --model {name}.")
