"""`dfens blend`: fit and store a blend, with a nested score."""

import re
from typing import Any

import click

from dfens.console import Console
from dfens.invocation import pass_workspace
from dfens.options import names_option
from dfens.workspace.paths import Workspace
from ensemble.settings import CALIBRATIONS, FEATURES, SECOND_LEVEL, TRANSFORMS


def _limit(text: str | None) -> int | str | None:
    """Parse the value of --max-members: a number, "none", or None if it is not given."""
    if text is None or text == "none":
        return text
    if not re.fullmatch(r"0*[1-9][0-9]{0,5}", text):
        raise click.BadParameter(f"{text!r} is not a number of members. Give 1 or more, or none for no limit.")
    return int(text)


@click.command("blend", short_help="Blend the models, with a nested score.")
@click.option(
    "--optimize", metavar="METRIC", help="Metric to optimise, or none for the plain average; default [blend] optimize."
)
@click.option(
    "--transform", type=click.Choice(TRANSFORMS), help="Transform before weighting; default [blend] transform."
)
@names_option("--members", "Models or earlier blends to use, or all complete models (all); default [blend] members.")
@click.option("--name", default="blend", show_default=True, help="Name of the blend.")
@click.option(
    "--max-members",
    metavar="N",
    callback=lambda ctx, param, value: _limit(value),
    help="Maximum number of members with a weight, or none; default [blend] max_members.",
)
@click.option("--prune/--no-prune", default=None, help="Drop members that do not improve the blend.")
@click.option("--calibrate", type=click.Choice(CALIBRATIONS), help="Calibrate predictions to probabilities.")
@names_option("--methods", f"Further methods to try: {', '.join(SECOND_LEVEL)}, or none; default [blend] methods.")
@names_option(
    "--features", f"Features of the rows for boosted: {', '.join(FEATURES)}, tables, or none; default [blend] features."
)
@click.option(
    "--importance-weighting/--no-importance-weighting",
    default=None,
    help="Weight rows by their density in the test set, if it helps.",
)
@click.option("-v", "--verbose", is_flag=True, help="Show all methods compared.")
@pass_workspace
def command(workspace: Workspace, console: Console, /, name: str, verbose: bool, **settings: Any) -> None:
    """Fit weights to the out-of-fold predictions, score the blend, and store it with its test predictions.

    Two scores are shown: the fitted score, on the rows on which the weights were fitted, and the nested score, where
    each fold is scored with weights fitted without it. Expect the nested score on new rows. Models with
    missing folds are left out and listed, unless --members names them.
    """
    from dfens.views.blend import show_blend
    from dfens.workflows.blend import blend

    given = {key: value for key, value in settings.items() if value not in (None, ())}
    for key, word in (("methods", "none"), ("features", "none"), ("members", "all")):
        if word in given.get(key, ()):
            if len(given[key]) > 1:
                raise click.UsageError(f"--{key} {','.join(given[key])}: write either {word} or names.")
            given[key] = ()
    if given.get("max_members") == "none":
        given["max_members"] = None
    found = blend(workspace, name, given, console.progress)
    console.notes(found.notes)
    console.show(found, show_blend(found, verbose=verbose))
