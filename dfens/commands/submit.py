"""`dfens submit`: check a table, upload it once, record it, and wait for the score."""

from typing import Any

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
@click.option("--kernel-version", metavar="N", type=click.IntRange(1, 2**31 - 1), help="Version of the notebook.")
@pass_workspace
def command(workspace: Workspace, console: Console, /, **options: Any) -> None:
    """Submit BLEND, a blend or a single model; by default the newest blend.

    The table is checked against the sample submission, the allowance is queried from Kaggle, and the
    file is sent at most once: an interrupted submission is looked up on Kaggle before
    anything is sent again.

    \b
    Exit codes: 0  submitted (with --wait: scored); with --dry-run: ready to be submitted
                1  not submitted, and why; if that is unknown, the same command looks it up first
                3  on Kaggle, but Kaggle cannot score it, or has fewer bytes than were sent
                4  submitted, but without a score when the wait timed out
                5  submitted, but the ledger could not be written; the message has Kaggle's number
    """
    kernel = [options[name] is not None for name in ("kernel", "kernel_version")]
    if options["blend"] is not None and (options["file"] is not None or kernel[0]):
        raise click.UsageError("Give only one of BLEND, --file and --kernel.")
    if any(kernel):
        if not all(kernel) or not options["file"]:
            raise click.UsageError("Submitting a notebook needs --kernel, --kernel-version and --file together.")
        if options["dry_run"]:
            raise click.UsageError("--dry-run checks a table; a notebook's output is on Kaggle.")
    from dfens.views.submit import show_submission
    from dfens.workflows.submit import NOT_RECORDED, NotRecordedError, SubmitRequest, submit

    try:
        found = submit(workspace, SubmitRequest(**options), console.progress)
    except NotRecordedError as err:
        console.fail(str(err))
        click.get_current_context().exit(NOT_RECORDED)
    console.show(found, show_submission(found))
    if found.exit_code:
        click.get_current_context().exit(found.exit_code)
