"""The store of predictions: `work/oof/`, one small file per model and fold, every one atomic and checked."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from oof import files
from oof.errors import FoldError, PredictionError, StoreError, examples
from oof.folds import Folds, check_folds
from oof.ids import Ids, as_ids, check_name, ids_fingerprint, join_positions

FORMAT_VERSION = 1
Part = Literal["oof", "test"]
_PART_FILE = re.compile(r"(oof|test)\.(all|fold(\d+))\.parquet")


@dataclass(frozen=True, eq=False)
class ModelPredictions:
    """One model's predictions in the row order of the store.

    oof: (n_rows,) float32, NaN where the model has no prediction.
    test_by_fold: (n_parts, n_test) float32, one row for each fold model that predicted the
        test ids (a single row for an imported mean), or None.
    oof_folds, test_folds: the folds present; empty where the predictions came in as a whole.
    """

    name: str
    kind: str
    oof: NDArray[np.float32]
    test_by_fold: NDArray[np.float32] | None
    oof_folds: tuple[int, ...]
    test_folds: tuple[int, ...]
    details: Mapping[str, Any]

    @property
    def test(self) -> NDArray[np.float32] | None:
        """Mean over the fold models, shape (n_test,)."""
        if self.test_by_fold is None:
            return None
        mean: NDArray[np.float32] = self.test_by_fold.mean(axis=0, dtype=np.float64).astype(np.float32)
        return mean


@dataclass(frozen=True)
class ModelSummary:
    """What the store holds of one model, told without reading its values."""

    name: str
    kind: str
    oof_rows: int
    rows: int
    oof_folds: tuple[int, ...]
    test_folds: tuple[int, ...]
    has_test: bool
    k: int
    imported: bool

    @property
    def complete(self) -> bool:
        """Every training row predicted, and the test ids by each fold model that there should be."""
        return self.oof_rows == self.rows and self.has_test and (self.imported or len(self.test_folds) == self.k)


class PredictionStore:
    """Folds, test ids and the predictions of all models, joined by id.

        root/
        ├── folds.parquet            id, target, fold[, group]; how they were made
        ├── test_ids.parquet         id, in the order of the sample submission
        ├── models/NAME/
        │   ├── model.json           kind and details (settings, source)
        │   ├── oof.fold0.parquet    id, prediction: the rows of fold 0, by the model that has not seen them
        │   ├── test.fold0.parquet   id, prediction: the test rows, by the same model
        │   └── oof.all.parquet      instead, for predictions made elsewhere
        └── archive/                 what was replaced, by time

    Every file carries the fingerprints of the ids and folds it belongs to and is refused
    when they do not match. Different models and folds may be written by several processes
    at once; the folds may not be changed while models are being trained.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    # ---- folds and test ids -------------------------------------------------

    @property
    def folds_path(self) -> Path:
        return self.root / "folds.parquet"

    @property
    def test_ids_path(self) -> Path:
        return self.root / "test_ids.parquet"

    @property
    def archive_dir(self) -> Path:
        return self.root / "archive"

    def has_folds(self) -> bool:
        return self.folds_path.exists()

    @cached_property
    def folds(self) -> Folds:
        """The folds of this competition.

        Raises:
            StoreError: if there are none yet, or the file is broken.
        """
        try:
            table, header = files.read_parquet(self.folds_path)
        except FileNotFoundError as err:
            raise StoreError(f"There are no folds yet ({self.folds_path} is missing). Run dfens folds.") from err
        _check_version(self.folds_path, header)
        folds = Folds(
            as_ids(table["id"], str(self.folds_path)),
            table["target"].to_numpy(np.int8),
            table["fold"].to_numpy(np.int16),
            table["group"].to_numpy(object) if "group" in table else None,
            header["how"],
        )
        if folds.fingerprint != header["folds"]:
            raise StoreError(
                f"{self.folds_path} was changed after it was made (its fingerprint is {folds.fingerprint}, "
                f"its header says {header['folds']}). Run dfens folds --force to make it anew."
            )
        return folds

    @cached_property
    def test_ids(self) -> Ids:
        """The ids to predict, in the order of the sample submission, shape (n_test,)."""
        try:
            table, header = files.read_parquet(self.test_ids_path)
        except FileNotFoundError as err:
            raise StoreError(f"There are no test ids yet ({self.test_ids_path} is missing). Run dfens folds.") from err
        _check_version(self.test_ids_path, header)
        return as_ids(table["id"], str(self.test_ids_path))

    def save_folds(self, folds: Folds, *, force: bool = False) -> Path | None:
        """Write the folds; unchanged folds are left as they are.

        Args:
            folds: the new assignment.
            force: replace other folds even if models depend on them; those models and the
                old folds are moved to the archive.

        Returns:
            The archive folder of what was replaced, or None.

        Raises:
            FoldError: if models depend on other folds and `force` is false.
        """
        check_folds(folds)
        with files.file_lock(self.root / ".lock"):
            archived = self._make_room_for(folds, force)
            table = pd.DataFrame({"id": folds.ids, "target": folds.target, "fold": folds.fold})
            if folds.groups is not None:
                table["group"] = folds.groups
            header = _header("folds") | {
                "folds": folds.fingerprint,
                "ids": ids_fingerprint(folds.ids),
                "how": dict(folds.how),
            }
            files.write_parquet(self.folds_path, table, header)
            self.__dict__.pop("folds", None)
        return archived

    def _make_room_for(self, folds: Folds, force: bool) -> Path | None:
        try:
            old = self.folds.fingerprint
        except StoreError:  # missing or broken: what the models were made with stands in their own files
            old = None
        if old == folds.fingerprint:
            return None
        dependent = [name for name in self.names() if self._is_of_other_folds(name, folds, begun=old is not None)]
        if dependent and not force:
            raise FoldError(
                f"{len(dependent)} models were made with other folds: {examples(dependent)}. New folds would mix "
                f"rows that they have seen into their validation. Keep the folds, or run dfens folds --force, "
                f"which moves these models and the old folds to {self.archive_dir}."
            )
        target = self._new_archive("folds")
        for name in dependent:
            _move(self.model_dir(name), target / "models" / name)
        if self.has_folds():
            _move(self.folds_path, target / self.folds_path.name)
        return target if dependent or old is not None else None

    def _is_of_other_folds(self, name: str, folds: Folds, *, begun: bool) -> bool:
        """Whether a model belongs to other folds (imports: to other rows); `begun` where it holds nothing yet."""
        headers = [files.read_header(path) for part in self._parts(name).values() for path in part.values()]
        own = {"folds": folds.fingerprint, "ids": ids_fingerprint(folds.ids)}
        return any(header.get(key, own[key]) != own[key] for header in headers for key in own) or (
            begun and not headers
        )

    def save_test_ids(self, ids: Ids) -> Path | None:
        """Write the ids to predict; test predictions made for other ids move to the archive, whose folder is returned.

        The fold models are as good as before: what trained them predicts the new ids with their weights.
        """
        ids = as_ids(ids, "test ids")
        fingerprint = ids_fingerprint(ids)
        with files.file_lock(self.root / ".lock"):
            paths = [path for name in self.names() for path in self._parts(name)["test"].values()]
            stale = [path for path in paths if files.read_header(path).get("test_ids") != fingerprint]
            target = self._new_archive("test")
            for path in stale:
                _move(path, target / "models" / path.parent.name / path.name)
            files.write_parquet(
                self.test_ids_path, pd.DataFrame({"id": ids}), _header("test_ids") | {"ids": fingerprint}
            )
        self.__dict__.pop("test_ids", None)
        self.__dict__.pop("_test_ids_fingerprint", None)
        return target if stale else None

    @cached_property
    def _ids_fingerprint(self) -> str:
        return ids_fingerprint(self.folds.ids)

    @cached_property
    def _test_ids_fingerprint(self) -> str:
        return ids_fingerprint(self.test_ids)

    # ---- writing predictions ------------------------------------------------

    def model_dir(self, name: str) -> Path:
        return self.root / "models" / check_name(name, "model name")

    def save_model(self, name: str, kind: str, details: Mapping[str, Any]) -> None:
        """Record what a model is: its kind (`timm`, `linear`, `import`, `blend`) and details as JSON values."""
        value = {"version": FORMAT_VERSION, "name": name, "kind": kind, "details": dict(details)}
        path = self.model_dir(name) / "model.json"
        if not (path.exists() and files.read_json(path) == json.loads(json.dumps(value))):
            files.write_json(path, value)

    def save_oof(self, name: str, ids: Ids, predictions: NDArray[Any], *, fold: int | None) -> Path:
        """Write OOF predictions of one fold's rows, or (fold None) of any of the training rows.

        Args:
            name: model.
            ids: (n,) in any order; exactly the ids of the fold, or for fold None a subset of all ids.
            predictions: (n,) any unit, higher means more likely positive; kept as float32.
            fold: the fold whose rows these are; None for predictions made elsewhere.

        Raises:
            PredictionError: NaN or infinity, or ids that do not match, with examples.
        """
        what = f"OOF '{name}'" + ("" if fold is None else f" fold {fold}")
        if fold is None:
            rows = self._rows_of(ids, what)
            wanted = self.folds.ids[rows]
        else:
            wanted = self.folds.ids[self.folds.rows(fold)]
        return self._save("oof", name, fold, wanted, ids, predictions, what)

    def _rows_of(self, ids: Ids, what: str) -> NDArray[np.intp]:
        known = pd.Index(self.folds.ids).get_indexer(pd.Index(as_ids(ids, what)))
        if (known < 0).any():
            unknown = list(np.asarray(ids, dtype=object)[known < 0])
            raise PredictionError(
                f"{what}: {len(unknown)} of {len(ids)} ids are no training rows: {examples(unknown)}. "
                f"Check that the file belongs to this competition."
            )
        return np.sort(known)

    def save_test(self, name: str, ids: Ids, predictions: NDArray[Any], *, fold: int | None) -> Path:
        """Write test predictions of one fold model, or (fold None) of a model as a whole.

        ids must be exactly the test ids, in any order; predictions as in `save_oof`.
        """
        what = f"test predictions '{name}'" + ("" if fold is None else f" fold {fold}")
        return self._save("test", name, fold, self.test_ids, ids, predictions, what)

    def _save(
        self,
        part: Part,
        name: str,
        fold: int | None,
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
                f"'{ids[first]}'. Nothing was stored. Look for a diverged training or a division by zero."
            )
        values = values[join_positions(wanted, ids, what)]
        header = _header(part) | {"model": name, "fold": fold} | self._fingerprints(part, fold)
        path = self._part_path(name, part, fold)
        files.write_parquet(path, pd.DataFrame({"id": wanted, "prediction": values}), header)
        return path

    def _fingerprints(self, part: Part, fold: int | None) -> dict[str, str]:
        """What a file of predictions belongs to; an import depends on the training ids, not on the folds."""
        found = {"ids": self._ids_fingerprint} if fold is None else {"folds": self.folds.fingerprint}
        return found | ({"test_ids": self._test_ids_fingerprint} if part == "test" else {})

    def _part_path(self, name: str, part: Part, fold: int | None) -> Path:
        return self.model_dir(name) / f"{part}.{'all' if fold is None else f'fold{fold}'}.parquet"

    def save(
        self,
        name: str,
        ids: Ids,
        oof: NDArray[Any],
        test: NDArray[Any] | None = None,
        *,
        kind: str = "import",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Write a model's predictions as a whole, made elsewhere or by a blend.

        Args:
            name: model.
            ids: (n,) training ids of `oof`, any order, all of them or some.
            oof: (n,) OOF predictions; NaN stands for no prediction and is left out.
            test: (n_test,) in the order of `test_ids`, or None.
        """
        present = ~np.isnan(np.asarray(oof, dtype=np.float64))
        self.save_oof(name, np.asarray(ids, dtype=object)[present], np.asarray(oof)[present], fold=None)
        if test is not None:
            self.save_test(name, self.test_ids, test, fold=None)
        self.save_model(name, kind, details or {})

    # ---- reading predictions ------------------------------------------------

    def names(self) -> list[str]:
        """Names of the models, sorted."""
        folder = self.root / "models"
        return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []

    def _parts(self, name: str) -> dict[Part, dict[int | None, Path]]:
        """The part files of one model: {"oof": {fold: path}, "test": {fold: path}}; fold None is a whole."""
        found: dict[Part, dict[int | None, Path]] = {"oof": {}, "test": {}}
        folder = self.model_dir(name)
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            match = _PART_FILE.fullmatch(path.name)
            if match:
                part: Part = "oof" if match[1] == "oof" else "test"
                found[part][None if match[2] == "all" else int(match[3])] = path
        return found

    def _is_import(self, name: str) -> bool:
        return any(None in found for found in self._parts(name).values())

    def __contains__(self, name: str) -> bool:
        return name in self.names()

    def has(self, name: str, part: Part, fold: int) -> bool:
        """Whether the predictions of one fold model are stored and belong to the current folds and ids."""
        path = self._part_path(name, part, fold)
        if not path.exists():
            return False
        self._read_part(path, part, fold)
        return True

    def list(self) -> list[ModelSummary]:
        """What the store holds, by name."""
        return [self.summary(name) for name in self.names()]

    def summary(self, name: str) -> ModelSummary:
        """What the store holds of one model."""
        parts = self._parts(name)
        oof_folds = tuple(sorted(fold for fold in parts["oof"] if fold is not None))
        rows = len(self.folds.ids)
        if None in parts["oof"]:
            covered = len(self._read_part(parts["oof"][None], "oof", None))
        else:
            covered = int(np.isin(self.folds.fold, oof_folds).sum())
        return ModelSummary(
            name,
            self._model_json(name)["kind"],
            covered,
            rows,
            oof_folds,
            tuple(sorted(fold for fold in parts["test"] if fold is not None)),
            bool(parts["test"]),
            self.folds.k,
            self._is_import(name),
        )

    def _model_json(self, name: str) -> dict[str, Any]:
        path = self.model_dir(name) / "model.json"
        if not path.exists():
            return {"kind": "unknown", "details": {}}
        value: dict[str, Any] = files.read_json(path)
        _check_version(path, value)
        return value

    def load(self, name: str) -> ModelPredictions:
        """Read one model's predictions in the order of the folds and of the test ids.

        Raises:
            StoreError: if the model is unknown, or a file is broken or belongs to other folds or ids.
        """
        if name not in self:
            raise StoreError(
                f"The store holds no model '{name}'; it holds {examples(self.names(), 10) or 'none'}. "
                f"Run dfens train --model {name}, or dfens oof import {name}."
            )
        parts = self._parts(name)
        info = self._model_json(name)
        oof = np.full(len(self.folds.ids), np.nan, np.float32)
        for fold, path in parts["oof"].items():
            table = self._read_part(path, "oof", fold)
            ids = table["id"].to_numpy(object)
            if fold is None:
                rows = self._rows_of(ids, str(path))
                wanted = self.folds.ids[rows]
            else:
                rows = self.folds.rows(fold)
                wanted = self.folds.ids[rows]
            oof[rows] = table["prediction"].to_numpy(np.float32)[join_positions(wanted, ids, str(path))]
        tests = []
        for fold, path in sorted(parts["test"].items(), key=lambda item: -1 if item[0] is None else item[0]):
            table = self._read_part(path, "test", fold)
            positions = join_positions(self.test_ids, table["id"].to_numpy(object), str(path))
            tests.append(table["prediction"].to_numpy(np.float32)[positions])
        return ModelPredictions(
            name,
            info["kind"],
            oof,
            np.stack(tests) if tests else None,
            tuple(sorted(fold for fold in parts["oof"] if fold is not None)),
            tuple(sorted(fold for fold in parts["test"] if fold is not None)),
            info["details"],
        )

    def _read_part(self, path: Path, part: Part, fold: int | None) -> pd.DataFrame:
        table, header = files.read_parquet(path)
        _check_version(path, header)
        for key, expected in self._fingerprints(part, fold).items():
            if header.get(key) != expected:
                raise StoreError(
                    f"{path} belongs to other {key.replace('_', ' ')} (fingerprint {header.get(key)}, not {expected}): "
                    f"its predictions would be joined to the wrong rows. Restore the old "
                    f"{'test ids' if key == 'test_ids' else 'folds'}, or move the model away with "
                    f"dfens oof archive {header.get('model')} and make it again."
                )
        if not np.isfinite(table["prediction"].to_numpy()).all():
            raise StoreError(f"{path} holds NaN or infinite predictions. Move it away and make it again.")
        return table

    def fingerprint(self, name: str) -> str:
        """The fingerprint of one model's predictions: equal predictions, equal text."""
        model = self.load(name)
        return predictions_fingerprint(model.oof, model.test_by_fold)

    # ---- moving aside -------------------------------------------------------

    def _new_archive(self, kind: str) -> Path:
        return self.archive_dir / datetime.now(UTC).strftime(f"%Y%m%dT%H%M%S.%fZ-{kind}")

    def archive(self, name: str) -> Path:
        """Move a model to `archive/` and return where it lies now; nothing is deleted."""
        if name not in self:
            raise StoreError(f"The store holds no model '{name}'; dfens oof list shows what it holds.")
        return files.archive(self.model_dir(name), self.archive_dir)


def predictions_fingerprint(oof: NDArray[np.float32], test_by_fold: NDArray[np.float32] | None) -> str:
    """SHA-256 over OOF and test predictions, in store order."""
    digest = hashlib.sha256(oof.tobytes())
    if test_by_fold is not None:
        digest.update(test_by_fold.tobytes())
    return digest.hexdigest()


def _move(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)


def _header(kind: str) -> dict[str, Any]:
    return {"version": FORMAT_VERSION, "kind": kind}


def _check_version(path: Path, header: Mapping[str, Any]) -> None:
    if header.get("version") != FORMAT_VERSION:
        raise StoreError(
            f"{path} has format version {header.get('version')}; this dfens reads {FORMAT_VERSION}. "
            f"Use the dfens that wrote it, or a newer one."
        )
