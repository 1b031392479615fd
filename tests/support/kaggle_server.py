"""A mock server of Kaggle on 127.0.0.1 with the protocol of the official client and configurable faults.

The client is configured to use http://localhost as Kaggle and this server as its HTTP proxy, so it
runs unmodified and can reach nothing else.
"""

import base64
import contextlib
import io
import json
import re
import socket
import threading
import time
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Json = dict[str, Any]

USER, KEY, TOKEN = "alice", "0123456789abcdef0123456789abcdef", "KGAT_fedcba9876543210fedcba9876543210"
SLUG = "multi-ffdi"
LIMIT_TEXT = (
    "Submission not allowed:  Your team has used its daily Submission allowance (5) today, "
    "please try again tomorrow UTC."
)


@dataclass
class Fault:
    """A fault that occurs `times` times when a method is called.

    status, message, shape: of an error response; shape nested, flat, empty or html. headers: of the response.
    after: perform the request first, then fail. drop: close the connection without a response.
    hang_s: seconds before the response. raw: bytes to return as JSON. share: of the bytes to receive or send, after
    which the connection is closed. length_off: difference of the stated Content-Length from the true one.
    flip: send a file with its first byte changed.
    """

    status: int = 0
    message: str = ""
    shape: str = "nested"
    headers: dict[str, str] = field(default_factory=dict)
    after: bool = False
    drop: bool = False
    hang_s: float = 0.0
    raw: bytes | None = None
    share: float | None = None
    length_off: int = 0
    flip: bool = False
    times: int = 1


@dataclass
class Submission:
    """A submission on the server."""

    ref: int
    file_name: str
    description: str
    data: bytes
    status: str = "PENDING"
    public_score: str = ""
    private_score: str = ""
    error: str = ""
    polls: int = 0
    date: datetime = field(default_factory=lambda: datetime.now(UTC))
    team_name: str = "the team"
    who: str = USER


class _Dropped(Exception):
    """Raised to close the connection without a response."""


class KaggleServer:
    """The server and its state; change the fields to change its behaviour."""

    def __init__(self) -> None:
        self.slug = SLUG
        self.entered = [SLUG, "titanic"]
        self.allowed_per_day = 5
        self.used_today = 0
        self.used_total = 0
        self.limit_total: int | None = None
        self.in_team = True
        self.polls_until_scored = 1
        self.final_status = "COMPLETE"
        self.public_score = "0.91234"
        self.page_size_cap = 100
        self.submissions: list[Submission] = []
        self.files: dict[str, bytes] = {"train.csv": b"id,target\n1,0\n"}
        self.archive: bytes | None = None
        self.etag = '"v1"'
        self.file_headers: dict[str, str] = {}
        self.ranges = True
        self.range_start: int | None = None  # first byte of a range of the right length sent instead of the requested
        self.leaderboard: list[tuple[str, str]] = [("the others", "0.95"), ("the team", "0.90"), ("late", "0.80")]
        self.calls: list[tuple[str, Json]] = []
        self.authorizations: list[str] = []
        self.gets: list[dict[str, str]] = []
        self.create_delay_s = 0.0
        self.chunk_delay_s = 0.0
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        self.blobs: dict[str, tuple[str, int, bytes]] = {}
        self.lock = threading.RLock()
        self.closing = threading.Event()
        self._http = _Server(("127.0.0.1", 0), _Handler)
        self._http.kaggle = self
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._http.server_address[1])

    def close(self) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def fail(self, method: str, **fault: Any) -> None:
        """Set a fault for the next call of a method (PUT and GET are methods too)."""
        self.faults[method].append(Fault(**fault))

    def count(self, method: str) -> int:
        """Return how often a method was called."""
        return sum(name == method for name, _ in self.calls)

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """Return an environment in which the client reaches only this server."""
        return {
            "HOME": str(home),
            "PATH": "/usr/bin:/bin",
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "http_proxy": f"http://127.0.0.1:{self.port}",
            "https_proxy": f"http://127.0.0.1:{self.port}",
            "no_proxy": "",
            "KAGGLE_USERNAME": USER,
            "KAGGLE_KEY": KEY,
            **more,
        }

    # ---- the protocol -------------------------------------------------------

    def answer(self, method: str, body: Json) -> Json:
        """Perform a method; raise _Refused for errors of Kaggle."""
        handler: Callable[[Json], Json] | None = getattr(self, f"_{_snake(method)}", None)
        if handler is None:
            raise _Refused(404, f"no method {method}")
        with self.lock:
            return handler(body)

    def _competition(self, body: Json) -> None:
        if body.get("competitionName") != self.slug:
            raise _Refused(403, "Permission 'competitions.participate' was denied", "PERMISSION_DENIED")

    def _introspect_token(self, body: Json) -> Json:
        if body.get("token") != TOKEN:
            raise _Refused(401, "Unauthenticated", "UNAUTHENTICATED")
        return {"active": True, "username": USER}

    def _list_competitions(self, body: Json) -> Json:
        names = self.entered if body.get("group", "").endswith("ENTERED") else [*self.entered, "other"]
        return {"competitions": [{"ref": f"https://www.kaggle.com/competitions/{name}"} for name in names]}

    def _allowed(self) -> int:
        left = self.allowed_per_day - self.used_today
        if self.limit_total is not None:
            left = min(left, self.limit_total - self.used_total)
        return max(0, left) if self.in_team else 0

    def _get_submission_limits(self, body: Json) -> Json:
        self._competition(body)
        return {
            "numToday": self.used_today,
            "numTotal": self.used_total,
            "numAllowedNow": self._allowed(),
            "limitedByTotal": self.limit_total is not None and self.limit_total - self.used_total <= 0,
        }

    def _start_submission_upload(self, body: Json) -> Json:
        self._competition(body)
        token = f"blob{len(self.blobs)}"
        self.blobs[token] = (body["fileName"], int(body["contentLength"]), b"")
        return {"token": token, "createUrl": f"http://localhost/upload/{token}?upload_id=abc"}

    def _create_submission(self, body: Json) -> Json:
        self._competition(body)
        if self._allowed() <= 0:
            raise _Refused(400, LIMIT_TEXT, "FAILED_PRECONDITION")
        file_name, _, data = self.blobs.pop(body["blobFileTokens"])
        return self._made(file_name, body.get("submissionDescription", ""), data)

    def _create_code_submission(self, body: Json) -> Json:
        self._competition(body)
        if self._allowed() <= 0:
            raise _Refused(400, LIMIT_TEXT, "FAILED_PRECONDITION")
        return self._made(body["fileName"], body.get("submissionDescription", ""), b"")

    def _made(self, file_name: str, description: str, data: bytes) -> Json:
        ref = 1000 + len(self.submissions)
        self.submissions.append(Submission(ref, file_name, description, data))
        self.used_today += 1
        self.used_total += 1
        return {"message": "Successfully submitted to the competition", "ref": ref}

    def add(self, file_name: str, description: str = "", score: str = "", **more: Any) -> Submission:
        """Add a submission made elsewhere."""
        self._made(file_name, description, b"x")
        made = self.submissions[-1]
        made.status, made.public_score = ("COMPLETE", score) if score else ("PENDING", "")
        for name, value in more.items():
            setattr(made, name, value)
        return made

    def _list_submissions(self, body: Json) -> Json:
        self._competition(body)
        size = min(int(body.get("pageSize", 20)), self.page_size_cap)
        page = int(body.get("page", 1))
        newest = sorted(self.submissions, key=lambda item: -item.ref)[(page - 1) * size : page * size]
        return {"submissions": [self._as_json(item) for item in newest]}

    def _get_submission(self, body: Json) -> Json:
        item = next((item for item in self.submissions if item.ref == body.get("ref")), None)
        if item is None:
            raise _Refused(404, "Not found", "NOT_FOUND")
        item.polls += 1
        if item.status == "PENDING" and item.polls > self.polls_until_scored:
            item.status = self.final_status
            if item.status == "COMPLETE":
                item.public_score = self.public_score
            else:
                item.error = "Evaluation Exception: Submission must have 240 rows"
        return self._as_json(item)

    def _as_json(self, item: Submission) -> Json:
        found = {
            "ref": item.ref,
            "date": item.date.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z",
            "description": item.description,
            "errorDescription": item.error or None,
            "fileName": item.file_name,
            "status": item.status,
            "publicScore": item.public_score,
            "privateScore": item.private_score,
            "totalBytes": len(item.data),
            "submittedBy": item.who,
            "teamName": item.team_name,
        }
        return {name: value for name, value in found.items() if value is not None}

    def _list_data_files(self, body: Json) -> Json:
        self._competition(body)
        size, start = min(int(body.get("pageSize", 20)), self.page_size_cap), int(body.get("pageToken") or 0)
        names = sorted(self.files)
        found = {
            "files": [
                {"name": name, "totalBytes": len(self.files[name]), "creationDate": "2026-01-02T03:04:05.678Z"}
                for name in names[start : start + size]
            ]
        }
        return found | ({"nextPageToken": str(start + size)} if start + size < len(names) else {})

    def zipped(self) -> bytes:
        """Return the archive of all files."""
        if self.archive is None:
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, data in self.files.items():
                    archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)  # without the time of day
            self.archive = buffer.getvalue()
        return self.archive

    def leaderboard_zip(self) -> bytes:
        """Return the leaderboard in the format of Kaggle's download."""
        rows = ["Rank,TeamId,TeamName,LastSubmissionDate,Score,SubmissionCount,TeamMemberUserNames"]
        for rank, (name, score) in enumerate(self.leaderboard, 1):
            rows.append(f"{rank},{rank},{name},2026-01-02 03:04:05,{score},1,{name.replace(' ', '')}")
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(zipfile.ZipInfo(f"{self.slug}-publicleaderboard.csv"), "\n".join(rows) + "\n")
        return buffer.getvalue()


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


class _Refused(Exception):
    def __init__(self, status: int, message: str, state: str = "", shape: str = "nested") -> None:
        self.status, self.message, self.state, self.shape = status, message, state, shape

    def body(self) -> tuple[bytes, str]:
        if self.shape == "empty":
            return b"", "text/plain"
        if self.shape == "html":
            return f"<html><head><title>{self.message}</title></head><body>…</body></html>".encode(), "text/html"
        inner = {"code": self.status, "message": self.message}
        value: Json = inner if self.shape == "flat" else {"error": inner | {"status": self.state or "UNKNOWN"}}
        return json.dumps(value).encode(), "application/json"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    kaggle: KaggleServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors from disconnected clients."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    @property
    def kaggle(self) -> KaggleServer:
        return self.server.kaggle

    def _target(self) -> str:
        target = urlsplit(self.path)
        if target.hostname not in (None, "localhost", "127.0.0.1"):
            raise AssertionError(f"a test tried to reach {target.hostname}")
        return target.path

    def do_CONNECT(self) -> None:
        self.kaggle.calls.append(("CONNECT", {"to": self.path}))
        self.send_error(403, "no way out")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        method = self._target().rpartition("/")[2]
        value = json.loads(body or b"{}")
        self.kaggle.calls.append((method, value))
        self.kaggle.authorizations.append(self.headers.get("Authorization", ""))
        with self._careful():
            fault = self._take(method)
            if fault and not fault.after and fault.share is None and not fault.length_off:
                self._do(fault)
            if not self._authorized(method):
                raise _Refused(401, "Unauthenticated", "UNAUTHENTICATED")
            if method == "CreateSubmission" and self.kaggle.create_delay_s:
                time.sleep(self.kaggle.create_delay_s)
            if method in ("DownloadDataFiles", "DownloadDataFile"):
                self.kaggle._competition(value)
                name = value.get("fileName", "")
                self._redirect(f"http://localhost/files/{name or 'archive.zip'}?signature=secret-of-the-address")
                return
            if method == "DownloadLeaderboard":
                self._give_damaged(fault, self.kaggle.leaderboard_zip(), "application/zip")
                return
            answer = self.kaggle.answer(method, value)
            if fault and fault.after:
                self._do(fault)
            self._give_damaged(fault, json.dumps(answer).encode())

    def do_PUT(self) -> None:
        token = self._target().rpartition("/")[2]
        length = int(self.headers.get("Content-Length") or 0)
        self.kaggle.calls.append(("PUT", {"token": token, "range": self.headers.get("Content-Range")}))
        with self._careful():
            file_name, size, have = self.kaggle.blobs[token]
            if "Content-Range" not in self.headers:
                have = b""  # from the beginning
            fault = self._take("PUT")
            if self.headers.get("Content-Range", "").startswith("bytes */"):
                if len(have) == size:
                    self._give(200, b"{}")
                else:
                    self._give(308, b"", headers={"Range": f"bytes=0-{len(have) - 1}"} if have else {})
                return
            if fault and fault.share is not None:
                data = self.rfile.read(int(length * fault.share))
                self.kaggle.blobs[token] = (file_name, size, have + data)
                if fault.drop:
                    raise _Dropped
                self.rfile.read(length - len(data))
                self.kaggle.blobs[token] = (file_name, len(have + data), have + data)
                self._give(200, b"{}")
                return
            data = self.rfile.read(length)
            if fault and not fault.after:
                self._do(fault)
            self.kaggle.blobs[token] = (file_name, size, have + data)
            if fault:
                self._do(fault)
            self._give(200, b"{}")

    def do_GET(self) -> None:
        kaggle = self.kaggle
        name = self._target().removeprefix("/files/")
        kaggle.calls.append(("GET", {"name": name, "range": self.headers.get("Range")}))
        kaggle.gets.append(dict(self.headers.items()))
        with self._careful():
            fault = self._take("GET")
            if fault and fault.share is None and not fault.flip and not fault.length_off:
                self._do(fault)
            data = kaggle.zipped() if name == "archive.zip" else kaggle.files[name]
            if fault and fault.flip:
                data = bytes([data[0] ^ 1]) + data[1:]
            start, status, headers = 0, 200, {"ETag": kaggle.etag, **kaggle.file_headers}
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if wanted and kaggle.ranges and self.headers.get("If-Range", kaggle.etag) == kaggle.etag:
                requested, status = int(wanted.group(1)), 206
                start = requested if kaggle.range_start is None else kaggle.range_start
                size, data = len(data), data[: len(data) - requested + start]
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{size}"
            if kaggle.ranges:
                headers["Accept-Ranges"] = "bytes"
            data = data[start:]
            given = data if fault is None or fault.share is None else data[: int(len(data) * fault.share)]
            length_off = fault.length_off if fault else 0
            self._head(status, len(data) + length_off, "application/octet-stream", headers)
            for position in range(0, len(given), 1 << 16):
                self.wfile.write(given[position : position + (1 << 16)])
                if kaggle.chunk_delay_s:
                    time.sleep(kaggle.chunk_delay_s)
            if fault and fault.hang_s:
                kaggle.closing.wait(fault.hang_s)
            if len(given) < len(data) or length_off:
                raise _Dropped

    # ---- parts --------------------------------------------------------------

    def _authorized(self, method: str) -> bool:
        given = self.headers.get("Authorization", "")
        basic = "Basic " + base64.b64encode(f"{USER}:{KEY}".encode()).decode()
        return method == "IntrospectToken" or given in (basic, f"Bearer {TOKEN}")

    def _take(self, method: str) -> Fault | None:
        with self.kaggle.lock:
            waiting = self.kaggle.faults.get(method)
            if not waiting:
                return None
            fault = waiting[0]
            fault.times -= 1
            if fault.times <= 0:
                waiting.pop(0)
            return fault

    def _give_damaged(self, fault: Fault | None, body: bytes, kind: str = "application/json") -> None:
        """Send a response; with a fault, part of it or with a wrong length, and close the connection."""
        if fault is None or fault.after or (fault.share is None and not fault.length_off):
            self._give(200, body, kind)
            return
        self._head(200, len(body) + fault.length_off, kind, {})
        self.wfile.write(body if fault.share is None else body[: int(len(body) * fault.share)])
        raise _Dropped

    def _do(self, fault: Fault) -> None:
        if fault.hang_s:
            self.kaggle.closing.wait(fault.hang_s)
        if fault.drop or fault.hang_s:
            raise _Dropped
        if fault.raw is not None:
            self._give(200, fault.raw)
            raise StopIteration
        refused = _Refused(fault.status, fault.message, shape=fault.shape)
        body, kind = refused.body()
        self._give(fault.status, body, kind, fault.headers)
        raise StopIteration

    @contextlib.contextmanager
    def _careful(self) -> Iterator[None]:
        try:
            yield
        except StopIteration:
            pass  # already answered
        except _Refused as refused:
            body, kind = refused.body()
            self._give(refused.status, body, kind)
        except (_Dropped, BrokenPipeError, ConnectionResetError):
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

    def _redirect(self, to: str) -> None:
        self._head(302, 0, "text/plain", {"Location": to})

    def _give(
        self, status: int, body: bytes, kind: str = "application/json", headers: dict[str, str] | None = None
    ) -> None:
        self._head(status, len(body), kind, headers or {})
        self.wfile.write(body)

    def _head(self, status: int, length: int, kind: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
