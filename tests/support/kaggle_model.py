"""A Kaggle of a few lines in this process, with virtual time, for tests that try thousands of faults."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from submissions.kaggle.client import KaggleError, KaggleSubmission, Limits
from submissions.kaggle.errors import Reason
from submissions.settings import SubmissionSettings
from tests.support.submissions import quick


class VirtualTime:
    """Stands in for the module `time`: sleeping takes no time, and what is due happens on the way."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._due: list[tuple[float, Callable[[], object]]] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        due = [item for item in self._due if item[0] <= self.now]
        self._due = [item for item in self._due if item[0] > self.now]
        for _, action in due:
            action()

    def later(self, seconds: float, action: Callable[[], object]) -> None:
        self._due.append((self.now + seconds, action))


@dataclass
class Plan:
    """What goes wrong in the next submission.

    uploads: how often the upload fails before it works.
    answer: number, refused (400), busy (429), lost, or empty (200 without a number).
    carried_out_s: when Kaggle makes it after a lost or empty answer; None: never.
    list_fails: how often the list of submissions cannot be read.
    """

    uploads: int = 0
    answer: str = "number"
    carried_out_s: float | None = None
    list_fails: int = 0


@dataclass
class ModelKaggle:
    """The server: what it has, and what goes wrong next."""

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
    """Calls of `KaggleClient` on a ModelKaggle."""

    competition = "model"

    def __init__(self, server: ModelKaggle, settings: SubmissionSettings | None = None) -> None:
        self.server = server
        self.settings = settings or quick(settle_s=60.0, call_limit_s=60.0, retry_first_s=1.0)
        self.process = SimpleNamespace(kill=lambda: None, held=())

    def whoami(self) -> dict[str, Any]:
        return {"user": "alice"}

    def limits(self) -> Limits:
        return Limits(0, len(self.server.submissions), 1000, False, datetime.now(UTC))

    def submissions(self) -> list[KaggleSubmission]:
        if self.server.plan.list_fails:
            self.server.plan.list_fails -= 1
            raise KaggleError("the list fails", Reason("server", "", 500, retry=True))
        return list(reversed(self.server.submissions))

    def submission(self, ref: int) -> KaggleSubmission:
        return next(item for item in self.server.submissions if item.ref == ref)

    def submit(self, path: Path, message: str, on_uploaded: Callable[[], None]) -> tuple[int, str]:
        plan, server = self.server.plan, self.server
        if plan.uploads:
            plan.uploads -= 1
            raise KaggleError("the upload broke off", Reason("network", retry=True))
        data, name = path.read_bytes(), path.name
        on_uploaded()
        answer, plan.answer = plan.answer, "number"
        if answer == "refused":
            raise KaggleError("closed", Reason("closed", "closed", 400, certain=True))
        if answer == "busy":
            raise KaggleError("busy", Reason("busy", "", 429, certain=True, retry=True))
        if answer == "number":
            return server.make(name, message, data), "done"
        if plan.carried_out_s is not None:
            server.time.later(plan.carried_out_s, lambda: server.make(name, message, data))
        if answer == "empty":
            return 0, "Could not submit"
        server.time.sleep(self.settings.call_limit_s)
        raise KaggleError("no answer", Reason("timeout", retry=True))
