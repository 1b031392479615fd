"""Resumable test predictions, saved in parts so that a kill costs a minute instead of hours."""

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from oof.files import atomic_path
from oof.ids import text_fingerprint
from trainers.kinds.base import FoldModels, ModelContext, Probabilities, settings_record
from trainers.kinds.records import check_own_weights
from trainers.kinds.registry import kind_of
from trainers.kinds.repeats import without_repeats
from trainers.runtime.signals import StopRequest

_SAVE_EVERY_S = 60.0


def predict_test_rows(context: ModelContext[Any], folds: Sequence[int]) -> Probabilities:
    """Predict the test rows with the models of some folds, resuming what an earlier process left.

        work_dir/NAME/test-KEY/          KEY is a hash of folds, weights, settings and the order of the test ids
        └── 0of1.0.npy, 0of1.4096.npy    (n_folds, n_rows) of process 0 of 1, from its row 0 and 4096

    Args:
        context: context of the model; each process of its group predicts a part of the rows.
        folds: folds whose models predict; each row is read once for all of them.

    Returns:
        Probabilities of fake, shape (n_folds, n_test).

    Raises:
        StoreError: if weights are those of another training.
        KeyboardInterrupt, Stopped: Ctrl-C or SIGTERM was received; finished parts are kept.
    """
    folder = context.folder / f"test-{_key(context, folds)}"
    group = context.group
    for fold in folds:
        check_own_weights(context.fold_folder(fold))
    models = kind_of(context.settings).load(context, folds)
    rows = context.test.iloc[group.share(len(context.test), models.batch_rows)]
    parts = _Parts(folder, f"{group.rank}of{group.size}", models)
    title = f"{context.name}: predict test by {_named(context, folds)}"
    with context.progress.task(title, total=len(rows), unit="row") as task, StopRequest() as request:
        task.advance(parts.count)
        saved = time.monotonic()
        for batch in models.predict(rows.iloc[parts.count :]):
            parts.add(batch)
            task.advance(batch.shape[1])
            if request.is_requested or time.monotonic() - saved > _SAVE_EVERY_S:
                parts.save()
                saved = time.monotonic()
            if request.is_requested:
                request.stop()
    return np.concatenate(group.all_gather(parts.joined()), axis=1)


def _named(context: ModelContext[Any], folds: Sequence[int]) -> str:
    """Name the trainings that predict: fold 0, 1 and refit of seed 1."""
    refit = context.folds.refit
    numbers = [str(fold) for fold in folds if fold != refit]
    names = [f"fold {', '.join(numbers)}"] * bool(numbers) + ["refit"] * (refit in folds)
    return " and ".join(names) + (f" of seed {context.seed}" if context.seed else "")


def remove_parts(context: ModelContext[Any]) -> None:
    """Remove the parts of test predictions after they were stored as a whole."""
    for folder in context.folder.glob("test-*"):
        shutil.rmtree(folder, ignore_errors=True)


class _Parts:
    """The predictions of one process so far, in files and in memory."""

    def __init__(self, folder: Path, prefix: str, models: FoldModels) -> None:
        self._folder, self._prefix, self._models = folder, prefix, models
        self._kept = self._read()
        self._new: list[Probabilities] = []

    @property
    def count(self) -> int:
        """Return the number of rows predicted."""
        return sum(part.shape[1] for part in (*self._kept, *self._new))

    def _read(self) -> list[Probabilities]:
        """Return the parts from row 0 on without a gap, each of complete batches; a broken file ends them."""
        found: list[Probabilities] = []
        count = 0
        while (path := self._path(count)).exists():
            try:
                part: Probabilities = np.load(path, allow_pickle=False)
            except (ValueError, OSError, EOFError):
                break
            if part.ndim != 2 or len(part) != self._models.count or not part.shape[1]:
                break
            found.append(part)
            count += part.shape[1]
        return found

    def _path(self, first: int) -> Path:
        return self._folder / f"{self._prefix}.{first}.npy"

    def add(self, batch: Probabilities) -> None:
        """Add the next batch."""
        self._new.append(batch)

    def save(self) -> None:
        """Write new predictions as one part."""
        if not self._new:
            return
        part = np.concatenate(self._new, axis=1)
        with atomic_path(self._path(sum(kept.shape[1] for kept in self._kept))) as path, path.open("wb") as file:
            np.save(file, part, allow_pickle=False)
        self._kept.append(part)
        self._new = []

    def joined(self) -> Probabilities:
        """Return all predictions, (n_folds, n_rows)."""
        return np.concatenate([np.zeros((self._models.count, 0)), *self._kept, *self._new], axis=1)


def _key(context: ModelContext[Any], folds: Sequence[int]) -> str:
    """Return a hash of what the parts depend on, so that those of other weights, settings or rows are never used."""
    settings = without_repeats(settings_record(context.settings))
    # in their order, on which the parts depend: a sample submission may be sorted anew between a kill and the next run
    facts: list[Any] = [settings, text_fingerprint(context.test["id"].tolist())]
    for fold in folds:
        history = context.fold_folder(fold) / "history.json"
        facts.append([fold, hashlib.sha256(history.read_bytes()).hexdigest() if history.exists() else ""])
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
