"""The kind `linear`: scikit-learn on small features, a fast baseline that every network should beat."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from oof.progress import SILENT, Progress
from trainers.features.clip_features import clip_features
from trainers.features.handcrafted import Matrix
from trainers.features.settings import ExtractSettings
from trainers.kinds.base import FoldModels, FoldOutcome, ModelContext, ModelKind, Probabilities
from trainers.kinds.clips.clips import ClipSource, check_extraction, prepare_clips
from trainers.kinds.linear.classifier import fit_classifier, fit_linear_fold, linear_features
from trainers.kinds.linear.settings import LinearSettings
from trainers.kinds.training_rows import TrainingRows, training_rows
from trainers.media.image import is_clip
from trainers.media.image_info import in_threads

if TYPE_CHECKING:
    import pandas as pd

Context = ModelContext[LinearSettings]
_BATCH = 256


class LinearKind(ModelKind[LinearSettings]):
    """Classifiers on features of the files at their original scale.

    Fitting is as fast as reading a stored model would be, and deterministic, so only predictions are
    stored, and `load` fits again.
    """

    soft_labels = True

    def modalities(self, settings: LinearSettings) -> tuple[str, ...]:
        return ("picture", "sound")

    def extraction(self, settings: LinearSettings) -> ExtractSettings | None:
        return settings.extraction

    def check(self, context: Context) -> None:
        if _reads_clips(context):
            check_extraction(context)

    def prepare(self, context: Context) -> None:
        if _reads_clips(context):
            prepare_clips(context)

    def train_fold(self, context: Context, fold: int) -> FoldOutcome:
        features, held_out = _features(context), context.folds.fold == fold
        seen, rows = _training_features(context, fold)
        train, test = features[: len(held_out)], features[len(held_out) :]
        found = fit_linear_fold(context.settings, seen, rows.target, train[held_out], test, weight=rows.weight)
        return FoldOutcome(oof=found.oof.astype(np.float64), test=found.test.astype(np.float64), history=found.details)

    def has_weights(self, folder: Path) -> bool:
        return True

    def load(self, context: Context, folds: Sequence[int], *, tta: bool = True) -> FoldModels:
        return _LinearModels(context, folds)


def _features(context: Context) -> Matrix:
    """Return the features of all files, training rows first, computed once for all folds and models."""
    settings = context.settings
    key = ("linear features", settings.image_size, settings.decode, settings.extraction, settings.leaks)
    if key not in context.shared:
        paths = [*context.train["path"], *context.test["path"]]
        context.shared[key] = _features_of(context, paths, context.progress)
    found: Matrix = context.shared[key]
    return found


def _training_features(context: Context, fold: int) -> tuple[Matrix, TrainingRows]:
    """Return the features of the rows that a fold is trained on, and these rows."""
    rows = training_rows(context, fold)
    place = {path: at for at, path in enumerate([*context.train["path"], *context.test["path"]])}
    return _features(context)[[place[path] for path in rows.table["path"]]], rows


def _features_of(context: Context, paths: Sequence[str], progress: Progress = SILENT) -> Matrix:
    if not _reads_clips(context):
        return linear_features(context.settings, paths, threads=context.threads, progress=progress)
    record_of = ClipSource(context)
    rows = in_threads(partial(_clip_row, record_of, context.settings), paths, context.threads, progress, "features")
    width = next((len(row) for row in rows if row is not None), 1)
    return np.stack([np.zeros(width, np.float32) if row is None else row.astype(np.float32) for row in rows])


def _clip_row(record_of: ClipSource, settings: LinearSettings, path: str) -> NDArray[np.float64] | None:
    record = record_of(path)
    return None if record is None else clip_features(record, settings.mel, leaks=settings.leaks)


def _reads_clips(context: Context) -> bool:
    return len(context.train) > 0 and is_clip(context.train["path"].iloc[0])


class _LinearModels:
    batch_rows = _BATCH

    def __init__(self, context: Context, folds: Sequence[int]) -> None:
        self._context = context
        self._predict: list[Callable[[Matrix], NDArray[np.float32]]] = []
        for fold in folds:
            features, rows = _training_features(context, fold)
            self._predict.append(fit_classifier(context.settings, features, rows.target, rows.weight))
        self.count = len(folds)

    def predict(self, rows: "pd.DataFrame") -> Iterator[Probabilities]:
        for start in range(0, len(rows), _BATCH):
            paths = rows["path"].iloc[start : start + _BATCH].tolist()
            features = _features_of(self._context, paths)
            yield np.stack([predict(features) for predict in self._predict]).astype(np.float64)
