"""`dfens submit`: check a table, upload it once, record it, and wait for the score."""

from pathlib import Path

import click

from dfens.console import Console
from dfens.invocation import pass_workspace
from dfens.workspace.paths import Workspace


@click.command("submit", short_help="Check a table, upload it once, record it, wait for the score.")
@click.argument("blend", required=False)
@click.option(
    "--file", metavar="CSV", help="Submit this CSV instead of a blend; with --kernel, the name of its output file."
)
@click.option("--message", metavar="TEXT", help="Shown on Kaggle; {blend}, {score:.5f} and more are filled in.")
@click.option("--dry-run", is_flag=True, help="Build and check the table without sending it; needs no credentials.")
@click.option("--again", is_flag=True, help="Submit although the same bytes were submitted before.")
@click.option("--stale", is_flag=True, help="Submit a blend although members have been retrained since.")
@click.option("--wait", is_flag=True, help="Wait for the score.")
@click.option("--kernel", metavar="OWNER/SLUG", help="Code competition: submit the output of this notebook.")
@click.option("--kernel-version", metavar="N", type=click.IntRange(min=1), help="Version of the notebook.")
@pass_workspace
def command(
    workspace: Workspace,
    console: Console,
    blend: str | None,
    file: str | None,
    message: str | None,
    dry_run: bool,
    again: bool,
    stale: bool,
    wait: bool,
    kernel: str | None,
    kernel_version: int | None,
) -> None:
    """Submit BLEND, a blend or a single model; by default the newest blend.

    The table is checked against the sample submission, the allowance is queried from Kaggle, and the
    file is sent at most once: an interrupted submission is looked up on Kaggle before
    anything is sent again.

    \b
    Exit codes: 0  submitted (with --wait: scored); with --dry-run: ready to be submitted
                1  not submitted, and why; if that is unknown, the same command looks it up first
                3  on Kaggle, but Kaggle cannot score it
                4  submitted, but without a score when the wait timed out
                5  submitted, but the ledger could not be written; the message has Kaggle's number
    """
    if blend is not None and (file is not None or kernel is not None):
        raise click.UsageError("Give only one of BLEND, --file and --kernel.")
    if kernel is not None or kernel_version is not None:
        if kernel is None or kernel_version is None or file is None:
            raise click.UsageError("Submitting a notebook needs --kernel, --kernel-version and --file together.")
        if dry_run:
            raise click.UsageError("--dry-run checks a table; a notebook's output is on Kaggle.")
    from dfens.views.submit import show_dry_run, show_submission
    from dfens.workflows import draft as drafting
    from dfens.workflows.submit import NOT_RECORDED, KernelOutput, NotRecordedError, send_kernel, send_table

    progress = console.progress
    try:
        if kernel is not None and kernel_version is not None and file is not None:
            output = KernelOutput(kernel, kernel_version, file)
            found = send_kernel(workspace, output, message, again=again, wait=wait, progress=progress)
        else:
            table = drafting.make_draft(workspace, blend, None if file is None else Path(file), message, stale=stale)
            if dry_run:
                checked = drafting.dry_run(workspace, table)
                console.show(checked, show_dry_run(checked))
                return
            found = send_table(workspace, table, again=again, wait=wait, progress=progress)
    except NotRecordedError as err:
        console.fail(str(err))
        click.get_current_context().exit(NOT_RECORDED)
    console.show(found, show_submission(found))
    if found.exit_code:
        click.get_current_context().exit(found.exit_code)
