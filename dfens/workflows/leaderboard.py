"""`dfens submissions leaderboard`: the fetched leaderboard, and where scores would stand on it."""

import dataclasses
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from dfens.app import App
from dfens.views.tables import make_table
from dfens.workflows.ledger import find_entry, label_of, read_entries
from oof.errors import SubmissionError
from oof.metrics import metric_by_name
from submissions.entry import Entry
from submissions.leaderboard import rank_score, read_leaderboard


def run_leaderboard(app: App, wanted: Sequence[str], *, refresh: bool, team: str) -> None:
    """Fetch the leaderboard where needed, and print where the scores would stand."""
    metric = metric_by_name(app.config.competition.metric)
    scores = _scores(read_entries(app), wanted, metric.gain(1.0))
    path = app.work / "submissions" / "leaderboard.zip"
    if refresh or not path.exists():
        fetch_leaderboard(app, path)
    teams = read_leaderboard(path)
    fetched = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    found = {
        label: rank_score(teams, score, own_team=team, higher_is_better=metric.higher_is_better)
        for label, score in scores.items()
    }
    frame = pd.DataFrame(
        {
            "score of": list(found),
            "score": [item.score for item in found.values()],
            "rank": [f"{item.rank} of {item.teams}" for item in found.values()],
            "teams beaten": [item.beaten for item in found.values()],
            "medal": [item.medal or "–" for item in found.values()],
            "next above": [
                f"{item.ahead.score:.5f} {item.ahead.name}" if item.ahead else "–" for item in found.values()
            ],
        }
    )
    app.emit(
        {
            "fetched": fetched.isoformat(),
            "teams": len(teams),
            "ranks": {label: dataclasses.asdict(item) for label, item in found.items()},
        },
        make_table(frame, title=f"On the public leaderboard of {fetched:%Y-%m-%d %H:%M} UTC", percent=["teams beaten"]),
        "The private leaderboard ranks other rows; medals by Kaggle's rules for this many teams."
        + ("" if refresh else " --refresh fetches it anew."),
    )


def fetch_leaderboard(app: App, path: Path) -> None:
    """Fetch the public leaderboard through the Kaggle client."""
    from submissions.kaggle.client import KaggleClient

    config = app.config
    with KaggleClient(config.competition.slug, config.submissions, os.environ, app.progress) as client:
        client.leaderboard(path)


def _scores(entries: Sequence[Entry], wanted: Sequence[str], sign: float) -> dict[str, float]:
    """Label and public score of what was asked for: numbers, refs, names; the best of the ledger by default."""
    found: dict[str, float] = {}
    for word in wanted:
        if "." in word and _is_number(word):
            found[word] = float(word)
            continue
        entry = find_entry(entries, word)
        if entry.public_score is None:
            raise SubmissionError(
                f"Submission {label_of(entry)} has no public score yet ({entry.status}). "
                f"Run dfens submissions sync, or give a score such as 0.95."
            )
        found[label_of(entry)] = entry.public_score
    if not wanted:
        scored = [entry for entry in entries if entry.public_score is not None]
        if not scored:
            raise SubmissionError(
                "No submission has a public score yet. Give a score: dfens submissions leaderboard 0.95."
            )
        best = max(scored, key=lambda entry: sign * (entry.public_score or 0.0))
        found[label_of(best)] = best.public_score or 0.0
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
