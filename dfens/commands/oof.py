"""`dfens oof`: list, import, export and archive stored predictions."""

from pathlib import Path
from typing import Any

import click

from dfens.console import Console
from dfens.invocation import pass_workspace
from dfens.options import names_option
from dfens.workspace.paths import Workspace

FILE = click.Path(path_type=Path)


@click.group("oof", short_help="List, import, export, archive predictions.")
def command() -> None:
    """Work with the store of out-of-fold and test predictions in work/oof."""


@command.command("list", short_help="List the stored predictions.")
@pass_workspace
def list_(workspace: Workspace, console: Console) -> None:
    """Show each model with its rows, folds and scores.

    The score by fold is the mean and standard deviation of the scores within folds; the score over all
    rows also compares rows of different folds, and is lower if fold models differ in scale.
    """
    from dfens.views.oof import show_models
    from dfens.workflows.stored_models import list_models

    found = list_models(workspace)
    console.show(found, show_models(found))


@command.command("import", short_help="Import predictions made elsewhere.")
@click.argument("names_or_files", metavar="FILES… | NAME", nargs=-1)
@click.option("--oof", "oof_file", type=FILE, help="File of OOF predictions of the model NAME.")
@click.option("--test", "tests", type=FILE, multiple=True, help="File of test predictions; may be repeated.")
@click.option(
    "--sealed",
    type=FILE,
    multiple=True,
    help="File of predictions of the sealed rows, by models trained without any of them; may be repeated.",
)
@click.option("--test-column", metavar="COLUMN", help="Column of the predictions in the files of --test.")
@click.option("--id-column", metavar="COLUMN", help="Column of the ids; default: detected by name or values.")
@click.option(
    "--prediction-column",
    "prediction_columns",
    metavar="COLUMN",
    multiple=True,
    help="Column of the predictions; may be repeated, one model each. Default: detected by name.",
)
@click.option(
    "--target-column", metavar="COLUMN", help="Column of the true target, which is compared with that of the folds."
)
@click.option("--fold-column", metavar="COLUMN", help="Column of the folds used for the predictions.")
@click.option("--group-column", metavar="COLUMN", help="Column of groups whose rows share a fold.")
@click.option(
    "--folds-from", type=FILE, help="If there are no folds yet: the file from which rows, target and folds are taken."
)
@click.option("--replace", is_flag=True, help="Also replace models trained here; they are moved to the archive.")
@pass_workspace
def import_(
    workspace: Workspace, console: Console, /, names_or_files: tuple[str, ...], oof_file: Path | None, **options: Any
) -> None:
    """Import predictions made elsewhere, joined by id.

    \b
    dfens oof import preds/*.csv                             one model per file, or per column
    dfens oof import convnext --oof oof.csv --test test.csv  one model named convnext

    Files are CSV (any delimiter), Parquet, Feather or NPZ, with a column of ids and one or more of
    predictions, with rows in any order. A file with fewer rows becomes a partial model. If there are
    no folds yet, they are taken from the target and fold columns of the files.
    """
    if not names_or_files or (oof_file is not None and len(names_or_files) != 1):
        raise click.UsageError("Give files of predictions, or one NAME with --oof FILE.")
    if oof_file is None and options["tests"] and not Path(names_or_files[0]).suffix:
        name = names_or_files[0]
        raise click.UsageError(
            f"Give the OOF predictions of {name} too: dfens oof import {name} --oof FILE --test FILE."
        )
    if options["test_column"] is not None and not options["tests"]:
        raise click.UsageError("--test-column names the column of the files of --test; add --test FILE.")
    from dfens.views.oof import import_notes, show_import
    from dfens.workflows.exchange import ImportRequest, import_models
    from oof.exchange.importing import ColumnChoice

    request = ImportRequest(
        files=tuple(map(Path, names_or_files)) if oof_file is None else (oof_file,),
        name=None if oof_file is None else names_or_files[0],
        tests=options["tests"],
        sealed=options["sealed"],
        test_column=options["test_column"],
        columns=ColumnChoice(
            id=options["id_column"],
            predictions=options["prediction_columns"],
            target=options["target_column"],
            fold=options["fold_column"],
            group=options["group_column"],
        ),
        folds_from=options["folds_from"],
        replace=options["replace"],
    )
    found = import_models(workspace, request, console.progress)
    console.notes(import_notes(found))
    console.show(found, show_import(found))


@command.command("export", short_help="Write predictions as one wide table.")
@click.option("--out", type=FILE, required=True, help="File to write: .csv, .parquet, .feather or .npz.")
@names_option("--models", "Models to write; default all.")
@click.option("--test", is_flag=True, help="Write test predictions instead of OOF predictions.")
@click.option("--force", is_flag=True, help="Replace the file of --out if it exists.")
@pass_workspace
def export(workspace: Workspace, console: Console, out: Path, models: tuple[str, ...], test: bool, force: bool) -> None:
    """Write the predictions as one wide table: id, target and fold, then one column per model.

    `dfens oof import` reads it back. The values are bit-identical to the stored ones.
    """
    from dfens.views.oof import show_export
    from dfens.workflows.exchange import export_models

    found = export_models(workspace, out, models, test=test, force=force)
    console.show(found, show_export(found))


@command.command("archive", short_help="Move models out of the way.")
@click.argument("names", metavar="NAME…", nargs=-1, required=True)
@pass_workspace
def archive(workspace: Workspace, console: Console, names: tuple[str, ...]) -> None:
    """Move models to work/oof/archive; nothing is deleted. To restore one, move its folder back to work/oof/models."""
    from dfens.views.oof import show_archived
    from dfens.workflows.stored_models import archive_models

    found = archive_models(workspace, names)
    console.show(found, show_archived(found))


@command.command("diversity", short_help="Show how the models differ, and which are redundant.")
@names_option("--models", "Models to compare; default all.")
@click.option("--leave-one-out", is_flag=True, help="Blend without each model in turn and show what it adds.")
@pass_workspace
def diversity(workspace: Workspace, console: Console, models: tuple[str, ...], leave_one_out: bool) -> None:
    """Show the rank correlation of each pair of models, and models that duplicate a better one.

    With --leave-one-out the blend is fitted again without each model that covers all rows; the resulting change of
    the nested score is the model's contribution, with its 95 % interval.
    """
    from dfens.views.oof import show_diversity
    from dfens.workflows.diversity import measure_diversity

    found = measure_diversity(workspace, models, without_each=leave_one_out, progress=console.progress)
    console.show(found, show_diversity(found))


@command.command("shift", short_help="Compare test predictions with OOF predictions.")
@names_option("--models", "Models to compare; default all with test predictions.")
@pass_workspace
def shift(workspace: Workspace, console: Console, models: tuple[str, ...]) -> None:
    """Compare test predictions with out-of-fold ones, for each model and for all together.

    Finds signs of broken inference: a shifted distribution, values out of range, rows in
    a different order, a fold model that disagrees with the others.
    """
    from dfens.views.oof import show_shift
    from dfens.workflows.diversity import measure_shift

    found = measure_shift(workspace, models)
    console.show(found, show_shift(found))
