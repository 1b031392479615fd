"""`dfens report`: one page that shows everything of this workspace."""

from pathlib import Path

import click

from dfens.console import Console
from dfens.invocation import pass_workspace
from dfens.workspace.paths import Workspace


@click.command("report", short_help="Write one HTML page with scores, checks, plots and images.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Page to write, by default work/reports/report.html."
)
@pass_workspace
def command(workspace: Workspace, console: Console, out: Path | None) -> None:
    """Write a self-contained page, and the same facts as report.json next to it.

    The page needs no network: it opens from a mail, on a phone, in a light and a dark theme. Everything on it is read
    from the stores, and nothing is trained.
    """
    from dfens.views.report import show_report
    from dfens.workflows.report import write_report

    found = write_report(workspace, None if out is None else workspace.resolve(out), console.progress)
    console.show(found.report.to_json() | {"page": found.page, "json": found.json}, show_report(found, workspace))
