"""`dfens check`: would training on these labels and media work?"""

import click

from dfens.console import Console
from dfens.invocation import pass_workspace
from dfens.options import threads_option
from dfens.workspace.paths import Workspace


@click.command("check", short_help="Check labels and media before training.")
@click.option("--decode", is_flag=True, help="Decode every file (else all of a small set, a sample of a large one).")
@click.option("--leaks", is_flag=True, help="Audit all training files for leaks, and show the whole table.")
@threads_option("decoding threads")
@pass_workspace
def command(workspace: Workspace, console: Console, decode: bool, leaks: bool, threads: int) -> None:
    """Read labels and media: counts, balance, missing, unreadable and identical files, and leaks.

    A leak is a property that a file has before anyone looks at its content, such as leading silence or the
    quality of a JPEG, and that alone separates real from fake. Each is scored by its AUC, with an interval.

    Findings are listed by name, and in full in work/reports/check. Exit code 1 where training or
    prediction would go wrong; [data] skip_broken = true leaves broken training rows out.
    """
    from dfens.views.check import show_check
    from dfens.workflows.check import check

    found = check(workspace, decode=decode, leaks=leaks, threads=threads, progress=console.progress)
    console.show(found, show_check(found, all_leaks=leaks))
    if not found.report.ok:
        click.get_current_context().exit(1)
