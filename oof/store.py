"""The prediction store in `work/oof/`: one small file per model and fold, written atomically and checked."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from oof import files
from oof.errors import PredictionError
from oof.ids import Ids, as_ids, check_case, join_positions
from oof.part_files import (
    FORMAT_VERSION,
    Part,
    PartKey,
    header_of,
    model_names,
)
from oof.prediction_reader import OF_SEVERAL_TRAININGS, PredictionReader
from oof.predictions import ModelPredictions, ModelSummary, NewModel
from oof.replacing import replace_folder

__all__ = ["FORMAT_VERSION", "ModelPredictions", "ModelSummary", "NewModel", "Part", "PredictionStore"]

Training = tuple[int | None, int]  # fold (k: the refit, None: a model as a whole) and seed
_AS_A_WHOLE: Training = (None, 0)


class PredictionStore(PredictionReader):
    """Folds, test ids and the predictions of all models, joined by id.

        root/
        ├── folds.parquet            id, target, fold[, group]; how they were made
        ├── test_ids.parquet         id, in the order of the sample submission
        ├── sealed.parquet           id, target[, group] of the sealed rows, which are in no fold
        ├── looks.json               every look at sealed rows
        ├── models/NAME/
        │   ├── model.json           kind and details (settings, source); seeds and refit_weight if there are any;
        │   │                        sha256 of the files of a model that is stored as a whole
        │   ├── oof.fold0.parquet    id, prediction: rows of fold 0, by the model that has not seen them
        │   ├── test.fold0.parquet   id, prediction: test rows, by the same model
        │   ├── sealed.fold0.parquet id, prediction: sealed rows, by the same model
        │   ├── oof.fold0.seed1.parquet, test.fold0.seed1.parquet, …    the same with another seed
        │   ├── test.refit.parquet   id, prediction: test rows, by a model of all rows; sealed.refit.parquet
        │   └── oof.all.parquet      instead, for predictions made elsewhere
        └── archive/                 what was replaced, by time

    Every file carries the fingerprints of the ids and folds it belongs to and is refused
    if they do not match. Several processes may read and write concurrently: a file is either complete
    or absent, and a model that is stored as a whole (`save_all`) is replaced atomically: a reader gets
    either the old or the new one. The folds must not be changed while models are being trained.
    """

    def save_model(
        self, name: str, kind: str, details: Mapping[str, Any], *, seeds: int = 1, refit_weight: float = 0.0
    ) -> None:
        """Record the kind of a model (`timm`, `linear`, `import`, `blend`) and its details as JSON values.

        Args:
            name, kind, details: of the model.
            seeds: number of trainings of each fold, averaged as one model; a fold is missing until all are present.
            refit_weight: share of the refit in the test predictions, 0 for none.

        Raises:
            ConfigError: if the name differs from that of a stored model only in case.
        """
        check_case([name], self.names())
        self._save_model(self.model_dir(name), name, kind, details, (seeds, refit_weight))

    def _save_model(
        self,
        folder: Path,
        name: str,
        kind: str,
        details: Mapping[str, Any],
        trainings: tuple[int, float] = (1, 0.0),
        **more: Any,
    ) -> None:
        value = {"version": FORMAT_VERSION, "name": name, "kind": kind, "details": dict(details), **more}
        if trainings != (1, 0.0):
            value |= {"version": OF_SEVERAL_TRAININGS, "seeds": trainings[0], "refit_weight": trainings[1]}
        path = folder / "model.json"
        if not (path.exists() and files.read_json(path) == json.loads(json.dumps(value))):
            files.write_json(path, value)

    def save_oof(self, name: str, ids: Ids, predictions: NDArray[Any], *, fold: int | None, seed: int = 0) -> Path:
        """Write OOF predictions of one fold's rows, or (fold None) of any training rows.

        Args:
            name: name of the model.
            ids: (n,) in any order; exactly the ids of the fold, or for fold None a subset of all ids.
            predictions: (n,) on any scale, higher means more likely positive; stored as float32.
            fold: the fold of these rows; None for predictions made elsewhere.
            seed: which of several trainings of the fold, from 0.

        Raises:
            PredictionError: if values are NaN or infinite, or ids do not match, with examples.
        """
        return self._save_oof(self.model_dir(name), name, ids, predictions, (fold, seed))

    def _save_oof(self, folder: Path, name: str, ids: Ids, predictions: NDArray[Any], training: Training) -> Path:
        fold = training[0]
        what = f"OOF '{name}'{self._named(training)}"
        if fold is None:
            rows = self._rows_of(ids, what)
            wanted = self.folds.ids[rows]
        else:
            wanted = self.folds.ids[self.folds.rows(fold)]
        return self._save(folder, "oof", name, training, wanted, ids, predictions, what)

    def save_test(self, name: str, ids: Ids, predictions: NDArray[Any], *, fold: int | None, seed: int = 0) -> Path:
        """Write test predictions of one fold model, of a refit (fold k), or (fold None) of a model stored as a whole.

        ids must be exactly the test ids, in any order; predictions and seed as in `save_oof`.
        """
        return self._save_test(self.model_dir(name), name, ids, predictions, (fold, seed))

    def _save_test(self, folder: Path, name: str, ids: Ids, predictions: NDArray[Any], training: Training) -> Path:
        what = f"test predictions '{name}'{self._named(training)}"
        return self._save(folder, "test", name, training, self.test_ids, ids, predictions, what)

    def save_sealed(self, name: str, ids: Ids, predictions: NDArray[Any], *, fold: int | None, seed: int = 0) -> Path:
        """Write predictions of the sealed rows by one fold model, a refit (fold k), or (fold None) a model as a whole.

        ids must be exactly the sealed ids, in any order; predictions and seed as in `save_oof`.
        """
        return self._save_sealed(self.model_dir(name), name, ids, predictions, (fold, seed))

    def _save_sealed(self, folder: Path, name: str, ids: Ids, predictions: NDArray[Any], training: Training) -> Path:
        what = f"predictions of sealed rows '{name}'{self._named(training)}"
        return self._save(folder, "sealed", name, training, self.sealed_ids, ids, predictions, what)

    def _named(self, training: Training) -> str:
        """Return the words for a training in messages."""
        fold, seed = training
        if fold is None:
            return ""
        return (" refit" if fold == self.folds.refit else f" fold {fold}") + (f" seed {seed}" if seed else "")

    def save_predicted(self, name: str, predictions: NDArray[Any], *, fold: int, seed: int = 0) -> None:
        """Write the predictions of one fold model, or a refit (fold k): the test rows, followed by the sealed rows.

        Both are in the store's order. Test predictions come last, since they mark the fold model as done.
        """
        count = len(self.test_ids)
        if len(self.sealed_ids):
            self.save_sealed(name, self.sealed_ids, predictions[count:], fold=fold, seed=seed)
        self.save_test(name, self.test_ids, predictions[:count], fold=fold, seed=seed)

    def _save(
        self,
        folder: Path,
        part: Part,
        name: str,
        training: Training,
        wanted: Ids,
        ids: Ids,
        predictions: NDArray[Any],
        what: str,
    ) -> Path:
        ids = as_ids(ids, what)
        values = np.asarray(predictions)
        if values.shape != (len(ids),):
            raise PredictionError(f"{what}: {len(ids)} ids but predictions of shape {values.shape}; expected one each.")
        with np.errstate(over="ignore"):
            values = values.astype(np.float32)
        broken = ~np.isfinite(values)
        if broken.any():
            first = int(np.flatnonzero(broken)[0])
            raise PredictionError(
                f"{what}: {int(broken.sum())} of {len(values)} predictions are NaN or infinite, the first for id "
                f"'{ids[first]}'. Nothing was stored. Check for a diverged training or a division by zero."
            )
        values = values[join_positions(wanted, ids, what)]
        fold, seed = training
        header = header_of(part) | {"model": name, "fold": fold} | self._fingerprints(part, fold)
        header |= {"seed": seed} if seed else {}
        path = folder / PartKey.of(fold, self.folds.k, seed).file_name(part)
        with files.file_lock(self._lock_path):
            self._check_rows_unchanged(header)
            files.write_parquet(path, pd.DataFrame({"id": wanted, "prediction": values}), header)
        return path

    def save(
        self,
        name: str,
        ids: Ids,
        oof: NDArray[Any],
        test: NDArray[Any] | None = None,
        *,
        kind: str = "import",
        details: Mapping[str, Any] | None = None,
    ) -> Path | None:
        """Store one model as a whole, made elsewhere or by a blend; arguments as in `NewModel`.

        Returns:
            The archive folder of an earlier model of this name, or None.
        """
        return self.save_all([NewModel(name=name, ids=ids, oof=oof, test=test, kind=kind, details=details or {})]).get(
            name
        )

    def save_all(self, models: Sequence[NewModel]) -> dict[str, Path]:
        """Store models as a whole: either all of them, or none if one cannot be written.

        Each is written to a hidden folder; then, under the lock of the store, all are moved into place and
        earlier models with these names to the archive.

        Returns:
            The archive folder of each replaced model, by name.

        Raises:
            PredictionError: if ids or values are invalid; nothing is changed then.
            ConfigError: if a name is invalid, or differs from another one only in case; likewise.
        """
        archived: dict[str, Path] = {}
        with contextlib.ExitStack() as stack:
            written = {}
            for model in models:
                place = self.model_dir(model.name)
                written[place] = folder = stack.enter_context(files.temporary_folder(place))
                present = ~np.isnan(np.asarray(model.oof, dtype=np.float64))
                ids = np.asarray(model.ids, dtype=object)[present]
                self._save_oof(folder, model.name, ids, np.asarray(model.oof)[present], _AS_A_WHOLE)
                if model.test is not None:
                    self._save_test(folder, model.name, self.test_ids, model.test, _AS_A_WHOLE)
                if model.sealed is not None:
                    self._save_sealed(folder, model.name, self.sealed_ids, model.sealed, _AS_A_WHOLE)
                sums = {path.name: files.file_sha256(path) for path in folder.glob("*.parquet")}
                self._save_model(folder, model.name, model.kind, model.details, sha256=sums)
            with files.file_lock(self._lock_path):
                check_case([model.name for model in models], model_names(self.models_dir))
                has_test = any(model.test is not None for model in models)
                self._check_rows_unchanged(self._fingerprints("test" if has_test else "oof", None))
                for place, folder in written.items():
                    replaced = replace_folder(folder, place, self.archive_dir)
                    if replaced is not None:
                        archived[place.name] = replaced
        return archived

    def archive(self, name: str) -> Path:
        """Move a model to `archive/` and return its new path; nothing is deleted."""
        with files.file_lock(self._lock_path):
            self._check_stored(name, model_names(self.models_dir))
            return files.archive(self.model_dir(name), self.archive_dir)
