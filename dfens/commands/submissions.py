"""`dfens submissions`: the ledger: what was sent, made of what, scored how, and what to tick in the end."""

from pathlib import Path

import click

from dfens.console import Console
from dfens.invocation import pass_workspace
from dfens.workspace.paths import Workspace

SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)


@click.group("submissions", short_help="The ledger of submissions: list, compare, choose the finals.")
def command() -> None:
    """What was submitted, what it was made of, and what it scored."""


@command.command("list", short_help="List all submissions, CV beside public score.")
@click.option("--plot", is_flag=True, help="Also draw CV against public score, as PNG in work/submissions.")
@pass_workspace
def list_(workspace: Workspace, console: Console, plot: bool) -> None:
    """Show each submission with CV beside public score, how well they agree, and which submissions are off the line."""
    from dfens.views.submissions import show_list
    from dfens.workflows.submissions import list_submissions

    found = list_submissions(workspace, plot=plot)
    console.show(found, show_list(found))


@command.command("sync", short_help="Fetch scores, and submissions made elsewhere.")
@pass_workspace
def sync(workspace: Workspace, console: Console) -> None:
    """Read Kaggle's list of the team's submissions into the ledger: those made on the web page or by team mates, new
    scores, and what became of a submission that was interrupted.
    """
    from dfens.views.submissions import show_sync
    from dfens.workflows.submissions import sync_ledger

    found = sync_ledger(workspace, console.progress)
    console.show(found, show_sync(found))


@command.command("show", short_help="Show everything the ledger has of one submission.")
@click.argument("ref")
@pass_workspace
def show(workspace: Workspace, console: Console, ref: str) -> None:
    """Show one submission: scores, message, hashes, members with weights, and what made it.

    REF is the number that Kaggle gave, a file name, or a blend's name (its newest submission).
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

    FIRST and SECOND are refs, names in the ledger, or CSV files. "If the first is true" draws the labels from the
    first, as sure of its order as its CV says (or, without a CV, as its predictions say), and gives the AUC to
    expect of both.
    """
    from dfens.views.submissions import show_diff
    from dfens.workflows.submissions import diff_submissions

    found = diff_submissions(workspace, first, second, moves=moves)
    console.show(found, show_diff(found))


@command.command("select", short_help="Recommend the two finals, by simulation.")
@click.option(
    "--public-share",
    type=SHARE,
    help="Share of the test rows that the public score is computed on, as the leaderboard page says. "
    "Default [submissions] public_share.",
)
@click.option("--positive-share", type=SHARE, help="Share of positive test rows; default that of the training rows.")
@click.option("--draws", type=click.IntRange(min=100), default=1000, show_default=True, help="Simulated test sets.")
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
    """Recommend the two submissions to tick as final: the pair with the best expected best-of-two private score.

    Public and private parts are drawn from the out-of-fold predictions, the draws are moved to the public scores
    seen, and each pair is compared with "best public + best CV". Only scored submissions whose blend or model is
    still in the store can be simulated; the others are left out by name.
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
@click.option("--refresh", is_flag=True, help="Fetch the leaderboard again; by default it is fetched once.")
@click.option("--team", default="", help="Name of your team, which is then not counted as a rival of itself.")
@pass_workspace
def leaderboard(workspace: Workspace, console: Console, scores: tuple[str, ...], refresh: bool, team: str) -> None:
    """Show where scores would rank on the public leaderboard: rank, share of teams beaten, medal, neighbours.

    Give public scores, refs or names of submissions; by default your best public score. The line of
    dfens submissions list gives the public score to expect of a CV.
    """
    from dfens.views.leaderboard import show_ranks
    from dfens.workflows.leaderboard import rank_scores

    found = rank_scores(workspace, scores, refresh=refresh, team=team, progress=console.progress)
    console.show(found, show_ranks(found, refreshed=refresh))


@command.command("rebuild", short_help="Make a submitted file again, byte for byte.")
@click.argument("ref")
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write; default in work/submissions/rebuilt.",
)
@click.option("--force", is_flag=True, help="Replace the file of --out where it exists.")
@pass_workspace
def rebuild(workspace: Workspace, console: Console, ref: str, out: Path | None, force: bool) -> None:
    """Make the file of a submission again from the store, byte for byte, or report what has changed since."""
    from dfens.views.submissions import show_rebuilt
    from dfens.workflows.submissions import rebuild_file

    found = rebuild_file(workspace, ref, out=out, force=force)
    console.show(found, show_rebuilt(found))
