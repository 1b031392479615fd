"""Import predictions made elsewhere, and export predictions from the store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfens.workflows.stored_models import refuse_names_of_blends
from dfens.workspace.paths import Workspace
from oof.errors import ConfigError
from oof.exchange.export import export_predictions
from oof.exchange.importing import (
    ColumnChoice,
    ImportReport,
    PredictionFile,
    import_predictions,
    read_fold_table,
    read_predictions,
)
from oof.exchange.table_files import read_columns
from oof.ids import Ids
from oof.progress import SILENT, Progress
from oof.store import Part


@dataclass(frozen=True, kw_only=True)
class ImportRequest:
    """Files to import.

    files: files of OOF predictions. name: name of the model, for a single file. tests: files of test predictions,
    with their prediction column if it differs from that of the OOF files. sealed: files of predictions of the sealed
    rows, by models that were trained without them. folds_from: the file from which rows, target and folds are taken if
    there are no folds yet. replace: whether to replace models that were trained here, too.
    """

    files: tuple[Path, ...]
    name: str | None = None
    tests: tuple[Path, ...] = ()
    sealed: tuple[Path, ...] = ()
    test_column: str | None = None
    columns: ColumnChoice
    folds_from: Path | None = None
    replace: bool = False


@dataclass(frozen=True)
class ImportResult:
    """The imported models; rows is the number of training rows, states are those of `dfens oof list` by name."""

    report: ImportReport
    rows: int
    states: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """Return one object per model."""
        report = self.report
        return {
            "models": [
                {"model": name, "rows": report.rows[name], "of": self.rows, "test": name in report.with_test}
                for name in report.models
            ],
            "notes": report.notes,
            "warnings": report.warnings,
        }


@dataclass(frozen=True)
class Exported:
    """A table of predictions that was written; part is "oof" or "test"."""

    path: Path
    models: tuple[str, ...]
    part: str


def import_models(workspace: Workspace, request: ImportRequest, progress: Progress = SILENT) -> ImportResult:
    """Import predictions made elsewhere, joined by id."""
    store = workspace.predictions
    known = store.folds.ids if store.has_folds() else None
    files = [workspace.resolve(file) for file in request.files]
    tables = []
    with progress.task("reading", total=len(files), unit="files") as task:
        for file in files:
            tables.append(read_predictions(file, request.columns, name=request.name, known_ids=known))
            task.advance()
    names = [name for table in tables for name in table.predictions]
    refuse_names_of_blends(workspace, names, "Import it under another name: dfens oof import NAME --oof FILE.")
    test_ids = store.test_ids if store.test_ids_path.exists() else None
    tests = [_read_test(workspace.resolve(file), request, test_ids, request.test_column) for file in request.tests]
    sealed_ids = store.sealed_ids if store.has_folds() else None
    sealed = [_read_test(workspace.resolve(file), request, sealed_ids) for file in request.sealed]
    source = None
    if request.folds_from is not None:
        path = workspace.resolve(request.folds_from)
        source = next((table for table in tables if table.path == path), None)
        source = source or read_fold_table(path, request.columns)
    has_config = workspace.config_path.exists()
    if has_config and not store.has_folds() and workspace.config.folds.sealed:
        raise ConfigError(
            f"[folds] sealed = {workspace.config.folds.sealed:g}, but no rows are sealed yet. Rows that the models of "
            f"these files have seen can no longer be sealed: run dfens folds before anything is trained, or remove "
            f"the setting."
        )
    folds = {"k": workspace.config.folds.k, "seed": workspace.config.folds.seed} if has_config else {}
    report = import_predictions(store, tables, tests, sealed, folds_from=source, replace=request.replace, **folds)
    states = {name: store.summary(name).state for name in report.models}
    return ImportResult(report, len(store.folds.ids), states)


def _read_test(file: Path, request: ImportRequest, known: Ids | None, column: str | None = None) -> PredictionFile:
    """Read test predictions of known ids from a column, which must exist, or from those that are named or detected.

    Their columns may have different names from those of the OOF file.
    """
    columns = request.columns
    names = read_columns(file).names
    wanted = (request.test_column,) if request.test_column else columns.predictions
    choice = ColumnChoice(
        id=columns.id if columns.id in names else None,
        predictions=(column,) if column else tuple(column for column in wanted if column in names),
    )
    return read_predictions(file, choice, name=request.name, known_ids=known, for_test=True)


def export_models(
    workspace: Workspace, out: Path, models: Sequence[str] = (), *, test: bool = False, force: bool = False
) -> Exported:
    """Write predictions of some or all models as one wide table."""
    path = workspace.resolve_output(out, force=force)
    part: Part = "test" if test else "oof"
    return Exported(path, tuple(export_predictions(workspace.predictions, path, models, part=part, force=force)), part)
