"""`dfens submissions`: the ledger of submissions with their provenance and scores, and the choice of the finals."""

from pathlib import Path

import click

from dfens.console import Console
from dfens.invocation import pass_workspace
from dfens.options import NumberRange
from dfens.workspace.paths import Workspace

SHARE = NumberRange(0, 1, min_open=True, max_open=True)


@click.group("submissions", short_help="The ledger of submissions: list, compare, choose the finals.")
def command() -> None:
    """Work with the ledger: what was submitted, its provenance and its scores."""


@command.command("list", short_help="List all submissions with CV and public scores.")
@click.option("--plot", is_flag=True, help="Also draw CV against public score, as PNG in work/submissions.")
@pass_workspace
def list_(workspace: Workspace, console: Console, plot: bool) -> None:
    """Show each submission with CV and public score, how well these agree, and which submissions are outliers."""
    from dfens.views.submissions import show_list
    from dfens.workflows.submissions import list_submissions

    found = list_submissions(workspace, plot=plot)
    console.show(found, show_list(found))


@command.command("sync", short_help="Import scores, and submissions made elsewhere.")
@pass_workspace
def sync(workspace: Workspace, console: Console) -> None:
    """Update the ledger from Kaggle: new scores, submissions made on the web page or by team mates, and the outcome of
    interrupted submissions.
    """
    from dfens.views.submissions import show_sync
    from dfens.workflows.submissions import sync_ledger

    found = sync_ledger(workspace, console.progress)
    console.show(found, show_sync(found))


@command.command("show", short_help="Show everything recorded about one submission.")
@click.argument("ref")
@pass_workspace
def show(workspace: Workspace, console: Console, ref: str) -> None:
    """Show one submission: scores, message, hashes, members with weights, and provenance.

    REF is Kaggle's number, a file name, or a blend's name (its newest submission).
    """
    from dfens.views.submissions import show_entry
    from dfens.workflows.submissions import show_submission

    entry = show_submission(workspace, ref)
    console.show(entry, show_entry(entry))


@command.command("diff", short_help="Show how two submissions differ.")
@click.argument("first")
@click.argument("second")
@click.option("--moves", type=click.IntRange(min=0), default=10, show_default=True, help="Number of rows to list.")
@pass_workspace
def diff(workspace: Workspace, console: Console, first: str, second: str, moves: int) -> None:
    """Compare two submissions: order, the rows that moved most, and the AUC at stake.

    FIRST and SECOND are refs, names in the ledger, or CSV files. "If the first is true" assumes labels distributed
    according to the first, with a reliability that matches its CV (or, without a CV, its predictions), and gives the
    expected AUC of both.
    """
    from dfens.views.submissions import show_diff
    from dfens.workflows.submissions import diff_submissions

    found = diff_submissions(workspace, first, second, moves=moves)
    console.show(found, show_diff(found))


@command.command("select", short_help="Recommend the two finals, by simulation.")
@click.option(
    "--public-share",
    type=SHARE,
    help="Share of the test rows used for the public score, as given on the leaderboard page. "
    "Default [submissions] public_share.",
)
@click.option("--positive-share", type=SHARE, help="Share of positive test rows; default: that of the training rows.")
@click.option(
    "--draws", type=click.IntRange(min=100), default=1000, show_default=True, help="Number of simulated test sets."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the simulation.")
@click.option("--plot", is_flag=True, help="Also draw the best pairs, as PNG in work/submissions.")
@pass_workspace
def select(
    workspace: Workspace,
    console: Console,
    public_share: float | None,
    positive_share: float | None,
    draws: int,
    seed: int,
    plot: bool,
) -> None:
    """Recommend the two final submissions: the pair with the best expected best-of-two private score.

    Public and private parts are drawn from the out-of-fold predictions, the draws are conditioned on the observed
    public scores, and each pair is compared with "best public + best CV". Only scored submissions whose blend or model
    is still in the store can be simulated; the others are left out and listed.
    """
    from dfens.views.finals import show_finals
    from dfens.workflows.finals import choose_finals

    found = choose_finals(
        workspace,
        public_share=public_share,
        positive_share=positive_share,
        draws=draws,
        seed=seed,
        plot=plot,
        progress=console.progress,
    )
    console.notes(found.left_out)
    console.show(found, show_finals(found))


@command.command("leaderboard", short_help="Show where a score would rank.")
@click.argument("scores", metavar="[SCORE|REF]…", nargs=-1)
@click.option("--refresh", is_flag=True, help="Download the leaderboard again; by default it is downloaded once.")
@click.option("--team", default="", help="Name of your team, which is excluded from its rivals.")
@pass_workspace
def leaderboard(workspace: Workspace, console: Console, scores: tuple[str, ...], refresh: bool, team: str) -> None:
    """Show where scores would rank on the public leaderboard: rank, share of teams beaten, medal, neighbours.

    Give public scores, refs or names of submissions; by default your best public score. The fitted line of
    dfens submissions list gives the public score to expect for a CV.
    """
    from dfens.views.leaderboard import show_ranks
    from dfens.workflows.leaderboard import rank_scores

    found = rank_scores(workspace, scores, refresh=refresh, team=team, progress=console.progress)
    console.show(found, show_ranks(found, refreshed=refresh))


@command.command("rebuild", short_help="Rebuild a submitted file, byte for byte.")
@click.argument("ref")
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write; default in work/submissions/rebuilt.",
)
@click.option("--force", is_flag=True, help="Replace the file of --out if it exists.")
@pass_workspace
def rebuild(workspace: Workspace, console: Console, ref: str, out: Path | None, force: bool) -> None:
    """Rebuild the file of a submission from the store, byte for byte, or report what has changed since."""
    from dfens.views.submissions import show_rebuilt
    from dfens.workflows.submissions import rebuild_file

    found = rebuild_file(workspace, ref, out=out, force=force)
    console.show(found, show_rebuilt(found))
