"""Interpret failed calls to Kaggle, and give advice for each case."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from difflib import get_close_matches
from html import unescape
from typing import Any, Literal

from oof.errors import disk_remedy

Kind = Literal[
    "rules",
    "slug",
    "daily_limit",
    "total_limit",
    "credentials",
    "closed",
    "code_only",
    "kernel",
    "file",
    "storage",
    "refused",
    "busy",
    "server",
    "proxy",
    "tls",
    "network",
    "timeout",
    "late",
    "malformed",
    "system",
    "client",
]
_SITE = "https://www.kaggle.com/competitions"
_LONGEST = 400

# Kaggle's messages as reported by users (github.com/Kaggle/kaggle-cli issues 21, 177, 488, 530, 555);
# the order matters: the message about the allowance mentions neither rules nor a deadline
_WORDS: tuple[tuple[Kind, str], ...] = (
    ("file", r"\b\d+(\.\d+)? ?[kmg]i?b\b|(file|submission) (is |was )?too (large|big)"),
    ("total_limit", r"total submission (allowance|limit)|maximum number of submissions for this competition"),
    ("daily_limit", r"daily submission|submissions? (allowance|limit)|per day|too many submissions today"),
    (
        "code_only",
        r"code competition|kernels? only|notebooks? only|only accepts? .*(kernel|notebook)|from (kernels|notebooks)",
    ),
    ("kernel", r"(kernel|notebook)\b.* (not found|does not exist)"),
    ("rules", r"accept.* rules|rules.* accept"),
    (
        "closed",
        r"deadline|no longer accepting|has (ended|closed|finished)|is (over(?! (the|your|its|a) )|closed|finished)"
        r"|not accepting|disabled",
    ),
    ("credentials", r"unauthenticated|unauthori[sz]ed|invalid (token|credential|api key)|must be (logged|signed) in"),
    ("file", r"\b(columns?|rows?|header|csv)\b"),
    (
        "slug",
        r"(competition|resource|page)( [\w'-]+)?( was| is)? not found|permission '?competitions\.\w+'? was denied",
    ),
)


@dataclass(frozen=True)
class Failure:
    """A failed call, as reported by the client's process.

    kind: http (Kaggle responded), connection, proxy, tls, timeout, late (not sent, since too much time had passed),
        malformed (an invalid response), credentials (none usable), system (this machine: disk, permissions,
        settings), missing (a package), died (the process), other.
    status, body, retry_after: of an HTTP response. text: message of the client. errno: error number of kind system,
        None if the operating system did not report one. method, address: of the request (scheme and host), empty if
        unknown.
    """

    kind: str
    status: int = 0
    body: str = ""
    text: str = ""
    retry_after: str | None = None
    errno: int | None = None
    method: str = ""
    address: str = ""


@dataclass(frozen=True)
class Reason:
    """The reason of a failed call.

    kind: determines the advice. said: Kaggle's own words, may be empty. status: HTTP status, 0 without a response.
    certain: whether the request was certainly not processed. retry: whether a retry may help.
    retry_after_s: the time that Kaggle asks to wait, or None. errno: see `Failure`.
    """

    kind: Kind
    said: str = ""
    status: int = 0
    certain: bool = False
    retry: bool = False
    retry_after_s: float | None = None
    errno: int | None = None


def read_reason(failure: Failure) -> Reason:
    """Return the reason of a failed call, from any of the forms of Kaggle's responses."""
    if failure.kind == "http":
        return _of_answer(failure)
    kinds: Mapping[str, Kind] = {
        "proxy": "proxy",
        "tls": "tls",
        "timeout": "timeout",
        "late": "late",
        "connection": "network",
        "malformed": "malformed",
        "credentials": "credentials",
        "system": "system",
    }
    kind = kinds.get(failure.kind, "client")
    return Reason(
        kind,
        _short(failure.text),
        certain=kind == "late",
        retry=kind in ("network", "timeout", "malformed"),
        errno=failure.errno,
    )


def said_in(body: str) -> str:
    """Extract Kaggle's message from a body (nested or flat JSON, HTML, text), or return an empty string.

    >>> said_in('{"error":{"code":400,"message":"No more today","status":"FAILED_PRECONDITION"}}')
    'No more today'
    >>> said_in('{"code":403,"message":"Accept the rules"}')
    'Accept the rules'
    """
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        title = re.search(r"(?is)<title[^>]*>(.*?)</title>", body)
        text = title.group(1) if title else re.sub(r"(?s)<[^>]+>", " ", body)
        return _short(unescape(text))
    for _ in range(3):
        if isinstance(value, dict):
            value = next((value[key] for key in ("error", "message", "errorMessage", "detail") if value.get(key)), "")
    return _short(value if isinstance(value, str) else "")


def _of_answer(failure: Failure) -> Reason:
    said = said_in(failure.body)
    status = failure.status
    after = _seconds(failure.retry_after)
    kind: Kind = next((kind for kind, words in _WORDS if re.search(words, said, re.IGNORECASE)), "refused")
    if status < 400:
        if not _is_message(failure.body):
            return Reason("malformed", said, status)  # redirects that do not end
        kind = "server" if kind == "refused" else kind  # such as one of a maintenance
        return Reason(kind, said, status, retry=kind == "server")
    if status == 429:
        return Reason("busy", said, status, certain=True, retry=True, retry_after_s=after)
    if status >= 500 or status == 408:
        return Reason("server", said, status, retry=True, retry_after_s=after)
    if status == 407:
        return Reason("proxy", said, status, certain=True)
    if failure.method in ("GET", "PUT"):  # of Kaggle's own calls, each is a POST
        kind = "storage"
    elif status == 401:
        kind = "credentials"
    elif status == 404 and kind not in ("closed", "code_only", "kernel"):
        kind = "slug"
    elif status == 403 and kind == "refused":
        kind = "slug" if not said or said.lower() == "forbidden" else "refused"
    return Reason(kind, said, status, certain=400 <= status < 500)


def _is_message(body: str) -> bool:
    """Return whether a body is a JSON object with a message, as Kaggle's errors are."""
    try:
        return isinstance(json.loads(body), dict) and bool(said_in(body))
    except (ValueError, RecursionError):
        return False


def _seconds(retry_after: str | None) -> float | None:
    try:
        wait = float(retry_after or "")
    except ValueError:
        return None
    return max(0.0, wait) if math.isfinite(wait) else None


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


@dataclass(frozen=True)
class ErrorContext:
    """What a message needs in addition to the reason.

    doing: what was attempted, e.g. "submitting to multi-ffdi". sources: usable credentials, in the client's order.
    problems: sentences on the unusable credentials.
    entered: slugs of the competitions entered, None if unknown.
    proxies: names of the variables that set a proxy. proxy_problem: what is wrong with the proxy's URL, or empty.
    now: current time with the local time zone.
    """

    doing: str
    competition: str
    sources: Sequence[str]
    problems: Sequence[str]
    entered: Sequence[str] | None
    proxies: Sequence[str]
    now: datetime
    proxy_problem: str = ""


def explain(reason: Reason, at: ErrorContext) -> str:
    """Return the message: what was attempted, what Kaggle said, what to do next."""
    head = f"{at.doing[:1].upper()}{at.doing[1:]} failed"
    head += f" ({reason.status})" if reason.status else ""
    speaker = "Kaggle's storage" if reason.kind == "storage" else "Kaggle"
    quoted = f"{head}: {speaker} says “{reason.said}”." if reason.status and reason.said else f"{head}."
    return f"{quoted} {_advice(reason, at)}"


def _advice(reason: Reason, at: ErrorContext) -> str:
    link = f"{_SITE}/{at.competition}"
    plain = f" ({reason.said})" if reason.said and not reason.status else ""
    match reason.kind:
        case "rules":
            return f"Accept the rules in a browser at {link}/rules, then run the same command again."
        case "slug":
            return _slug_advice(at, link)
        case "daily_limit":
            return f"Today's submissions are used up; the count starts again {reset_time(at.now)}."
        case "total_limit":
            return f"All submissions that this competition allows are used up; see {link}/submissions."
        case "credentials":
            return _credentials_advice(at, plain)
        case "closed":
            return f"The competition accepts no submissions now. See {link} for whether it allows late ones."
        case "code_only":
            return (
                "This competition accepts only notebooks. Push one whose output is the submission file, then run "
                "dfens submit --kernel OWNER/SLUG --kernel-version N --file NAME."
            )
        case "kernel":
            return (
                "Kaggle has no such notebook version or output file, or it is not yours. Open the notebook on "
                "https://www.kaggle.com/code: the version must have run to its end, with this file as output. Correct "
                "--kernel, --kernel-version or --file, then run dfens submit again."
            )
        case "file":
            return (
                f"Kaggle does not accept this file. Correct what it names (see {link}/data for the sample submission), "
                f"then submit the corrected file."
            )
        case "storage":
            return (
                "The host that stores files for Kaggle refused the request; the competition and your credentials are "
                "not the cause. Run the same command again; if this continues, a firewall or proxy may block the host."
            )
        case "busy":
            pause = f"at least {reason.retry_after_s:.0f} s" if reason.retry_after_s else "a few minutes"
            return f"Kaggle got too many requests from this account or network. Wait {pause}, then run it again."
        case "server":
            return "Kaggle has a problem on its side. Wait a few minutes, then run the same command again."
        case "proxy":
            if at.proxy_problem:
                return (
                    f"The proxy cannot be used: {at.proxy_problem}. Set it to http://HOST:PORT (characters such as "
                    f"@ : / in a password as %40 %3A %2F), or unset it."
                )
            set_by = ", ".join(at.proxies) or "the system"
            return f"The proxy set by {set_by} did not pass on the request{plain}. Correct the proxy, or unset it."
        case "tls":
            return (
                f"The certificate is not trusted{plain}. A proxy that intercepts TLS needs its certificate in "
                f"REQUESTS_CA_BUNDLE; a wrong clock can cause this too."
            )
        case "network":
            by = f" through the proxy set by {', '.join(at.proxies)}" if at.proxies else ""
            return f"Kaggle could not be reached{by}{plain}. Check the network, then run the same command again."
        case "timeout":
            return (
                f"Kaggle did not respond in time{plain}. Run the same command again; [submissions] call_limit_s and "
                f"upload_limit_s set how long to wait."
            )
        case "late":
            return (
                "This machine was suspended, or dfens was stopped, after the upload, so Kaggle was not asked to make "
                "the submission: another run may have made it since. Run the same command again; it looks first."
            )
        case "malformed":
            return (
                f"The response was not from Kaggle{plain}; the login page of a network or a proxy may have "
                f"intercepted the request. Open {link} in a browser, then run the same command again."
            )
        case "system":
            remedy = disk_remedy(reason.errno) or "Correct what is named, then run the same command again."
            return f"The error occurred on this machine, not at Kaggle{plain}. {remedy}"
        case "client":
            return f"The Kaggle client failed{plain}. Run dfens doctor, and pip install --upgrade kaggle six."
        case _:
            return f"See {link} for the requirements of this competition, then run the same command again."


def _slug_advice(at: ErrorContext, link: str) -> str:
    slug = at.competition
    if at.entered is not None and slug in at.entered:
        return f"You have entered '{slug}', so this may be a limit of your account; see {link}."
    nearest = get_close_matches(slug, at.entered or (), n=1, cutoff=0.6)
    if nearest:
        return (
            f"You have not entered a competition '{slug}'; did you mean '{nearest[0]}'? "
            f"Correct [competition] slug in dfens.toml."
        )
    listed = f" You have entered: {', '.join(sorted(at.entered)[:8])}." if at.entered else ""
    return (
        f"The competition '{slug}' does not exist or you have not entered it.{listed} Correct [competition] slug in "
        f"dfens.toml, or enter it and accept its rules at {link}/rules."
    )


def _credentials_advice(at: ErrorContext, plain: str) -> str:
    make = "Create a new token on kaggle.com under Settings, API, and save it as ~/.kaggle/access_token"
    if not at.sources or (at.problems and not plain):
        problems = " ".join(at.problems) or "No Kaggle credentials were found."
        return f"{problems} {make} (chmod 600)."
    others = (
        f" It takes precedence over {', '.join(at.sources[1:])}, so remove it to use these."
        if len(at.sources) > 1
        else ""
    )
    more = " ".join([*at.problems, make])
    return f"The credentials from {at.sources[0]} were used but rejected{plain}.{others} {more}."


def reset_time(now: datetime) -> str:
    """Return when Kaggle's day ends, in UTC and in local time.

    >>> reset_time(datetime(2026, 5, 1, 21, 48, tzinfo=UTC))
    'in 2 h 12 min (00:00 UTC)'
    """
    tomorrow = datetime.combine(now.astimezone(UTC).date() + timedelta(days=1), time(), UTC)
    minutes = -int(-(tomorrow - now).total_seconds() // 60)
    local = tomorrow.astimezone(now.tzinfo)
    at = f"00:00 UTC, {local:%H:%M} local time" if local.utcoffset() else "00:00 UTC"
    return f"in {minutes // 60} h {minutes % 60} min ({at})"
