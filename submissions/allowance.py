"""How many submissions are left, before a file is uploaded for nothing."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from oof.errors import SubmissionError
from submissions.kaggle.client import KaggleClient, Limits
from submissions.kaggle.errors import reset_time
from submissions.ledger import Ledger

_SITE = "https://www.kaggle.com/competitions"
_LAG = timedelta(minutes=10)  # for Kaggle's count to show what was just submitted


@dataclass(frozen=True)
class Allowance:
    """What may be submitted now.

    limits: as Kaggle counts. used: made today, as Kaggle or the ledger has it. left: for the rest of the day (UTC),
    by Kaggle's limit and one's own, without what Kaggle has not counted yet.
    """

    limits: Limits
    used: int
    left: int


def check_allowance(ledger: Ledger, client: KaggleClient, per_day: int | None) -> Allowance:
    """Ask Kaggle what is allowed, and stop where nothing is.

    Days and the age of entries are counted by Kaggle's clock, since this machine's may be hours off.

    Args:
        per_day: a limit of one's own on the submissions of a UTC day; None for Kaggle's alone.

    Raises:
        SubmissionError: nothing is left, and until when.
    """
    limits = client.limits()
    now = limits.now or datetime.now(UTC)
    made = [entry.submitted or entry.created for entry in ledger.list(client.competition, ("pending", "complete"))]
    today = [moment for moment in made if moment.date() == now.date()]
    recent = sum(abs(now - moment) < _LAG for moment in today)
    unseen = max(0, min(len(today) - limits.today, recent))
    used = max(limits.today, len(today))
    left = limits.allowed_now - unseen
    if per_day is not None:
        left = min(left, per_day - used)
    if left > 0:
        return Allowance(limits, used, left)
    count_restarts = f"the count starts again {reset_time(now.astimezone())}"
    link = f"{_SITE}/{client.competition}"
    if per_day is not None and limits.allowed_now > unseen:
        text = (
            f"[competition] submissions_per_day = {per_day} are used up ({used} made today); {count_restarts}. Kaggle "
            f"allows {limits.allowed_now - unseen} more: raise it in dfens.toml to use them."
        )
    elif limits.limited_by_total:
        text = f"All {limits.total} submissions that {client.competition} allows are used up; see {link}/submissions."
    elif used == 0:
        text = (
            f"Kaggle allows no submission to {client.competition}: you are in no team there yet, or it takes none now. "
            f"Accept the rules at {link}/rules, or see {link} for its dates."
        )
    else:
        text = f"Today's submissions to {client.competition} are used up ({used} made); {count_restarts}."
    raise SubmissionError(f"{text} Nothing was sent.")
