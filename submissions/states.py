"""The states of a submission, and the transitions between them as data.

A submission is made at most once because of three rules:

1. Every transition is one `UPDATE … WHERE status IN sources` that must change exactly one row. A process whose
   entry was changed by another one notices this before it continues.
2. A fenced transition runs in a transaction that proves that the submit lock is still held: on PostgreSQL in the
   session that acquired the advisory lock, on SQLite while the lock file is still the one that others would lock.
3. `create` is committed to disk before Kaggle is asked to create the submission. Without that commit nothing is
   created; after it, only Kaggle's response or its list of submissions resolves the doubt.

`docs/submissions.md` draws this table; a test compares the two.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Status = Literal["prepared", "uploading", "creating", "failed", "pending", "complete", "error"]

IN_DOUBT: tuple[Status, ...] = ("prepared", "uploading", "creating")
ON_SERVER: tuple[Status, ...] = ("pending", "complete", "error")
COUNTED: tuple[Status, ...] = ("pending", "complete")  # by Kaggle, which gives back what it cannot score


@dataclass(frozen=True)
class Transition:
    """A change of state.

    sources, targets: states before and after.
    fenced: whether it requires proof that the submit lock is still held.
    when: description of when it happens.
    """

    sources: tuple[Status, ...]
    targets: tuple[Status, ...]
    fenced: bool
    when: str


TRANSITIONS: Mapping[str, Transition] = {
    "upload": Transition(("prepared",), ("uploading",), True, "the file is about to be uploaded"),
    "retry": Transition(("uploading", "creating"), ("uploading",), True, "nothing was created, and a retry may help"),
    "create": Transition(
        ("uploading",),
        ("creating",),
        True,
        "the file is uploaded, and Kaggle is about to be asked to create the submission",
    ),
    "abandon": Transition(("prepared", "uploading"), ("failed",), False, "the run ended before Kaggle was asked"),
    "refuse": Transition(("creating",), ("failed",), False, "Kaggle refused the submission, or was never asked"),
    "miss": Transition(
        ("creating",), ("failed",), True, "the submission has been missing from Kaggle's list for list_lag_s"
    ),
    "confirm": Transition(("creating", "failed", *ON_SERVER), ON_SERVER, False, "Kaggle has the submission"),
}
