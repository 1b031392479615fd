"""`dfens oof`: what predictions the store holds; bring some in, write them out, move them aside."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dfens.app import App, pass_app

if TYPE_CHECKING:
    from oof.exchange.importing import ColumnChoice, ImportReport, PredictionFile

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

    from dfens.views.tables import make_table
    from dfens.workflows.oof import best_row, model_row, spread
    from oof.errors import StoreError
    from oof.metrics import metric_by_name

    store = app.predictions
    if not store.has_folds():
        raise StoreError(
            f"Nothing is stored in {store.root} yet. Run dfens folds, or bring predictions in with "
            f"dfens oof import FILES."
        )
    metric = metric_by_name(app.config.competition.metric if app.config_path.exists() else "auc")
    rows = [model_row(app, summary, metric) for summary in store.list()]
    best = best_row(rows, metric)
    frame = pd.DataFrame(
        [
            {
                "model": row["model"],
                "kind": row["kind"],
                "rows": f"{row['rows']}/{len(store.folds.ids)}",
                "folds": row["folds"],
                "test": row["test"],
                f"{metric.name} by fold": spread(row),
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
    from oof.exchange.importing import ColumnChoice, import_predictions, read_predictions

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
    from oof.exchange.importing import ColumnChoice, read_predictions
    from oof.exchange.table_files import read_columns

    names = read_columns(file).names
    own = id_column if id_column in names else None
    predictions = tuple(column for column in prediction_columns if column in names)
    choice = ColumnChoice(id=own, predictions=predictions)
    return read_predictions(file, choice, name=name, known_ids=known, for_test=True)


def _read_folds_source(file: Path, choice: "ColumnChoice") -> "PredictionFile":
    """A file that need not hold predictions."""
    from oof.exchange.importing import read_fold_table

    return read_fold_table(file, choice)


def _show_import(app: App, report: "ImportReport") -> None:
    import pandas as pd

    from dfens.views.tables import make_table

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
    from oof.exchange.importing import export_predictions

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


# ---- diversity and shift -----------------------------------------------------


@command.command("diversity", short_help="How the models differ, and which could go.")
@click.option("--models", metavar="A,B,…", help="Models to compare; default all.")
@click.option("--leave-one-out", is_flag=True, help="Blend without each model in turn and show what it adds.")
@pass_app
def show_diversity(app: App, models: str | None, leave_one_out: bool) -> None:
    """Show the rank correlation of each two models, and models that only repeat a better one.

    With --leave-one-out the blend is fitted anew without each model that covers all rows; the change of
    the nested score tells what the model adds, with its 95 % interval.
    """
    import numpy as np
    import pandas as pd

    from dfens.views.tables import make_table
    from dfens.workflows.oof import member_gains
    from ensemble.diversity import duplicate_members, rank_correlations

    store = app.predictions
    names = _chosen(app, models)
    oof = np.stack([store.load(name).oof for name in names], axis=1)
    correlations = rank_correlations(oof)
    duplicates = [
        {"model": names[item.member], "of": names[item.of], "correlation": item.correlation}
        for item in duplicate_members(store.folds.target, oof)
    ]
    frame = pd.DataFrame(correlations, columns=[str(number + 1) for number in range(len(names))])
    frame.insert(0, "model", [f"{number + 1} {name}" for number, name in enumerate(names)])
    shown: list[Any] = [make_table(frame, title="Rank correlation of each two models", decimals=3)]
    shown += [
        f"{item['model']} repeats {item['of']} (rank correlation {item['correlation']:.5f})" for item in duplicates
    ]
    gains: list[dict[str, Any]] = []
    if leave_one_out:
        gains = member_gains(app, names, oof)
        shown.append(make_table(pd.DataFrame(gains), title="What each model adds to the nested score of the blend"))
    value = {"models": names, "rank_correlations": correlations, "duplicates": duplicates, "leave_one_out": gains}
    app.emit(value, *shown)


def _chosen(app: App, models: str | None) -> list[str]:
    from oof.errors import StoreError

    known = [summary.name for summary in app.predictions.list()] if app.predictions.has_folds() else []
    names = [name.strip() for name in models.split(",") if name.strip()] if models else known
    if not names:
        raise StoreError("The store holds no models yet. Run dfens train, or dfens oof import FILES.")
    return names


@command.command("shift", short_help="Whether test predictions look like OOF ones.")
@click.option("--models", metavar="A,B,…", help="Models to look at; default all that have test predictions.")
@pass_app
def show_shift(app: App, models: str | None) -> None:
    """Compare test predictions with out-of-fold ones, for each model and for all together.

    Finds what a broken inference leaves behind: a moved distribution, values out of range, rows in
    another order, one fold model that disagrees with the rest.
    """
    import pandas as pd

    from dfens.views.tables import make_table
    from dfens.workflows.oof import shift_rows
    from oof.errors import PredictionError

    loaded = [app.predictions.load(name) for name in _chosen(app, models)]
    lacking = [model.name for model in loaded if model.test_by_fold is None]
    if models and lacking:
        raise PredictionError(f"Model {lacking[0]} has no test predictions. Leave it out, or run dfens train.")
    loaded = [model for model in loaded if model.test_by_fold is not None]
    if not loaded:
        raise PredictionError("No model has test predictions yet. Run dfens train, or dfens oof import --test FILE.")
    rows, together = shift_rows(loaded)
    told = (
        f"All models together tell test rows from OOF rows with AUC {together['auc']:.4f} "
        f"({together['low']:.4f} to {together['high']:.4f}; 0.5 is not at all)."
        if together
        else "Too few rows to tell OOF and test apart by all models together."
    )
    app.emit(
        {"models": rows, "together": together},
        make_table(pd.DataFrame(rows), title="Test predictions against OOF", decimals=3, percent=["out_of_range"]),
        told,
    )
