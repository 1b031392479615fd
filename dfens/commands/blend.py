"""`dfens blend`: members from the store, an honest blend, one table."""

import click

from dfens.app import App, pass_app
from ensemble.settings import TRANSFORMS, Transform


@click.command("blend", short_help="Blend the models, with an honest score.")
@click.option(
    "--optimize", metavar="METRIC", help="Metric to optimise, or none for the plain average; default [blend] optimize."
)
@click.option(
    "--transform", type=click.Choice(TRANSFORMS), help="Transform before weighing; default [blend] transform."
)
@click.option("--members", metavar="A,B,…", help="Models or earlier blends to use; default all complete models.")
@click.option("--name", default="blend", show_default=True, help="Name of the blend.")
@click.option("--max-members", type=click.IntRange(min=1), help="Most members with a weight.")
@click.option("--prune", is_flag=True, help="Drop members that the blend loses nothing without.")
@click.option(
    "--importance-weighting",
    is_flag=True,
    help="Weight rows as the test set has them, if it pays.",
)
@click.option("-v", "--verbose", is_flag=True, help="Show every way of blending that was tried.")
@pass_app
def command(
    app: App,
    optimize: str | None,
    transform: Transform | None,
    members: str | None,
    name: str,
    max_members: int | None,
    prune: bool,
    importance_weighting: bool,
    verbose: bool,
) -> None:
    """Fit weights to the out-of-fold predictions, score the blend honestly, and store it with its test predictions.

    Two scores are shown and never confused: on the rows that the weights were fitted on, and
    nested, where each fold is scored with weights fitted without it. Expect the nested one of
    new rows. Models with missing folds are left out by name, or an error where --members names them.
    """
    import dataclasses

    from dfens.workflows.blend import blend_members, drop_redundant, gather_members, show_blend
    from ensemble.blend_store import BlendStore

    settings = app.config.blend
    settings = dataclasses.replace(
        settings,
        optimize=optimize or settings.optimize,
        transform=transform or settings.transform,
        members=settings.members if members is None else tuple(filter(None, map(str.strip, members.split(",")))),
        max_members=max_members or settings.max_members,
        prune=prune or settings.prune,
        importance_weighting=importance_weighting or settings.importance_weighting,
    )
    blends = BlendStore(app.work / "ensemble")
    gathered = gather_members(app.predictions, blends, settings.members, name)
    if settings.prune:
        gathered = drop_redundant(app.predictions, gathered, settings, app.progress)
    for note in gathered.notes:
        app.say(note)
    result, test = blend_members(app.predictions, gathered, settings, app.progress)
    archived = blends.save(
        name,
        result,
        app.predictions.folds.ids,
        test_ids=None if test is None else app.predictions.test_ids,
        test=test,
        details=gathered.details(app.predictions, settings),
    )
    if archived is not None:
        app.say(f"The earlier blend '{name}' lies in {archived}")
    show_blend(app, name, blends.path(name), result, gathered, has_test=test is not None, verbose=verbose)
