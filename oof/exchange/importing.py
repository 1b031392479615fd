"""Import predictions made elsewhere into the store."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oof import files
from oof.errors import FoldError, PredictionError, StoreError, examples
from oof.exchange.checks import check_values, hard_test_labels, match_tests, rows_in_folds
from oof.exchange.column_roles import ColumnChoice
from oof.exchange.export import export_predictions
from oof.exchange.folds import folds_of, source_of_folds
from oof.exchange.prediction_columns import numbered_part
from oof.exchange.prediction_files import PredictionFile, read_fold_table, read_predictions
from oof.folds import Folds
from oof.ids import Ids, check_case, check_name
from oof.predictions import NewModel
from oof.store import PredictionStore

__all__ = [
    "ColumnChoice",
    "ImportReport",
    "PredictionFile",
    "export_predictions",
    "folds_of",
    "import_predictions",
    "read_fold_table",
    "read_predictions",
]


@dataclass(eq=False)
class ImportReport:
    """The outcome of an import.

    models: names of the stored models. rows: number of training rows that each covers. with_test: models with test
    predictions. notes: what was detected, created or left out. warnings: what is probably wrong.
    """

    models: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    with_test: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def import_predictions(
    store: PredictionStore,
    tables: Sequence[PredictionFile],
    tests: Sequence[PredictionFile] = (),
    sealed: Sequence[PredictionFile] = (),
    *,
    folds_from: PredictionFile | None = None,
    k: int = 5,
    seed: int = 0,
    replace: bool = False,
) -> ImportReport:
    """Store the models in some files; everything is checked before the first one is written.

    Args:
        store: destination; if it has no folds, it gets those of `folds_from`, or of the tables themselves.
        tables: OOF predictions; a model may cover only some of the training rows.
        tests: test predictions of the same models, matched by name (or to each other if there is
            one model on each side); if the store has no test ids, it gets those of the first file.
        sealed: predictions of the sealed rows by the same models, matched likewise.
        folds_from: file with the rows, target and folds for a store without folds.
        k, seed: number of folds and seed, used if no file has folds.
        replace: whether to replace models that were trained here, too; replaced models are archived.

    Raises:
        PredictionError: if ids are not training rows, targets disagree with those of the folds, two
            models have the same name, or predictions are infinite or absent; nothing is stored then.
    """
    _check_not_parts(tables)
    report = ImportReport()
    report.notes += _together([*tables, *tests])
    report.notes += [] if tests else _tests_left_out(tables)
    folds = _folds_for(store, tables, folds_from, k, seed, report)
    models = _gather(tables)
    sealed_ids = _sealed_ids(store, sealed)
    known_tests = store.test_ids if store.test_ids_path.exists() else None
    of_test = np.empty(0, object) if known_tests is None else known_tests
    rows = {table.path: rows_in_folds(table, folds, sealed_ids, of_test) for table in tables}
    test_ids = tests[0].ids if known_tests is None and tests else known_tests
    test_by_model = match_tests(models, tests, test_ids) if test_ids is not None else {}
    sealed_by_model = match_tests(models, sealed, sealed_ids, "sealed")
    if tests:
        report.notes += [f"{name}: no test predictions." for name in models if name not in test_by_model]
    check_case(models, store.names())
    for name, table in models.items():
        check_name(name, "model name")
        inside = rows[table.path]
        notes, warnings = check_values(name, table, folds.target[inside], folds.fold[inside])
        report.notes += notes
        report.warnings += warnings
        report.warnings += hard_test_labels(name, table.predictions[name], test_by_model.get(name))
        _check_replaced(store, name, replace)

    if not store.has_folds():
        store.save_folds(folds)
    if tests and test_ids is not None and not store.test_ids_path.exists():
        store.save_test_ids(test_ids)
        report.notes.append(f"{len(test_ids)} test ids taken from {tests[0].path.name}, in its order.")
        shared = np.isin(test_ids.astype(str), folds.ids.astype(str))
        if shared.any():
            report.warnings.append(
                f"{int(shared.sum())} of {len(test_ids)} ids in {tests[0].path.name} are also ids of training rows: "
                f"{examples(test_ids[shared].tolist(), 3)}. If they are the same rows, these are not test predictions."
            )
    new = []
    for name, table in models.items():
        oof, inside = table.predictions[name], rows[table.path]
        test, of_sealed = test_by_model.get(name), sealed_by_model.get(name)
        report.models.append(name)
        report.rows[name] = int((~np.isnan(oof)).sum())
        if of_sealed is None and name in store and _is_stored(store, name, inside, oof, test):
            report.notes.append(f"{name}: the same predictions are already stored.")
            continue
        report.warnings += _lost_predictions(store, name, test, of_sealed)
        details = _details(table, name, folds.fold[inside])
        new.append(NewModel(name=name, ids=table.ids, oof=oof, test=test, sealed=of_sealed, details=details))
    report.warnings += _other_folds(new)
    archived = store.save_all(new)
    report.notes += [f"The earlier '{name}' was moved to {path}." for name, path in archived.items()]
    report.with_test = sorted(test_by_model)
    return report


def _sealed_ids(store: PredictionStore, tables: Sequence[PredictionFile]) -> Ids:
    """Return the sealed ids, empty if none are sealed; raise PredictionError if there are predictions of them then."""
    found = store.sealed_ids if store.has_folds() else np.empty(0, object)
    if tables and not len(found):
        raise PredictionError(f"{tables[0].path}: no rows are sealed ([folds] sealed), so leave --sealed out.")
    return found


def _together(tables: Sequence[PredictionFile]) -> list[str]:
    """Return each note once, with the files that it applies to."""
    files_by_note: dict[str, list[str]] = {}
    for table in tables:
        for note in table.notes:
            files_by_note.setdefault(note, []).append(table.path.name)
    return [f"{examples(names, 3)}: {note}." for note, names in files_by_note.items()]


def _tests_left_out(tables: Sequence[PredictionFile]) -> list[str]:
    """Return a note for each file with test predictions that are not imported, and how to import them."""
    notes = []
    for table in tables:
        if table.roles.tests:
            remedy = f"add --test {shlex.quote(str(table.path))} to import them"
            if not table.roles.has_test_ids:
                remedy = f"save the ids of the test rows in it as test_id, then {remedy}"
            notes.append(
                f"{table.path.name} also contains test predictions ({examples(table.roles.tests, 3)}), which were "
                f"not imported: {remedy}."
            )
    return notes


def _folds_for(
    store: PredictionStore,
    tables: Sequence[PredictionFile],
    folds_from: PredictionFile | None,
    k: int,
    seed: int,
    report: ImportReport,
) -> Folds:
    if store.has_folds():
        # an import that was killed before it stored models may have written these folds: the same command resumes
        if folds_from is not None and (store.names() or not _has_folds_of(store, folds_from, k, seed)):
            raise FoldError(
                f"There are folds already ({store.folds_path}), so --folds-from is not needed. Leave it out, or assign "
                f"new folds with dfens folds --force."
            )
        return store.folds
    candidates = [folds_from] if folds_from else tables
    folds, source = folds_of(candidates, k=k, seed=seed), source_of_folds(candidates)
    made = "read from" if folds.how["method"] == "read from a file" else "made for the rows of"
    report.notes.append(f"There were no folds: {folds.k} folds of {len(folds.ids)} rows {made} {folds.how['source']}.")
    if source.ungrouped:
        report.notes.append(
            f"{source.ungrouped} of {len(source.ids)} rows have no value in the column of groups, "
            f"'{source.roles.group}', so each of them is its own group."
        )
    return folds


def _has_folds_of(store: PredictionStore, table: PredictionFile, k: int, seed: int) -> bool:
    """Return whether the folds of the store are those that an import takes from a file."""
    return folds_of([table], k=k, seed=seed).fingerprint == store.folds.fingerprint


def _check_not_parts(tables: Sequence[PredictionFile]) -> None:
    """Check that files with numbered names are not the folds of one model, each of which has only its own rows.

    Raises:
        PredictionError: if they are.
    """
    by_prefix: dict[str, list[PredictionFile]] = {}
    for table in tables:
        numbered = numbered_part(*table.predictions) if len(table.predictions) == 1 else None
        if numbered is not None:
            by_prefix.setdefault(numbered, []).append(table)
    for parts in by_prefix.values():
        ids = np.concatenate([part.ids.astype(str) for part in parts])
        if len(parts) > 1 and len(np.unique(ids)) == len(ids):
            names = [part.path.name for part in parts]
            raise PredictionError(
                f"{examples(names)} have no row in common, so they are the folds of one model. Save them as one file, "
                f"such as pandas.concat(map(pandas.read_csv, files)).to_csv(...), or import them one by one if they "
                f"are different models."
            )


def _gather(tables: Sequence[PredictionFile]) -> dict[str, PredictionFile]:
    found: dict[str, PredictionFile] = {}
    for table in tables:
        for name in table.predictions:
            if name in found:
                raise PredictionError(
                    f"{found[name].path} and {table.path} would both become the model '{name}'. Rename a file, or "
                    f"import them one by one with dfens oof import NAME --oof FILE. If only one "
                    f"of several columns is a prediction, name it with --prediction-column."
                )
            found[name] = table
    return found


def _check_replaced(store: PredictionStore, name: str, replace: bool) -> None:
    if name not in store or replace:
        return
    kind = store.kind(name)
    if kind not in ("import", "unknown"):
        raise PredictionError(
            f"Model '{name}' was trained here (kind {kind}). Import under another name, or move it to the archive "
            f"with --replace."
        )


def _lost_predictions(
    store: PredictionStore, name: str, test: NDArray[np.float64] | None, of_sealed: NDArray[np.float64] | None
) -> list[str]:
    """Return a warning if the stored model has test or sealed predictions, and the one that replaces it has none."""
    stored, parts = store.stored_parts(name), {"test": test, "sealed": of_sealed}
    lost = [part for part, new in parts.items() if new is None and part in stored]
    if not lost:
        return []
    return [
        f"{name}: the earlier model had predictions of the {' and '.join(lost)} rows, which this one lacks. "
        f"Import it again with {' and '.join(f'--{part} FILE' for part in lost)}."
    ]


def _details(table: PredictionFile, name: str, store_fold: NDArray[np.int16]) -> dict[str, Any]:
    """Return the source of the predictions and their folds, for model.json."""
    column = table.roles.predictions[list(table.predictions).index(name)]
    details: dict[str, Any] = {
        "source": table.path.name,
        "sha256": files.file_sha256(table.path),
        "id_column": table.roles.id,
        "prediction_column": column,
    }
    own = table.folds.get(name)
    if own is not None:
        predicted = ~np.isnan(table.predictions[name]) & ~np.isnan(own)
        values, codes, counts = np.unique(own[predicted], return_inverse=True, return_counts=True)
        there = store_fold[predicted].astype(np.int64)
        # pairs of a fold in the file and one in the store
        shared = np.unique(codes * (there.max(initial=0) + 1) + there)
        details["folds"] = {
            "rows": {f"{value:g}": int(count) for value, count in zip(values, counts, strict=True)},
            "as_in_store": len(shared) == len(values) == len(np.unique(there)),
        }
    return details


def _other_folds(models: Sequence[NewModel]) -> list[str]:
    """Return a warning that names the models whose files have other folds than the store; none without such models."""
    names = [model.name for model in models if not model.details.get("folds", {}).get("as_in_store", True)]
    if not names:
        return []
    return [
        f"{examples(names, 3)}: predicted with other folds than those of the store, so the weights that score a fold "
        f"have indirectly seen its labels. Nested scores of blends may be slightly too high; predictions with the same "
        f"folds avoid this."
    ]


def _is_stored(
    store: PredictionStore,
    name: str,
    rows: NDArray[np.intp],
    oof: NDArray[np.float64],
    test: NDArray[np.float64] | None,
) -> bool:
    """Return whether the store has these predictions under this name; rows (n,) are the positions of oof (n,)."""
    try:
        stored = store.load(name)
    except StoreError:
        return False
    values = np.full(len(stored.oof), np.nan, np.float32)
    values[rows] = oof
    same_test = (
        stored.test is None
        if test is None
        else stored.test is not None and (stored.test == test.astype(np.float32)).all()
    )
    return bool(same_test and np.array_equal(stored.oof, values, equal_nan=True))
