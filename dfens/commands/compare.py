"""`dfens compare`: paired differences between models, and their AUC on corrupted images."""

import click

from dfens.console import Console
from dfens.invocation import pass_workspace
from dfens.workspace.paths import Workspace


@click.command("compare", short_help="Show paired differences between models, with intervals and robustness curves.")
@click.argument("names", nargs=-1, required=True, metavar="MODEL MODEL…")
@click.option("--metric", help="Metric to compare by; default [competition] metric.")
@click.option("--robustness", is_flag=True, help="Also show the AUC on corrupted images or clips.")
@click.option("--modalities", is_flag=True, help="For models on clips: also show the AUC on clips without sound.")
@click.option("--rows", type=click.IntRange(min=20), default=500, show_default=True, help="Held-out rows to corrupt.")
@pass_workspace
def command(
    workspace: Workspace,
    console: Console,
    names: tuple[str, ...],
    metric: str | None,
    robustness: bool,
    modalities: bool,
    rows: int,
) -> None:
    """Compare models with the first one named, on the rows that all of them predict out of fold.

    Prints each model's score and the paired difference with its 95 % interval; plots are written to
    work/reports/compare. --robustness needs models in dfens.toml with trained folds.
    """
    from dfens.views.comparison import show_comparison
    from dfens.workflows.compare import compare

    found = compare(
        workspace,
        names,
        metric=metric,
        robustness=robustness,
        modalities=modalities,
        rows=rows,
        progress=console.progress,
    )
    console.show(found, show_comparison(found))
