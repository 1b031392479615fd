"""`dfens report`: write one page about this workspace."""

from pathlib import Path

import click

from dfens.console import Console
from dfens.invocation import pass_workspace
from dfens.workspace.paths import Workspace


@click.command("report", short_help="Write one HTML page with scores, checks, plots and images.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Page to write, by default work/reports/report.html."
)
@click.option("--force", is_flag=True, help="Replace the page of --out if it exists, and the JSON file next to it.")
@pass_workspace
def command(workspace: Workspace, console: Console, out: Path | None, force: bool) -> None:
    """Write a self-contained page, and the same facts as report.json next to it.

    The page needs no network: it can be mailed and read on a phone, with a light or dark theme. Everything on it is
    read from the stores; nothing is trained.
    """
    from dfens.views.report import show_report
    from dfens.workflows.report import write_report

    if out is not None and out.suffix == ".json":
        raise click.UsageError("--out names the page; the JSON file gets its name. Write --out NAME.html.")
    found = write_report(workspace, out, force=force, progress=console.progress)
    console.show(found.report.to_json() | {"page": found.page, "json": found.json}, show_report(found, workspace))
