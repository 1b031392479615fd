"""A minimal model of Kaggle in this process, with virtual time, for tests with thousands of faults."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from submissions.kaggle.client import KaggleError, KaggleSubmission, Limits
from submissions.kaggle.errors import Reason
from tests.support.interleaving import Due, VirtualTime
from tests.support.submissions import quick

SETTLE_S, CALL_LIMIT_S = 60.0, 60.0
LATEST_S = SETTLE_S - 1.0  # Kaggle may still carry out a request this long after its answer was lost
ANSWERS = {
    "refused": Reason("closed", "closed", 400, certain=True),
    "busy": Reason("busy", "", 429, certain=True, retry=True),
    "lost": Reason("timeout", retry=True),
}


@dataclass
class Plan:
    """The faults of the next submission.

    uploads: number of failed uploads before one succeeds.
    answer: number, refused (400), busy (429), lost, or empty (200 without a number).
    carried_out_s: seconds until Kaggle creates the submission if the answer is lost or empty; None: never.
    list_fails: number of failed requests for the list of submissions.
    """

    uploads: int = 0
    answer: str = "number"
    carried_out_s: float | None = None
    list_fails: int = 0


@dataclass
class ModelKaggle:
    """The server: its submissions, and its next faults."""

    time: VirtualTime
    plan: Plan = field(default_factory=Plan)
    submissions: list[KaggleSubmission] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)
    numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1000))

    def make(self, file_name: str, description: str, data: bytes) -> int:
        ref = next(self.numbers)
        now = datetime.now(UTC)
        self.submissions.append(
            KaggleSubmission(
                ref, now, description, "", file_name, "pending", None, None, len(data), "alice", "the team"
            )
        )
        self.data.append(data)
        return ref


class ModelClient:
    """Calls of `KaggleClient` on a ModelKaggle; other runs may proceed before each.

    plan: faults of this client; by default those of the server. made: refs of the submissions that it requested.
    """

    competition = "model"

    def __init__(self, server: ModelKaggle, plan: Plan | None = None) -> None:
        self.server = server
        self.plan = plan or server.plan
        self.settings = quick(list_lag_s=SETTLE_S, call_limit_s=CALL_LIMIT_S, retry_first_s=1.0, lock_limit_s=300.0)
        self.process = SimpleNamespace(kill=lambda: None, held=())
        self.made: list[int] = []
        self._pending: list[Due] = []

    def killed(self) -> None:
        """Simulate the end of the client: its pending requests are carried out soon, or never."""
        for request in self._pending:
            request.at = min(request.at, self.server.time.now + LATEST_S)

    def whoami(self) -> dict[str, Any]:
        self.server.time.pause()
        return {"user": "alice"}

    def limits(self) -> Limits:
        self.server.time.pause()
        return Limits(0, len(self.server.submissions), 1000, False, datetime.now(UTC))

    def submissions(self) -> list[KaggleSubmission]:
        self.server.time.pause()
        if self.plan.list_fails:
            self.plan.list_fails -= 1
            raise KaggleError("the list fails", Reason("server", "", 500, retry=True))
        return list(reversed(self.server.submissions))

    def submission(self, ref: int) -> KaggleSubmission:
        self.server.time.pause()
        return next(item for item in self.server.submissions if item.ref == ref)

    def submit(self, path: Path, message: str, on_uploaded: Callable[[], None]) -> tuple[int, str]:
        plan, time = self.plan, self.server.time
        time.pause()
        if plan.uploads:
            plan.uploads -= 1
            raise KaggleError("the upload broke off", Reason("network", retry=True))
        data, name = path.read_bytes(), path.name
        time.pause()
        on_uploaded()
        answer, plan.answer = plan.answer, "number"

        def make() -> int:
            self.made.append(self.server.make(name, message, data))
            return self.made[-1]

        if answer == "number":
            ref = make()
            time.pause()
            return ref, "done"
        if answer in ("lost", "empty") and plan.carried_out_s is not None:
            # requests are carried out within LATEST_S of their answers
            latest_s = LATEST_S if answer == "empty" else CALL_LIMIT_S + LATEST_S
            self._pending.append(time.later(min(plan.carried_out_s, latest_s), make))
        time.sleep(CALL_LIMIT_S if answer == "lost" else 0.0)
        if answer == "empty":
            return 0, "Could not submit"
        raise KaggleError(f"no number ({ANSWERS[answer].kind})", ANSWERS[answer])
