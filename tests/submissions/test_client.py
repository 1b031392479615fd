"""The official client, unmodified, in its own process against a server on this machine."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from oof.progress import SILENT
from submissions.kaggle.client import KaggleClient, KaggleError
from submissions.kaggle.credentials import child_environment, find_credentials
from submissions.kaggle.errors import ErrorContext, Failure, explain, read_reason, reset_time, said_in
from submissions.redaction import Redactor
from tests.support.kaggle_server import KEY, SLUG, TOKEN, USER, KaggleServer
from tests.support.submissions import Desk, quick


def failing(server: KaggleServer, folder: Path, **settings: Any) -> KaggleError:
    """Return the error of querying the limits."""
    with Desk(server, folder, **settings).client() as client, pytest.raises(KaggleError) as caught:
        client.limits()
    return caught.value


def test_calls_return_values(kaggle: KaggleServer, tmp_path: Path) -> None:
    kaggle.add("old.csv", "made elsewhere", "0.75", private_score="0.7")
    with Desk(kaggle, tmp_path).client() as client:
        assert client.whoami()["user"] == USER
        limits = client.limits()
        assert (limits.today, limits.total, limits.allowed_now, limits.limited_by_total) == (1, 1, 4, False)
        (only,) = client.submissions()
        assert only == client.submission(1000)
        assert (only.ref, only.status, only.public_score, only.private_score) == (1000, "complete", 0.75, 0.7)
        assert (only.file_name, only.description, only.who, only.team) == (
            "old.csv",
            "made elsewhere",
            USER,
            "the team",
        )
        assert only.date is not None
        assert client.files() == {"train.csv": 14}
        client.leaderboard(tmp_path / "board.zip")
        assert (tmp_path / "board.zip").read_bytes().startswith(b"PK")
    assert kaggle.count("CONNECT") == 0


def test_lists_are_read_to_the_last_page(kaggle: KaggleServer, tmp_path: Path) -> None:
    kaggle.page_size_cap = 7
    for number in range(40):
        kaggle.add(f"{number}.csv", score="0.5")
    kaggle.files = {f"{number:03d}.csv": b"x" * number for number in range(30)}
    with Desk(kaggle, tmp_path).client() as client:
        assert [remote.ref for remote in client.submissions()] == list(range(1039, 999, -1))
        assert client.files() == {name: len(data) for name, data in kaggle.files.items()}


SHAPES = {
    "nested": "Submission not allowed:  Your team has used its daily Submission allowance (5) today",
    "flat": "You cannot submit until you accept the competition rules",
    "html": "502 Bad Gateway &amp; more",
    "empty": "",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_kaggles_messages_are_read_from_every_format(shape: str, kaggle: KaggleServer, tmp_path: Path) -> None:
    kaggle.fail("GetSubmissionLimits", status=400, message=SHAPES[shape], shape=shape)
    error = failing(kaggle, tmp_path)
    said = " ".join(SHAPES[shape].replace("&amp;", "&").split())
    assert error.reason.said == said
    assert error.reason.status == 400
    assert (f"Kaggle says “{said}”" if said else "failed (400).") in str(error)
    assert kaggle.count("GetSubmissionLimits") == 1  # a refusal is not retried


@pytest.mark.parametrize(
    ("status", "said", "kind", "message"),
    [
        (403, "You must accept this competition's rules before", "rules", f"competitions/{SLUG}/rules"),
        (403, "You cannot submit until you accept the competition rules", "rules", f"competitions/{SLUG}/rules"),
        (403, "", "slug", "You have entered 'multi-ffdi'"),
        (403, "Your account is suspended", "refused", "competitions/multi-ffdi for the requirements"),
        (404, "Not found", "slug", "You have entered 'multi-ffdi'"),
        (401, "Unauthenticated", "credentials", "KAGGLE_USERNAME and KAGGLE_KEY (environment) were used"),
        (400, "The submission deadline has passed", "closed", "accepts no submissions now"),
        (400, "This competition only accepts Submissions from Notebooks", "code_only", "--kernel OWNER/SLUG"),
        (400, "used its daily Submission allowance (5)", "daily_limit", "00:00 UTC"),
        (400, "reached the total submission limit", "total_limit", f"competitions/{SLUG}/submissions"),
        (400, "Required column 'target' not found in submission", "file", "then submit the corrected file"),
        (400, "The submission file is over the limit of 100 MB", "file", "then submit the corrected file"),
        (400, "Larger than the submission limit of 100MB", "file", "then submit the corrected file"),
        (400, "The competition is over", "closed", "accepts no submissions now"),
        (400, "The notebook version does not exist", "kernel", "--kernel-version or --file"),
    ],
)
def test_each_refusal_has_a_remedy(
    status: int, said: str, kind: str, message: str, kaggle: KaggleServer, tmp_path: Path
) -> None:
    kaggle.fail("GetSubmissionLimits", status=status, message=said)
    error = failing(kaggle, tmp_path)
    assert error.reason.kind == kind
    assert error.reason.certain
    assert message in str(error)
    assert "Traceback" not in str(error)


@pytest.mark.parametrize(
    ("status", "said", "kind"),
    [
        (404, "Kernel version not found", "kernel"),
        (404, "Not found", "kernel"),
        (403, "", "kernel"),
        (403, "Permission 'competitions.participate' was denied", "slug"),
    ],
)
def test_an_unknown_notebook_is_not_taken_for_an_unknown_competition(
    status: int, said: str, kind: str, kaggle: KaggleServer, tmp_path: Path
) -> None:
    kaggle.fail("CreateCodeSubmission", status=status, message=said)
    with Desk(kaggle, tmp_path).client() as client, pytest.raises(KaggleError) as caught:
        client.submit_kernel("alice/nb", 3, "submission.csv", "", lambda: None)
    assert (caught.value.reason.kind, caught.value.reason.certain) == (kind, True)
    assert ("Correct --kernel, --kernel-version or --file" in str(caught.value)) == (kind == "kernel")


@pytest.mark.parametrize(
    ("said", "kind", "message"),
    [
        ("down for maintenance", "server", "Kaggle says “down for maintenance”. Kaggle has a problem on its side."),
        ("You must accept this competition's rules", "rules", f"Accept the rules in a browser at .*/{SLUG}/rules"),
    ],
)
def test_a_message_in_place_of_an_answer_is_shown(
    said: str, kind: str, message: str, kaggle: KaggleServer, tmp_path: Path
) -> None:
    answer = json.dumps({"message": said}).encode()
    with Desk(kaggle, tmp_path, retries=0).client() as client:
        for method, call in (
            ("GetSubmissionLimits", client.limits),
            ("ListSubmissions", client.submissions),
            ("GetSubmission", lambda: client.submission(1000)),
            ("ListDataFiles", client.files),
        ):
            kaggle.fail(method, raw=answer)
            with pytest.raises(KaggleError, match=message) as caught:
                call()
            assert (caught.value.reason.kind, caught.value.reason.certain) == (kind, False)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_busy_kaggle_is_retried_then_reported(status: int, kaggle: KaggleServer, tmp_path: Path) -> None:
    kaggle.fail("GetSubmissionLimits", status=status, message="later", times=2)
    with Desk(kaggle, tmp_path).client() as client:
        assert client.limits().allowed_now == 5
    kaggle.fail("GetSubmissionLimits", status=status, message="later", times=9)
    error = failing(kaggle, tmp_path)
    assert "Wait" in str(error)
    assert kaggle.count("GetSubmissionLimits") == 3 + 3


def test_retry_after_is_respected(kaggle: KaggleServer, tmp_path: Path) -> None:
    kaggle.fail("GetSubmissionLimits", status=429, headers={"Retry-After": "1"})
    started = time.monotonic()
    with Desk(kaggle, tmp_path).client() as client:
        client.limits()
    assert time.monotonic() - started >= 1
    kaggle.fail("GetSubmissionLimits", status=429, headers={"Retry-After": "7200"})
    assert "Wait at least 7200 s" in str(failing(kaggle, tmp_path))
    kaggle.fail("GetSubmissionLimits", status=429, headers={"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"})
    assert "Wait at least" in str(failing(kaggle, tmp_path))
    assert read_reason(Failure("http", 429, retry_after="inf")).retry_after_s is None


def test_a_misspelt_slug_names_the_nearest(kaggle: KaggleServer, tmp_path: Path) -> None:
    with Desk(kaggle, tmp_path).client("multi-fdi") as client, pytest.raises(KaggleError) as caught:
        client.limits()
    assert "did you mean 'multi-ffdi'? Correct [competition] slug" in str(caught.value)
    with Desk(kaggle, tmp_path).client("xyz") as client, pytest.raises(KaggleError) as caught:
        client.limits()
    assert "You have entered: multi-ffdi, titanic." in str(caught.value)


def test_dropped_connections_are_retried(kaggle: KaggleServer, tmp_path: Path) -> None:
    kaggle.fail("GetSubmissionLimits", drop=True, times=2)
    with Desk(kaggle, tmp_path).client() as client:
        assert client.limits().allowed_now == 5
    kaggle.fail("GetSubmissionLimits", drop=True, times=9)
    error = failing(kaggle, tmp_path)
    assert error.reason.kind == "network"
    message = (
        "could not be reached through the proxy set by http_proxy, https_proxy (RemoteDisconnected: Remote end closed"
    )
    assert message in str(error)


def test_an_unresponsive_server_times_out(kaggle: KaggleServer, tmp_path: Path) -> None:
    kaggle.fail("GetSubmissionLimits", hang_s=60, times=9)
    started = time.monotonic()
    error = failing(kaggle, tmp_path, call_limit_s=0.7)
    assert time.monotonic() - started < 300
    assert error.reason.kind == "timeout"
    assert "did not respond in time (no response for 0.7 s)" in str(error)


@pytest.mark.parametrize(
    "raw",
    [
        b"<html>please log in</html>",
        b'{"numToday": ',
        b'{"numToday": "x", "code": "y"}',
        b'{"numToday": [1]}',
        b'{"numAllowedNow": 1.5}',
        b"[" * 100_000,
    ],
)
def test_an_invalid_answer_is_named(raw: bytes, kaggle: KaggleServer, tmp_path: Path) -> None:
    kaggle.fail("GetSubmissionLimits", raw=raw, times=9)
    error = failing(kaggle, tmp_path)
    assert "The response was not from Kaggle" in str(error)


def test_a_number_that_the_ledger_cannot_store_is_an_invalid_answer(kaggle: KaggleServer, tmp_path: Path) -> None:
    kaggle.fail("ListSubmissions", raw=b'{"submissions":[{"ref":%d}]}' % 10**20, times=9)
    with Desk(kaggle, tmp_path).client() as client, pytest.raises(KaggleError, match="is not an integer"):
        client.submissions()


@pytest.mark.parametrize("status", ["QUEUED", "TE", "R", "", "NOT_COMPLETE"])
def test_an_unknown_status_counts_as_pending_and_is_noted(
    status: str, kaggle: KaggleServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    monkeypatch.setattr(SILENT, "note", notes.append)
    kaggle.add("a.csv", score="0.5", status=status)
    kaggle.add("b.csv", score="0.5", status="SUBMISSION_STATUS_COMPLETE")
    with Desk(kaggle, tmp_path).client() as client:
        assert [remote.status for remote in client.submissions()] == ["complete", "pending"]
        assert client.submission(1000).status == "pending"
    if status:
        (note,) = notes
        assert f"submission 1000 the status '{status.lower()}', which this version of dfens does not know" in note


def test_the_answer_about_another_submission_is_invalid(kaggle: KaggleServer, tmp_path: Path) -> None:
    kaggle.add("a.csv", score="0.5")
    with Desk(kaggle, tmp_path).client() as client:
        assert client.submission(1000).public_score == 0.5
        kaggle.fail("GetSubmission", raw=b'{"ref":1001,"status":"COMPLETE","publicScore":"0.9"}', times=9)
        with pytest.raises(KaggleError, match="it is about submission 1001"):
            client.submission(1000)


def test_a_redirect_without_end_is_not_an_answer_of_kaggle(kaggle: KaggleServer, tmp_path: Path) -> None:
    kaggle.fail("GetSubmissionLimits", status=307, headers={"Location": "/v1/GetSubmissionLimits"}, times=99)
    assert "The response was not from Kaggle" in str(failing(kaggle, tmp_path))


def test_a_redirect_to_an_unknown_scheme_is_not_blamed_on_a_proxy(kaggle: KaggleServer, tmp_path: Path) -> None:
    kaggle.fail("GetSubmissionLimits", status=302, headers={"Location": "foo://x/y"}, times=9)
    error = failing(kaggle, tmp_path)
    assert error.reason.kind == "malformed"
    assert "The response was not from Kaggle (a redirect to an invalid address)" in str(error)


def test_an_unreachable_proxy_is_named_without_its_password(tmp_path: Path, kaggle: KaggleServer) -> None:
    environment = kaggle.environment(tmp_path, http_proxy="http://me:proxy-password@127.0.0.1:9")
    with KaggleClient(SLUG, quick(), environment) as client, pytest.raises(KaggleError) as caught:
        client.limits()
    assert caught.value.reason.kind == "proxy"
    assert "The proxy set by http_proxy" in str(caught.value)
    assert "proxy-password" not in str(caught.value)


def test_a_client_that_dies_is_reported_with_its_last_output(
    kaggle: KaggleServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "child.py"
    broken.write_text("import sys\nprint('the last words', file=sys.stderr)\nsys.exit(3)\n")
    monkeypatch.setattr("submissions.kaggle.client_process._CHILD", broken)
    error = failing(kaggle, tmp_path)
    assert "The Kaggle client failed (the last words). Run dfens doctor" in str(error)


def test_the_process_ends_with_its_parent(kaggle: KaggleServer, tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from submissions.kaggle.client import KaggleClient\n"
        "from submissions.settings import SubmissionSettings\n"
        f"client = KaggleClient({SLUG!r}, SubmissionSettings(), os.environ)\n"
        "client.whoami()\n"
        "print(client.process._process.pid, flush=True)\n"
        "client.limits()\n"
    )
    kaggle.fail("GetSubmissionLimits", hang_s=60)
    environment = kaggle.environment(tmp_path, PYTHONPATH=os.pathsep.join(sys.path))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        while not kaggle.count("GetSubmissionLimits"):
            time.sleep(0.02)
        os.kill(parent.pid, signal.SIGKILL)
    deadline = time.monotonic() + 120
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        if "Z" in Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]:
            break
        time.sleep(0.02)
    else:
        assert not Path(f"/proc/{child}").exists()


# ---- credentials ------------------------------------------------------------


def test_missing_credentials_stop_before_anything_runs(kaggle: KaggleServer, tmp_path: Path) -> None:
    desk = Desk(kaggle, tmp_path)
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY"):
        del desk.environment[name]
    with (
        desk.client() as client,
        pytest.raises(KaggleError, match="No Kaggle credentials were found. Create a"),
    ):
        client.limits()
    assert kaggle.calls == []


def test_every_source_of_credentials_logs_in(kaggle: KaggleServer, tmp_path: Path) -> None:
    plain = {name: value for name, value in kaggle.environment(tmp_path).items() if name[:8] != "KAGGLE_U"}
    del plain["KAGGLE_KEY"]
    kaggle_dir = tmp_path / ".kaggle"
    kaggle_dir.mkdir()

    def user(**more: str) -> str:
        with KaggleClient(SLUG, quick(), plain | more) as client:
            client.limits()
            return str(client.whoami()["user"])

    assert user(KAGGLE_API_TOKEN=TOKEN) == USER
    (kaggle_dir / "access_token").write_text(TOKEN + "\n")
    assert user() == USER
    (kaggle_dir / "access_token").unlink()
    (kaggle_dir / "kaggle.json").write_text(f'{{"username": "{USER}", "key": "{KEY}"}}')
    (kaggle_dir / "kaggle.json").chmod(0o600)
    assert user() == USER


def test_a_stale_token_before_good_keys_is_named(kaggle: KaggleServer, tmp_path: Path) -> None:
    (tmp_path / ".kaggle").mkdir()
    (tmp_path / ".kaggle" / "access_token").write_text("KGAT_this-is-an-old-token")
    error = failing(kaggle, tmp_path)
    assert error.reason.kind == "credentials"
    assert f"The credentials from {tmp_path}/.kaggle/access_token were used but rejected" in str(error)
    assert "It takes precedence over KAGGLE_USERNAME and KAGGLE_KEY (environment), so remove it" in str(error)
    assert "KGAT_" not in str(error)


def test_the_client_gets_a_small_environment(tmp_path: Path) -> None:
    given = {
        "VERBOSE": "1",
        "VERBOSE_OUTPUT": "1",
        "AWS_SECRET_ACCESS_KEY": "x",
        "HOME": "/h",
        "HTTPS_PROXY": "http://p",
        "KAGGLE_KEY": "k",
        "KAGGLE_API_ENVIRONMENT": "STAGING",
        "KAGGLE_COMPETITION_SUBMISSION_MODEL_VERSION_ID": "3",
    }
    assert child_environment(given) == {"HOME": "/h", "HTTPS_PROXY": "http://p", "KAGGLE_KEY": "k"}


def test_verbose_from_outside_prints_no_authorization(kaggle: KaggleServer, tmp_path: Path) -> None:
    desk = Desk(kaggle, tmp_path)
    desk.environment["VERBOSE"] = "1"
    with desk.client() as client:
        client.limits()
        assert client.process._stderr is not None
        client.process._stderr.seek(0)
        assert b"uthorization" not in client.process._stderr.read()


def test_no_secret_is_shown_by_repr(tmp_path: Path) -> None:
    found = find_credentials({"HOME": str(tmp_path), "KAGGLE_USERNAME": USER, "KAGGLE_KEY": KEY})
    assert dict(found.environment)["KAGGLE_KEY"] == KEY
    assert KEY not in repr(found)
    assert "database-password" not in repr(quick(ledger="postgresql://me:database-password@host/db"))


def test_secrets_are_found_everywhere(tmp_path: Path) -> None:
    folder = tmp_path / ".kaggle"
    folder.mkdir()
    (folder / "kaggle.json").write_text('{"username": "bob", "key": "key-in-a-file"}')
    (folder / "access_token").write_text("token-in-a-file\n")
    (folder / "credentials.json").write_text('{"access_token": "oauth-access", "refresh_token": "oauth-refresh"}')
    environment = {
        "HOME": str(tmp_path),
        "KAGGLE_KEY": "key-outside",
        "https_proxy": "http://u:proxy%20word@h:1",
    }
    found = find_credentials(environment)
    text = "key-in-a-file token-in-a-file oauth-access oauth-refresh key-outside proxy%20word Ym9iOmtleS1pbi1hLWZpbGU="
    assert found.redactor.redact(text) == " ".join(["***"] * 7)
    assert [source.name for source in found.sources] == [
        str(folder / "access_token"),
        str(folder / "kaggle.json"),
        str(folder / "credentials.json"),
    ]


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("Authorization: Basic abc==", "Authorization: ***"),
        ("{'Authorization': 'Bearer abc'}", "{'Authorization': '***'}"),
        ("GET https://host/a/b.zip?X-Signature=abc&y=1 failed", "GET https://host/a/b.zip?*** failed"),
        ("what? nothing", "what? nothing"),
    ],
)
def test_text_that_looks_secret_is_hidden(text: str, hidden: str) -> None:
    assert Redactor(()).redact(text) == hidden


# ---- reasons ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"error":{"code":400,"message":"a  b","status":"X"}}', "a b"),
        ('{"code":400,"message":"flat"}', "flat"),
        ('{"error":"text"}', "text"),
        ('{"message":"","detail":"more"}', "more"),
        ("[]", ""),
        ("null", ""),
        ("", ""),
        ("plain words", "plain words"),
        ("<html><body><h1>Not &lt;here&gt;</h1></body></html>", "Not <here>"),
        ('{"error":{"error":{"error":{"message":"too deep"}}}}', ""),
    ],
)
def test_messages_are_found_in_any_body(body: str, said: str) -> None:
    assert said_in(body) == said


def test_only_clear_refusals_are_certain() -> None:
    certain = {status: read_reason(Failure("http", status)).certain for status in (400, 403, 404, 408, 429, 500, 503)}
    assert certain == {400: True, 403: True, 404: True, 408: False, 429: True, 500: False, 503: False}
    for kind in ("connection", "proxy", "tls", "timeout", "malformed", "credentials", "missing", "died", "other"):
        assert not read_reason(Failure(kind)).certain


def test_the_reset_is_also_shown_in_local_time() -> None:
    from datetime import UTC, datetime, timedelta, timezone

    there = timezone(timedelta(hours=5, minutes=30))
    now = datetime(2026, 5, 1, 21, 48, tzinfo=UTC).astimezone(there)
    assert reset_time(now) == "in 2 h 12 min (00:00 UTC, 05:30 local time)"
    at = ErrorContext("submitting", SLUG, [], [], None, [], now)
    limit = read_reason(Failure("http", 400, '{"message":"daily submission allowance"}'))
    assert explain(limit, at).endswith("the count starts again in 2 h 12 min (00:00 UTC, 05:30 local time).")
