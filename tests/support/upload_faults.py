"""Faults of a submission, their outcomes, and the resulting states of the ledger.

`python -m tests.support.upload_faults` runs every case and prints them as a table.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oof.errors import SubmissionError
from submissions.entry import Entry
from submissions.kaggle.client import KaggleError
from submissions.upload import AlreadySentError
from tests.support.kaggle_server import LIMIT_TEXT, KaggleServer
from tests.support.submissions import Desk, make_table

FOREVER = 99
Orders = tuple[tuple[str, dict[str, Any]], ...]


def _nothing(server: KaggleServer) -> None:
    pass


def _used_up(server: KaggleServer) -> None:
    server.used_today = server.used_total = 5


def _no_team(server: KaggleServer) -> None:
    server.in_team = False


def _all_used(server: KaggleServer) -> None:
    server.limit_total = server.used_total = 100


@dataclass(frozen=True)
class Case:
    """A fault and its expected outcome.

    orders: faults for the first run (method, fault). prepare: sets the state of the server before it.
    says: pattern in the message of the first run; empty if it succeeds.
    ledger: status after the first run. made: number of submissions on the server then.
    then, then_made: the same after a second run without the fault, for all entries.
    """

    name: str
    orders: Orders = ()
    says: str = ""
    ledger: tuple[str, ...] = ("pending",)
    made: int = 1
    then: tuple[str, ...] = ("pending",)
    then_made: int = 1
    prepare: Callable[[KaggleServer], None] = _nothing
    settings: dict[str, Any] = field(default_factory=dict)


def _once(method: str, **fault: Any) -> Orders:
    return ((method, fault),)


def _always(method: str, **fault: Any) -> Orders:
    return ((method, fault | {"times": FOREVER}),)


_NOT_SENT: dict[str, Any] = {"ledger": (), "made": 0}
_FAILED: dict[str, Any] = {"ledger": ("failed",), "made": 0, "then": ("failed", "pending")}

CASES = (
    Case("none"),
    Case("limits: 500 once", _once("GetSubmissionLimits", status=500)),
    Case("limits: 500 always", _always("GetSubmissionLimits", status=500), "a problem on its side", **_NOT_SENT),
    Case(
        "limits: no answer",
        _always("GetSubmissionLimits", hang_s=60),
        "in time",
        **_NOT_SENT,
        settings={"call_limit_s": 3.0},
    ),
    Case("limits: 401", _once("GetSubmissionLimits", status=401, message="Unauthenticated"), "rejected", **_NOT_SENT),
    Case("allowance of zero", (), r"used up \(5 made\).*00:00 UTC.*Nothing was sent", **_NOT_SENT, prepare=_used_up),
    Case("allowance of zero, in no team", (), "have not joined it yet", **_NOT_SENT, prepare=_no_team),
    Case("allowance of zero, in total", (), "All 100 submissions", **_NOT_SENT, prepare=_all_used),
    Case(
        "start: rules not accepted",
        _once("StartSubmissionUpload", status=403, message="You cannot submit until you accept the competition rules"),
        "Accept the rules in a browser",
        **_FAILED,
    ),
    Case("start: connection dropped once", _once("StartSubmissionUpload", drop=True)),
    Case("start: 429 once", _once("StartSubmissionUpload", status=429)),
    Case("upload: 403", _once("PUT", status=403, message="Expired", shape="html"), "403.*Expired", **_FAILED),
    Case("upload: 500 once", _once("PUT", status=500, shape="empty")),
    Case("upload: 500 always", _always("PUT", status=500, shape="empty"), "a problem on its side", **_FAILED),
    Case("upload: 503 once", _once("PUT", status=503, shape="empty")),
    Case("upload: 503 with Retry-After", _once("PUT", status=503, shape="empty", headers={"Retry-After": "0"})),
    Case("upload: 429 once", _once("PUT", status=429, shape="empty")),
    Case(
        "upload: 429 until tomorrow",
        _always("PUT", status=429, shape="empty", headers={"Retry-After": "7200"}),
        "failed .429.*too many requests.*at least 7200 s",
        **_FAILED,
    ),
    Case("upload: cut before the first byte", _once("PUT", share=0.0, drop=True)),
    Case("upload: cut midway", _once("PUT", share=0.5, drop=True)),
    # the official client itself tries again until the time is over
    Case(
        "upload: cut midway always",
        _always("PUT", share=0.5, drop=True),
        "in time",
        **_FAILED,
        settings={"upload_limit_s": 3.0},
    ),
    Case("upload: complete, answer lost", _once("PUT", drop=True, after=True)),
    Case("upload: complete, answer is no JSON", _once("PUT", raw=b"<html>", after=True)),
    Case("upload: truncated, yet taken", _once("PUT", share=0.5)),
    Case("upload: no answer", _always("PUT", hang_s=60), "in time", **_FAILED, settings={"upload_limit_s": 3.0}),
    Case("create: 400 daily limit", _once("CreateSubmission", status=400, message=LIMIT_TEXT), "used up", **_FAILED),
    Case(
        "create: 400 flat, code-only",
        _once("CreateSubmission", status=400, message="This competition only accepts Notebooks", shape="flat"),
        "dfens submit --kernel",
        **_FAILED,
    ),
    Case(
        "create: 400 closed",
        _once("CreateSubmission", status=400, message="The competition deadline has passed"),
        "accepts no submissions now",
        **_FAILED,
    ),
    Case("create: 401", _once("CreateSubmission", status=401, message="Unauthenticated"), "rejected", **_FAILED),
    Case("create: 400 empty", _once("CreateSubmission", status=400, shape="empty"), r"failed \(400\)", **_FAILED),
    Case("create: 429 once", _once("CreateSubmission", status=429)),
    Case("create: 429 once, yet done", _once("CreateSubmission", status=429, after=True)),
    Case("create: 500, not done", _once("CreateSubmission", status=500), "shows that nothing was submitted", **_FAILED),
    Case("create: 502, yet done", _once("CreateSubmission", status=502, shape="html", after=True)),
    Case("create: dropped, not done", _once("CreateSubmission", drop=True), "nothing was submitted", **_FAILED),
    Case("create: answer lost", _once("CreateSubmission", drop=True, after=True)),
    Case(
        "create: no answer, not done",
        _once("CreateSubmission", hang_s=60),
        "nothing was submitted",
        **_FAILED,
        settings={"call_limit_s": 3.0},
    ),
    Case(
        "create: no answer, yet done", _once("CreateSubmission", hang_s=60, after=True), settings={"call_limit_s": 3.0}
    ),
    Case(
        "create: no number",
        _once("CreateSubmission", raw=b'{"message":"Could not submit to competition"}'),
        "returned no number.*Could not submit",
        **_FAILED,
    ),
    Case("create: answer is no JSON, yet done", _once("CreateSubmission", raw=b"<html>", after=True)),
    Case("create: number is text, yet done", _once("CreateSubmission", raw=b'{"ref":"a","message":[]}', after=True)),
    Case("create: number is too large, yet done", _once("CreateSubmission", raw=b'{"ref":%d}' % 10**20, after=True)),
    Case("create: redirected to nowhere, yet done", _once("CreateSubmission", status=301, after=True)),
    Case("start: no address for the upload", _always("StartSubmissionUpload", raw=b"{}"), "not from Kaggle", **_FAILED),
    Case(
        "create: answer lost, and the list fails",
        _once("CreateSubmission", drop=True, after=True) + _always("ListSubmissions", status=500),
        "the ledger keeps it in doubt",
        ledger=("creating",),
    ),
    *(
        Case(
            f"create: answer lost, and the list is {name}",
            _once("CreateSubmission", drop=True, after=True) + _always("ListSubmissions", **fault),  # type: ignore[arg-type]
            "the ledger keeps it in doubt",
            ledger=("creating",),
        )
        for name, fault in {
            "redirected to nowhere": {"status": 301},
            "an error with status 200": {"raw": b'{"error":{"message":"Try later"}}'},
        }.items()
    ),
    Case(
        "create: dropped, and the list fails",
        _once("CreateSubmission", drop=True) + _always("ListSubmissions", drop=True),
        "the ledger keeps it in doubt",
        ledger=("creating",),
        made=0,
        then=("failed", "pending"),
        settings={"call_limit_s": 3.0},
    ),
)


@dataclass(frozen=True)
class Ran:
    """Outcome of a run: message (empty: submitted), entry, states of ledger and server, and Kaggle's reason."""

    message: str
    entry: Entry | None
    ledger: tuple[str, ...]
    made: int
    reason: str = ""


def run_case(case: Case, server: KaggleServer, folder: Path) -> tuple[Ran, Ran]:
    """Run a case, then run it again without its fault."""
    settings: dict[str, Any] = {"upload_limit_s": 120.0} | case.settings
    desk = Desk(server, folder, **settings)
    case.prepare(server)
    for method, fault in case.orders:
        server.fail(method, **fault)
    first = _run(desk, server)
    server.faults.clear()
    if case.prepare is not _nothing:  # the next day, the rules accepted
        server.used_today, server.in_team, server.limit_total = 0, True, None
    return first, _run(desk, server)


def _run(desk: Desk, server: KaggleServer) -> Ran:
    entry, message, reason = None, "", ""
    try:
        entry = desk.submit(make_table(200)).entry
    except KaggleError as err:
        message, reason = str(err), err.reason.kind
    except AlreadySentError as err:
        message, reason = str(err), "sent before"
    except SubmissionError as err:
        message = str(err)
    return Ran(message, entry, tuple(desk.states()), len(server.submissions), reason)


def print_table() -> None:
    """Return every case as a row of a Markdown table."""
    print("| fault | outcome | ledger | on Kaggle | the same command again | ledger | on Kaggle |")
    print("|---|---|---|---|---|---|---|")
    for case in CASES:
        server = KaggleServer()
        with tempfile.TemporaryDirectory() as folder:
            first, second = run_case(case, server, Path(folder))
        server.close()
        outcomes = [_outcome(ran) for ran in (first, second)]
        print(
            f"| {case.name} | {outcomes[0]} | {', '.join(first.ledger) or 'no entry'} | {first.made} "
            f"| {outcomes[1]} | {', '.join(second.ledger)} | {second.made} |"
        )


def _outcome(ran: Ran) -> str:
    if ran.entry is not None:
        return f"submitted as {ran.entry.ref}" + (", with a warning" if ran.entry.error else "")
    if ran.reason == "sent before":
        return "not sent again: the same bytes are on Kaggle"
    if "not known" in ran.message:
        return "in doubt"
    kind = f" ({ran.reason})" if ran.reason else ""
    return f"not submitted{kind}: {ran.message.partition('. ')[0][:110]}"


if __name__ == "__main__":
    print_table()
