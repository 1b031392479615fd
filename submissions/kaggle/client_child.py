"""The process that runs the official Kaggle client; it reads calls as JSON lines on stdin and responds on stdout.

The client has no timeouts, prints to stdout and may exit; in its own process it can be
killed safely. Started as a file (`python -P client_child.py`), it imports nothing from
dfens. A closed stdin means that the parent has died: the process then exits at once, so that an
upload never outlives the process that writes the ledger.

    -> {"call": "limits", "args": {"competition": "…"}}
    <- {"event": "…", …}            any number of them; "ready" once the client is loaded and logged in
    <- {"answer": {…}}  or  {"failure": {"kind": "http", "status": 400, "body": "…", …}}

A submission has two steps: the file is uploaded and `{"event": "uploaded"}` is sent; the
submission itself is made only after the parent has responded with `{"go": true, "before": …}`, and
only before this time by `boot_time`.
"""

import base64
import contextlib
import errno
import hashlib
import io
import json
import os
import queue
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_BODY = 20_000
_CHUNK = 1 << 16  # small, so that a slow connection is not mistaken for a dead one
_HASH_CHUNK = 1 << 20
_REPORT_EVERY_S = 0.2
_UPLOAD_TRIES = 4
_PAGE = 100
# words of requests about the address of a request, which comes from Kaggle, and not about that of a proxy
_NO_ADDRESS = re.compile(r"^(No connection adapters were found for|Invalid URL )")
_MOST_PAGES = 1000
_OF_THIS_MACHINE = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.EMFILE,
    errno.EIO,
)

Json = dict[str, Any]


def boot_time() -> float:
    """Return seconds by a clock of this machine, the same in all processes, that also runs while it is suspended."""
    # on macOS there is no CLOCK_BOOTTIME, and CLOCK_MONOTONIC runs on; time.monotonic does not on either
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class _Line:
    """The two pipes to the parent."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)  # output of the client goes to stderr
        # the client exits with site's exit(), which closes sys.stdin and would wait forever for a thread reading it
        self._from_parent = os.fdopen(os.dup(0), "rb")
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        self._in: queue.Queue[Json] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._from_parent:
            self._in.put(json.loads(line))
        os._exit(0)

    def next(self) -> Json:
        return self._in.get()

    def send(self, message: Json) -> None:
        try:
            self._out.write(json.dumps(message) + "\n")
            self._out.flush()
        except BrokenPipeError:
            os._exit(0)


class _Failed(Exception):
    """A failure that is already in the form expected by the parent."""

    def __init__(self, failure: Json) -> None:
        self.failure = failure


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the parent
    line = _Line()
    traffic = _Traffic()
    calls: _Calls | None = None
    while True:
        message = line.next()
        try:
            traffic.answers = 0
            if calls is None:
                calls = _Calls(line, traffic)
                line.send({"event": "ready"})
            answer = getattr(calls, message["call"])(**message["args"])
            if traffic.answers and 300 <= traffic.last.status_code < 400:
                raise ValueError(f"a redirect without a target ({traffic.last.status_code})")  # the client accepts it
        except BaseException as err:  # including SystemExit: the client exits if it finds no credentials
            failure = _failure(err, answered=traffic.answers > 0, logged_in=calls is not None)
            line.send({"failure": {"address": _address(err), **failure}})
        else:
            line.send({"answer": answer})


class _Traffic:
    """Network traffic: number of responses in this call, the last response, the last response to an upload."""

    answers = 0
    last: Any = None
    last_put: Any = None


def _failure(err: BaseException, *, answered: bool, logged_in: bool) -> Json:
    """Return a description of an error as plain values.

    answered: whether there was a response in this call; otherwise it cannot have been malformed.
    """
    if isinstance(err, _Failed):
        return err.failure
    if isinstance(err, SystemExit):
        return {"kind": "credentials", "text": "the client found no usable credentials"}
    try:
        from requests import exceptions
    except ImportError as missing:
        return {"kind": "missing", "text": str(missing)}
    text = _words(err)
    response = getattr(err, "response", None)
    if response is not None:  # a 4xx response is falsy
        return _http_failure(response)
    if isinstance(err, ImportError):
        return {"kind": "missing", "text": text}
    if isinstance(err, exceptions.ProxyError):
        # a proxy that accepts a connection and then loses it is not misconfigured
        lost = "RemoteDisconnected" in str(err) or "ConnectionReset" in str(err)
        return {"kind": "connection" if lost else "proxy", "text": text}
    if isinstance(err, exceptions.SSLError):
        return {"kind": "tls", "text": text}
    if isinstance(err, exceptions.Timeout):
        return {"kind": "timeout", "text": text}
    if isinstance(err, exceptions.InvalidSchema | exceptions.InvalidURL) and _NO_ADDRESS.search(str(err)):
        return {"kind": "malformed", "text": "a redirect to an invalid address"}
    if isinstance(err, exceptions.InvalidProxyURL | exceptions.InvalidURL | exceptions.InvalidSchema):
        return {"kind": "proxy", "text": text}
    if isinstance(err, ValueError | KeyError | TypeError | AttributeError | RecursionError):  # also of invalid JSON
        if answered:
            return {"kind": "malformed", "text": text}
        # nothing was sent: the request of this machine is invalid
        return {"kind": "credentials" if not logged_in or "header" in text.lower() else "system", "text": text}
    if isinstance(err, exceptions.RequestException):
        return {"kind": "connection", "text": text}
    if isinstance(err, OSError) and "certificate bundle" in text:
        return {"kind": "system", "text": f"{text} (see REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE)"}
    if isinstance(err, OSError) and err.errno in _OF_THIS_MACHINE:
        return {"kind": "system", "text": f"{err.filename or 'a file'}: {os.strerror(err.errno)}", "errno": err.errno}
    return {"kind": "other", "text": text}


def _address(err: BaseException) -> str:
    """Return scheme and host of the request that failed, or an empty string if unknown."""
    with contextlib.suppress(AttributeError, ValueError):
        parts = urlsplit(err.request.url)  # type: ignore[attr-defined]
        return f"{parts.scheme}://{parts.hostname}" if parts.hostname else ""
    return ""


def _words(err: BaseException) -> str:
    """Return the message of the innermost error, since the outer ones of a connection repeat the URL."""
    inner: Any = err
    for _ in range(6):
        deeper = [getattr(inner, "reason", None), getattr(inner, "original_error", None), *inner.args]
        found = next((item for item in deeper if isinstance(item, BaseException)), None)
        if found is None:
            break
        inner = found
    text = str(inner).rpartition(">: ")[2].rpartition("): ")[2]  # after "<…object at 0x…>: " or "HTTPConnection(…): "
    return f"{type(inner).__name__}: {text}"


def _http_failure(response: Any) -> Json:
    try:
        body = response.text[:_BODY]
    except Exception as err:  # a truncated body has less information, but the status is known
        body = f"({type(err).__name__})"
    return {
        "kind": "http",
        "status": response.status_code,
        "method": response.request.method,
        "body": body,
        "retry_after": _retry_after(response.headers),
    }


def _retry_after(headers: Any) -> str | None:
    """Return the header Retry-After in seconds; a date is converted by the server's own clock."""
    text: str | None = headers.get("Retry-After")
    with contextlib.suppress(KeyError, TypeError, ValueError):  # there is none, or it is a number
        return str(
            (parsedate_to_datetime(headers["Retry-After"]) - parsedate_to_datetime(headers["Date"])).total_seconds()
        )
    return text


class _Calls:
    """The calls available to the parent, one per method."""

    def __init__(self, line: _Line, traffic: _Traffic) -> None:
        self._line, self._traffic = line, traffic
        import requests

        calls = self
        plain_send = requests.Session.send

        def send(session: Any, request: Any, **kwargs: Any) -> Any:
            response = plain_send(session, request, **kwargs)
            traffic.answers += 1
            traffic.last = response
            if request.method == "PUT":
                traffic.last_put = response  # the client discards it, including the reason of a refusal
            return response

        requests.Session.send = send  # type: ignore[method-assign,assignment]
        import kaggle  # logs in; without credentials it prints a message and continues
        from kaggle.api.kaggle_api_extended import KaggleApi, ResumableUploadResult
        from urllib3.connection import HTTPConnection

        self._before: float | None = None
        plain_request = HTTPConnection.request

        def request(connection: Any, *args: Any, **kwargs: Any) -> None:
            calls._check_time()  # for https, the connection is open by now
            plain_request(connection, *args, **kwargs)

        HTTPConnection.request = request  # type: ignore[method-assign,assignment]
        from kagglesdk.competitions.types.submission_status import SubmissionStatus
        from kagglesdk.kaggle_object import EnumSerializer
        from urllib3.util import Retry

        plain_enum = EnumSerializer._from_str

        def enum(kind: Any, text: Any) -> Any:
            # it fails for a status that it does not know, or takes one for another that ends in the same letters
            return SubmissionStatus.PENDING if kind is SubmissionStatus else plain_enum(kind, text)

        EnumSerializer._from_str = staticmethod(enum)
        # else an upload would wait inside the client, however long Retry-After is
        Retry.RETRY_AFTER_STATUS_CODES = frozenset()

        class Api(KaggleApi):  # type: ignore[misc]  # it ships no types
            def upload_complete(self, path: str, url: str, quiet: bool, resume: bool = False) -> Any:
                if not url.startswith(("http://", "https://")):
                    raise ValueError("it has no address for the upload")  # the client would try it again and again
                traffic.last_put = None
                printed = io.StringIO()
                for attempt in range(_UPLOAD_TRIES):
                    with contextlib.redirect_stdout(printed):
                        result = super().upload_complete(path, url, quiet, resume=attempt > 0)
                    if result != ResumableUploadResult.INCOMPLETE:
                        break
                    time.sleep(0.2 * 3**attempt)
                if result != ResumableUploadResult.COMPLETE:
                    refused = traffic.last_put
                    raise _Failed(
                        _http_failure(refused)
                        if refused is not None and refused.status_code >= 400
                        else {"kind": "connection", "text": f"the upload was interrupted: {printed.getvalue().strip()}"}
                    )
                calls._confirm()
                return result

        self._requests = requests
        self._version = str(kaggle.__version__)
        self._api = Api()
        if kaggle.api._authenticated:
            self._api.config_values = kaggle.api.config_values
        else:
            self._api.authenticate()  # again, for its error

    def _confirm(self) -> None:
        self._line.send({"event": "uploaded"})
        response = self._line.next()
        if not response.get("go"):
            raise _Failed({"kind": "other", "text": "cancelled before the submission was made"})
        self._before = response["before"]

    @contextlib.contextmanager
    def _in_time(self) -> Iterator[None]:
        """Limit the time of requests after `_confirm` to the end of the block."""
        try:
            yield
        finally:
            self._before = None

    def _check_time(self) -> None:
        """Raise if the submission is about to be requested so late that another run may take it for not made."""
        if self._before is not None and boot_time() > self._before:
            raise _Failed({"kind": "late"})

    def _refuse_message(self) -> None:
        """Raise the failure if the last response is only a message, which the client takes for an empty answer."""
        body = self._traffic.last.json()
        if isinstance(body, dict) and body and body.keys() <= {"message", "error", "code", "status", "details"}:
            raise _Failed(_http_failure(self._traffic.last))

    @contextlib.contextmanager
    def _competitions(self) -> Iterator[Any]:
        with self._api.build_kaggle_client() as client:
            yield client.competitions.competition_api_client

    # ---- calls --------------------------------------------------------------

    def whoami(self) -> Json:
        values = self._api.config_values
        return {"user": values.get("username") or "", "method": values.get("auth_method"), "version": self._version}

    def limits(self, competition: str) -> Json:
        found = self._api.competition_get_submission_limits(competition)
        self._refuse_message()
        return {
            "today": _integer(found.num_today),
            "total": _integer(found.num_total),
            "allowed_now": _integer(found.num_allowed_now),
            "limited_by_total": bool(found.limited_by_total),
            "now": self._traffic.last.headers.get("Date"),
        }

    def submit(self, competition: str, path: str, message: str) -> Json:
        with self._in_time():
            answer = self._api.competition_submit(path, message, competition, quiet=True)
        return {"ref": _integer(answer.ref), "message": str(answer.message or "")}

    def submit_kernel(self, competition: str, kernel: str, version: int, file_name: str, message: str) -> Json:
        with self._in_time():
            self._confirm()
            answer = self._api.competition_submit_code(file_name, message, competition, kernel, version, quiet=True)
        return {"ref": _integer(answer.ref), "message": str(answer.message or "")}

    def submissions(self, competition: str, page: int) -> Json:
        found = self._api.competition_submissions(competition, page_number=page, page_size=_PAGE)
        self._refuse_message()
        body = self._traffic.last.json()
        items = body.get("submissions") if isinstance(body, dict) else None
        is_list = isinstance(items, list) and all(isinstance(item, dict) for item in items)
        if not is_list and body not in ({}, {"nextPageToken": ""}):
            raise ValueError("it is not a list of submissions")  # the client takes it for an empty list
        if len(found or []) != len(items or []) or not all(_integer(item.ref) for item in found or []):
            raise ValueError("it is a list of submissions of which some have no number")
        listed = [_submission(item, raw) for item, raw in zip(found or [], items or [], strict=True)]
        return {"submissions": listed}

    def submission(self, ref: int) -> Json:
        from kagglesdk.competitions.types.competition_api_service import ApiGetSubmissionRequest

        with self._competitions() as client:
            request = ApiGetSubmissionRequest()
            request.ref = ref
            answer = client.get_submission(request)
        self._refuse_message()
        found = _submission(answer, self._traffic.last.json())
        if found["ref"] not in (0, ref):
            raise ValueError(f"it is about submission {found['ref']}")
        return found

    def entered(self) -> Json:
        found = self._api.competitions_list(group="entered", page_size=_PAGE)
        return {"slugs": [str(item.ref).rstrip("/").rpartition("/")[2] for item in found.competitions]}

    def files(self, competition: str) -> Json:
        found: list[Json] = []
        token = None
        for _ in range(_MOST_PAGES):
            page = self._api.competition_list_files(competition, page_token=token, page_size=1000)
            self._refuse_message()
            found += [{"name": str(item.name), "bytes": _integer(item.total_bytes)} for item in page.files or []]
            token = page.next_page_token
            if not token:
                return {"files": found}
        raise ValueError(f"the list of files does not end after {_MOST_PAGES} pages")

    def leaderboard(self, competition: str) -> Json:
        from kagglesdk.competitions.types.competition_api_service import ApiDownloadLeaderboardRequest

        with self._competitions() as client:
            request = ApiDownloadLeaderboardRequest()
            request.competition_name = competition
            return {"data": base64.b64encode(client.download_leaderboard(request).content).decode()}

    def version(self, competition: str, timeout_s: float) -> Json:
        """Return the facts by which `download` recognises the current version of the archive of all files."""
        with self._asked(competition, "", timeout_s) as first:
            return _facts(first)

    def download(self, competition: str, file_name: str, path: str, timeout_s: float) -> Json:
        """Download the archive of all files (or one file) to `path`, resuming after an existing part.

        `path`.json records what the part belongs to; the part of another version is downloaded again.
        """
        with self._asked(competition, file_name, timeout_s) as first, _naming(Path(path).parent):
            return self._stream(first, Path(path), timeout_s)

    @contextlib.contextmanager
    def _asked(self, competition: str, file_name: str, timeout_s: float) -> Iterator[Any]:
        """Request the archive of all files (or one file); the response is closed at the end."""
        from kagglesdk.competitions.types.competition_api_service import (
            ApiDownloadDataFileRequest,
            ApiDownloadDataFilesRequest,
        )

        with self._competitions() as client:
            if file_name:
                one = ApiDownloadDataFileRequest()
                one.competition_name, one.file_name = competition, file_name
                first = client.download_data_file(one)
            else:
                every = ApiDownloadDataFilesRequest()
                every.competition_name = competition
                first = client.download_data_files(every)
            if first.headers.get("Content-Encoding", "identity") != "identity":
                first.close()  # its bytes would not belong to the file
                headers = {**first.request.headers, "Accept-Encoding": "identity"}
                first = self._requests.get(first.url, headers=headers, stream=True, timeout=timeout_s)
                first.raise_for_status()
            with contextlib.closing(first):
                yield first

    def _stream(self, first: Any, part: Path, timeout_s: float) -> Json:
        facts_path = part.with_name(part.name + ".json")
        facts = _facts(first)
        validator, total = facts["validator"], facts["total"]
        have = part.stat().st_size if part.exists() else 0
        try:
            known = json.loads(facts_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # missing, or truncated by a kill
            known = None
        if known != facts or not validator or (total is not None and have > total):
            have = 0
        self._line.send({"event": "begin", "total": total, "have": have})
        response = first
        if have and have != total:
            first.close()
            headers = {**first.request.headers, "Range": f"bytes={have}-", "If-Range": validator}
            response = self._requests.get(first.url, headers=headers, stream=True, timeout=timeout_s)
            content_range = response.headers.get("Content-Range", "")
            is_whole = content_range.rpartition("/")[2] == str(have)
            if response.status_code == 416 and is_whole:  # nothing left to download
                response.close()
                return self._checked(part, first, facts)
            resumed = response.status_code == 206 and content_range.startswith(f"bytes {have}-")
            if not resumed and response.status_code in (206, 416):  # another range, or a file that has become shorter
                response.close()
                response = self._requests.get(first.url, headers=first.request.headers, stream=True, timeout=timeout_s)
            if not resumed:
                if response.status_code != 200:
                    raise _Failed(_http_failure(response))
                have = 0
                self._line.send({"event": "begin", "total": total, "have": 0})
        if have == 0:
            part.write_bytes(b"")
            facts_path.write_text(json.dumps(facts), encoding="utf-8")
        if have != total or total == 0:
            with contextlib.closing(response), part.open("ab") as file:
                self._copy(response, file.write)
        size = part.stat().st_size
        if total is not None and size < total:
            raise _Failed({"kind": "connection", "text": f"the download was interrupted after {size} of {total} bytes"})
        return self._checked(part, first, facts)

    def _checked(self, part: Path, first: Any, facts: Json) -> Json:
        """Compare a complete file with its size and, if the server gives one, with its hash."""
        size, total = part.stat().st_size, facts["total"]
        wrong = f"{size} bytes instead of {total}" if total is not None and size != total else ""
        hashes = dict(
            item.strip().partition("=")[::2] for item in first.headers.get("x-goog-hash", "").split(",") if "=" in item
        )
        if first.headers.get("x-goog-stored-content-encoding", "identity") != "identity":
            hashes = {}  # those of the compressed bytes, which the storage has decompressed for this response
        wanted = hashes.get("md5") or first.headers.get("Content-MD5")
        if wanted and not wrong:
            found = base64.b64encode(self._md5(part)).decode()
            wrong = "a different MD5 from the server's" if found != wanted else ""
        if wrong:
            part.unlink()
            raise _Failed({"kind": "connection", "text": f"the downloaded file has {wrong}"})
        return {"bytes": size, **facts}

    def _md5(self, path: Path) -> bytes:
        """Return the MD5 of a file; reports progress, since the parent stops a download without events as stalled."""
        digest, reported = hashlib.md5(usedforsecurity=False), time.monotonic()
        with path.open("rb") as file:
            while chunk := file.read(_HASH_CHUNK):
                digest.update(chunk)
                if time.monotonic() - reported > _REPORT_EVERY_S:
                    self._line.send({"event": "progress", "bytes": 0})
                    reported = time.monotonic()
        return digest.digest()

    def _copy(self, response: Any, write: Callable[[bytes], object]) -> None:
        reported, since = time.monotonic(), 0
        try:
            for chunk in response.iter_content(_CHUNK):
                write(chunk)
                since += len(chunk)
                if time.monotonic() - reported > _REPORT_EVERY_S:
                    self._line.send({"event": "progress", "bytes": since})
                    reported, since = time.monotonic(), 0
        finally:
            self._line.send({"event": "progress", "bytes": since})


def _facts(response: Any) -> Json:
    """Return what identifies the version of a file on the server."""
    headers = response.headers
    return {
        "validator": headers.get("ETag") or headers.get("Last-Modified") or "",
        "total": int(headers["Content-Length"]) if "Content-Length" in headers else None,
        "name": response.url.split("?")[0].rpartition("/")[2],
    }


@contextlib.contextmanager
def _naming(folder: Path) -> Iterator[None]:
    """Name the folder in errors of this machine, which name a temporary file or none."""
    try:
        yield
    except OSError as err:
        if err.errno in _OF_THIS_MACHINE:
            err.filename = str(folder)
        raise


def _submission(item: Any, raw: Json) -> Json:
    """Return a submission; its status is read from the response itself, see `_Calls`."""
    date: datetime | None = item.date
    return {
        "ref": _integer(item.ref),
        "date": date.isoformat() if date else None,
        "description": str(item.description or ""),
        "error": str(item.error_description or ""),
        "file_name": str(item.file_name or ""),
        "status": re.sub("^submission_?status_?", "", str(raw.get("status") or "pending").lower()),
        "public_score": str(item.public_score or ""),
        "private_score": str(item.private_score or ""),
        "bytes": None if item.total_bytes is None else _integer(item.total_bytes),
        "who": str(item.submitted_by or item.submitted_by_ref or ""),
        "team": str(item.team_name or ""),
    }


def _integer(value: Any) -> int:
    """Return an integer of a response, 0 if there is none; the client does not check types."""
    text = str(value or 0)
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise ValueError(f"{text[:40]!r} is not an integer")
    return int(text)


if __name__ == "__main__":
    main()
