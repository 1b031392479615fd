"""Read the predictions of the store: each model in one state, also while another process replaces it."""

import builtins
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from oof import files
from oof.averaging import mean_of_logits, on_scale_of
from oof.errors import PredictionError, StoreError, examples
from oof.ids import Ids, as_ids, check_name, ids_fingerprint, join_positions
from oof.part_files import (
    WHOLE,
    Part,
    PartKey,
    check_header,
    check_version,
    model_names,
    parts_of,
    whole_folds,
)
from oof.predictions import ModelPredictions, ModelSummary
from oof.row_store import RowStore
from oof.typed import typed

T = TypeVar("T")
OF_SEVERAL_TRAININGS = 2  # version of model.json for models with several seeds or a refit
_READS = 3  # attempts to read a model that is being replaced, before waiting for the lock


@dataclass(frozen=True)
class _ModelJson:
    """Types of the values of model.json (docs/formats.md)."""

    kind: str
    details: Mapping[str, Any]
    seeds: int = 1
    refit_weight: float = 0.0
    sha256: Mapping[str, str] = field(default_factory=dict)


class PredictionReader(RowStore):
    """Models of the store and their predictions, joined by id; `PredictionStore` documents the files."""

    def model_dir(self, name: str) -> Path:
        """Return the folder of a model after checking its name."""
        return self.models_dir / check_name(name, "model name")

    def _rows_of(self, ids: Ids, what: str) -> NDArray[np.intp]:
        known = pd.Index(self.folds.ids).get_indexer(pd.Index(as_ids(ids, what)))
        if (known < 0).any():
            unknown = list(np.asarray(ids, dtype=object)[known < 0])
            raise PredictionError(
                f"{what}: {len(unknown)} of {len(ids)} ids are not training rows: {examples(unknown)}. "
                f"Check that the file belongs to this competition."
            )
        return np.sort(known)

    def _fingerprints(self, part: Part, fold: int | None) -> dict[str, str]:
        """Return the fingerprints for a file of predictions; an import depends on the ids, not on the folds."""
        found = {"ids": self._ids_fingerprint} if fold is None else {"folds": self.folds.fingerprint}
        if part == "sealed":
            return found | {"sealed_ids": ids_fingerprint(self.sealed_ids)}
        return found | ({"test_ids": self._test_ids_fingerprint} if part == "test" else {})

    def names(self) -> builtins.list[str]:
        """Return the sorted names of the models; other folders are ignored."""
        with files.shared_lock(self._lock_path):
            return model_names(self.models_dir)

    def _parts(self, name: str) -> dict[Part, dict[PartKey, Path]]:
        return parts_of(self.model_dir(name))

    def stored_parts(self, name: str) -> set[Part]:
        """Return which predictions of a model are stored, of all folds or some; empty for an unknown model."""
        return self._read_whole(name, lambda: {part for part, found in self._parts(name).items() if found})

    def _is_import(self, name: str) -> bool:
        return any(WHOLE in found for found in self._parts(name).values())

    def __contains__(self, name: str) -> bool:
        return name in self.names()

    def has(self, name: str, part: Part, fold: int, seed: int = 0) -> bool:
        """Return whether the predictions of one fold model, or of the refit (fold k), are stored.

        Raises:
            StoreError: if they belong to other folds or ids.
        """
        key = PartKey.of(fold, self.folds.k, seed)
        path = self.model_dir(name) / key.file_name(part)
        if not path.exists():
            return False
        self._read_part(path, part, key)
        return True

    def trainings(self, name: str) -> builtins.list[PartKey]:
        """Return which trainings of a model have predicted: fold models their held-out rows, refits the test rows."""
        parts = self._parts(name)
        return [*parts["oof"], *(key for key in parts["test"] if key.label == "refit")]

    def list(self) -> builtins.list[ModelSummary]:
        """Return summaries of all models, by name; a model that is archived in the meantime is left out."""
        return self.each(self.summary)

    def each(self, read: Callable[[str], T], names: Iterable[str] | None = None) -> builtins.list[T]:
        """Return `read(name)` for all or some models, leaving out those that are archived in the meantime.

        Commands that show all models must read them through this: between the list of names and the reading of a
        model, another process may archive it.
        """
        found = []
        for name in self.names() if names is None else names:
            try:
                found.append(read(name))
            except StoreError:
                if name in self:  # either broken, or archived and stored again
                    found.append(read(name))
        return found

    def summary(self, name: str) -> ModelSummary:
        """Return a summary of one model; raises as `load`."""
        return self._read_whole(name, lambda: self._summary(name))

    def kind(self, name: str) -> str:
        """Return the kind of a model, also if its predictions cannot be read."""
        return str(self._read_whole(name, lambda: self._model_json(name)["kind"]))

    def _summary(self, name: str) -> ModelSummary:
        parts, info = self._parts(name), self._model_json(name)
        oof_folds = whole_folds(parts["oof"], range(info["seeds"]))
        rows = len(self.folds.ids)
        if WHOLE in parts["oof"]:
            covered = self._read_part(parts["oof"][WHOLE], "oof", WHOLE).num_rows
        else:
            covered = int(np.isin(self.folds.fold, oof_folds).sum())
        test_folds = whole_folds(parts["test"], range(info["seeds"]))
        return ModelSummary(
            name,
            info["kind"],
            covered,
            rows,
            oof_folds,
            test_folds,
            bool(test_folds) or WHOLE in parts["test"],
            self.folds.k,
            self._is_import(name),
            info["seeds"],
            info["refit_weight"],
            all(PartKey("refit", seed) in parts["test"] for seed in range(info["seeds"])),
            info["details"],
        )

    def _model_json(self, name: str) -> dict[str, Any]:
        path = self.model_dir(name) / "model.json"
        if not path.exists():
            if any(key.seed or key.label == "refit" for parts in self._parts(name).values() for key in parts):
                raise StoreError(
                    f"{path} is missing, which says how the predictions of several trainings are averaged. Restore it, "
                    f"or run dfens train --model {name}, which writes it again."
                )
            return {"kind": "unknown", "details": {}, "seeds": 1, "refit_weight": 0.0}
        value = files.read_json(path, "version", "kind", "details")
        try:
            typed(_ModelJson, value)
        except TypeError as err:
            raise StoreError(
                f"{path} was edited by hand ({err}). Restore it, or move it away and run dfens status."
            ) from err
        if value["version"] == OF_SEVERAL_TRAININGS:
            return files.read_json(path, "seeds", "refit_weight", "kind", "details")
        check_version(path, value)
        return {**value, "seeds": 1, "refit_weight": 0.0}

    def _read_whole(self, name: str, read: Callable[[], T]) -> T:
        """Return a consistent result of `read` for one model, even if another process is replacing that model.

        Replacing a model replaces its folder, so if the folder is the same before and after reading, all
        files belong together. Otherwise it is read again, and finally under the lock.
        """
        folder = self.model_dir(name)
        for _ in range(_READS):
            before = files.identity(folder)
            try:
                found = read()
            except FileNotFoundError:
                continue
            except StoreError:
                if before is not None and files.identity(folder) == before:
                    raise
                continue
            if before is not None and files.identity(folder) == before:
                return found
        with files.shared_lock(self._lock_path):
            try:
                return read()
            except FileNotFoundError as err:
                raise StoreError(
                    f"{err.filename} cannot be read: it is a link to a file that does not exist. Restore that file, or "
                    f"run dfens oof archive {name} and train or import the model again."
                ) from err

    def load(self, name: str, *, seed: int | None = None) -> ModelPredictions:
        """Read one model's predictions in the order of the folds and of the test ids.

        Args:
            name: name of the model.
            seed: a single seed, from 0, without a refit; None for the complete model: the mean over its seeds, with the
                refit mixed into the test predictions.

        Raises:
            StoreError: if the model is unknown, or a file is broken or belongs to other folds or ids.
            PredictionError: if predictions to be averaged are not probabilities.
        """
        return self._read_whole(name, lambda: self._load(name, seed))

    def _load(self, name: str, seed: int | None) -> ModelPredictions:
        self._check_stored(name)
        parts, info = self._parts(name), self._model_json(name)
        seeds = range(info["seeds"]) if seed is None else range(seed, seed + 1)
        oof = np.full(len(self.folds.ids), np.nan, np.float32)
        if WHOLE in parts["oof"]:
            path = parts["oof"][WHOLE]
            table = self._read_part(path, "oof", WHOLE)
            if self._is_in_order(table["id"], "oof", WHOLE):
                oof = _values(table)
            else:
                ids = table["id"].to_numpy()
                rows = self._rows_of(ids, str(path))
                oof[rows] = _values(table)[join_positions(self.folds.ids[rows], ids, str(path))]
        oof_folds = whole_folds(parts["oof"], seeds)
        for fold in oof_folds:
            oof[self.folds.rows(fold)] = self._mean_over_seeds("oof", parts["oof"], f"fold{fold}", seeds)
        weight = info["refit_weight"] if seed is None else 0.0
        unmixed = self._read_parts("test", parts["test"], seeds, 0.0)
        return ModelPredictions(
            name,
            info["kind"],
            oof,
            self._read_parts("test", parts["test"], seeds, weight) if weight else unmixed,
            oof_folds,
            whole_folds(parts["test"], seeds),
            info["details"],
            unmixed,
            len(seeds),
            weight,
        )

    def load_sealed(self, name: str) -> NDArray[np.float32] | None:
        """Read one model's predictions of the sealed rows, (n_parts, n_sealed), or None. Only for `dfens unseal`.

        Seeds and a refit are averaged as in the test predictions. Raises as `load` does.
        """

        def read() -> NDArray[np.float32] | None:
            self._check_stored(name)
            info = self._model_json(name)
            paths = self._parts(name)["sealed"]
            return self._read_parts("sealed", paths, range(info["seeds"]), info["refit_weight"])

        return self._read_whole(name, read)

    def _read_parts(
        self, part: Part, paths: Mapping[PartKey, Path], seeds: range, refit_weight: float
    ) -> NDArray[np.float32] | None:
        """Return predictions of the test or sealed ids, (n_parts, n_ids), by fold; None without any.

        Seeds are averaged as one model; a refit is mixed into each row, on the scale of this fold model.
        """
        if not paths:  # without test predictions there may be no test ids either
            return None
        if WHOLE in paths:
            return self._read_values(paths[WHOLE], part, WHOLE)[None]
        folds = whole_folds(paths, seeds)
        if not folds:
            return None
        by_fold = [self._mean_over_seeds(part, paths, f"fold{fold}", seeds) for fold in folds]
        if refit_weight and all(PartKey("refit", seed) in paths for seed in seeds):
            refit = self._mean_over_seeds(part, paths, "refit", seeds)
            shares = np.array([1 - refit_weight, refit_weight])
            by_fold = [mean_of_logits(np.stack([row, on_scale_of(refit, row)]), shares) for row in by_fold]
        return np.stack(by_fold)

    def _mean_over_seeds(
        self, part: Part, paths: Mapping[PartKey, Path], label: str, seeds: range
    ) -> NDArray[np.float32]:
        """Return the predictions of one fold, or of the refit, averaged over seeds, in the order of the store's ids."""
        keys = [PartKey(label, seed) for seed in seeds]
        return mean_of_logits(np.stack([self._read_values(paths[key], part, key) for key in keys]))

    def _read_values(self, path: Path, part: Part, key: PartKey) -> NDArray[np.float32]:
        """Return the predictions of one training in the order of the store's ids."""
        table = self._read_part(path, part, key)
        if self._is_in_order(table["id"], part, key):
            return _values(table)
        return _values(table)[join_positions(self._ids_of(part, key), table["id"].to_numpy(), str(path))]

    def _ids_of(self, part: Part, key: PartKey) -> Ids:
        """Return the ids that predictions cover, in the order of the store."""
        if part == "oof":
            return self.folds.ids if key.fold is None else self.folds.ids[self.folds.rows(key.fold)]
        return self.test_ids if part == "test" else self.sealed_ids

    def _is_in_order(self, found: pa.ChunkedArray, part: Part, key: PartKey) -> bool:
        """Return whether a file has exactly the expected ids in the expected order, as dfens writes them."""
        label = (part, key.label if part == "oof" else "")
        if label not in self._arrow_ids:
            self._arrow_ids[label] = pa.array(self._ids_of(part, key), pa.large_string())
        expected = self._arrow_ids[label]
        return len(found) == len(expected) and found.cast(pa.large_string()).equals(pa.chunked_array([expected]))

    def _read_part(self, path: Path, part: Part, key: PartKey) -> pa.Table:
        table, header = files.read_arrow(path, "id", "prediction")
        check_header(path, header, part)
        fold = self.folds.refit if key.label == "refit" else key.fold
        if header.get("fold") != fold or header.get("seed", 0) != key.seed:
            raise StoreError(
                f"{path} contains predictions of fold {header.get('fold')}, seed {header.get('seed', 0)}, which does "
                f"not match its name. Restore its name, or move it away."
            )
        info = files.read_json_if_any(path.with_name("model.json")) or {}
        owner = info.get("name")
        if owner not in (None, header.get("model")):
            raise StoreError(
                f"{path} contains predictions of the model '{header.get('model')}', not of '{owner}': it was copied "
                f"from another folder. Restore it, or run dfens oof archive {path.parent.name} and train or import the "
                f"model again."
            )
        for what, expected in self._fingerprints(part, fold).items():
            if header.get(what) != expected:
                raise StoreError(
                    f"{path} belongs to other {what.replace('_', ' ')} (fingerprint {header.get(what)}, not "
                    f"{expected}): its predictions would be joined to the wrong rows. Restore the old "
                    f"{'test ids' if what == 'test_ids' else 'folds'}, or move the model away with "
                    f"dfens oof archive {header.get('model')} and train or import it again."
                )
        if not np.isfinite(_values(table)).all():
            raise StoreError(f"{path} contains NaN or infinite predictions. Move it away and train or import it again.")
        if info.get("sha256") and dict(info["sha256"]).get(path.name) != files.file_sha256(path):
            raise StoreError(
                f"{path} is not the file that belongs to model.json, but of another import of '{owner}' or edited. "
                f"Restore it, or import the whole model again (dfens oof import {owner} --oof FILE --test FILE)."
            )
        return table

    def fingerprint(self, name: str) -> str:
        """Return the fingerprint of one model's predictions, which is equal for equal predictions."""
        model = self.load(name)
        return self.fingerprint_of(model.oof, model.test_by_fold)

    def fingerprint_of(self, oof: NDArray[np.float32], test_by_fold: NDArray[np.float32] | None) -> str:
        """Return the SHA-256 of OOF and test predictions in the order of their ids, independent of the row order.

        Args:
            oof: shape (n_rows,). test_by_fold: shape (n_parts, n_test), or None; both in the row order of the store.
        """
        digest = hashlib.sha256(oof[self._id_order].tobytes())
        if test_by_fold is not None:
            digest.update(np.ascontiguousarray(test_by_fold[:, self._test_id_order]).tobytes())
        return digest.hexdigest()

    def _check_stored(self, name: str, known: builtins.list[str] | None = None) -> None:
        known = model_names(self.models_dir) if known is None else known
        if name not in known:
            others = f"; its models are {examples(known, 10)}" if known else ", which is empty"
            raise StoreError(
                f"There is no model '{name}' in the store{others}. "
                f"Run dfens train --model {name}, or dfens oof import {name}."
            )


def _values(table: pa.Table) -> NDArray[np.float32]:
    """Return the predictions of a file in the order of its rows."""
    return np.array(table["prediction"].to_numpy(), np.float32)
