"""`dfens submissions`: the ledger: what was sent, made of what, scored how, and what to tick in the end."""

from pathlib import Path

import click

from dfens.app import App, pass_app


@click.group("submissions", short_help="The ledger of submissions: list, compare, choose the finals.")
def command() -> None:
    """What was submitted, what it was made of, and what it scored."""


@command.command("list", short_help="All submissions, CV beside public score.")
@click.option("--plot", is_flag=True, help="Also draw CV against public score, as PNG in work/submissions.")
@pass_app
def list_(app: App, plot: bool) -> None:
    """Show each submission with CV beside public score, how well they agree, and which submissions lie off the line."""
    import dataclasses

    from dfens.workflows.ledger import correlation_lines, cv_of, entry_json, label_of, list_table, read_entries
    from oof.metrics import metric_by_name
    from submissions.correlation import correlate

    metric = metric_by_name(app.config.competition.metric)
    entries = read_entries(app)
    cv = [cv_of(entry) for entry in entries]
    public = [None if entry.error else entry.public_score for entry in entries]  # half a file has another score
    found = correlate(
        cv,
        public,
        higher_is_better=metric.higher_is_better,
        chance=metric.chance,
    )
    pictures = []
    if plot:
        from submissions.plots import plot_correlation, plot_history

        folder = app.work / "submissions"
        pictures = [
            plot_correlation(folder / "cv_and_public.png", [label_of(entry) for entry in entries], cv, public, found),
            plot_history(folder / "history.png", cv, public),
        ]
    told = correlation_lines(found, entries)
    if not entries:
        told = ["No submissions yet. Run dfens submit, or dfens submissions sync for those made elsewhere."]
    app.emit(
        {
            "submissions": [entry_json(entry) for entry in entries],
            "cv_lb_correlation": dataclasses.asdict(found),
            "plots": pictures,
        },
        *([list_table(entries, metric)] if entries else []),
        *told,
        *map(str, pictures),
    )


@command.command("sync", short_help="Bring in what was submitted elsewhere, and scores.")
@pass_app
def sync(app: App) -> None:
    """Read Kaggle's list of the team's submissions into the ledger: those made on the web page or by team mates, new
    scores, and what became of a submission that was interrupted.
    """
    from dfens.workflows.submit import sync_ledger

    sync_ledger(app)


@command.command("show", short_help="Everything the ledger has of one submission.")
@click.argument("ref")
@pass_app
def show(app: App, ref: str) -> None:
    """Show one submission: scores, message, hashes, members with weights, and what made it.

    REF is the number that Kaggle gave, a file name, or a blend's name (its newest submission).
    """
    from dfens.workflows.ledger import entry_json, find_entry, read_entries, show_tables

    entry = find_entry(read_entries(app), ref)
    app.emit(entry_json(entry), *show_tables(entry))


@command.command("diff", short_help="How two submissions differ.")
@click.argument("first")
@click.argument("second")
@click.option("--moves", type=click.IntRange(min=0), default=10, show_default=True, help="Rows to name.")
@pass_app
def diff(app: App, first: str, second: str, moves: int) -> None:
    """Compare two submissions: order, the rows that moved most, and the AUC at stake.

    FIRST and SECOND are refs, names in the ledger, or CSV files. "If the first is true" draws the labels from the
    first, as sure of its order as its CV says (or, without a CV, as its predictions say), and tells what AUC to
    expect of both.
    """
    import dataclasses

    import pandas as pd

    from dfens.views.tables import make_table
    from dfens.workflows.ledger import cv_of, read_entries, sample_submission, table_of
    from oof.metrics import metric_by_name
    from submissions.compare import compare

    entries, sample = read_entries(app), sample_submission(app)
    is_auc = metric_by_name(app.config.competition.metric).is_auc
    share = float(app.predictions.folds.target.mean()) if app.predictions.has_folds() else None
    (label_a, a, entry_a), (label_b, b, entry_b) = (
        table_of(app, wanted, entries, sample) for wanted in (first, second)
    )
    cv_a, cv_b = (cv_of(entry) if entry is not None and is_auc else None for entry in (entry_a, entry_b))
    found = compare(
        (a.ids, a.predictions),
        (b.ids, b.predictions),
        most_moves=moves,
        scores=(cv_a, cv_b),
        positive_share=share,
    )
    table = pd.DataFrame(
        {
            "id": [move.id for move in found.moves],
            "prediction in first": [move.first for move in found.moves],
            "in second": [move.second for move in found.moves],
            "rank in first": [f"{move.first_rank:g}" for move in found.moves],
            "rank in second": [f"{move.second_rank:g}" for move in found.moves],
        }
    )
    gain = found.if_second_is_true[1] - found.if_second_is_true[0]
    loss = found.if_first_is_true[1] - found.if_first_is_true[0]
    app.emit(
        {"first": label_a, "second": label_b, **dataclasses.asdict(found)},
        f"First: {label_a}\nSecond: {label_b}",
        f"{found.rows} rows; rank correlation {found.rank_correlation:.5f}, Kendall's tau {found.kendall:.5f}.",
        f"Pairs in opposite order: {found.swapped_pairs} ({found.swapped_share:.3%}); "
        f"tied in only one: {found.tied_share:.3%}.",
        f"Going from the first to the second changes the expected AUC by {loss:+.5f} if the first is true "
        f"({found.if_first_is_true[0]:.5f} to {found.if_first_is_true[1]:.5f}), and by {gain:+.5f} if the second is "
        f"({found.if_second_is_true[0]:.5f} to {found.if_second_is_true[1]:.5f}).",
        *([make_table(table, title="Largest moves (rank 1 is the lowest)")] if found.moves else ["No row moved."]),
    )


@command.command("select", short_help="Recommend the two finals, by simulation.")
@click.option(
    "--public-share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Share of the test rows that the public score is made of; the leaderboard page tells it. "
    "Default [submissions] public_share, or 0.3.",
)
@click.option(
    "--positive-share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Share of positives among the test rows; default that of the training rows.",
)
@click.option("--draws", type=click.IntRange(min=100), default=1000, show_default=True, help="Simulated test sets.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the simulation.")
@click.option("--plot", is_flag=True, help="Also draw the best pairs, as PNG in work/submissions.")
@pass_app
def select(
    app: App, public_share: float | None, positive_share: float | None, draws: int, seed: int, plot: bool
) -> None:
    """Recommend the two submissions to tick as final: the pair with the best expected best-of-two private score.

    Public and private parts are drawn from the out-of-fold predictions, the draws are moved to the public scores
    seen, and each pair is compared with "best public + best CV". Only scored submissions whose blend or model is
    still in the store can be simulated; the others are left out by name.
    """
    from dfens.workflows.finals import run_select

    share = public_share or app.config.submissions.public_share
    run_select(app, public_share=share, positive_share=positive_share, draws=draws, seed=seed, plot=plot)


@command.command("leaderboard", short_help="Where a score would stand.")
@click.argument("scores", metavar="[SCORE|REF]…", nargs=-1)
@click.option("--refresh", is_flag=True, help="Fetch the leaderboard anew; by default once.")
@click.option("--team", default="", help="Your team's name, which is then no rival of itself.")
@pass_app
def leaderboard(app: App, scores: tuple[str, ...], refresh: bool, team: str) -> None:
    """Tell where scores would stand on the public leaderboard: rank, share of teams beaten, medal, neighbours.

    Give public scores, refs or names of submissions; by default your best public score. What a CV would score is
    told by the line of dfens submissions list.
    """
    from dfens.workflows.leaderboard import run_leaderboard

    run_leaderboard(app, scores, refresh=refresh, team=team)


@command.command("rebuild", short_help="Make a submitted file again, byte for byte.")
@click.argument("ref")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Where to write; default work/submissions."
)
@pass_app
def rebuild(app: App, ref: str, out: Path | None) -> None:
    """Make the file of a submission again from the store, byte for byte, or tell what has changed since."""
    from dfens.workflows.ledger import find_entry, label_of, read_entries, rebuild_entry, sample_submission
    from oof.errors import SubmissionError

    entry = find_entry(read_entries(app), ref)
    found = rebuild_entry(app, entry, sample_submission(app))
    if found.table is None:
        raise SubmissionError(
            f"The file of submission {label_of(entry)} can't be made again. {' '.join(found.changes)} Restore what "
            f"has changed (work/oof/archive and work/ensemble/archive keep what was replaced), then try again."
            + (f" The file as it was sent is kept: {entry.path}." if (app.root / entry.path).is_file() else "")
        )
    path = app.root / out if out else app.work / "submissions" / "rebuilt" / entry.file_name
    found.table.write(path)
    app.emit(
        {"ref": entry.ref, "path": path, "sha256": found.table.sha256, "source": found.source},
        f"Made of {found.source}: the same {found.table.rows} rows, sha256 {found.table.sha256}.\n{path}",
    )
