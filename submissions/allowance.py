"""Check how many submissions are left before uploading a file."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from oof.errors import SubmissionError
from submissions.kaggle.client import KaggleClient, Limits
from submissions.kaggle.errors import reset_time
from submissions.ledger import Ledger
from submissions.states import COUNTED

_SITE = "https://www.kaggle.com/competitions"
_LAG = timedelta(minutes=10)  # delay until Kaggle's count includes a new submission


@dataclass(frozen=True)
class Allowance:
    """The current allowance.

    limits: Kaggle's count. used: submissions made today, by Kaggle's count or the ledger. left: submissions left for
    the rest of the day (UTC), by Kaggle's limit and your own, excluding those that Kaggle has not counted yet.
    """

    limits: Limits
    used: int
    left: int


def check_allowance(ledger: Ledger, client: KaggleClient, per_day: int | None) -> Allowance:
    """Query the allowance from Kaggle, and raise if nothing is left.

    Days and the age of entries are computed by Kaggle's clock, since this machine's may be hours off.

    Args:
        per_day: your own limit of submissions per UTC day; None for Kaggle's limit alone.

    Raises:
        SubmissionError: if nothing is left, saying until when.
    """
    limits = client.limits()
    now = limits.now or datetime.now(UTC)
    made = [entry.submitted or entry.created for entry in ledger.list(client.competition, COUNTED)]
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
            f"allows {limits.allowed_now - unseen} more: raise the limit in dfens.toml to use them."
        )
    elif limits.limited_by_total:
        text = f"All {limits.total} submissions that {client.competition} allows are used up; see {link}/submissions."
    elif used == 0:
        text = (
            f"Kaggle allows no submission to {client.competition}: you have not joined it yet, or it accepts none now. "
            f"Accept the rules at {link}/rules, or see the dates at {link}."
        )
    else:
        text = f"Today's submissions to {client.competition} are used up ({used} made); {count_restarts}."
    raise SubmissionError(f"{text} Nothing was sent.")
