"""Wait for the score of a submission."""

import time

from oof.progress import SILENT, Progress
from submissions.entry import Entry
from submissions.kaggle.client import KaggleClient, KaggleError
from submissions.ledger import Ledger
from submissions.reconcile import record

_GROWTH = 1.5


def wait_for_score(ledger: Ledger, client: KaggleClient, entry: Entry, progress: Progress = SILENT) -> Entry:
    """Poll a submission until it is scored or refused, or `wait_limit_s` has passed; return its entry.

    Pauses grow from `poll_first_s` to `poll_longest_s`. Temporary network failures are tolerated.

    Raises:
        KaggleError: if Kaggle refuses the request; the submission itself is not affected.
    """
    settings = client.settings
    started, pause = time.monotonic(), settings.poll_first_s
    with progress.task(f"waiting for the score of {entry.name}", unit="s") as task:
        while entry.status == "pending":
            waited = time.monotonic() - started
            if waited >= settings.wait_limit_s:
                break
            state = "pending"
            try:
                entry = record(ledger, entry, client.submission(entry.ref or 0))
            except KaggleError as err:
                if not err.reason.retry:
                    raise
                state = err.reason.kind
            if entry.status != "pending":
                break
            rest = min(pause, max(0.0, settings.wait_limit_s - (time.monotonic() - started)))
            task.advance(rest, status=state)
            time.sleep(rest)
            pause = min(_GROWTH * pause, settings.poll_longest_s)
    return entry
