"""`dfens check`: check labels and media before training."""

import click

from dfens.console import Console
from dfens.invocation import pass_workspace
from dfens.options import threads_option
from dfens.workspace.paths import Workspace


@click.command("check", short_help="Check labels and media before training.")
@click.option(
    "--decode", is_flag=True, help="Decode every file (default: all files of small parts, a sample of large ones)."
)
@click.option("--leaks", is_flag=True, help="Audit all training files for leaks, and show the whole table.")
@threads_option("decoding threads")
@pass_workspace
def command(workspace: Workspace, console: Console, decode: bool, leaks: bool, threads: int) -> None:
    """Read labels and media: counts, balance, missing, unreadable and identical files, and leaks.

    A leak is a property of a file that separates real from fake without regard to its content, such as leading
    silence or JPEG quality. Each property is scored by its AUC, with an interval.

    The first few names of each finding are shown; the full lists are in work/reports/check. Exit code 1 if training or
    prediction would go wrong; [data] skip_broken = true leaves broken training rows out.
    """
    from dfens.views.check import show_check
    from dfens.workflows.check import check

    found = check(workspace, decode=decode, leaks=leaks, threads=threads, progress=console.progress)
    console.show(found, show_check(found, all_leaks=leaks))
    if not found.report.ok:
        click.get_current_context().exit(1)
