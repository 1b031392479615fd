"""Ranks on the leaderboard as text."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dfens.views.tables import FittedTable, make_table

if TYPE_CHECKING:
    from dfens.workflows.leaderboard import LeaderboardRanks


def show_ranks(found: "LeaderboardRanks", *, refreshed: bool = False) -> "Iterator[FittedTable | str]":
    """Show the rank of each score, and its neighbours."""
    rows = [
        {
            "score of": label,
            "score": item.score,
            "rank": f"{item.rank} of {item.teams}",
            "teams beaten": item.beaten,
            "medal": item.medal or "–",
            "next above": f"{item.ahead.score:.5f} {item.ahead.name}" if item.ahead else "–",
        }
        for label, item in found.ranks.items()
    ]
    title = f"On the public leaderboard of {found.fetched:%Y-%m-%d %H:%M} UTC"
    yield make_table(rows, title=title, percent=["teams beaten"], optional=["next above", "teams beaten"])
    yield "The private leaderboard uses other rows; medals follow Kaggle's rules for this number of teams."
    if not refreshed:
        yield "--refresh downloads it again."
