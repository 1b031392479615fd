"""Tables, clients and ledgers for the tests of uploads."""

from pathlib import Path
from typing import Any

import numpy as np

from submissions.kaggle.client import KaggleClient
from submissions.ledger import Ledger
from submissions.settings import SubmissionSettings
from submissions.table import SubmissionTable
from submissions.upload import Submitted, Submitter, new_entry
from tests.support.kaggle_server import SLUG, KaggleServer

QUICK: dict[str, Any] = {
    "list_lag_s": 0.6,
    "retry_first_s": 0.05,
    "retries": 2,
    "poll_first_s": 0.05,
    "poll_longest_s": 0.1,
    "call_limit_s": 120.0,
    "stall_limit_s": 120.0,
}


def quick(**changes: Any) -> SubmissionSettings:
    """Settings with waits of milliseconds instead of seconds."""
    return SubmissionSettings(**(QUICK | changes))


def make_table(rows: int = 3, value: float = 0.5) -> SubmissionTable:
    """Make a table with a number of rows; different values give different bytes."""
    ids = np.array([f"{row:04d}" for row in range(rows)], object)
    values = np.linspace(0, value, rows)
    lines = [f"{name},{number}" for name, number in zip(ids, values, strict=True)]
    return SubmissionTable(("id,target\n" + "\n".join(lines) + "\n").encode(), ids, values, "target")


class Desk:
    """A folder from which files are submitted to a server."""

    def __init__(self, server: KaggleServer, folder: Path, url: str | Path | None = None, **settings: Any) -> None:
        self.server, self.folder = server, folder
        self.settings = quick(**settings)
        self.ledger = Ledger(url or folder / "ledger.sqlite")
        self.environment = server.environment(folder)

    def client(self, slug: str = SLUG) -> KaggleClient:
        return KaggleClient(slug, self.settings, self.environment)

    def submit(
        self,
        table: SubmissionTable | None = None,
        *,
        slug: str = SLUG,
        again: bool = False,
        per_day: int | None = None,
    ) -> Submitted:
        entry = new_entry(slug, blend="b7", message="b7 oof=0.98765")
        with self.client(slug) as client:
            submitter = Submitter(ledger=self.ledger, client=client, again=again, per_day=per_day)
            return submitter.submit_table(table or make_table(), entry, root=self.folder, folder=self.folder / "sent")

    def states(self) -> list[str]:
        """Status of each entry, oldest first."""
        return [entry.status for entry in self.ledger.list()]
