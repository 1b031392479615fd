"""The rank of a score on a downloaded leaderboard."""

import csv
import io
import math
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
    """The rank of a score.

    rank: from 1, behind teams with an equal score, since those were earlier. teams: number of teams including this one.
    beaten: share of the other teams that rank lower, 0 to 1.
    medal: by Kaggle's rules for this number of teams. ahead, behind: neighbouring teams, or None.
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
    """Return the rank of a score among the teams.

    Args:
        teams: teams in any order.
        score: an actual or expected public score.
        own_team: name of your own team, which is excluded from the others.
        higher_is_better: direction of the metric.

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
    """Return the medal for a rank in a featured competition.

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
    """Read the teams of a leaderboard downloaded from Kaggle: a CSV, or a ZIP file that contains one.

    Raises:
        SubmissionError: if there is no such file, or no columns of team name and score.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as err:
        raise SubmissionError(
            f"There is no leaderboard at {path} yet. Run dfens submissions leaderboard --refresh."
        ) from err
    try:
        return parse_leaderboard(data)
    except ValueError as err:
        raise SubmissionError(
            f"{path} is not a leaderboard: {err}. Run dfens submissions leaderboard --refresh."
        ) from err


def parse_leaderboard(data: bytes) -> list[Team]:
    """Return the teams with a score in the bytes of a leaderboard, a CSV or a ZIP file that contains one.

    Raises:
        ValueError: if they are anything else.
    """
    try:
        if data.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                names = [name for name in archive.namelist() if name.endswith(".csv")]
                if not names:
                    raise ValueError("the ZIP file contains no CSV")
                data = archive.read(names[0])
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig")))
        missing = {"TeamName", "Score"} - set(reader.fieldnames or ())
        if missing:
            raise ValueError(f"there is no column {' and no column '.join(sorted(missing))}")
        teams = [Team(row["TeamName"], float(row["Score"])) for row in reader if row["Score"]]
        return [team for team in teams if math.isfinite(team.score)]  # NaN has no place in an order
    except _NOT_A_LEADERBOARD as err:
        raise ValueError(f"expected a CSV with the columns TeamName and Score, or a ZIP file of it ({err})") from err


# of zipfile and its decompressors for damaged or encrypted data, and of csv
_NOT_A_LEADERBOARD = (
    ValueError,
    TypeError,
    EOFError,
    RuntimeError,
    csv.Error,
    zlib.error,
    zipfile.BadZipFile,
    NotImplementedError,
)
