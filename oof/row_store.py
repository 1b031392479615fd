"""The rows of a competition on disk: folds and test ids, to which all predictions in the store belong."""

import contextlib
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from oof import files
from oof.errors import FoldError, StoreError, examples
from oof.folds import Folds, check_folds
from oof.ids import Ids, as_ids, ids_fingerprint, join_positions
from oof.part_files import Part, check_header, header_of, model_names, parts_of
from oof.sealed import LookRecord, SealedRows

_MAKE_AGAIN = "Run dfens folds --force to create it again."


class RowStore:
    """Folds, test ids and sealed rows, in `folds.parquet`, `test_ids.parquet` and `sealed.parquet`.

    Sealed rows are in no fold, so code that reads the folds cannot use them.

    When either changes, predictions made with the old folds or for the old test ids are moved to `archive/`.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    @property
    def folds_path(self) -> Path:
        return self.root / "folds.parquet"

    @property
    def test_ids_path(self) -> Path:
        return self.root / "test_ids.parquet"

    @property
    def sealed_path(self) -> Path:
        return self.root / "sealed.parquet"

    @property
    def looks(self) -> LookRecord:
        """The record of looks at sealed rows."""
        return LookRecord(self.root)

    @property
    def archive_dir(self) -> Path:
        return self.root / "archive"

    @property
    def models_dir(self) -> Path:
        return self.root / "models"

    @property
    def _lock_path(self) -> Path:
        """Return the path of the lock that is held while models are moved into place or to the archive."""
        return self.root / ".lock"

    def has_folds(self) -> bool:
        """Return whether there are folds."""
        return self.folds_path.exists()

    @cached_property
    def folds(self) -> Folds:
        """Return the folds of this competition.

        Raises:
            StoreError: if there are none yet, or the file is broken.
        """
        try:
            table, header = files.read_parquet(self.folds_path, "id", "target", "fold")
        except FileNotFoundError as err:
            raise StoreError(f"There are no folds yet ({self.folds_path} is missing). Run dfens folds.") from err
        check_header(self.folds_path, header, "folds")
        try:
            folds = Folds(
                as_ids(table["id"], str(self.folds_path)),
                table["target"].to_numpy(np.int8),
                table["fold"].to_numpy(np.int16),
                table["group"].to_numpy(object) if "group" in table else None,
                dict(header["how"]),
            )
            found = f"its fingerprint is {folds.fingerprint}, but its header says {header['folds']}"
        except (KeyError, TypeError, ValueError) as err:
            raise StoreError(f"{self.folds_path} was changed after it was written ({err!r}). {_MAKE_AGAIN}") from err
        if folds.fingerprint != header["folds"]:
            raise StoreError(f"{self.folds_path} was changed after it was written ({found}). {_MAKE_AGAIN}")
        return folds

    @cached_property
    def test_ids(self) -> Ids:
        """Return the ids to predict, in the order of the sample submission, shape (n_test,)."""
        try:
            table, header = files.read_parquet(self.test_ids_path, "id")
        except FileNotFoundError as err:
            raise StoreError(f"There are no test ids yet ({self.test_ids_path} is missing). Run dfens folds.") from err
        check_header(self.test_ids_path, header, "test_ids")
        return as_ids(table["id"], str(self.test_ids_path))

    @cached_property
    def sealed_ids(self) -> Ids:
        """The ids of the sealed rows, which the fold models predict like test rows, shape (n_sealed,)."""
        found = self.sealed_rows()
        return np.empty(0, object) if found is None else found.ids

    def sealed_rows(self) -> SealedRows | None:
        """Read the sealed rows with their labels; None if there are none. Only for `dfens unseal`.

        Raises:
            StoreError: if there are no folds yet, or the sealed rows are not those that were sealed.
        """
        try:
            wanted = files.read_header(self.folds_path).get("sealed")
        except FileNotFoundError as err:
            raise StoreError(f"There are no folds yet ({self.folds_path} is missing). Run dfens folds.") from err
        if wanted is None:
            return None
        try:
            table, header = files.read_parquet(self.sealed_path, "id", "target")
        except FileNotFoundError as err:
            raise StoreError(
                f"{self.sealed_path} is missing, and the folds leave its rows out. Run dfens folds, which writes it."
            ) from err
        check_header(self.sealed_path, header, "sealed_rows")
        groups = table["group"].to_numpy(object) if "group" in table else None
        ids = as_ids(table["id"], str(self.sealed_path))
        try:
            rows = SealedRows(ids, table["target"].to_numpy(np.int8), groups)
        except (TypeError, ValueError) as err:
            raise StoreError(
                f"{self.sealed_path} was changed after it was written ({err!r}). Run dfens folds, which writes it "
                f"again."
            ) from err
        if rows.fingerprint != wanted:
            raise StoreError(
                f"{self.sealed_path} does not contain the rows that the folds leave out (their fingerprint is "
                f"{wanted}, that of the file {rows.fingerprint}). Run dfens folds, which writes it again."
            )
        return rows

    def has_rows(self, folds: Folds, sealed: SealedRows | None, test_ids: Ids) -> bool:
        """Return whether the store has these rows, so that saving them would leave all predictions in place."""
        try:
            same = self._has_these(folds) and self._has_sealed(sealed)
            return same and self._test_ids_fingerprint == ids_fingerprint(as_ids(test_ids, "test ids"))
        except StoreError:  # no test ids yet, or broken
            return False

    def check_folds_unchanged(self) -> None:
        """Raise StoreError if another process has replaced the folds since this store read them."""
        self._check_rows_unchanged({"folds": self.folds.fingerprint})

    def _check_rows_unchanged(self, expected: Mapping[str, str]) -> None:
        """Check that the rows on disk are still those that this store has read; called with the lock held.

        Args:
            expected: fingerprints that predictions of these rows refer to: folds, ids, test_ids.

        Raises:
            StoreError: if another process has replaced them. Predictions stored now would belong to other rows, which
                makes every later command fail.
        """
        for path, key, known in (
            (self.folds_path, "folds", expected.get("folds")),
            (self.folds_path, "ids", expected.get("ids")),
            (self.test_ids_path, "ids", expected.get("test_ids")),
        ):
            if known is None:
                continue
            now = files.read_header(path).get(key) if path.exists() else None
            if now != known:
                which = "rows to predict" if path == self.test_ids_path else "folds"
                raise StoreError(
                    f"The {which} were replaced by another process (dfens folds) after this one had read them, so its "
                    f"predictions are not stored. Run the command again."
                )

    def save_folds(
        self,
        folds: Folds,
        *,
        sealed: SealedRows | None = None,
        force: bool = False,
        archive_others: Callable[[], object] = bool,
    ) -> Path | None:
        """Write the folds; an identical assignment, in any row order, leaves the file as it is.

        Args:
            folds: the new assignment.
            sealed: rows that are in no fold and are kept apart.
            force: whether to replace other folds even if models depend on them; these models and the
                old folds are moved to the archive.
            archive_others: moves what else depends on the old folds. It is called before these are replaced: if this
                process is killed in between, the next call does the rest.

        Returns:
            The archive folder of what was replaced, or None.

        Raises:
            FoldError: if models depend on other folds and `force` is false.
        """
        check_folds(folds)
        with files.file_lock(self._lock_path):
            known = self._has_these(folds) and self._has_sealed(sealed)
            if known:
                with self._new_sealed_rows(sealed):
                    return None
            table = pd.DataFrame({"id": folds.ids, "target": folds.target, "fold": folds.fold})
            if folds.groups is not None:
                table["group"] = folds.groups
            header = header_of("folds") | {
                "folds": folds.fingerprint,
                "ids": ids_fingerprint(folds.ids),
                "how": dict(folds.how),
            }
            if sealed is not None:
                header["sealed"] = sealed.fingerprint
            with files.new_parquet(self.folds_path, table, header), self._new_sealed_rows(sealed):
                archived = self._archive_dependents(folds, sealed, force, archive_others)
            for cached in ("folds", "sealed_ids", "_ids_fingerprint", "_id_order", "_arrow_ids"):
                self.__dict__.pop(cached, None)
        return archived

    def _new_sealed_rows(self, sealed: SealedRows | None) -> contextlib.AbstractContextManager[None]:
        """Write the sealed rows, if there are any; the folds, which name their fingerprint, are moved after them."""
        if sealed is None:
            return contextlib.nullcontext()
        table = pd.DataFrame({"id": sealed.ids, "target": sealed.target})
        if sealed.groups is not None:
            table["group"] = sealed.groups
        return files.new_parquet(self.sealed_path, table, header_of("sealed_rows") | {"sealed": sealed.fingerprint})

    def _has_sealed(self, sealed: SealedRows | None) -> bool:
        """Return whether the folds leave out these rows, and no others."""
        try:
            known = files.read_header(self.folds_path).get("sealed")
        except (FileNotFoundError, StoreError):
            return False
        return bool(known == (None if sealed is None else sealed.fingerprint))

    def _has_these(self, folds: Folds) -> bool:
        """Return whether the store has these folds, with these groups, in any row order."""
        try:
            old = self.folds
        except StoreError:
            return False
        if old.fingerprint != folds.fingerprint or dict(old.how) != json.loads(json.dumps(dict(folds.how))):
            return False
        if old.groups is None or folds.groups is None:
            return old.groups is folds.groups
        rows = join_positions(old.ids, folds.ids, "folds")
        return bool((old.groups == folds.groups[rows]).all())

    def _archive_dependents(
        self, folds: Folds, sealed: SealedRows | None, force: bool, archive_others: Callable[[], object]
    ) -> Path | None:
        """Move models of other folds, and last the old folds, to the archive; called with the lock held."""
        try:
            old = self.folds.fingerprint
        except StoreError:  # missing or broken: the models' own files record their folds
            old = None
        resealed = old is not None and not self._has_sealed(sealed)
        if old == folds.fingerprint and not resealed:
            return None
        dependent = [
            name
            for name in model_names(self.models_dir)
            if resealed or self._is_of_other_folds(name, folds, with_empty=old is not None)
        ]
        if dependent and not force:
            raise FoldError(
                f"{len(dependent)} models were made with other folds: {examples(dependent)}. With new folds, they "
                f"would be validated on rows that they have seen. Keep the folds, or run dfens folds --force, "
                f"which moves these models and the old folds to {self.archive_dir}."
            )
        target = self._new_archive("folds")
        for name in dependent:
            _move(self.models_dir / name, target / "models" / name)
        replaced = target if dependent or old is not None else None
        if replaced is not None:
            archive_others()
        for path in (self.sealed_path, self.folds_path) if self.has_folds() else ():
            if path.exists():
                _move(path, target / path.name)
        return replaced

    def _is_of_other_folds(self, name: str, folds: Folds, *, with_empty: bool) -> bool:
        """Return whether a model belongs to other folds (an import: to other rows); `with_empty` if empty."""
        headers = [
            files.read_header(path) for part in parts_of(self.models_dir / name).values() for path in part.values()
        ]
        own = {"folds": folds.fingerprint, "ids": ids_fingerprint(folds.ids)}
        return any(header.get(key, own[key]) != own[key] for header in headers for key in own) or (
            with_empty and not headers
        )

    def save_test_ids(self, ids: Ids) -> Path | None:
        """Write the ids to predict; return the archive folder of test predictions made for other ids, or None.

        The fold models remain valid: their weights can predict the new ids.
        """
        ids = as_ids(ids, "test ids")
        fingerprint = ids_fingerprint(ids)
        with files.file_lock(self._lock_path):
            paths = [
                path
                for name in model_names(self.models_dir)
                for path in parts_of(self.models_dir / name)["test"].values()
            ]
            stale = [path for path in paths if files.read_header(path).get("test_ids") != fingerprint]
            target = self._new_archive("test")
            header = header_of("test_ids") | {"ids": fingerprint}
            with files.new_parquet(self.test_ids_path, pd.DataFrame({"id": ids}), header):
                for path in stale:
                    _move(path, target / "models" / path.parent.name / path.name)
        for cached in ("test_ids", "_test_ids_fingerprint", "_test_id_order", "_arrow_ids"):
            self.__dict__.pop(cached, None)
        return target if stale else None

    @cached_property
    def _ids_fingerprint(self) -> str:
        return ids_fingerprint(self.folds.ids)

    @cached_property
    def _test_ids_fingerprint(self) -> str:
        return ids_fingerprint(self.test_ids)

    @cached_property
    def _arrow_ids(self) -> dict[tuple[Part, str], pa.Array]:
        """The ids of each kind of predictions as Arrow text, which `PredictionReader` fills in and compares."""
        return {}

    @cached_property
    def _id_order(self) -> NDArray[np.intp]:
        return np.argsort(self.folds.ids.astype(str), kind="stable")

    @cached_property
    def _test_id_order(self) -> NDArray[np.intp]:
        return np.argsort(self.test_ids.astype(str), kind="stable")

    def _new_archive(self, kind: str) -> Path:
        files.remove_partial_copies(self.archive_dir)
        return self.archive_dir / datetime.now(UTC).strftime(f"%Y%m%dT%H%M%S.%fZ-{kind}")


def _move(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    files.move(path, target)
