"""`dfens oof`: what predictions the store holds; bring some in, write them out, move them aside."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dfens.app import App, pass_app

if TYPE_CHECKING:
    from oof.exchange import ColumnChoice, ImportReport, PredictionFile
    from oof.store import ModelSummary

FILE = click.Path(path_type=Path)


@click.group("oof", short_help="List, import, export, archive predictions.")
def command() -> None:
    """The store of out-of-fold and test predictions, work/oof: what is in it, and ways in and out."""


# ---- list --------------------------------------------------------------------


@command.command("list", short_help="What the store holds.")
@pass_app
def list_models(app: App) -> None:
    """Show each model with its rows, folds and scores.

    The score by fold is the mean and spread of the scores within each fold; the score over all
    rows also compares rows of different folds, and suffers where fold models differ in scale.
    """
    import pandas as pd

    from dfens.tables import make_table
    from oof.errors import StoreError
    from oof.metrics import metric_by_name

    store = app.predictions
    if not store.has_folds():
        raise StoreError(
            f"Nothing is stored in {store.root} yet. Run dfens folds, or bring predictions in with "
            f"dfens oof import FILES."
        )
    metric = metric_by_name(app.config.competition.metric if app.config_path.exists() else "auc")
    rows = [_row(app, summary, metric) for summary in store.list()]
    best = max(rows, key=lambda row: (row["rows"], metric.gain(_or_worst(row["score"], metric.worst))), default=None)
    frame = pd.DataFrame(
        [
            {
                "model": row["model"],
                "kind": row["kind"],
                "rows": f"{row['rows']}/{len(store.folds.ids)}",
                "folds": row["folds"],
                "test": row["test"],
                f"{metric.name} by fold": _spread(row),
                f"{metric.name} over all": row["score"],
                "state": row["state"],
            }
            for row in rows
        ]
    )
    app.emit(
        {"metric": metric.name, "rows": len(store.folds.ids), "k": store.folds.k, "models": rows},
        make_table(
            frame,
            title=f"Predictions of {len(store.folds.ids)} rows in {store.folds.k} folds",
            bold=rows.index(best) if best is not None else None,
        )
        if rows
        else "No predictions yet. Next: dfens train, or dfens oof import FILES",
    )


def _or_worst(score: float | None, worst: float) -> float:
    return worst if score is None else score


def _spread(row: dict[str, Any]) -> str:
    if row["fold_mean"] is None:
        return "–"
    spread = "" if row["fold_sd"] is None else f" ± {row['fold_sd']:.5f}"
    return f"{row['fold_mean']:.5f}{spread}"


def _row(app: App, summary: "ModelSummary", metric: Any) -> dict[str, Any]:
    import numpy as np

    from oof.errors import PredictionError

    folds = app.predictions.folds
    model = app.predictions.load(summary.name)
    present = ~np.isnan(model.oof)

    def score(rows: Any) -> float | None:
        if not rows.any():
            return None
        try:
            return float(metric(folds.target[rows], model.oof[rows]))
        except PredictionError:  # one class, or no probabilities where the metric needs them
            return None

    by_fold = [
        value for value in (score(present & (folds.fold == fold)) for fold in range(folds.k)) if value is not None
    ]
    if summary.imported:
        covered = [fold for fold in range(folds.k) if present[folds.fold == fold].all()]
    else:
        covered = list(summary.oof_folds)
    whole = summary.oof_rows == summary.rows
    if summary.complete:
        state = "complete"
    elif whole and not summary.has_test:
        state = "OOF only"
    else:
        state = "partial"
    return {
        "model": summary.name,
        "kind": summary.kind,
        "rows": summary.oof_rows,
        "folds": "all" if len(covered) == folds.k else ",".join(map(str, covered)) or "–",
        "test": "–"
        if not summary.has_test
        else "yes"
        if summary.imported
        else f"{len(summary.test_folds)}/{summary.k}",
        "fold_scores": by_fold,
        "fold_mean": float(np.mean(by_fold)) if by_fold else None,
        "fold_sd": float(np.std(by_fold, ddof=1)) if len(by_fold) > 1 else None,
        "score": score(present),
        "state": state,
    }


# ---- import ------------------------------------------------------------------


@command.command("import", short_help="Bring in predictions made elsewhere.")
@click.argument("names_or_files", metavar="FILES… | NAME", nargs=-1)
@click.option("--oof", "oof_file", type=FILE, help="File of OOF predictions of the model NAME.")
@click.option(
    "--test", "test_files", type=FILE, multiple=True, help="File of test predictions; may be given several times."
)
@click.option("--test-column", metavar="COLUMN", help="Column of the predictions in the files of --test.")
@click.option("--id-column", metavar="COLUMN", help="Column of the ids; default: told from its name or values.")
@click.option(
    "--prediction-column",
    "prediction_columns",
    metavar="COLUMN",
    multiple=True,
    help="Column of the predictions; may be given several times, each becomes a model. Default: told from names.",
)
@click.option("--target-column", metavar="COLUMN", help="Column of the true target, compared with that of the folds.")
@click.option("--fold-column", metavar="COLUMN", help="Column of the folds that the predictions were made in.")
@click.option("--group-column", metavar="COLUMN", help="Column of groups whose rows share a fold.")
@click.option(
    "--folds-from", type=FILE, help="Where there are no folds yet: the file whose rows, target and folds count."
)
@click.option("--replace", is_flag=True, help="Replace models trained here, too; they move to the archive.")
@pass_app
def import_models(
    app: App,
    names_or_files: tuple[str, ...],
    oof_file: Path | None,
    test_files: tuple[Path, ...],
    test_column: str | None,
    id_column: str | None,
    prediction_columns: tuple[str, ...],
    target_column: str | None,
    fold_column: str | None,
    group_column: str | None,
    folds_from: Path | None,
    replace: bool,
) -> None:
    """Bring in predictions made elsewhere, joined by id.

    \b
    dfens oof import preds/*.csv                             a model for each file, or column
    dfens oof import convnext --oof oof.csv --test test.csv  one model under its name

    Files are CSV (any delimiter), Parquet, Feather or NPZ, with a column of ids and one or more of
    predictions, rows in any order. A file with fewer rows makes a partial model. In a folder
    without folds, the target and fold columns of the files become the folds.
    """
    from oof.exchange import ColumnChoice, import_predictions, read_predictions

    if not names_or_files or (oof_file is not None and len(names_or_files) != 1):
        raise click.UsageError("Give files of predictions, or one NAME with --oof FILE.")
    files = [oof_file] if oof_file is not None else [Path(file) for file in names_or_files]
    name = names_or_files[0] if oof_file is not None else None
    choice = ColumnChoice(
        id=id_column, predictions=prediction_columns, target=target_column, fold=fold_column, group=group_column
    )
    store = app.predictions
    known = store.folds.ids if store.has_folds() else None
    tables: list[PredictionFile] = []
    with app.progress.task("reading", total=len(files), unit="files") as task:
        for file in files:
            tables.append(read_predictions(file, choice, name=name, known_ids=known))
            task.advance()
    known_test = store.test_ids if store.test_ids_path.exists() else None
    test_columns = (test_column,) if test_column else prediction_columns
    tests = [_read_test(file, name, id_column, test_columns, known_test) for file in test_files]
    source = None
    if folds_from is not None:
        source = next((table for table in tables if table.path == folds_from), None)
        source = source or _read_folds_source(folds_from, choice)
    settings = {"k": app.config.folds.k, "seed": app.config.folds.seed} if app.config_path.exists() else {}
    report = import_predictions(store, tables, tests, folds_from=source, replace=replace, **settings)
    for note in report.notes:
        app.say(note)
    for warning in report.warnings:
        app.say(f"Warning: {warning}")
    _show_import(app, report)


def _read_test(
    file: Path, name: str | None, id_column: str | None, prediction_columns: Sequence[str], known: Any
) -> "PredictionFile":
    """A file of test predictions; its columns may be called otherwise than those of the OOF file."""
    from oof.exchange import ColumnChoice, read_predictions
    from oof.table_files import read_columns

    names = read_columns(file).names
    own = id_column if id_column in names else None
    predictions = tuple(column for column in prediction_columns if column in names)
    choice = ColumnChoice(id=own, predictions=predictions)
    return read_predictions(file, choice, name=name, known_ids=known, for_test=True)


def _read_folds_source(file: Path, choice: "ColumnChoice") -> "PredictionFile":
    """A file that need not hold predictions."""
    from oof.exchange import read_fold_table

    return read_fold_table(file, choice)


def _show_import(app: App, report: "ImportReport") -> None:
    import pandas as pd

    from dfens.tables import make_table

    total = len(app.predictions.folds.ids)
    frame = pd.DataFrame(
        {
            "model": report.models,
            "rows": [f"{report.rows[name]}/{total}" for name in report.models],
            "test": ["yes" if name in report.with_test else "–" for name in report.models],
            "state": ["whole" if report.rows[name] == total else "partial" for name in report.models],
        }
    )
    whole = sum(report.rows[name] == total for name in report.models)
    advice = "Next: dfens blend" if app.config_path.exists() else "Next: dfens oof list; dfens init, then dfens blend"
    app.emit(
        {
            "models": [
                {"model": name, "rows": report.rows[name], "of": total, "test": name in report.with_test}
                for name in report.models
            ],
            "notes": report.notes,
            "warnings": report.warnings,
        },
        make_table(frame, title=f"Imported {len(report.models)} models, {whole} of them whole"),
        advice,
    )


# ---- export and archive ------------------------------------------------------


@command.command("export", short_help="Write predictions as one wide table.")
@click.option("--out", type=FILE, required=True, help="File to write: .csv, .parquet, .feather or .npz.")
@click.option("--models", metavar="A,B,…", help="Models to write; default all.")
@click.option("--test", "test", is_flag=True, help="Write test predictions instead of OOF predictions.")
@pass_app
def export_models(app: App, out: Path, models: str | None, test: bool) -> None:
    """Write the predictions as one wide table: id, target and fold, then one column for each model.

    `dfens oof import` reads it back. Values are those of the store to the last bit.
    """
    from oof.exchange import export_predictions

    wanted: Sequence[str] = [name.strip() for name in models.split(",") if name.strip()] if models else ()
    path = out if out.is_absolute() else Path.cwd() / out
    names = export_predictions(app.predictions, path, wanted, part="test" if test else "oof")
    app.emit(
        {"path": path, "models": names, "part": "test" if test else "oof"},
        f"Wrote {'test' if test else 'OOF'} predictions of {len(names)} models to {path}",
    )


@command.command("archive", short_help="Move models out of the way.")
@click.argument("names", metavar="NAME…", nargs=-1, required=True)
@pass_app
def archive_models(app: App, names: tuple[str, ...]) -> None:
    """Move models to work/oof/archive; nothing is deleted. To have one back, move its folder to work/oof/models."""
    from oof.errors import StoreError, examples

    store = app.predictions
    known = [summary.name for summary in store.list()] if store.has_folds() else []
    unknown = [name for name in names if name not in known]
    if unknown:
        raise StoreError(f"The store holds no model {examples(unknown)}; it holds {examples(known, 10) or 'none'}.")
    moved = {name: store.archive(name) for name in dict.fromkeys(names)}
    app.emit(moved, "\n".join(f"{name} lies in {path}" for name, path in moved.items()))
