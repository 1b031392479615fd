"""The rank that a score would have."""

import zipfile
from pathlib import Path

import pytest

from oof.errors import SubmissionError
from submissions.leaderboard import Team, medal_lines, medal_of, rank_score, read_leaderboard

TEAMS = [Team("b", 0.8), Team("a", 0.9), Team("me", 0.7), Team("c", 0.7)]
CSV = 'Rank,TeamId,TeamName,LastSubmissionDate,Score\n1,11,"a, b",2026-01-01,0.9\n2,12,ü,2026-01-02,0.8\n3,13,new,,\n'


@pytest.mark.parametrize(
    ("score", "rank", "ahead", "behind"),
    [(0.95, 1, None, "a"), (0.9, 2, "a", "b"), (0.75, 3, "b", "c"), (0.7, 4, "c", None), (0.1, 4, "c", None)],
)
def test_a_tied_score_ranks_behind_earlier_ones(score: float, rank: int, ahead: str | None, behind: str | None) -> None:
    found = rank_score(TEAMS, score, own_team="me")
    assert (found.rank, found.teams) == (rank, 4)
    assert (found.ahead and found.ahead.name, found.behind and found.behind.name) == (ahead, behind)
    assert found.beaten == pytest.approx((4 - rank) / 3)


def test_a_loss_ranks_in_reverse_order() -> None:
    assert rank_score(TEAMS, 0.75, own_team="me", higher_is_better=False).rank == 2
    assert rank_score([], 0.5).rank == 1


@pytest.mark.parametrize(
    ("rank", "teams", "medal"),
    [
        (5, 50, "gold"),
        (6, 50, "silver"),
        (20, 50, "bronze"),
        (21, 50, ""),
        (10, 200, "gold"),
        (40, 200, "silver"),
        (11, 500, "gold"),
        (12, 500, "silver"),
        (100, 500, "bronze"),
        (101, 500, ""),
        (14, 2000, "gold"),
        (15, 2000, "silver"),
        (200, 2000, "bronze"),
        (201, 2000, ""),
    ],
)
def test_medals_follow_the_published_zones(rank: int, teams: int, medal: str) -> None:
    assert medal_of(rank, teams) == medal


def test_teams_without_a_finite_score_are_not_ranked(tmp_path: Path) -> None:
    path = tmp_path / "leaderboard.csv"
    path.write_text("TeamName,Score\na,0.9\nb,NaN\nc,0.8\nd,inf\ne,-inf\nf,0.7\n")
    found = rank_score(read_leaderboard(path), 0.75)
    assert (found.rank, found.teams, found.ahead) == (3, 4, Team("c", 0.8))


def test_a_leaderboard_is_read_from_csv_and_zip(tmp_path: Path) -> None:
    plain = tmp_path / "leaderboard.csv"
    plain.write_text(CSV, encoding="utf-8-sig")
    expected = [Team("a, b", 0.9), Team("ü", 0.8)]
    assert read_leaderboard(plain) == expected
    zipped = tmp_path / "leaderboard.zip"
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.write(plain, "x-publicleaderboard.csv")
    assert read_leaderboard(zipped) == expected


def test_a_file_that_is_not_a_leaderboard_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SubmissionError, match="no leaderboard at .* yet. Run dfens submissions leaderboard --refresh"):
        read_leaderboard(tmp_path / "none.csv")
    for data in (
        b"",
        b"<html>log in</html>",
        b"<html>\n<body>",
        b"PK\x03\x04broken",
        b"TeamName,Score\na,x\n",
        b"Name,Score\na,0.5\n",
    ):
        (tmp_path / "x").write_bytes(data)
        with pytest.raises(SubmissionError, match="is not a leaderboard"):
            read_leaderboard(tmp_path / "x")


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_medal_lines_are_the_last_scores_that_get_each_medal(higher_is_better: bool) -> None:
    sign = 1 if higher_is_better else -1
    teams = [Team(f"team {rank}", 0.5 - sign * rank / 1_000) for rank in range(1, 301)]
    lines = dict(medal_lines(teams[::-1], higher_is_better=higher_is_better))
    for medal, score in lines.items():
        found = rank_score(teams, score - sign * 1e-9, higher_is_better=higher_is_better)
        just_above = rank_score(teams, score + sign * 1e-9, higher_is_better=higher_is_better)
        assert just_above.medal == medal
        assert found.rank == just_above.rank + 1
    assert list(lines) == ["gold", "silver", "bronze"]
    assert medal_lines([]) == []
