"""The official Kaggle client, run in a separate process with time limits, which can be killed."""

import base64
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from oof.errors import SubmissionError
from oof.files import atomic_path
from oof.progress import SILENT, Progress
from submissions.kaggle.client_child import boot_time
from submissions.kaggle.client_process import CallFailed, ClientProcess, Json
from submissions.kaggle.credentials import find_credentials
from submissions.kaggle.errors import ErrorContext, Failure, Reason, explain, read_reason
from submissions.kaggle.proxies import find_proxy_problem, proxy_variables
from submissions.leaderboard import parse_leaderboard
from submissions.marks import redact_message
from submissions.settings import SubmissionSettings
from submissions.states import ON_SERVER, Status

LONGEST_PAUSE_S = 120.0
_MOST_PAGES = 500


class KaggleError(SubmissionError):
    """A failed call to Kaggle; the message gives Kaggle's reason and what to do."""

    def __init__(self, message: str, reason: Reason) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Limits:
    """The team's allowance according to Kaggle: made today (UTC), in total, and allowed for the rest of the day.

    now: the time by Kaggle's clock, or None if the response had none.
    """

    today: int
    total: int
    allowed_now: int
    limited_by_total: bool
    now: datetime | None = None


@dataclass(frozen=True)
class KaggleSubmission:
    """A submission in Kaggle's list; scores are None until known, status is pending, complete or error."""

    ref: int
    date: datetime | None
    description: str
    error: str
    file_name: str
    status: Status
    public_score: float | None
    private_score: float | None
    bytes: int | None
    who: str
    team: str


class KaggleClient:
    """Calls to Kaggle for one competition.

    The process starts with the first call and ends with the `with` block; it exits by itself if
    this process dies. Calls that only read are retried if Kaggle is busy or the network fails.

    Args:
        competition: slug of the competition.
        environment: environment with credentials and proxies for the client, such as os.environ.

    Raises (every call):
        KaggleError: with Kaggle's reason, and what to do.
    """

    def __init__(
        self,
        competition: str,
        settings: SubmissionSettings,
        environment: Mapping[str, str],
        progress: Progress = SILENT,
    ) -> None:
        if not competition:
            raise SubmissionError(
                "No competition is named. Set [competition] slug in dfens.toml to the last part of its URL on Kaggle."
            )
        self.competition = competition
        self.settings = settings
        self._credentials = find_credentials(environment)
        self._redact = self._credentials.redactor.redact
        self.process = ClientProcess(self._credentials.environment)
        self._progress = progress
        self._noted: set[tuple[int, str]] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()

    # ---- calls --------------------------------------------------------------

    def whoami(self) -> Json:
        """Return user name, authentication method and version of the client."""
        return self._safely("logging in to Kaggle", "whoami")

    def limits(self) -> Limits:
        """Return the team's current allowance."""
        doing = f"querying the allowance of {self.competition}"
        answer = self._safely(doing, "limits", competition=self.competition)
        return Limits(**answer | {"now": _http_date(answer.get("now"))})

    def submissions(self) -> list[KaggleSubmission]:
        """Return all submissions of the team, newest first."""
        found: dict[int, KaggleSubmission] = {}
        for page in range(1, _MOST_PAGES):
            answer = self._safely(
                f"listing the submissions to {self.competition}",
                "submissions",
                competition=self.competition,
                page=page,
            )
            new = [self._submission(item) for item in answer["submissions"] if item["ref"] not in found]
            found |= {remote.ref: remote for remote in new}
            if not new:
                break
        return list(found.values())

    def submission(self, ref: int) -> KaggleSubmission:
        """Return one submission."""
        answer = self._safely(f"reading submission {ref}", "submission", ref=ref)
        return self._submission(answer | {"ref": ref})

    def leaderboard(self, path: Path) -> None:
        """Download the public leaderboard as Kaggle's ZIP file."""
        doing = f"downloading the leaderboard of {self.competition}"

        def check(answer: Json) -> None:
            parse_leaderboard(base64.b64decode(answer["data"]))

        answer = self._safely(doing, "leaderboard", check, competition=self.competition)
        with atomic_path(path) as part:
            part.write_bytes(base64.b64decode(answer["data"]))

    def files(self) -> dict[str, int]:
        """Return the competition's files and their sizes in bytes."""
        answer = self._safely(f"listing the files of {self.competition}", "files", competition=self.competition)
        return {item["name"]: item["bytes"] for item in answer["files"]}

    def submit(self, path: Path, message: str, on_uploaded: Callable[[], None]) -> tuple[int, str]:
        """Upload a file and submit it; return Kaggle's number (0 if there was none) and message.

        The call is made once and never retried.

        Args:
            on_uploaded: called when the file is uploaded but not yet submitted; the submission is made when
                it returns.
        """
        return self._submitted(
            "submit",
            on_uploaded,
            self.settings.upload_limit_s,
            competition=self.competition,
            path=str(path.absolute()),
            message=message,
        )

    def submit_kernel(
        self, kernel: str, version: int, file_name: str, message: str, on_uploaded: Callable[[], None]
    ) -> tuple[int, str]:
        """Submit the output of a notebook version; arguments and result as in `submit`."""
        return self._submitted(
            "submit_kernel",
            on_uploaded,
            self.settings.call_limit_s,
            competition=self.competition,
            kernel=kernel,
            version=version,
            file_name=file_name,
            message=message,
        )

    def archive_version(self) -> Json:
        """Return what identifies the version of the archive of all files on Kaggle."""
        return self._safely(
            f"querying the files of {self.competition}",
            "version",
            competition=self.competition,
            timeout_s=self.settings.stall_limit_s,
        )

    def download(self, file_name: str, path: Path, on_event: Callable[[Json], None]) -> Json:
        """Download all files as one archive (empty `file_name`) or one file to `path`; resumes a partial download.

        The call is made once; the caller decides whether to resume after a failure.
        """
        limit = self.settings.stall_limit_s

        def handle(event: Json) -> float:
            on_event(event)
            return limit

        return self._call(
            f"downloading {file_name or 'the files'} of {self.competition}",
            "download",
            max(limit, self.settings.call_limit_s),
            {
                "competition": self.competition,
                "file_name": file_name,
                "path": str(path.absolute()),
                "timeout_s": limit,
            },
            handle,
        )

    # ---- helpers ----------------------------------------------------

    def _submitted(self, name: str, on_uploaded: Callable[[], None], limit_s: float, **args: object) -> tuple[int, str]:
        def handle(event: Json) -> float:
            # another run that has got the lock since then waits for longer before it takes it for not made
            before = boot_time() + self.settings.call_limit_s
            on_uploaded()
            self.process.write({"go": True, "before": before})
            return self.settings.call_limit_s

        answer = self._call(f"submitting to {self.competition}", name, limit_s, args, handle)
        return answer["ref"], self._redact(answer["message"])

    def _safely(self, doing: str, name: str, check: Callable[[Json], None] | None = None, /, **args: object) -> Json:
        """Make a read-only call, retrying if that may help; `check` raises ValueError for an invalid answer."""
        pause = self.settings.retry_first_s
        tries = self.settings.retries
        for attempt in range(tries + 1):
            try:
                answer = self._call(doing, name, self.settings.call_limit_s, args)
                if check is not None:
                    self._check(doing, answer, check)
                return answer
            except KaggleError as err:
                reason = err.reason
                wait = reason.retry_after_s if reason.retry_after_s is not None else pause
                late = reason.kind == "timeout" and attempt >= 1
                if not reason.retry or attempt == tries or wait > LONGEST_PAUSE_S or late:
                    raise
                self._progress.note(
                    f"{doing[:1].upper()}{doing[1:]} failed ({_brief(reason)}); retrying in {wait:.0f} s."
                )
                time.sleep(wait)
                pause = min(2 * pause, LONGEST_PAUSE_S)
        raise AssertionError("the last attempt returns or raises")

    def _check(self, doing: str, answer: Json, check: Callable[[Json], None]) -> None:
        try:
            check(answer)
        except ValueError as err:  # such as a login page
            raise self._error(doing, Failure("malformed", text=str(err))) from None

    def _call(
        self, doing: str, name: str, limit_s: float, args: Json, on_event: Callable[[Json], float] | None = None
    ) -> Json:
        if self._credentials.used is None:
            raise self._error(doing, Failure("credentials"))
        try:
            return self.process.call(name, args, limit_s, on_event)
        except CallFailed as err:
            raise self._error(doing, err.failure, name) from None

    def _submission(self, item: Json) -> KaggleSubmission:
        return KaggleSubmission(
            item["ref"],
            datetime.fromisoformat(item["date"]).replace(tzinfo=UTC) if item["date"] else None,
            redact_message(item["description"], self._redact),
            self._redact(item["error"]),
            item["file_name"],
            self._status(item["ref"], item["status"]),
            _score(item["public_score"]),
            _score(item["private_score"]),
            item["bytes"],
            item["who"],
            item["team"],
        )

    def _status(self, ref: int, text: str) -> Status:
        """Return the status of a submission; one that is unknown counts as pending, and is noted once."""
        known = next((status for status in ON_SERVER if status == text), None)
        if known is None and (ref, text) not in self._noted:
            self._noted.add((ref, text))
            self._progress.note(
                f"Kaggle gives submission {ref} the status '{self._redact(text)[:80]}', which this version of dfens "
                f"does not know; it counts as pending. See "
                f"https://www.kaggle.com/competitions/{self.competition}/submissions."
            )
        return known or "pending"

    # ---- errors -------------------------------------------------------------

    def _error(self, doing: str, failure: Failure, call: str = "") -> KaggleError:
        hidden = replace(failure, body=self._redact(failure.body), text=self._redact(failure.text))
        reason = read_reason(hidden)
        if call == "submit_kernel" and reason.kind == "slug" and "competition" not in reason.said.lower():
            reason = replace(reason, kind="kernel")  # Kaggle has just given the allowance of the competition
        credentials = self._credentials
        # the client reports such a proxy in many ways, also as unusable credentials
        proxy_problem = "" if reason.status else find_proxy_problem(credentials.environment, failure.address)
        if proxy_problem and credentials.used is not None:
            reason = Reason("proxy", proxy_problem)
        problems = credentials.problems
        if (
            credentials.used is not None
            and credentials.used.kind == "oauth"
            and not Path(credentials.used.name).exists()
        ):
            problems.append(f"The Kaggle client has removed {credentials.used.name}, since its login has expired.")
        context = ErrorContext(
            doing,
            self.competition,
            [source.name for source in credentials.sources if not source.problem],
            problems,
            self._entered() if reason.kind == "slug" else None,
            proxy_variables(credentials.environment, failure.address),
            datetime.now(UTC).astimezone(),
            proxy_problem,
        )
        return KaggleError(explain(reason, context), reason)

    def _entered(self) -> list[str] | None:
        """Return the slugs of the competitions entered, for a hint; None if unavailable."""
        try:
            answer = self.process.call("entered", {}, self.settings.call_limit_s)
        except CallFailed:
            return None
        return [str(slug) for slug in answer["slugs"]]


def _brief(reason: Reason) -> str:
    return " ".join(filter(None, (reason.kind, str(reason.status or ""), reason.said[:80])))


def _score(text: str) -> float | None:
    """Return a finite number, or None for Kaggle's values without a score ("", "nan", "inf", "None")."""
    try:
        score = float(text)
    except ValueError:
        return None
    return score if math.isfinite(score) else None


def _http_date(text: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(text or "").astimezone(UTC)
    except (ValueError, OverflowError):
        return None
