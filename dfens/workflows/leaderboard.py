"""Download the public leaderboard, and rank scores on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from dfens.workflows.ledger import find_entry, label_of, read_entries
from dfens.workflows.submissions import open_client
from dfens.workspace.paths import Workspace
from oof.errors import StoreError, SubmissionError
from oof.files import read_json, write_json
from oof.metrics import metric_by_name
from oof.progress import SILENT, Progress
from submissions.entry import Entry
from submissions.kaggle.client import KaggleClient
from submissions.leaderboard import LeaderboardRank, Team, rank_score, read_leaderboard


@dataclass(frozen=True)
class LeaderboardRanks:
    """The ranks of scores on the public leaderboard, by label; teams is the number of teams on it."""

    fetched: datetime
    teams: int
    ranks: Mapping[str, LeaderboardRank]


def rank_scores(
    workspace: Workspace,
    wanted: Sequence[str] = (),
    *,
    refresh: bool = False,
    team: str = "",
    progress: Progress = SILENT,
) -> LeaderboardRanks:
    """Rank scores, refs or names (by default the best public score) on the leaderboard, which is downloaded if needed.

    Your own team is excluded from the rivals; its name comes from Kaggle unless `team` is given.
    """
    metric = metric_by_name(workspace.config.competition.metric)
    scores = _scores(read_entries(workspace), wanted, metric.gain(1.0))
    path = workspace.leaderboard_path()
    if refresh or not path.exists():
        with open_client(workspace, progress) as client:
            teams, own = fetch_leaderboard(workspace, client)
    else:
        teams, own = read_leaderboard(path), _own_team(workspace)
    return LeaderboardRanks(
        datetime.fromtimestamp(path.stat().st_mtime, UTC),
        len(teams),
        {
            label: rank_score(teams, score, own_team=team or own, higher_is_better=metric.higher_is_better)
            for label, score in scores.items()
        },
    )


def fetch_leaderboard(workspace: Workspace, client: KaggleClient) -> tuple[list[Team], str]:
    """Download and store the public leaderboard and your team's name, which is empty if it has submitted nothing."""
    path = workspace.leaderboard_path()
    client.leaderboard(path)
    team = next((submission.team for submission in client.submissions() if submission.team), "")
    write_json(workspace.own_team_path(), {"version": 1, "team": team})
    return read_leaderboard(path), team


def _own_team(workspace: Workspace) -> str:
    try:
        return str(read_json(workspace.own_team_path()).get("team", ""))
    except (StoreError, FileNotFoundError):
        return ""


def _scores(entries: Sequence[Entry], wanted: Sequence[str], sign: float) -> dict[str, float]:
    """Return label and public score of the requested numbers, refs or names; by default the best in the ledger."""
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
