"""`dfens check`: would training on these labels and media work?"""

import click

from dfens.console import Console
from dfens.invocation import pass_workspace
from dfens.options import threads_option
from dfens.workspace.paths import Workspace


@click.command("check", short_help="Check labels and media before training.")
@click.option("--decode", is_flag=True, help="Decode every image (else all of a small set, 1,000 of each large part).")
@threads_option("decoding threads")
@pass_workspace
def command(workspace: Workspace, console: Console, decode: bool, threads: int) -> None:
    """Read labels and media: counts, balance, missing, unreadable and identical images.

    Findings are listed by name, and in full in work/reports/check. Exit code 1 where training or
    prediction would go wrong; [data] skip_broken = true leaves broken training rows out.
    """
    from dfens.views.check import show_check
    from dfens.workflows.check import check

    found = check(workspace, decode=decode, threads=threads, progress=console.progress)
    console.show(found, show_check(found))
    if not found.report.ok:
        click.get_current_context().exit(1)
