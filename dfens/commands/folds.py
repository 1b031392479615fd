"""`dfens folds`: assign each training row to a fold."""

import click

from dfens.app import App, pass_app


@click.command("folds", short_help="Assign the training rows to folds.")
@click.option("--k", type=click.IntRange(min=2), help="Number of folds; default [folds] k.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Seed of the shuffle; default [folds] seed.")
@click.option("--force", is_flag=True, help="Replace other folds; what depended on them moves to work/*/archive.")
@pass_app
def command(app: App, k: int | None, seed: int | None, force: bool) -> None:
    """Assign the training rows to folds: stratified by class, whole groups together where [folds] group says so.

    The same rows and seed give the same folds. Folds that models were trained with are kept
    unless --force is given.
    """
    from dfens.views.tables import make_table
    from dfens.workflows.status import read_status
    from dfens.workspace.changes import archive_dependents
    from oof.folds import fold_table, make_folds
    from trainers.data.groups import derive_groups

    settings = app.config.folds
    competition = app.competition()
    groups = derive_groups(
        competition, settings.group, work_dir=app.work / "trainers", progress=app.progress, seed=settings.seed
    )
    used = settings.group if settings.group != "none" or groups is None else "data"
    folds = make_folds(
        competition.train["id"].to_numpy(object),
        competition.train["target"].to_numpy(),
        k=k or settings.k,
        seed=settings.seed if seed is None else seed,
        groups=groups,
        group=used,
    )
    archived = app.predictions.save_folds(folds, force=force)
    if archived is not None:
        for path in [archived, *archive_dependents(app.work)]:
            app.say(f"moved to {path}")
    other_test = app.predictions.save_test_ids(competition.test["id"].to_numpy(object))
    if other_test is not None:
        app.say(
            f"The rows to predict are others than before: the earlier test predictions lie in {other_test}. "
            f"dfens train predicts the new rows with the weights that are there."
        )
    table = fold_table(folds)
    how = ", ".join(f"{key} {value}" for key, value in folds.how.items())
    app.emit(
        {
            "path": app.predictions.folds_path,
            "how": dict(folds.how),
            "folds": table.to_dict("records"),
            "test_rows": len(competition.test),
            "fingerprint": folds.fingerprint,
        },
        make_table(table, title=f"Folds of {len(folds.ids)} rows", percent=["positive_share"]),
        f"{how}\nWritten to {app.predictions.folds_path}\nNext: {read_status(app).next}",
    )
