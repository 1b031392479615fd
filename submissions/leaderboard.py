"""Where a score would stand on a leaderboard that was fetched before."""

import csv
import io
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from oof.errors import SubmissionError

Medal = Literal["gold", "silver", "bronze", ""]


@dataclass(frozen=True)
class Team:
    """One line of a leaderboard."""

    name: str
    score: float


@dataclass(frozen=True)
class LeaderboardRank:
    """Where a score would stand.

    rank: from 1, behind teams of an equal score, since those were first. teams: with this one.
    beaten: share of the other teams that stand behind, 0 to 1.
    medal: by Kaggle's rules for this many teams. ahead, behind: the neighbours, None at an end.
    """

    score: float
    rank: int
    teams: int
    beaten: float
    medal: Medal
    ahead: Team | None
    behind: Team | None


def rank_score(
    teams: Sequence[Team], score: float, *, own_team: str = "", higher_is_better: bool = True
) -> LeaderboardRank:
    """Where a score would stand among the teams.

    Args:
        teams: in any order.
        score: a public score, or one expected.
        own_team: left out of the others, so that one's own earlier score is no rival.
        higher_is_better: of the metric.

    >>> rank_score([Team("a", 0.9), Team("b", 0.8)], 0.85).rank
    2
    """
    sign = 1.0 if higher_is_better else -1.0
    others = sorted((team for team in teams if team.name != own_team), key=lambda team: -sign * team.score)
    better = sum(sign * team.score >= sign * score for team in others)
    count = len(others) + 1
    return LeaderboardRank(
        score,
        better + 1,
        count,
        1 - better / len(others) if others else 1.0,
        medal_of(better + 1, count),
        others[better - 1] if better else None,
        others[better] if better < len(others) else None,
    )


def medal_lines(teams: Sequence[Team], *, higher_is_better: bool = True) -> list[tuple[Medal, float]]:
    """Return the score of the last rank that gets each medal, gold first; medals that nobody gets are left out.

    >>> medal_lines([Team(str(rank), 1 - rank / 100) for rank in range(1, 21)])
    [('gold', 0.98), ('silver', 0.96), ('bronze', 0.92)]
    """
    scores = sorted((team.score for team in teams), reverse=higher_is_better)
    lines: dict[Medal, float] = {}
    for rank, score in enumerate(scores, 1):
        if medal := medal_of(rank, len(scores)):
            lines[medal] = score
    return list(lines.items())


def medal_of(rank: int, teams: int) -> Medal:
    """The medal of a rank in a featured competition.

    Kaggle's progression rules, https://www.kaggle.com/progression.
    """
    if teams < 250:
        gold, silver, bronze = (0.1 * teams if teams < 100 else 10.0), 0.2 * teams, 0.4 * teams
    elif teams < 1000:
        gold, silver, bronze = 10 + 0.002 * teams, 50.0, 100.0
    else:
        gold, silver, bronze = 10 + 0.002 * teams, 0.05 * teams, 0.1 * teams
    zones: tuple[tuple[Medal, float], ...] = (("gold", gold), ("silver", silver), ("bronze", bronze))
    return next((medal for medal, last in zones if rank <= last), "")


def read_leaderboard(path: Path) -> list[Team]:
    """The teams of a leaderboard as Kaggle gives it to download: a CSV, or a zip that holds one.

    Raises:
        SubmissionError: no such file, or no columns of team name and score.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as err:
        raise SubmissionError(
            f"There is no leaderboard at {path} yet. Run dfens submissions leaderboard --refresh."
        ) from err
    try:
        if data.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                name = next(name for name in archive.namelist() if name.endswith(".csv"))
                data = archive.read(name)
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig")))
        missing = {"TeamName", "Score"} - set(reader.fieldnames or ())
        if missing:
            raise ValueError(f"{', '.join(sorted(missing))} missing")
        rows = list(reader)
        found = [Team(row["TeamName"], float(row["Score"])) for row in rows if row["Score"]]
    except (
        ValueError,
        TypeError,
        StopIteration,
        csv.Error,
        zlib.error,
        zipfile.BadZipFile,
        NotImplementedError,
    ) as err:
        raise SubmissionError(
            f"{path} is not a leaderboard: expected a CSV with the columns TeamName and Score ({err!r}). "
            f"Run dfens submissions leaderboard --refresh."
        ) from err
    return found
