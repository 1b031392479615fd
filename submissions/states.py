"""The states of a submission, and the transitions between them as data.

A submission is made at most once because of three rules:

1. Every transition is one `UPDATE … WHERE status IN sources` that must change exactly one row. A process whose
   entry was changed by another one finds out before it goes on.
2. A fenced transition runs in a transaction that proves that the right to submit is still held: on PostgreSQL the
   session that took the advisory lock, on SQLite the lock file that is still the one that others would lock.
3. `create` is committed to disk before Kaggle is asked to create the submission. Without that commit nothing is
   created; with it, only Kaggle's answer or its list of submissions ends the doubt.

`docs/submissions.md` draws this table; a test compares the two.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Status = Literal["prepared", "uploading", "creating", "failed", "pending", "complete", "error"]

IN_DOUBT: tuple[Status, ...] = ("prepared", "uploading", "creating")
ON_SERVER: tuple[Status, ...] = ("pending", "complete", "error")


@dataclass(frozen=True)
class Transition:
    """A change of state.

    sources, targets: states before and after.
    fenced: whether it needs the proof that the right to submit is still held.
    when: what has happened, in words.
    """

    sources: tuple[Status, ...]
    targets: tuple[Status, ...]
    fenced: bool
    when: str


TRANSITIONS: Mapping[str, Transition] = {
    "upload": Transition(("prepared",), ("uploading",), True, "the file is about to be uploaded"),
    "retry": Transition(("uploading", "creating"), ("uploading",), True, "nothing was created, and a retry may help"),
    "create": Transition(("uploading",), ("creating",), True, "the file is uploaded, Kaggle is about to be asked"),
    "abandon": Transition(("prepared", "uploading"), ("failed",), False, "it ended before Kaggle was asked"),
    "refuse": Transition(("creating",), ("failed",), False, "Kaggle refused it, or was never asked"),
    "miss": Transition(("creating",), ("failed",), True, "Kaggle's list has been without it for settle_s"),
    "confirm": Transition(("creating", "failed", *ON_SERVER), ON_SERVER, False, "Kaggle has it"),
}
